"""Where one document's vector comes from: what stands on the server beside what the ledger remembers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kai.models import fingerprint
from kai.settings import Settings, load_settings
from kai.typesense import Typesense, nameable
from kai.vectors import as_float32
from migration.documents.fetch import Selection, export_pages
from migration.embedding.embed import text_hash
from migration.ledger import DocumentRecord, ModelRecord, vector_hash
from migration.operations.history import name_of
from migration.operations.setup import (
    TYPESENSE_ONLY,
    configured_target,
    described_collection,
    open_ledger,
    open_server,
)
from migration.runtime.console import SILENT, Console
from migration.strategies.refusals import Refused

Origin = Literal[
    "current", "text changed since", "vector was overwritten by somebody else", "no vector", "not in the ledger"
]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a document's vector comes from.

    Attributes:
        field: the embedding field.
        status: the verdict in words.
        eligible: whether the collection's filter lets the document through.
        dimensions: length of the vector that stands there; None where there is none.
        text_hash, vector_hash: SHA-256 of what stands there now.
        recorded: what the ledger knows; None where it knows nothing.
        model, run: those that made the vector, if the ledger knows.
        configured: the model that is configured, as family/model/dimensions; None where none is.
        is_configured: whether the vector is the configured model's; None where that cannot be said.
        filter_by: the collection's filter; empty for none.
    """

    server: str
    collection: str
    document_id: str
    field: str
    status: Origin
    eligible: bool
    dimensions: int | None
    text_hash: bytes | None
    vector_hash: bytes | None
    recorded: DocumentRecord | None
    model: ModelRecord | None
    run: str | None
    configured: str | None
    is_configured: bool | None
    filter_by: str = ""


def explain(
    collection: str,
    document_id: str,
    *,
    field: str | None = None,
    collections_file: Path | None = None,
    settings: Settings | None = None,
    console: Console = SILENT,
) -> Explanation:
    """Compare a document as it stands on the server with what the ledger knows of it.

    Args:
        collection: its collection: as it is described, or the real name where that is an alias.
        document_id: its id.
        field: the embedding field; None for the one that serves.
        collections_file: descriptions of the user's own collections; None for KAI's.
        settings: Typesense, the ledger, and the model that new vectors would be from, of which no key is needed; None
            reads `.env` and the environment.
        console: where to tell of waiting; nothing by default.

    Raises:
        Refused: there is no such collection or document.
        CollectionsError, LedgerError, TypesenseError: the descriptions, the ledger or the server cannot be used.
    """
    settings = settings or load_settings(needs=TYPESENSE_ONLY)
    with open_server(settings, console) as server:
        described, schema = described_collection(server, collection, collections_file, field)
        name = str(schema["name"])
        document = server.document(name, document_id)
        if document is None:
            raise Refused(f"DOCUMENT_ID: collection {name!r} has no document {document_id!r}")
        eligible = not described.filter_by or _is_let_through(server, name, document_id, described.filter_by)
        with open_ledger(settings) as ledger:
            record = ledger.documents(server.address, name, [document_id], field=described.embedding_field).get(
                document_id
            )
            model = ledger.find_model(record.model_id) if record and record.model_id else None
            run = name_of(ledger, record.run_id if record else None)
    text, vector = described.text_of(document), document.get(described.embedding_field)
    text_now = text_hash(text) if text else None
    vector_now = vector_hash(as_float32(vector).tobytes()) if vector else None
    target = configured_target(settings)
    is_known = model is not None and record is not None and vector_now == record.vector_hash
    return Explanation(
        server=server.address,
        collection=name,
        document_id=document_id,
        field=described.embedding_field,
        status=_status(record, text_now, vector_now),
        eligible=eligible,
        dimensions=len(vector) if vector else None,
        text_hash=text_now,
        vector_hash=vector_now,
        recorded=record,
        model=model,
        run=run,
        configured=target.name if target else None,
        is_configured=model.fingerprint == fingerprint(target, "") if target and is_known and model else None,
        filter_by=described.filter_by,
    )


def _is_let_through(server: Typesense, name: str, document_id: str, filter_by: str) -> bool:
    if nameable(document_id):
        return bool(server.count(name, f"id:=`{document_id}` && ({filter_by})"))
    ids_only = Selection("", filter_by, fields=(), with_vector=False)
    return any(document.id == document_id for page in export_pages(server, name, ids_only) for document in page)


def _status(record: DocumentRecord | None, text_now: bytes | None, vector_now: bytes | None) -> Origin:
    if vector_now is None:
        return "no vector"
    if record is None:
        return "not in the ledger"
    if record.vector_hash != vector_now:
        return "vector was overwritten by somebody else"
    return "current" if record.text_hash == text_now else "text changed since"
