"""`kai-migrate backups`: list and prune."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kai.settings import Settings
from migration.cli.layout import print_json

if TYPE_CHECKING:
    from migration.backup import BackupSummary
    from migration.runtime.console import Console


@click.command("backups")
@click.option("--prune", "pruning", is_flag=True, help="Remove backups; needs at least one of the next three.")
@click.option("--keep", type=click.IntRange(0), metavar="N", help="With --prune: spare the newest N runs.")
@click.option("--older-than", type=click.IntRange(0), metavar="DAYS", help="With --prune: only older ones.")
@click.option("--run", "runs", multiple=True, metavar="RUN", help="With --prune: only this run's. Repeatable.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
@click.option("--env-file", type=click.Path(dir_okay=False, path_type=Path), help="File with the configuration.")
@click.option("-v", "--verbose", is_flag=True, help="Say more on standard error.")
def command(
    pruning: bool,
    keep: int | None,
    older_than: int | None,
    runs: tuple[str, ...],
    as_json: bool,
    env_file: Path | None,
    verbose: bool,
) -> None:
    """List the backups under MIGRATION_HOME, or remove some of them for good."""
    from migration.backup import list_backups, prune
    from migration.cli.exits import with_settings
    from migration.operations.execute import DONE
    from migration.strategies.refusals import Refused

    def work(settings: Settings, console: Console) -> int:
        if pruning and keep is None and older_than is None and not runs:
            raise Refused("--prune needs --keep, --older-than or --run, so that not everything goes by mistake")
        if not pruning and (keep is not None or older_than is not None or runs):
            raise Refused("--keep, --older-than and --run go with --prune")
        shown = (
            prune(settings.home, keep, older_than, _named(settings, runs)) if pruning else list_backups(settings.home)
        )
        if as_json:
            print_json([_facts(each) for each in shown], settings.secrets)
        elif pruning:
            console.line(f"Removed {len(shown)} backups, {sum(each.bytes for each in shown):,} bytes.")
        else:
            _lay_out(shown, console)
        return DONE

    sys.exit(with_settings(work, env_file=env_file, verbose=verbose, needs=()))


def _named(settings: Settings, asked: tuple[str, ...]) -> tuple[str, ...]:
    """The runs by their whole names; an alias, the beginning of a name and `latest` do too."""
    from migration.backup import list_backups
    from migration.operations.setup import open_ledger
    from migration.strategies.refusals import Refused

    if not asked:
        return ()
    there = {each.run for each in list_backups(settings.home)}
    with open_ledger(settings) as ledger:
        found = {name: name if name in there else getattr(ledger.find_run(name), "name", None) for name in asked}
    if unknown := [name for name, run in found.items() if run not in there]:
        raise Refused(*[f"--run: there is no backup of a run {name!r}" for name in unknown])
    return tuple(run for run in found.values() if run)


def _facts(each: BackupSummary) -> dict[str, object]:
    return {
        "run": each.run,
        "collection": each.collection,
        "kind": each.kind,
        "created": each.created.isoformat(),
        "records": each.records,
        "bytes": each.bytes,
        "complete": each.complete,
        "folder": str(each.folder),
    }


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
