"""`kai-migrate explain COLLECTION DOCUMENT_ID`: where a document's vector comes from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kai.collections import EmbeddedCollection, described_as, load_collections
from kai.settings import Settings
from migration.cli.layout import collections_file_option, common_options, moment, print_json, text

if TYPE_CHECKING:
    from kai.typesense import Typesense
    from migration.operations.history import Explanation
    from migration.runtime.console import Console


@click.command("explain")
@click.argument("collection", metavar="COLLECTION")
@click.argument("document_id", metavar="DOCUMENT_ID")
@collections_file_option
@common_options
def command(
    collection: str,
    document_id: str,
    collections_file: Path | None,
    env_file: Path | None,
    as_json: bool,
    verbose: bool,
) -> None:
    """Say which model and run made a document's vector, when, and whether it is current.

    Reads the document from the server and compares its text and its vector with what the ledger remembers:
    current, text changed since, vector was overwritten by somebody else, no vector, or not in the ledger.
    Where an embedding model is configured, also says whether the vector is that model's. Needs no key of an
    embedding provider.
    """
    from migration.cli.exits import with_settings
    from migration.operations.execute import DONE
    from migration.operations.history import configured_target, explain_document
    from migration.operations.setup import open_ledger, open_server
    from migration.strategies.refusals import Refused

    def work(settings: Settings, console: Console) -> int:
        with open_server(settings, console) as server:
            known = _find(load_collections(collections_file), collection, server)
            schema = server.collection(known.name)
            if schema is None:
                raise Refused(f"COLLECTION: {collection!r} does not exist on {server.url}")
            name = str(schema["name"])
            document = server.document(name, document_id)
            if document is None:
                raise Refused(f"DOCUMENT_ID: collection {name!r} has no document {document_id!r}")
            eligible = not known.filter_by or _is_let_through(server, name, document_id, known.filter_by)
            with open_ledger(settings) as ledger:
                found = explain_document(
                    ledger,
                    server.address,
                    known,
                    name,
                    document,
                    eligible=eligible,
                    configured=configured_target(settings),
                )
        if as_json:
            print_json(found, settings.secrets)
        else:
            _lay_out(found, known, console)
        return DONE

    sys.exit(with_settings(work, env_file=env_file, verbose=verbose, needs=["typesense"]))


def _find(known: dict[str, EmbeddedCollection], name: str, server: Typesense) -> EmbeddedCollection:
    """The collection of this name; a real name is good where the description has an alias."""
    from migration.strategies.refusals import Refused

    found = described_as(known, name, server.aliases())
    if found is not None:
        return found
    raise Refused(f"COLLECTION: unknown collection {name!r}; known: {', '.join(known)}; see --collections-file")


def _is_let_through(server: Typesense, name: str, document_id: str, filter_by: str) -> bool:
    from kai.typesense import nameable
    from migration.documents.fetch import Selection, export_pages

    if nameable(document_id):
        return bool(server.count(name, f"id:=`{document_id}` && ({filter_by})"))
    ids_only = Selection("", filter_by, fields=(), with_vector=False)
    return any(document.id == document_id for page in export_pages(server, name, ids_only) for document in page)


def _lay_out(found: Explanation, known: EmbeddedCollection, console: Console) -> None:
    record, model = found.recorded, found.model
    console.line(f"{found.collection}/{found.document_id}: {found.status}")
    if not found.eligible:
        console.line(f"  The filter {known.filter_by} leaves it out: it gets no vector.")
    facts = [("Vector", f"{found.dimensions} dimensions" if found.dimensions else text(None))]
    if record is not None:
        facts += [
            ("Model", f"{model.family}/{model.model}/{model.dimensions}" if model else "unknown to the ledger"),
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
