"""`kai-migrate cache`: what the vector cache holds, and what goes out of it and into it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from migration.cli.layout import moment, rows_of, text
from migration.cli.options import ENV_FILE, FILE, VERBOSE, YES, Invocation, age, ask, common_options, size

if TYPE_CHECKING:
    from migration.embedding.cache_upkeep import Space
    from migration.operations.cache import CacheContents, Removed
    from migration.operations.cache_exchange import Exported, Imported
    from migration.runtime.console import Console


@click.group("cache", invoke_without_command=True)
@ENV_FILE
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")
@VERBOSE
@click.pass_context
def command(ctx: click.Context, env_file: Path | None, as_json: bool, verbose: bool) -> None:
    """Show what the vector cache holds: its size, and the vectors of each model with their hits.

    Every vector that was paid for is in it, by the hash of its text. A hit is a text that found its vector there; they
    are counted by each run that comes to its end.
    """
    ctx.default_map = {name: {"env_file": env_file, "verbose": verbose} for name in command.commands}
    if ctx.invoked_subcommand is None:
        sys.exit(_show(Invocation(env_file, verbose, as_json)))


@command.command("prune")
@click.option("--older-than", metavar="AGE", callback=age, help="Only what came longer ago: 90d, 12h; 90 is 90d.")
@click.option("--model", metavar="MODEL", help="Only of this model: its name, FAMILY/MODEL@DIMENSIONS or fingerprint.")
@click.option("--keep-size", metavar="SIZE", callback=size, help="Spare the newest, up to this size: 500MB, 2GB.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@YES
@common_options
def prune_command(
    older_than: timedelta | None,
    model: str | None,
    keep_size: int | None,
    dry_run: bool,
    yes: bool,
    invocation: Invocation,
) -> int:
    """Remove vectors from the cache for good; asks first.

    What is removed has to be paid for again where it is needed. Needs at least one of --older-than, --model and
    --keep-size; given several, all must be met. Refused while a run is under way: what it has at hand would go too.
    """
    from migration.cli.exits import answer
    from migration.operations.cache import prune_cache

    return answer(
        invocation,
        lambda settings, _: prune_cache(
            older_than=older_than,
            model=model,
            keep_bytes=keep_size,
            dry_run=dry_run,
            confirmed=lambda question: yes or ask(question),
            settings=settings,
        ),
        _lay_out_removed,
        needs=(),
    )


@command.command("export")
@click.argument("file", metavar="FILE.parquet", type=FILE)
@click.option("--model", metavar="MODEL", help="Only of this model, as for `cache prune`.")
@common_options
def export_command(file: Path, model: str | None, invocation: Invocation) -> int:
    """Write the cache to a Parquet file: model, hash of the text, vector. No text is in it.

    The columns are those that `cache import` reads; see docs/cache.md. Needs the extra `parquet`.
    """
    from migration.cli.exits import answer
    from migration.operations.cache_exchange import export_cache

    return answer(
        invocation,
        lambda settings, _: export_cache(file, model=model, settings=settings),
        _lay_out_exported,
        needs=(),
    )


@command.command("import")
@click.argument("file", metavar="FILE.parquet", type=FILE)
@click.option(
    "--check",
    type=click.IntRange(0, 2000),
    default=0,
    show_default=True,
    metavar="N",
    help="Embed N of the texts again first, and import nothing if one has another vector. Costs that much.",
)
@common_options
def import_command(file: Path, check: int, invocation: Invocation) -> int:
    """Bring vectors that were computed elsewhere into the cache, from a Parquet file.

    Each row has a model, a text or its hash, and a vector (docs/cache.md). A vector is checked as one that comes
    from a provider: length, finite, not zero. Rows that are refused are named, and the exit status is 1. Where the
    cache has a vector of the text already, that one stays. Needs the extra `parquet`.
    """
    from migration.cli.exits import answer
    from migration.operations.cache_exchange import import_cache

    return answer(
        invocation,
        lambda settings, _: import_cache(file, check=check, settings=settings),
        _lay_out_imported,
        needs=["embedding"] if check else [],
    )


def _show(invocation: Invocation) -> int:
    from migration.cli.exits import answer
    from migration.operations.cache import cache_contents

    return answer(invocation, lambda settings, _: cache_contents(settings), _lay_out, needs=())


def _lay_out(found: CacheContents, console: Console) -> None:
    entries = sum(space.entries for space in found.spaces)
    console.line(f"{found.place}: {entries:,} vectors, {found.bytes:,} bytes")
    if found.spaces:
        console.table(rows_of(_COLUMNS, found.spaces))


def _lay_out_removed(found: Removed, console: Console) -> None:
    for name, entries in found.by_model.items():
        console.line(f"  {name}: {entries:,}")
    if not found.entries:
        console.line("There is nothing to remove.")
        return
    what = f"{found.entries:,} vectors, about {found.bytes:,} bytes"
    console.line(f"Would remove {what}." if found.is_dry else f"Removed {what}.")
    if not found.is_dry and not found.given_back:
        console.warn("Their room is not given back to the disk; what comes next fills it.")


def _lay_out_exported(found: Exported, console: Console) -> None:
    console.line(f"Wrote {found.entries:,} vectors to {found.file}.")
    if found.unnamed:
        console.warn(f"Left out {found.unnamed:,} vectors, because nobody knows which model they are of.")


def _lay_out_imported(found: Imported, console: Console) -> None:
    if found.compared:
        console.line(f"Compared {found.compared:,} of them with the provider's: the same.")
    console.line(f"Read {found.rows:,} rows: {found.kept:,} vectors are in the cache, {found.refused:,} refused.")
    for refused in found.first_refused:
        console.warn(f"  Refused: row {refused.row}: {refused.reason}")
    if (more := found.refused - len(found.first_refused)) > 0:
        console.warn(f"  … and {more:,} more")


def _when(value: int) -> str:
    return moment(datetime.fromtimestamp(value, UTC)) if value else text(None)


_COLUMNS: dict[str, Callable[[Space], str]] = {
    "MODEL": lambda each: f"{each.family}/{each.model}" if each.model else "unknown",
    "DIMENSIONS": lambda each: text(each.dimensions),
    "TASK TYPE": lambda each: text(each.task_type),
    "FINGERPRINT": lambda each: each.fingerprint,
    "VECTORS": lambda each: f"{each.entries:,}",
    "CUT": lambda each: f"{each.cut:,}",
    "BYTES": lambda each: f"{each.bytes:,}",
    "HITS": lambda each: f"{each.hits:,}",
    "OLDEST": lambda each: _when(each.first),
    "NEWEST": lambda each: _when(each.last),
}
