"""`kai-migrate restore`: back to what a backup holds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kai.settings import Settings

if TYPE_CHECKING:
    from migration.runtime.console import Console


@click.command("restore")
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@click.option("--collection", metavar="NAME", help="Restore into this collection. [default: the backup's]")
@click.option("--collections-file", type=click.Path(dir_okay=False, path_type=Path), help="As for a run.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--env-file", type=click.Path(dir_okay=False, path_type=Path), help="File with the configuration.")
@click.option("-v", "--verbose", is_flag=True, help="Say more on standard error.")
def command(
    file: Path,
    collection: str | None,
    collections_file: Path | None,
    yes: bool,
    env_file: Path | None,
    verbose: bool,
) -> None:
    """Put the vectors of a backup back; FILE is its folder, or a file in it.

    Where the dimensions differ the collection is recreated; where it is gone and the backup holds whole
    documents, it is created anew. Checked like a migration, and a run like any other.
    """
    from migration.cli.exits import tell_result, with_settings
    from migration.cli.rollback import ask
    from migration.operations.rollback import restore
    from migration.operations.setup import TYPESENSE_ONLY

    def work(settings: Settings, console: Console) -> int:
        result = restore(
            file,
            collection=collection,
            collections_file=collections_file,
            confirmed=lambda question: yes or ask(question),
            settings=settings,
            console=console,
        )
        return tell_result(console, "SUMMARY", result)

    sys.exit(with_settings(work, env_file=env_file, verbose=verbose, needs=TYPESENSE_ONLY))
