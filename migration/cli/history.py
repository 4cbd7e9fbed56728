"""`kai-migrate history`: the runs, and whether they get better."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from migration.cli.layout import amount, moment, seconds, text, usd
from migration.cli.options import Invocation, common_options

if TYPE_CHECKING:
    from migration.operations.history import History, RunLine
    from migration.runtime.console import Console

_TITLES = (
    "RUN", "ALIAS", "KIND", "STARTED", "MODEL", "COLLECTIONS", "DOCUMENTS", "FAILED", "TIME", "DOCS/S", "COST",
    "VERDICT", "STATE",
)  # fmt: skip


@click.command("history")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, metavar="N", help="Most runs to list.")
@common_options
def command(limit: int, invocation: Invocation) -> None:
    """List the runs, the latest first, and whether they get better.

    Below the list stands how speed, failures and cost of the last migrations develop: improving, stable or
    declining; unknown below five migrations.
    """
    from migration.operations.history import list_runs

    invocation.answer(lambda settings, _: list_runs(limit, settings=settings), _lay_out)


def _lay_out(history: History, console: Console) -> None:
    if not history.runs:
        console.line("No runs yet.")
        return
    console.table([_TITLES, *map(_row, history.runs)])
    trends = history.trends
    console.line()
    console.line(f"Last migrations: speed {trends.speed}, failures {trends.failures}, cost {trends.cost}")


def _row(run: RunLine) -> tuple[str, ...]:
    model = run.model
    return (
        run.name,
        text(run.alias),
        run.kind,
        moment(run.started_at),
        text(f"{model.family}/{model.model}/{model.dimensions}" if model else None),
        text(", ".join(run.collections)),
        amount(run.documents),
        amount(run.failed),
        seconds(run.seconds),
        amount(run.documents_per_second),
        usd(run.cost_usd),
        text(run.verdict),
        run.state,
    )
