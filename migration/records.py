"""What the ledger is to know of a document whose vector a run has written or found."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from migration.embed import text_hash
from migration.fetch import Document

if TYPE_CHECKING:
    from migration.context import Context
    from migration.ledger import DocumentRecord

TENANT_FIELD: Final = "db_connection_id"
NO_TEXT: Final = "the document has no text to embed"


def record_of(context: Context, document: Document, text: str, stored: bytes, content: bytes | None) -> DocumentRecord:
    """A document with this vector.

    Args:
        context: says which model and run the vector is from.
        document: with its tenant, where it has one.
        text: that the vector was made of.
        stored: the vector's bytes as float32; empty for none.
        content: hash of everything else in the document, where the whole of it was read.
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
