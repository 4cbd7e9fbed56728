"""`kai-migrate history`: the runs, and whether they get better."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kai.settings import Settings
from migration.cli.layout import amount, common_options, moment, print_json, seconds, text, usd

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
def command(limit: int, env_file: Path | None, as_json: bool, verbose: bool) -> None:
    """List the runs, the latest first, and whether they get better.

    Below the list stands how speed, failures and cost of the last migrations develop: improving, stable or
    declining; unknown below five migrations.
    """
    from migration.cli.exits import with_settings
    from migration.operations.execute import DONE
    from migration.operations.history import list_runs
    from migration.operations.setup import open_ledger

    def work(settings: Settings, console: Console) -> int:
        with open_ledger(settings) as ledger:
            history = list_runs(ledger, limit)
        if as_json:
            print_json(history, settings.secrets)
        else:
            _lay_out(history, console)
        return DONE

    sys.exit(with_settings(work, env_file=env_file, verbose=verbose, needs=()))


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
