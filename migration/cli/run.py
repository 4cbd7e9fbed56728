"""A migration from the command line: its options in, the plan or the result laid out."""

from __future__ import annotations

from kai.settings import Settings
from migration.cli.exits import tell_result, with_settings
from migration.operations import report
from migration.operations.execute import DONE
from migration.operations.migrate import migrate, preview
from migration.runtime.console import Console
from migration.strategies.context import MigrationOptions


def run(options: MigrationOptions) -> int:
    """Preview or run a migration; returns the exit status. Whatever is refused has changed nothing."""

    def work(settings: Settings, console: Console) -> int:
        if not options.dry_run:
            return tell_result(console, "MIGRATION SUMMARY", migrate(options, settings, console))
        plan = preview(options, settings, console)
        report.banner(console, plan)
        report.preview(console, plan)
        return DONE

    return with_settings(work, env_file=options.env_file, verbose=options.verbose)
