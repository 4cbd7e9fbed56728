"""`kai-migrate label RUN`: a name and a note for a run, after the fact."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from migration.cli.completion import run_names
from migration.cli.layout import text
from migration.cli.options import Invocation, common_options

if TYPE_CHECKING:
    from kai.settings import Settings
    from migration.operations.history import RunLine
    from migration.runtime.console import Console


@click.command("label")
@click.argument("run", metavar="RUN", shell_complete=run_names)
@click.option("--alias", metavar="NAME", help="A second name for the run; '' frees the one it has.")
@click.option("--no-alias", is_flag=True, help="Free the run's alias.")
@click.option("--move", is_flag=True, help="Take the alias from the run that has it.")
@click.option("--description", metavar="TEXT", help="A note that stays with the run; '' takes it away.")
@common_options
def command(
    run: str, alias: str | None, no_alias: bool, move: bool, description: str | None, invocation: Invocation
) -> int:
    """Give a run, whatever it did, an alias or a description, or change them.

    RUN is its name, its alias, a beginning of the name that no other run has, or `latest`. An alias belongs to one
    run; that of another one is only taken with --move.
    """
    from migration.cli.exits import answer
    from migration.operations.label import label_run
    from migration.strategies.refusals import Refused

    def ask(settings: Settings, _: Console) -> RunLine:
        if no_alias and alias:
            raise Refused("--alias, --no-alias: give one of them")
        wanted = "" if no_alias else alias
        return label_run(run, alias=wanted, description=description, move=move, settings=settings)

    return answer(invocation, ask, _lay_out, needs=())


def _lay_out(run: RunLine, console: Console) -> None:
    console.line(f"{run.name}: alias {text(run.alias)}, description {text(run.description)}")
