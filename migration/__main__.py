"""The command line of everything: `kai-migrate`, and `python -m migration`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class Entry(NamedTuple):
    """The module of a command, which it calls `command`, and the line that the list of commands shows for it."""

    module: str
    help: str


COMMANDS: Final[dict[str, Entry]] = {
    "run": Entry("migration.cli.run", "Compute every document's embedding again."),
    "doctor": Entry("migration.cli.doctor", "Find what is wrong, before anything is paid for."),
    "evaluate": Entry("migration.cli.evaluate", "Is another model better, before paying for all of it?"),
    "embed": Entry("migration.cli.embed", "Embed ahead: fill the vector cache for the migration that follows."),
    "verify": Entry("migration.cli.verify", "Check that what stands on the server is what should."),
    "watch": Entry("migration.cli.watch", "Show how far a run is, while it is under way."),
    "release": Entry("migration.cli.release", "Let a run go on that holds before its point of no return."),
    "tune": Entry("migration.cli.tune", "Change how fast a run goes while it is under way."),
    "rollback": Entry("migration.cli.rollback", "Put the vectors back that a run replaced."),
    "finish": Entry("migration.cli.finish", "Take out what a run has replaced, once the application uses the new."),
    "discover": Entry("migration.cli.discover", "Propose a collections file from the schemas on the server."),
    "list": Entry("migration.cli.list", "List what is unfinished on the server, and what ends it."),
    "history": Entry("migration.cli.history", "List the runs, and whether they get better."),
    "show": Entry("migration.cli.show", "Everything about one run."),
    "report": Entry("migration.cli.report", "Write a run's report anew: one HTML file that opens anywhere."),
    "label": Entry("migration.cli.label", "Give a run an alias or a description."),
    "compare": Entry("migration.cli.compare", "Two runs side by side, and how far their models agree."),
    "models": Entry("migration.cli.models", "List models, and how many documents carry each."),
    "explain": Entry("migration.cli.explain", "Say where one document's vector comes from."),
    "search": Entry("migration.cli.search", "Find what stands next to a text, to see what the vectors are worth."),
    "backup": Entry("migration.cli.backup", "Back up a collection by hand."),
    "restore": Entry("migration.cli.restore", "Restore a collection from a backup."),
    "backups": Entry("migration.cli.backups", "List and prune backups."),
    "cache": Entry("migration.cli.cache", "Show and look after the vectors that were paid for."),
    "ledger": Entry("migration.cli.ledger", "Look after the ledger: its schema, and what is in it."),
}
"""Every command in the order of the help."""


class LazyGroup(click.Group):
    """A group that loads a command's module only when that command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(COMMANDS[cmd_name].module).command
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands that begin so, without loading any of them, and the program's own options."""
        from click.shell_completion import CompletionItem

        found = [CompletionItem(name, help=entry.help) for name, entry in COMMANDS.items()]
        own = click.Command.shell_complete(self, ctx, incomplete)
        return [item for item in found if item.value.startswith(incomplete)] + own

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands in the help, without loading any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


def _print_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from migration.runtime.version import program_version

        click.echo(f"kai-migrate, version {program_version()}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""Exit status: 0 all done; 1 finished, but something failed; 2 refused before anything changed;
    3 stopped before the end, run again to go on; 4 nobody can tell (evaluate); 130 interrupted, run again to go on.""",
)
@click.option(
    "--env-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File with the configuration; the environment wins. May also follow the command. [default: .env]",
)
@click.option("-v", "--verbose", is_flag=True, help="Say more on standard error. May also follow the command.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    help="json: what is told on standard error as one JSON object a line. [default: MIGRATION_LOG_FORMAT, or text]",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="The version."
)
@click.pass_context
def cli(ctx: click.Context, env_file: Path | None, verbose: bool, log_format: str | None) -> None:
    """Re-embed the documents of a Typesense server when the embedding model changes.

    `kai-migrate COMMAND --help` tells everything about a command.
    """
    shared: dict[str, Any] = {"env_file": env_file, "verbose": verbose, "log_format": log_format}
    ctx.default_map = dict.fromkeys(COMMANDS, shared)
    ctx.obj = _place_of_ledger(env_file)


def _place_of_ledger(env_file: Path | None) -> Callable[[], tuple[str | None, Path]]:
    """What the `ledger` commands want: a function that gives the ledger's URL and MIGRATION_HOME."""

    def place() -> tuple[str | None, Path]:
        from kai.settings import SettingsError, load_settings
        from migration.cli.ledger import Refused

        try:
            settings = load_settings(env_file, needs=())
        except SettingsError as error:
            raise Refused("; ".join(str(problem) for problem in error.problems)) from error
        return settings.ledger_url, settings.home

    return place


def main() -> None:
    """Run the command line."""
    cli.main()


if __name__ == "__main__":
    main()
