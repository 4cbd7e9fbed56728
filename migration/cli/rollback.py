"""`kai-migrate rollback`: back to what a run replaced."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kai.settings import Settings
from migration.cli.options import SeveralValues

if TYPE_CHECKING:
    from migration.runtime.console import Console


@click.command("rollback", cls=SeveralValues)
@click.argument("run", required=False)
@click.option("--collections", multiple=True, metavar="NAME...", help="Only these collections. [default: the run's]")
@click.option("--collections-file", type=click.Path(dir_okay=False, path_type=Path), help="As for a run.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--env-file", type=click.Path(dir_okay=False, path_type=Path), help="File with the configuration.")
@click.option("-v", "--verbose", is_flag=True, help="Say more on standard error.")
def command(
    run: str | None,
    collections: tuple[str, ...],
    collections_file: Path | None,
    yes: bool,
    env_file: Path | None,
    verbose: bool,
) -> None:
    """Put the vectors back that RUN replaced, by default the latest run; nothing is embedded.

    Where the run changed the dimensions, the collection is recreated with the old ones. Documents deleted
    since stay deleted; documents added or changed since are named. A rollback is a run like any other: it
    can be interrupted and gone on with, and rolled back itself.
    """
    from migration.cli.exits import tell_result, with_settings
    from migration.operations.rollback import rollback
    from migration.operations.setup import TYPESENSE_ONLY

    names = [name.strip() for given in collections for name in given.split(",") if name.strip() and name != "all"]

    def work(settings: Settings, console: Console) -> int:
        result = rollback(
            run,
            collections=names,
            collections_file=collections_file,
            confirmed=lambda question: yes or ask(question),
            settings=settings,
            console=console,
        )
        return tell_result(console, "SUMMARY", result)

    sys.exit(with_settings(work, env_file=env_file, verbose=verbose, needs=TYPESENSE_ONLY))


def ask(question: str) -> bool:
    """Ask at the terminal; where there is none, the answer is no."""
    if not sys.stdin.isatty():
        click.echo(question, err=True)
        return False
    return click.confirm(question, err=True)
