"""A migration from the command line: `kai-migrate run`, and `python -m migration.embedding_migration`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from migration.cli.completion import collection_names
from migration.cli.options import (
    CONCURRENCY,
    ENV_FILE,
    FILE,
    LOG_FORMAT,
    MAX_RPM,
    MAX_TPM,
    VERBOSE,
    Invocation,
    Number,
    SeveralValues,
    bounds,
    duration,
    share,
)
from migration.runtime.version import program_version

if TYPE_CHECKING:
    from kai.settings_values import LogFormat
    from migration.runtime.console import Console
    from migration.strategies.context import MigrationOptions
    from migration.strategies.plan import Plan


@click.command(
    cls=SeveralValues,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""Exit status: 0 all done; 1 finished, but some documents failed; 2 refused before anything
    changed; 3 stopped before the end, run again to go on; 130 interrupted, run again to go on.""",
)
@click.option(
    "--collections",
    multiple=True,
    metavar="NAME...",
    shell_complete=collection_names,
    help="Collections to migrate: one or several names, also comma-separated or repeated; `all` for all. "
    "[default: all]",
)
@click.option(
    "--dry-run", is_flag=True, help="Show what would happen. No write; no embedding but one probe, and the sample."
)
@ENV_FILE
@click.option(
    "--collections-file",
    type=FILE,
    help="TOML file that names your own collections in place of KAI's; see the README.",
)
@CONCURRENCY
@MAX_RPM
@MAX_TPM
@click.option(
    "--nice",
    type=Number(0.0, 0.95),
    default=0.0,
    show_default=True,
    help="Share of the time that Typesense is left idle between writes.",
)
@click.option(
    "--patience",
    type=Number(0.0, 3600.0),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a request is repeated while Typesense is unreachable or overloaded.",
)
@click.option(
    "--strategy",
    type=click.Choice(["auto", "recreate", "rebuild", "alter", "into", "alias"]),
    help="auto: in place; where the dimensions change, recreate, or alter if the application keeps writing. "
    "recreate: insist on it, although writes may be lost. rebuild: empty the vector field and fill it again; much "
    "faster, vector search pauses for a moment. alter: the same across a change of dimensions. into: fill the "
    "next_field of the collections file beside the one that serves. alias: for an application that uses an alias; a "
    "new collection beside the live one takes its place, nothing pauses, and the previous one stands until "
    "`kai-migrate finish`. [default: MIGRATION_STRATEGY, or auto]",
)
@click.option(
    "--into",
    metavar="FIELD",
    help="Fill this second field beside the one that serves, which stays as it is until `kai-migrate finish`. {field} "
    "in it stands for the name of that one.",
)
@click.option(
    "--follow",
    type=Number(1.0, 86400.0),
    metavar="SECONDS",
    help="With --into: once it is filled, look every so many seconds for what the application has written, until "
    "`kai-migrate finish`.",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Write at most N documents, then stop; a canary.")
@click.option("--until", metavar="SHARE", callback=share, help="As --limit, for a share of each collection: 5%.")
@click.option(
    "--max-cost",
    type=Number(0.0, min_open=True),
    metavar="USD",
    help="Stop before embedding costs more than this, by list price and estimated tokens.",
)
@click.option(
    "--sample",
    "verify_sample",
    type=click.IntRange(0, 250),
    default=10,
    show_default=True,
    help="Current documents to embed again first, to see whether the model of this name is still the same, and "
    "documents of each collection to search for, and to embed again, at the end.",
)
@click.option("--no-backup", "backup", flag_value=False, default=True, help="Overwrite old vectors without a backup.")
@click.option("--force", is_flag=True, help="Embed every document again, also the ones that are current.")
@click.option(
    "--from-old/--no-from-old",
    default=None,
    help="Where the same model is to have fewer dimensions: cut the new vectors from the old ones, although nothing "
    "says that these are the model's, if a sample agrees; or never cut them. [default: cut where ledger or metadata "
    "say whose the old ones are, and a sample agrees]",
)
@click.option(
    "--allow-partial",
    is_flag=True,
    help="Recreate even if documents cannot be copied; they go to a file in the run's folder.",
)
@click.option(
    "--allow-lag",
    is_flag=True,
    help="Recreate even at a follower or behind a load balancer, where the last writes before the drop may be lost.",
)
@click.option("--keep-old", is_flag=True, help="Keep the collection that is recreated as NAME__before_RUN.")
@click.option(
    "--hold",
    metavar="[DURATION]",
    is_flag=False,
    flag_value="",
    callback=duration,
    help="Do everything up to the point of no return, then keep abreast until `kai-migrate release`; give up after "
    "DURATION, such as 8h.",
)
@click.option("--rehearse", is_flag=True, help="End there: all is built and checked, nothing that serves is changed.")
@click.option(
    "--hooks",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Executables to call: before-start, ready, before-cut-over, after-cut-over, succeeded, failed.",
)
@click.option(
    "--hook-timeout",
    type=Number(0.0, min_open=True),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="How long each of them may take.",
)
@click.option(
    "--max-load",
    metavar="FIGURE=MOST,...",
    callback=bounds,
    help="Wait while a figure of Typesense's /stats.json is above: search_latency_ms=50,pending_write_batches=20.",
)
@click.option("--alias", metavar="NAME", help="A second name for the run.")
@click.option("--description", metavar="TEXT", help="A note that stays with the run.")
@VERBOSE
@LOG_FORMAT
@click.version_option(program_version(), "--version", prog_name="kai-migrate")
def command(log_format: LogFormat | None, **options: Any) -> None:
    """Compute every document's embedding again with the configured model, in place.

    The target comes from the environment or a .env file (EMBEDDING_FAMILY, EMBEDDING_MODEL,
    EMBEDDING_DIMENSIONS, …; see .env.example). Every document keeps everything but its vector. Run it again
    after any interruption: it goes on where it ended, and pays for nothing twice.

    \b
    Examples:
      python -m migration.embedding_migration --dry-run
      python -m migration.embedding_migration --collections instructions context_stores
    """
    try:
        from migration.runtime import memory

        memory.loading()
        from migration.strategies.context import MigrationOptions

        sys.exit(run(MigrationOptions(**options), log_format))
    except KeyboardInterrupt:
        click.echo("Interrupted; nothing was changed yet.", err=True)
        sys.exit(130)


def run(options: MigrationOptions, log_format: LogFormat | None = None) -> int:
    """Preview or run a migration; returns the exit status. Whatever is refused has changed nothing."""
    from migration.cli.exits import answer, tell_result
    from migration.operations.migrate import migrate, preview
    from migration.operations.runs import summary

    def lay_out(plan: Plan, console: Console) -> None:
        summary.banner(console, plan)
        summary.preview(console, plan)

    invocation = Invocation(options.env_file, options.verbose, log_format=log_format)
    if options.dry_run:
        return answer(invocation, lambda settings, console: preview(options, settings, console), lay_out)
    return answer(
        invocation,
        lambda settings, console: migrate(options, settings, console),
        lambda result, console: tell_result(result, console, "MIGRATION SUMMARY"),
    )
