"""`kai-migrate backups`: list and prune."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from kai.settings import Settings
from migration.cli.layout import print_json
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
) -> None:
    """List the backups under MIGRATION_HOME, or remove some of them for good."""
    from migration.backup import list_backups
    from migration.operations.backups import prune_backups
    from migration.strategies.refusals import Refused

    def work(settings: Settings, console: Console) -> int:
        if pruning:
            shown = prune_backups(keep=keep, older_than=older_than, runs=runs, settings=settings)
        elif keep is not None or older_than is not None or runs:
            raise Refused("--keep, --older-than and --run go with --prune")
        else:
            shown = list_backups(settings.home)
        if invocation.as_json:
            print_json([asdict(each) | {"created": each.created.isoformat()} for each in shown], settings.secrets)
        elif pruning:
            console.line(f"Removed {len(shown)} backups, {sum(each.bytes for each in shown):,} bytes.")
        else:
            _lay_out(shown, console)
        return 0

    invocation.carry_out(work)


def _lay_out(shown: list[BackupSummary], console: Console) -> None:
    if not shown:
        console.line("No backups.")
        return
    rows = [["RUN", "COLLECTION", "KIND", "CREATED", "RECORDS", "BYTES", "COMPLETE", "FOLDER"]]
    rows += [
        [
            each.run,
            each.collection,
            each.kind or "damaged",
            f"{each.created:%Y-%m-%d %H:%M}",
            str(each.records),
            f"{each.bytes:,}",
            "yes" if each.complete else "no",
            str(each.folder),
        ]
        for each in shown
    ]
    console.table(rows)
