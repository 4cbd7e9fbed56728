"""What is about to be overwritten goes to disk first: old vectors, or whole documents where a collection is dropped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from kai.vectors import AnyVector
from migration.backup import BackupWriter
from migration.documents.fetch import Document, Page


def back_up(backup: BackupWriter, embedding_field: str, page: Page, contents: Mapping[str, bytes | None]) -> None:
    """Put the vectors of a page on disk, or its documents whole, as the backup's kind is.

    Args:
        backup: durable when this returns.
        embedding_field: where the vectors are.
        page: documents as they were read, old vectors included.
        contents: hashes of everything but vectors, by id.
    """
    hashes = [contents.get(document.id) for document in page]
    if backup.kind == "vectors":
        backup.add_vectors([(d.id, d.numbers, content) for d, content in zip(page, hashes, strict=True)])
    elif page:
        lines = [line_of(d, embedding_field, None if d.vector is None else d.vector.tolist()) for d in page]
        backup.add(lines, hashes)


def line_of(document: Document, field_name: str, vector: AnyVector | list[float] | None) -> bytes:
    """The whole document as a line of an import."""
    fields: dict[str, Any] = dict(document.fields)
    if vector is not None:
        fields[field_name] = vector
    return orjson.dumps(fields, option=orjson.OPT_SERIALIZE_NUMPY)
