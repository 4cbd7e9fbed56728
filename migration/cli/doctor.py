"""`kai-migrate doctor`: what is wrong, before anything is paid for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from migration.cli.layout import rows_of, text
from migration.cli.options import OWN_COLLECTIONS, Invocation, Number, SeveralValues, common_options

if TYPE_CHECKING:
    from migration.assessment.diagnosis.findings import Check, Diagnosis
    from migration.runtime.console import Console

_NAMED: Final = 20
"""Documents of a finding that a person is told; --json has more."""


class _Sample(click.ParamType[int | None]):
    """A number of texts, or `all`."""

    name = "N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """The number; None for all of them."""
        if value is None or value == "all":
            return None
        if not str(value).isascii() or not str(value).isdigit():
            self.fail(f"{value!r} is neither a number of texts nor `all`.", param, ctx)
        return int(value)


@click.command("doctor", cls=SeveralValues)
@click.option(
    "--collections",
    multiple=True,
    metavar="NAME...",
    help="Which collections: one or several names, also comma-separated or repeated. [default: all]",
)
@OWN_COLLECTIONS
@click.option(
    "--sample",
    type=_Sample(),
    default="2000",
    show_default=True,
    metavar="N|all",
    help="Distinct texts of each collection to embed and compare; 0 asks no provider.",
)
@click.option(
    "--max-cost",
    type=Number(min=0),
    default=0.05,
    show_default=True,
    metavar="USD",
    help="Embed fewer where that would cost more than this in all, by list price.",
)
@click.option(
    "--fail-on",
    type=click.Choice(["error", "warning"]),
    default="error",
    show_default=True,
    help="Exit status 1 for a finding of at least this severity.",
)
@common_options
def command(
    collections: tuple[str, ...],
    collections_file: Path | None,
    sample: int | None,
    max_cost: float,
    fail_on: Literal["error", "warning"],
    invocation: Invocation,
) -> int:
    """Look at everything that a migration needs, and at every vector that stands there. Changes nothing.

    Settings, server, nodes and room, the key's rights one by one, provider and model, leftovers of dead runs, the
    schema of each embedded collection, and its documents: without a vector, with zeros, with the vector of another
    text or of another model. For the last two, texts are embedded and compared with what is stored; their cost is told
    first, and what is bought is kept for a migration to the same model. So configure the model that the vectors are
    of to look for mixed ones, and the new one to look before a migration.

    A check that could not be made is NOT CHECKED, and says why. The first 20 documents of a finding are named, with
    --json the first 1,000.
    """
    from migration.cli.exits import answer
    from migration.operations.doctor import doctor

    return answer(
        invocation,
        lambda _, console: doctor(
            collections=collections,
            collections_file=collections_file,
            sample=sample,
            max_cost=max_cost,
            fail_on=fail_on,
            env_file=invocation.env_file,
            console=console,
        ),
        _lay_out,
        needs=[],
        facts=lambda found: found.facts(),
    )


def _lay_out(found: Diagnosis, console: Console) -> None:
    console.table(rows_of(_CHECKS, found.checks))
    console.line()
    if not found.findings:
        console.line("Nothing is wrong with what was checked.")
    for finding in found.findings:
        console.line(f"{finding.severity.upper()} {finding.code}, {finding.where}: {finding.what}")
        if finding.ids:
            more = f", … ({finding.count - _NAMED:,} more)" if finding.count > _NAMED else ""
            console.line(f"    documents: {', '.join(finding.ids[:_NAMED])}{more}")
        if finding.remedy:
            console.line(f"    remedy: {finding.remedy}")
    if found.report:
        console.tell(f"Report: {found.report}")


_CHECKS: Final[dict[str, Callable[[Check], str]]] = {
    "CHECK": lambda check: check.name,
    "WHERE": lambda check: check.where,
    "VERDICT": lambda check: check.verdict,
    "SEEN": lambda check: text(check.detail),
}
