"""`kai-migrate tune`: another pace for a run that is under way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from migration.cli.completion import run_names
from migration.cli.options import Invocation, settings_options

if TYPE_CHECKING:
    from migration.operations.under_way import Tuned
    from migration.runtime.console import Console


@click.command("tune")
@click.argument("run", shell_complete=run_names)
@click.argument("changes", nargs=-1, metavar="[NAME=VALUE]...")
@settings_options
def command(run: str, changes: tuple[str, ...], invocation: Invocation) -> int:
    """Change how fast RUN goes while it is under way, within a second; alone, show what is in force.

    What can be changed: nice, concurrency, rpm, tpm (`none` for no bound) and max-load. It lasts as long as the
    process; a start begins with its own options. RUN is its name, its alias, a beginning of the name that no other
    run has, or `latest`.

    \b
    Examples:
      kai-migrate tune latest nice=0.5 concurrency=2
      kai-migrate tune latest max-load=search_latency_ms=50 rpm=none
    """
    from migration.cli.exits import answer
    from migration.operations.under_way import tune

    return answer(invocation, lambda settings, _: tune(run, changes, settings=settings), _lay_out, needs=())


def _lay_out(tuned: Tuned, console: Console) -> None:
    if tuned.changes:
        changes = ", ".join(f"{name}={value}" for name, value in tuned.changes.items())
        console.line(f"Run {tuned.run} is told: {changes}")
        return
    console.line(f"Run {tuned.run} goes at:")
    console.table([(f"  {name}", value) for name, value in tuned.in_force.items()])
