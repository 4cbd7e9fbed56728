"""`kai-migrate backups`: list and prune."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from kai.settings import Settings
from migration.cli.layout import rows_of
from migration.cli.options import Invocation, settings_options

if TYPE_CHECKING:
    from migration.backup import BackupSummary
    from migration.runtime.console import Console


@click.command("backups")
@click.option("--prune", "pruning", is_flag=True, help="Remove backups; needs at least one of the next three.")
@click.option("--keep", type=click.IntRange(0), metavar="N", help="With --prune: spare the newest N runs.")
@click.option("--older-than", type=click.IntRange(0), metavar="DAYS", help="With --prune: only older ones.")
@click.option("--run", "runs", multiple=True, metavar="RUN", help="With --prune: only this run's. Repeatable.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
@settings_options
def command(
    pruning: bool,
    keep: int | None,
    older_than: int | None,
    runs: tuple[str, ...],
    invocation: Invocation,
) -> int:
    """List the backups under MIGRATION_HOME, or remove some of them for good."""
    from migration.backup import list_backups
    from migration.cli.exits import answer
    from migration.operations.backup import prune_backups
    from migration.strategies.refusals import Refused

    def ask(settings: Settings, _: Console) -> list[BackupSummary]:
        if pruning:
            return prune_backups(keep=keep, older_than=older_than, runs=runs, settings=settings)
        if keep is not None or older_than is not None or runs:
            raise Refused("--keep, --older-than and --run go with --prune")
        return list_backups(settings.home)

    return answer(
        invocation,
        ask,
        _lay_out_removed if pruning else _lay_out,
        needs=(),
        facts=lambda shown: [asdict(each) | {"created": each.created.isoformat()} for each in shown],
    )


def _lay_out_removed(removed: list[BackupSummary], console: Console) -> None:
    console.line(f"Removed {len(removed)} backups, {sum(each.bytes for each in removed):,} bytes.")


def _lay_out(shown: list[BackupSummary], console: Console) -> None:
    if not shown:
        console.line("No backups.")
        return
    console.table(rows_of(_COLUMNS, shown))


_COLUMNS: dict[str, Callable[[BackupSummary], str]] = {
    "RUN": lambda each: each.run,
    "COLLECTION": lambda each: each.collection,
    "KIND": lambda each: each.kind or "damaged",
    "CREATED": lambda each: f"{each.created:%Y-%m-%d %H:%M}",
    "RECORDS": lambda each: str(each.records),
    "BYTES": lambda each: f"{each.bytes:,}",
    "COMPLETE": lambda each: "yes" if each.complete else "no",
    "FOLDER": lambda each: str(each.folder),
}
