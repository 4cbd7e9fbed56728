"""`kai-migrate report RUN`: everything about a run as one file to read, to keep and to send."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from migration.cli.options import Invocation, common_options

if TYPE_CHECKING:
    from kai.settings import Settings
    from migration.operations.reports.run_report import WrittenReport
    from migration.runtime.console import Console


@click.command("report")
@click.argument("run", metavar="RUN")
@click.option("--open", "is_opened", is_flag=True, help="Show it in a browser.")
@common_options
def command(run: str, is_opened: bool, invocation: Invocation) -> int:
    """Write the report of a run anew, and print where it is.

    RUN is its name, its alias, a beginning of the name that no other run has, or `latest`.

    Every run writes report.html and report.json into its folder, runs/RUN in MIGRATION_HOME, when it ends; this does so
    for a run that was killed, is under way, or was made by an older program. The HTML file needs nothing beside
    itself: it opens without a network and can be sent. No text of a document, no vector and no key is in it.
    """
    from migration.cli.exits import answer
    from migration.operations.reports.run_report import write_report

    def ask(_settings: Settings, console: Console) -> WrittenReport:
        written = write_report(run, env_file=invocation.env_file, console=console)
        if is_opened and click.launch(written.html.as_uri()) != 0:
            console.warn("No browser could be started; open the file yourself.")
        return written

    return answer(invocation, ask, lambda written, console: console.line(str(written.html)), needs=())
