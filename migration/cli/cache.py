"""`kai-migrate cache`: what the vector cache holds, and what goes out of it and into it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from migration.cli.layout import moment, rows_of, text
from migration.cli.options import ENV_FILE, VERBOSE, YES, Invocation, age, ask, common_options, size

if TYPE_CHECKING:
    from migration.embedding.cache_upkeep import Space
    from migration.operations.cache import CacheContents, Removed
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
    --keep-size; given several, all must be met. Not while a run is under way: what it has ready would go too.
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
