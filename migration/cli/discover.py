"""`kai-migrate discover`: a collections file, proposed from what is on the server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from migration.cli.options import FILE, Invocation, common_options

if TYPE_CHECKING:
    from migration.operations.discover import Discovered
    from migration.runtime.console import Console


@click.command("discover")
@click.option("--output", type=FILE, help="Write it to this file. [default: standard output]")
@click.option("--force", is_flag=True, help="Replace the file if it is there already.")
@common_options
def command(output: Path | None, force: bool, invocation: Invocation) -> int:
    """Propose a collections file from the server's schemas and a sample of documents.

    It names every embedding field (float[] with num_dim), and the template that its text may be made by: KAI's own
    where it is KAI's, the last run's where the ledger knows one, else a guess by names and by what is in the fields.
    A guess is marked as one, with its reason and what else it may be: look at each before you use the file. What the
    server embeds itself, and what an unfinished run has made, is left out and said. Writes nothing else, embeds
    nothing, needs no key of an embedding provider.
    """
    from migration.cli.exits import answer
    from migration.operations.discover import discover

    return answer(
        invocation,
        lambda settings, console: discover(output, force=force, settings=settings, console=console),
        _lay_out,
        needs=["typesense"],
    )


def _lay_out(found: Discovered, console: Console) -> None:
    if found.output is None:
        console.line(found.toml.rstrip("\n"))
    guesses = sum(each.is_guess for each in found.usable)
    file = found.output or "FILE"
    console.warn(f"Collections proposed: {len(found.usable)}; with a guessed template, to be looked at: {guesses}")
    if found.output is not None:
        console.warn(f"Written to {found.output}.")
    if found.usable:
        console.warn(f"Then: kai-migrate run --collections-file {file} --dry-run")
    else:
        console.warn("Every table is a comment: complete one before you use the file.")
