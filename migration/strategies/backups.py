"""What is about to be overwritten goes to disk first: old vectors, or whole documents where a collection is dropped."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Final

import orjson

from kai.typesense import Schema
from kai.typesense_curation import NOTHING
from kai.typesense_schemas import signature_of
from kai.vectors import AnyVector
from migration.backup import BackupWriter, Kind
from migration.documents.fetch import Document, Page
from migration.strategies.context import RunContext
from migration.strategies.curation import read_curation

_BYTES_A_NUMBER: Final = 12
"""Bytes that a number of a vector takes in a backup at most; zstd brings it to about half."""
_BYTES_A_DOCUMENT: Final = 4096
_BYTES_TO_SPARE: Final = 64_000_000


def open_backup(
    context: RunContext,
    stack: ExitStack,
    schema: Schema,
    embedding_field: str,
    dimensions: int,
    kind: Kind,
    identity: str,
) -> BackupWriter:
    """The backup of what this run overwrites in a collection, noted in the ledger before anything is overwritten.

    Args:
        context: the tools of the run.
        stack: closes the backup at its end.
        schema: the collection as it stands.
        embedding_field: the field that is about to be overwritten.
        dimensions: of the vectors that stand there.
        kind: old vectors, or whole documents.
        identity: of the collection's run in the ledger.

    Raises:
        BackupError: the disk has no room for it, say.
    """
    server, name, documents = context.server, str(schema["name"]), int(schema.get("num_documents", 0))
    whole = kind == "documents"
    vectors = documents * dimensions * _BYTES_A_NUMBER
    writer = stack.enter_context(
        BackupWriter.open(
            context.home,
            context.run.name,
            name,
            kind=kind,
            embedding_field=embedding_field,
            server=server.address,
            schema=schema,
            curation=read_curation(server, schema) if whole else NOTHING,
            free_space_needed=vectors + (documents * _BYTES_A_DOCUMENT if whole else 0) + _BYTES_TO_SPARE,
            model=signature_of(schema).get("model"),
        )
    )
    # A way back must be found even if this process ends at the next line.
    context.ledger.update_collection(identity, backup_path=str(writer.folder.absolute()))
    return writer


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
