"""`kai-migrate restore`: back to what a backup holds."""

from __future__ import annotations

from pathlib import Path

import click

from migration.cli.options import COLLECTIONS_FILE, YES, Invocation, ask, settings_options


@click.command("restore")
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@click.option("--collection", metavar="NAME", help="Restore into this collection. [default: the backup's]")
@COLLECTIONS_FILE
@YES
@settings_options
def command(
    file: Path, collection: str | None, collections_file: Path | None, yes: bool, invocation: Invocation
) -> int:
    """Put the vectors of a backup back; FILE is its folder, or a file in it.

    Where the dimensions differ the collection is recreated; where it is gone and the backup holds whole
    documents, it is created anew. Checked like a migration, and a run like any other.
    """
    from migration.cli.exits import answer, tell_result
    from migration.operations.rollback import restore

    return answer(
        invocation,
        lambda settings, console: restore(
            file,
            collection=collection,
            collections_file=collections_file,
            confirmed=lambda question: yes or ask(question),
            settings=settings,
            console=console,
        ),
        tell_result,
        needs=["typesense"],
    )
