"""`kai-migrate finish`: the application has switched, and what it used before goes."""

from __future__ import annotations

from pathlib import Path

import click

from migration.cli.completion import run_names
from migration.cli.options import COLLECTIONS_FILE, YES, Invocation, ask, settings_options


@click.command("finish")
@click.argument("run", required=False, shell_complete=run_names)
@click.option("--allow-partial", is_flag=True, help="Finish even if documents are left without a vector.")
@COLLECTIONS_FILE
@YES
@settings_options
def command(
    run: str | None, allow_partial: bool, collections_file: Path | None, yes: bool, invocation: Invocation
) -> int:
    """Take out what RUN has replaced, by default the latest run that waits: the application uses the new field.

    The old vectors go to a backup, then the old field and its values are taken out of the collection. Refused while a
    document lacks its vector in the new field, or while documents arrive that have only the old one. `kai-migrate
    rollback RUN` brings the old field back, also afterwards.

    After a run by --strategy alias the previous collection goes, whole into a backup. Refused while an alias leads to
    it, or while it was written to since.
    """
    from migration.cli.exits import answer, tell_result
    from migration.operations.finish import finish

    return answer(
        invocation,
        lambda settings, console: finish(
            run,
            allow_partial=allow_partial,
            collections_file=collections_file,
            confirmed=lambda question: yes or ask(question),
            settings=settings,
            console=console,
        ),
        tell_result,
        needs=["typesense"],
    )
