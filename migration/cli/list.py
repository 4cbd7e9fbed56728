"""`kai-migrate list`: what is unfinished on the server, and what ends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from migration.cli.layout import text
from migration.cli.options import Invocation, common_options

if TYPE_CHECKING:
    from migration.operations.unfinished import UnfinishedWork
    from migration.runtime.console import Console

_TITLES = ("COLLECTION", "WHAT", "RUN", "STATE", "HELD BY", "WHAT ENDS IT")


@click.command("list")
@common_options
def command(invocation: Invocation) -> int:
    """List what is unfinished on the server: second fields that wait for `finish`, what dead runs have left.

    Reads the marks that every run leaves on the server itself, so what another machine began is listed, too; runs
    that this machine's ledger alone knows come last. Needs no key of an embedding provider.
    """
    from migration.cli.exits import answer
    from migration.operations.unfinished import list_unfinished

    return answer(
        invocation,
        lambda settings, console: list_unfinished(settings=settings, console=console),
        _lay_out,
        needs=["typesense"],
    )


def _lay_out(found: UnfinishedWork, console: Console) -> None:
    if not found.items:
        console.line(f"Nothing is unfinished on {found.server}.")
        return
    rows = [
        (item.collection, item.what, text(item.run or None), item.state, text(item.held_by or None), item.remedy)
        for item in found.items
    ]
    console.table([_TITLES, *rows])
