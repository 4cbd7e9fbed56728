"""`kai-migrate backup`: whole collections on disk, by hand."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kai.settings import Settings
from migration.cli.options import SeveralValues

if TYPE_CHECKING:
    from migration.runtime.console import Console


@click.command("backup", cls=SeveralValues)
@click.option("--collections", multiple=True, metavar="NAME...", help="Collections to back up. [default: all known]")
@click.option("--collections-file", type=click.Path(dir_okay=False, path_type=Path), help="As for a run.")
@click.option("--env-file", type=click.Path(dir_okay=False, path_type=Path), help="File with the configuration.")
@click.option("-v", "--verbose", is_flag=True, help="Say more on standard error.")
def command(collections: tuple[str, ...], collections_file: Path | None, env_file: Path | None, verbose: bool) -> None:
    """Back up whole collections: documents, schema, synonyms and curations. Restore with `kai-migrate restore`."""
    from migration.cli.exits import with_settings
    from migration.operations.backup import back_up
    from migration.operations.setup import TYPESENSE_ONLY

    def work(settings: Settings, console: Console) -> int:
        done = back_up(collections, collections_file=collections_file, settings=settings, console=console)
        if done.cause:
            console.warn(f"Stopped: {done.cause}")
            console.warn("The backup is not complete. Run the same command again for a whole one.")
        return done.exit_status

    sys.exit(with_settings(work, env_file=env_file, verbose=verbose, needs=TYPESENSE_ONLY))
