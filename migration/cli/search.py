"""`kai-migrate search COLLECTION TEXT`: what stands next to a text, to be looked at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from migration.cli.completion import collection_names
from migration.cli.layout import NOTHING, rows_of, text
from migration.cli.options import OWN_COLLECTIONS, Invocation, common_options

if TYPE_CHECKING:
    from migration.operations.search import Found, Hit
    from migration.runtime.console import Console

_LONGEST: Final = 80
"""Characters of a text in the table."""


@click.command("search")
@click.argument("collection", metavar="COLLECTION", shell_complete=collection_names)
@click.argument("words", metavar="TEXT")
@click.option("--k", type=click.IntRange(1, 250), default=10, show_default=True, help="Most documents to find.")
@click.option("--filter", "filter_by", default="", metavar="FILTER", help="Typesense filter: search only in these.")
@click.option("--field", metavar="FIELD", help="The embedding field. [default: the one that serves]")
@OWN_COLLECTIONS
@common_options
def command(
    collection: str,
    words: str,
    k: int,
    filter_by: str,
    field: str | None,
    collections_file: Path | None,
    invocation: Invocation,
) -> int:
    """Embed TEXT with the configured model and show the documents that stand next to it.

    The search is the server's own, by the vectors that are stored, and the text is embedded as your application
    embeds a question: a look at whether a migration did what it should. Says when the vectors are another model's,
    by the collection's metadata or by the ledger; their distances mean nothing then. Writes nothing.
    """
    from migration.cli.exits import answer
    from migration.operations.search import search

    return answer(
        invocation,
        lambda settings, console: search(
            collection,
            words,
            k=k,
            filter_by=filter_by,
            field=field,
            collections_file=collections_file,
            settings=settings,
            console=console,
        ),
        _lay_out,
    )


def _lay_out(found: Found, console: Console) -> None:
    for note in found.notes:
        console.warn(f"! {note}")
    if not found.hits:
        console.line(f"{found.collection} has no document next to this text.")
        return
    console.table(rows_of(_HITS, found.hits))


def _beginning(words: str) -> str:
    line = text(words)
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"


_HITS: dict[str, Callable[[Hit], str]] = {
    "DISTANCE": lambda hit: NOTHING if hit.distance is None else f"{hit.distance:.4f}",
    "DOCUMENT": lambda hit: hit.document_id,
    "MODEL": lambda hit: text(hit.model),
    "TEXT": lambda hit: _beginning(hit.text),
}
