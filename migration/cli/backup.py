"""`kai-migrate backup`: whole collections on disk, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from migration.cli.completion import collection_names
from migration.cli.options import COLLECTIONS_FILE, Invocation, SeveralValues, settings_options

if TYPE_CHECKING:
    from migration.operations.backup import BackedUp
    from migration.runtime.console import Console


@click.command("backup", cls=SeveralValues)
@click.option(
    "--collections",
    multiple=True,
    metavar="NAME...",
    shell_complete=collection_names,
    help="Collections to back up. [default: all known]",
)
@COLLECTIONS_FILE
@settings_options
def command(collections: tuple[str, ...], collections_file: Path | None, invocation: Invocation) -> int:
    """Back up whole collections: documents, schema, synonyms and curations. Restore with `kai-migrate restore`."""
    from migration.cli.exits import answer
    from migration.operations.backup import back_up

    return answer(
        invocation,
        lambda settings, console: back_up(
            collections, collections_file=collections_file, settings=settings, console=console
        ),
        _lay_out,
        needs=["typesense"],
    )


def _lay_out(done: BackedUp, console: Console) -> None:
    if done.cause:
        console.warn(f"Stopped: {done.cause}")
        console.warn("The backup is not complete. Run the same command again for a whole one.")
