"""`kai-migrate release`: the moment is given."""

from __future__ import annotations

import click

from migration.cli.completion import run_names
from migration.cli.options import Invocation, settings_options


@click.command("release")
@click.argument("run", required=False, shell_complete=run_names)
@settings_options
def command(run: str | None, invocation: Invocation) -> int:
    """Let RUN go on, which holds before its point of no return; by default the only run that does.

    RUN is its name, its alias, or a beginning of the name that no other run has. The collection that it is at goes
    on; the next one holds again.
    """
    from migration.cli.exits import answer
    from migration.operations.under_way import release

    return answer(
        invocation,
        lambda settings, _: release(run, settings=settings),
        lambda held, console: console.line(f"Released: run {held.run} goes on with '{held.collection}'."),
        needs=(),
    )
