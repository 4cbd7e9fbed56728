"""`kai-migrate compare RUN RUN`: two runs side by side, and how far their models agree."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kai.collections import load_collections
from kai.settings import Settings, SettingsError, load_settings
from migration.cli.layout import (
    amount,
    collections_file_option,
    common_options,
    percent,
    print_json,
    seconds,
    text,
    usd,
)

if TYPE_CHECKING:
    from kai.typesense import Typesense
    from migration.ledger import Ledger
    from migration.operations.history import Difference, RunLine
    from migration.operations.overlap import CollectionNeighbours, VectorOrigins
    from migration.runtime.console import Console


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the command shows: both runs, measure by measure, and the neighbours by collection."""

    runs: tuple[RunLine, RunLine]
    differences: tuple[Difference, ...]
    neighbours: tuple[CollectionNeighbours, ...]


@click.command("compare")
@click.argument("first", metavar="RUN")
@click.argument("second", metavar="RUN")
@click.option(
    "--sample",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    metavar="N",
    help="Documents whose nearest neighbours are compared.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Choose another sample.")
@click.option("--no-neighbours", is_flag=True, help="Leave the nearest neighbours out; reads the ledger only.")
@collections_file_option
@common_options
def command(
    first: str,
    second: str,
    sample: int,
    seed: int,
    no_neighbours: bool,
    collections_file: Path | None,
    env_file: Path | None,
    as_json: bool,
    verbose: bool,
) -> None:
    """Show two runs side by side, and how far their models agree.

    RUN is a run's name, its alias, a beginning of the name that no other run has, or `latest`.

    How far the models agree shows in who stands near whom: of a sample of documents, the ten nearest
    neighbours by the vectors of the one run and of the other are compared (exact search, cosine). The vectors
    are taken from the server while they stand there, else from the backup that a later run took before it
    overwrote them. Of a collection with more than 20,000 documents, as many are looked at, the same every time.
    """
    from migration.cli.exits import with_settings
    from migration.operations.execute import DONE
    from migration.operations.history import differences, find_run, two_runs
    from migration.operations.overlap import compare_neighbours
    from migration.operations.setup import open_ledger

    def work(settings: Settings, console: Console) -> int:
        with open_ledger(settings) as ledger:
            one, other = find_run(ledger, first), find_run(ledger, second)
            runs = two_runs(ledger, one, other)
            neighbours: list[CollectionNeighbours] = []
            if not no_neighbours:
                with _places(settings, console, ledger, env_file, collections_file) as places:
                    neighbours = compare_neighbours(places, one, other, sample=sample, seed=seed)
        comparison = Comparison(runs, differences(*runs), tuple(neighbours))
        if as_json:
            print_json(comparison, settings.secrets)
        else:
            _lay_out(comparison, console, with_neighbours=not no_neighbours)
        return DONE

    sys.exit(with_settings(work, env_file=env_file, verbose=verbose, needs=()))


@contextlib.contextmanager
def _places(
    settings: Settings, console: Console, ledger: Ledger, env_file: Path | None, collections_file: Path | None
) -> Iterator[VectorOrigins]:
    """Where vectors may be. Without a server there are still the backups."""
    from kai.typesense import TypesenseError
    from migration.operations.overlap import VectorOrigins
    from migration.operations.setup import open_server

    known = load_collections(collections_file)
    with contextlib.ExitStack() as stack:
        server: Typesense | None = None
        fields: dict[str, str] = {}
        why = ""
        try:
            load_settings(env_file, needs=["typesense"])
            server = stack.enter_context(open_server(settings, console))
            aliases = server.aliases()
            for name, collection in known.items():
                fields[aliases.get(name, name)] = collection.embedding_field
        except SettingsError as error:
            why = f"Typesense is not configured ({'; '.join(str(problem) for problem in error.problems)})"
        except TypesenseError as error:
            server, why = None, f"Typesense cannot be read: {error}"
        yield VectorOrigins(ledger, settings.home, server, fields, why)


def _lay_out(comparison: Comparison, console: Console, *, with_neighbours: bool) -> None:
    one, other = comparison.runs
    rows = [("", one.name, other.name, "CHANGE")]
    for each in comparison.differences:
        show = _SHOWN[each.measure]
        change = text(None) if each.change is None else f"{100 * each.change:+.1f} %" if each.change else "="
        rows.append((_NAMES[each.measure], show(each.first), show(each.second), change))
    console.table(rows)
    if not with_neighbours:
        return
    console.line()
    if not comparison.neighbours:
        console.line("Nearest neighbours: the two runs have no collection in common.")
    for found in comparison.neighbours:
        _lay_out_neighbours(found, console)


def _lay_out_neighbours(found: CollectionNeighbours, console: Console) -> None:
    overlap = found.overlap
    if overlap is None or found.origins is None:
        console.line(f"Nearest neighbours in {found.collection}: {found.reason}")
        return
    of_all = " (a sample of the collection)" if found.sampled else ""
    console.line(
        f"Nearest neighbours in {found.collection}: {percent(overlap.mean)} of the {overlap.neighbours} nearest are "
        f"the same (by chance {percent(overlap.by_chance)})"
    )
    console.line(
        f"  At least {percent(overlap.least)} for every document; the nearest one is the same for "
        f"{percent(overlap.same_nearest)}"
    )
    console.line(
        f"  {overlap.sample:,} documents compared among {overlap.corpus:,}{of_all}; vectors from: "
        f"{found.origins[0]} / {found.origins[1]}"
    )


_NAMES = {
    "model": "Model",
    "dimensions": "Dimensions",
    "documents": "Documents",
    "failed": "Failed",
    "seconds": "Time",
    "documents_per_second": "Documents/s",
    "latency_p50_ms": "Latency p50, ms",
    "latency_p95_ms": "Latency p95, ms",
    "retries": "Retries",
    "tokens": "Tokens",
    "cost_usd": "Cost",
}
_SHOWN: dict[str, Callable[[Any], str]] = {
    **dict.fromkeys(_NAMES, amount),
    "model": text,
    "seconds": seconds,
    "cost_usd": usd,
}
