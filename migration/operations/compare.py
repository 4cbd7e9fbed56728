"""Two runs side by side, and how far their models agree."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kai.collections import load_collections
from kai.settings import Settings, SettingsError, load_settings
from kai.typesense import Typesense, TypesenseError
from migration.operations.history import RunLine, find_run, lines_of
from migration.operations.overlap import SAMPLE, SEED, CollectionNeighbours, VectorOrigins, compare_neighbours
from migration.operations.setup import TYPESENSE_ONLY, open_ledger, open_server
from migration.runtime.console import SILENT, Console


@dataclass(frozen=True, slots=True)
class Difference:
    """One measure of two runs. `change` is the second relative to the first, less 1; None where it says nothing."""

    measure: str
    first: float | str | None
    second: float | str | None
    change: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both runs, measure by measure, and the neighbours by collection."""

    runs: tuple[RunLine, RunLine]
    differences: tuple[Difference, ...]
    neighbours: tuple[CollectionNeighbours, ...]


def compare(
    first: str,
    second: str,
    *,
    with_neighbours: bool = True,
    sample: int = SAMPLE,
    seed: int = SEED,
    collections_file: Path | None = None,
    env_file: Path | None = None,
    settings: Settings | None = None,
    console: Console = SILENT,
) -> Comparison:
    """Two runs side by side, and how many nearest neighbours their vectors have in common.

    Args:
        first: name or alias of a run.
        second: of another one.
        with_neighbours: whether the neighbours are compared; else only the ledger is read.
        sample: documents whose neighbours are compared.
        seed: of the sample.
        collections_file: descriptions of the user's own collections; None for KAI's.
        env_file: file with the settings, where these are not given; None for `.env` in the working folder.
        settings: the ledger, and Typesense; None reads `env_file` and the environment, and does without a server
            where these name none.
        console: where to tell of waiting; nothing by default.

    Raises:
        Refused: there is no such run.
        CollectionsError, LedgerError: the descriptions or the ledger cannot be used.
    """
    found = settings or load_settings(env_file, needs=())
    with open_ledger(found) as ledger:
        one, other = find_run(ledger, first), find_run(ledger, second)
        left, right = lines_of(ledger, one, other)
        neighbours: list[CollectionNeighbours] = []
        if with_neighbours:
            known = load_collections(collections_file)
            with _readable_server(settings, env_file, console) as (server, aliases, why):
                fields = {aliases.get(name, name): described.embedding_field for name, described in known.items()}
                origins = VectorOrigins(ledger, found.home, server, fields, why)
                neighbours = compare_neighbours(origins, one, other, sample=sample, seed=seed)
    return Comparison((left, right), _differences(left, right), tuple(neighbours))


@contextlib.contextmanager
def _readable_server(
    settings: Settings | None, env_file: Path | None, console: Console
) -> Iterator[tuple[Typesense | None, dict[str, str], str]]:
    """The server and its aliases; without one, where there are still the backups, None, and why there is none."""
    answer: tuple[Typesense | None, dict[str, str], str]
    with contextlib.ExitStack() as stack:
        try:
            settings = settings or load_settings(env_file, needs=TYPESENSE_ONLY)
            server = stack.enter_context(open_server(settings, console))
            answer = server, server.aliases(), ""
        except SettingsError as error:
            problems = "; ".join(str(problem) for problem in error.problems)
            answer = None, {}, f"Typesense is not configured ({problems})"
        except TypesenseError as error:
            answer = None, {}, f"Typesense cannot be read: {error}"
        yield answer


def _differences(one: RunLine, other: RunLine) -> tuple[Difference, ...]:
    differences = [Difference("model", _model_name(one), _model_name(other), None)]
    measures = _measures(other)
    for measure, first in _measures(one).items():
        second = measures[measure]
        change = second / first - 1 if first and second is not None else None
        differences.append(Difference(measure, first, second, change))
    return tuple(differences)


def _model_name(line: RunLine) -> str | None:
    return f"{line.model.family}/{line.model.model}" if line.model else None


def _measures(line: RunLine) -> dict[str, float | None]:
    """What two runs are compared by, in the order of the table."""
    return {
        "dimensions": line.model.dimensions if line.model else None,
        "documents": line.documents,
        "failed": line.failed,
        "seconds": line.seconds,
        "documents_per_second": line.documents_per_second,
        "latency_p50_ms": line.metrics.latency_p50_ms,
        "latency_p95_ms": line.metrics.latency_p95_ms,
        "retries": line.metrics.retries,
        "tokens": line.metrics.tokens,
        "cost_usd": line.cost_usd,
    }
