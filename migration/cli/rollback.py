"""`kai-migrate rollback`: back to what a run replaced."""

from __future__ import annotations

from pathlib import Path

import click

from migration.cli.completion import collection_names, run_names
from migration.cli.options import COLLECTIONS_FILE, YES, Invocation, SeveralValues, ask, settings_options


@click.command("rollback", cls=SeveralValues)
@click.argument("run", required=False, shell_complete=run_names)
@click.option(
    "--collections",
    multiple=True,
    metavar="NAME...",
    shell_complete=collection_names,
    help="Only these collections. [default: the run's]",
)
@COLLECTIONS_FILE
@YES
@settings_options
def command(
    run: str | None,
    collections: tuple[str, ...],
    collections_file: Path | None,
    yes: bool,
    invocation: Invocation,
) -> int:
    """Put the vectors back that RUN replaced, by default the latest run; nothing is embedded.

    Where the run changed the dimensions, the collection is recreated with the old ones. Documents deleted
    since stay deleted; documents added or changed since are named. A rollback is a run like any other: it
    can be interrupted and gone on with, and rolled back itself.
    """
    from migration.cli.exits import answer, tell_result
    from migration.operations.rollback import rollback

    names = [name.strip() for given in collections for name in given.split(",") if name.strip() and name != "all"]

    return answer(
        invocation,
        lambda settings, console: rollback(
            run,
            collections=names,
            collections_file=collections_file,
            confirmed=lambda question: yes or ask(question),
            settings=settings,
            console=console,
        ),
        tell_result,
        needs=["typesense"],
    )
