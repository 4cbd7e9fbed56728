"""`kai-migrate history`: the runs, and whether they get better."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from migration.cli.layout import amount, moment, rows_of, seconds, text, usd
from migration.cli.options import Invocation, common_options

if TYPE_CHECKING:
    from migration.operations.history import History, RunLine
    from migration.runtime.console import Console


@click.command("history")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, metavar="N", help="Most runs to list.")
@common_options
def command(limit: int, invocation: Invocation) -> int:
    """List the runs, the latest first, and whether they get better.

    Below the list stands how speed, failures and cost of the last migrations develop: improving, stable or
    declining; unknown below five migrations.
    """
    from migration.cli.exits import answer
    from migration.operations.history import list_runs

    return answer(invocation, lambda settings, _: list_runs(limit, settings=settings), _lay_out, needs=())


def _lay_out(history: History, console: Console) -> None:
    if not history.runs:
        console.line("No runs yet.")
        return
    console.table(rows_of(_COLUMNS, history.runs))
    trends = history.trends
    console.line()
    console.line(f"Last migrations: speed {trends.speed}, failures {trends.failures}, cost {trends.cost}")


_COLUMNS: dict[str, Callable[[RunLine], str]] = {
    "RUN": lambda run: run.name,
    "ALIAS": lambda run: text(run.alias),
    "KIND": lambda run: run.kind,
    "STARTED": lambda run: moment(run.started_at),
    "MODEL": lambda run: text(f"{run.model.family}/{run.model.model}/{run.model.dimensions}" if run.model else None),
    "COLLECTIONS": lambda run: text(", ".join(run.collections)),
    "DOCUMENTS": lambda run: amount(run.documents),
    "FAILED": lambda run: amount(run.failed),
    "TIME": lambda run: seconds(run.seconds),
    "DOCS/S": lambda run: amount(run.documents_per_second),
    "COST": lambda run: usd(run.cost_usd),
    "VERDICT": lambda run: text(run.verdict),
    "STATE": lambda run: run.state,
}
