"""`kai-migrate explain COLLECTION DOCUMENT_ID`: where a document's vector comes from."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import click

from migration.cli.completion import collection_names
from migration.cli.layout import moment, text
from migration.cli.options import OWN_COLLECTIONS, Invocation, common_options

if TYPE_CHECKING:
    from migration.operations.explain import Explanation
    from migration.runtime.console import Console


@click.command("explain")
@click.argument("collection", metavar="COLLECTION", shell_complete=collection_names)
@click.argument("document_id", metavar="DOCUMENT_ID")
@click.option("--field", metavar="FIELD", help="The embedding field. [default: the one that serves]")
@OWN_COLLECTIONS
@common_options
def command(
    collection: str, document_id: str, field: str | None, collections_file: Path | None, invocation: Invocation
) -> int:
    """Say which model and run made a document's vector, when, and whether it is current.

    Reads the document from the server and compares its text and its vector with what the ledger remembers:
    current, text changed since, vector was overwritten by somebody else, no vector, or not in the ledger.
    Where an embedding model is configured, also says whether the vector is that model's. Needs no key of an
    embedding provider.
    """
    from migration.cli.exits import answer
    from migration.operations.explain import explain

    return answer(
        invocation,
        lambda settings, console: explain(
            collection,
            document_id,
            field=field,
            collections_file=collections_file,
            settings=settings,
            console=console,
        ),
        _lay_out,
        needs=["typesense"],
        facts=lambda found: {
            each.name: getattr(found, each.name) for each in fields(found) if each.name != "filter_by"
        },
    )


def _lay_out(found: Explanation, console: Console) -> None:
    record, model = found.recorded, found.model
    console.line(f"{found.collection}/{found.document_id}: {found.status}")
    if not found.eligible:
        console.line(f"  The filter {found.filter_by} leaves it out: it gets no vector.")
    facts = [("Field", found.field), ("Vector", f"{found.dimensions} dimensions" if found.dimensions else text(None))]
    if record is not None:
        facts += [
            ("Model", model.name if model else "unknown to the ledger"),
            *([("Cut from", f"{record.cut_from} dimensions of the same model")] if record.cut_from else []),
            ("Run", found.run or "unknown to the ledger"),
            ("Embedded", moment(record.embedded_at)),
            ("From text", _compared(record.text_hash, found.text_hash)),
            ("Vector hash", _compared(record.vector_hash, found.vector_hash)),
        ]
    if found.configured and found.dimensions:
        same = {True: "yes", False: "no", None: "cannot be said"}[found.is_configured]
        facts.append(("Of the configured model", f"{same} ({found.configured})"))
    console.table([(f"  {name}", value) for name, value in facts])


def _compared(recorded: bytes, standing: bytes | None) -> str:
    if standing == recorded:
        return f"{recorded.hex()[:16]}… as it stands there"
    return f"{recorded.hex()[:16]}…, but {standing.hex()[:16] + '…' if standing else 'none'} stands there"
