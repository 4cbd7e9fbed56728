"""What the ledger is to know of a document whose vector a run has written or found."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final

from migration.documents.fetch import Document
from migration.embedding.embed import text_hash

if TYPE_CHECKING:
    from migration.ledger import DocumentRecord
    from migration.strategies.context import Context

TENANT_FIELD: Final = "db_connection_id"
NO_TEXT: Final = "the document has no text to embed"


def content_of(document: Document, others: Collection[str]) -> bytes:
    """Hash of everything in the document but vectors, as it is where `others`, further vectors, are not even read."""
    if not others:
        return document.content_hash()
    fields = dict(document.fields)
    for name in others:
        _remove(fields, name)
    return Document(document.id, fields, None).content_hash()


def _remove(fields: dict[str, Any], name: str) -> None:
    if name in fields:
        del fields[name]
        return
    head, _, rest = name.partition(".")
    if rest and isinstance(fields.get(head), dict):
        fields[head] = dict(fields[head])
        _remove(fields[head], rest)


def record_of(context: Context, document: Document, text: str, stored: bytes, content: bytes | None) -> DocumentRecord:
    """A document with this vector.

    Args:
        context: says which model and run the vector is from.
        document: with its tenant, where it has one.
        text: that the vector was made of.
        stored: the vector's bytes as float32; empty for none.
        content: hash of everything but vectors in the document, where the whole of it was read.
    """
    from migration.ledger import DocumentRecord

    tenant = document.fields.get(TENANT_FIELD)
    return DocumentRecord(
        document.id,
        text_hash(text),
        hashlib.sha256(stored).digest(),
        model_id=context.model.id if stored else None,
        run_id=context.run.id,
        tenant=str(tenant) if tenant is not None else None,
        content_hash=content,
    )
