"""Two runs side by side, and how far their models agree."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from kai.collections import load_collections
from kai.settings import Settings, SettingsError, load_settings
from kai.typesense import Typesense, TypesenseError
from migration.ledger import EvaluationRecord, Ledger
from migration.operations.history import RunLine, find_run, lines_of
from migration.operations.models.overlap import SAMPLE, SEED, CollectionNeighbours, VectorOrigins, compare_neighbours
from migration.operations.setup import TYPESENSE_ONLY, open_ledger, open_server
from migration.runtime.console import SILENT, Console

Measure: TypeAlias = float | str | None


@dataclass(frozen=True, slots=True)
class Difference:
    """One measure of two runs. `change` is the second relative to the first, less 1; None where it says nothing."""

    measure: str
    first: Measure
    second: Measure
    change: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both runs, measure by measure, the neighbours by collection, and what evaluations found of the two models.

    Those over the collections of the runs, the latest first.
    """

    runs: tuple[RunLine, RunLine]
    differences: tuple[Difference, ...]
    neighbours: tuple[CollectionNeighbours, ...]
    evaluations: tuple[EvaluationRecord, ...] = ()


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
        evaluations = _evaluations(ledger, left, right)
        neighbours: list[CollectionNeighbours] = []
        if with_neighbours:
            known = load_collections(collections_file)
            with readable_server(settings, env_file, console) as (server, aliases, why):
                fields = {aliases.get(name, name): described.embedding_field for name, described in known.items()}
                origins = VectorOrigins(ledger, found.home, server, fields, why)
                neighbours = compare_neighbours(origins, one, other, sample=sample, seed=seed)
    differences = tuple(_difference(measure, of(left), of(right)) for measure, of in _MEASURES.items())
    return Comparison((left, right), differences, tuple(neighbours), evaluations)


def _evaluations(ledger: Ledger, one: RunLine, other: RunLine) -> tuple[EvaluationRecord, ...]:
    models = {run.model.name for run in (one, other) if run.model}
    if len(models) < 2:
        return ()
    collections = {*one.collections, *other.collections}
    return tuple(each for each in ledger.evaluations(between=models) if each.collection in collections)


@contextlib.contextmanager
def readable_server(
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


def _difference(measure: str, first: Measure, second: Measure) -> Difference:
    change = None
    if isinstance(first, int | float) and isinstance(second, int | float) and first:
        change = second / first - 1
    return Difference(measure, first, second, change)


_MEASURES: Final[dict[str, Callable[[RunLine], Measure]]] = {
    "model": lambda run: f"{run.model.family}/{run.model.model}" if run.model else None,
    "dimensions": lambda run: run.model.dimensions if run.model else None,
    "documents": lambda run: run.documents,
    "failed": lambda run: run.failed,
    "seconds": lambda run: run.seconds,
    "documents_per_second": lambda run: run.documents_per_second,
    "latency_p50_ms": lambda run: run.metrics.latency_p50_ms,
    "latency_p95_ms": lambda run: run.metrics.latency_p95_ms,
    "retries": lambda run: run.metrics.retries,
    "tokens": lambda run: run.metrics.tokens,
    "cost_usd": lambda run: run.cost_usd,
}
"""What two runs are compared by, in the order of the table."""
