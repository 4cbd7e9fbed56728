"""`kai-migrate compare RUN RUN`: two runs side by side, and how far their models agree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from migration.cli.completion import run_names
from migration.cli.layout import EVALUATIONS, amount, percent, seconds, section, text, usd
from migration.cli.options import OWN_COLLECTIONS, Invocation, common_options

if TYPE_CHECKING:
    from migration.operations.compare import Comparison
    from migration.operations.models.overlap import CollectionNeighbours
    from migration.runtime.console import Console


@click.command("compare")
@click.argument("first", metavar="RUN", shell_complete=run_names)
@click.argument("second", metavar="RUN", shell_complete=run_names)
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
@OWN_COLLECTIONS
@common_options
def command(
    first: str,
    second: str,
    sample: int,
    seed: int,
    no_neighbours: bool,
    collections_file: Path | None,
    invocation: Invocation,
) -> int:
    """Show two runs side by side, and how far their models agree.

    RUN is a run's name, its alias, a beginning of the name that no other run has, or `latest`.

    How far the models agree shows in who stands near whom: of a sample of documents, the ten nearest
    neighbours by the vectors of the one run and of the other are compared (exact search, cosine). The vectors
    are taken from the server while they stand there, else from the backup that a later run took before it
    overwrote them. Of a collection with more than 20,000 documents, as many are looked at, the same every time.

    What `kai-migrate evaluate` has found of the two models is shown as well.
    """
    from migration.cli.exits import answer
    from migration.operations.compare import compare

    return answer(
        invocation,
        lambda _, console: compare(
            first,
            second,
            with_neighbours=not no_neighbours,
            sample=sample,
            seed=seed,
            collections_file=collections_file,
            env_file=invocation.env_file,
            console=console,
        ),
        lambda found, console: _lay_out(found, console, with_neighbours=not no_neighbours),
        needs=(),
    )


def _lay_out(comparison: Comparison, console: Console, *, with_neighbours: bool) -> None:
    one, other = comparison.runs
    rows = [("", one.name, other.name, "CHANGE")]
    for each in comparison.differences:
        name, show = _ROWS[each.measure]
        change = text(None) if each.change is None else f"{100 * each.change:+.1f} %" if each.change else "="
        rows.append((name, show(each.first), show(each.second), change))
    console.table(rows)
    section(console, "Evaluations of the two models", EVALUATIONS, comparison.evaluations)
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


_ROWS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "model": ("Model", text),
    "dimensions": ("Dimensions", amount),
    "documents": ("Documents", amount),
    "failed": ("Failed", amount),
    "seconds": ("Time", seconds),
    "documents_per_second": ("Documents/s", amount),
    "latency_p50_ms": ("Latency p50, ms", amount),
    "latency_p95_ms": ("Latency p95, ms", amount),
    "retries": ("Retries", amount),
    "tokens": ("Tokens", amount),
    "cost_usd": ("Cost", usd),
}
"""Each measure's name for a person, and how its values look."""
