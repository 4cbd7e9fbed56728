"""Pages of documents made ready for the shadow: embedded, written out as lines, noted for the ledger."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import orjson

from kai.typesense import embedding_field
from migration.documents.eligible import eligible_of
from migration.documents.fetch import Document, Page, other_vector_fields
from migration.embedding.embed import TextFailure, text_hash
from migration.embedding.vectors import Vector
from migration.strategies.context import Context, Failure
from migration.strategies.ledger_rows import NO_TEXT, content_of, record_of

if TYPE_CHECKING:
    from kai.collections import EmbeddedCollection
    from kai.typesense import Typesense
    from migration.backup.old_vectors import OldVectors
    from migration.ledger import DocumentRecord
    from migration.strategies.plan import CollectionPlan

UNDESCRIBED: Final = "{id}"
"""The template of a collection of which nobody says what is embedded."""
NO_VECTOR: Final = b""


@dataclass(slots=True)
class Prepared:
    """A page ready for the shadow."""

    lines: dict[str, bytes] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    records: dict[str, DocumentRecord] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    seen: int = 0


class PagePreparer:
    """Makes pages of one collection ready.

    Args:
        context: the tools of the run.
        plan: what to do.
        old_vectors: where the vectors come from on the way back; None to embed.

    Attributes:
        vector_is_optional: whether a document may come without a vector.
        others: the collection's other vector fields.
        added: ids of documents that have no old vector, on the way back.
        changed: ids of documents whose text is not the one that their old vector is of.
    """

    def __init__(self, context: Context, plan: CollectionPlan, old_vectors: OldVectors | None = None) -> None:
        self._context = context
        self.added: dict[str, None] = {}
        self.changed: dict[str, None] = {}
        self._old_vectors = old_vectors
        self._collection = plan.collection
        self._name = plan.name
        self._field = plan.collection.embedding_field
        self.others = other_vector_fields(plan.schema, self._field)
        self.vector_is_optional = bool((embedding_field(plan.schema, self._field) or {}).get("optional"))

    def prepare(self, page: Page, *, embed: bool = True) -> Prepared:
        """Embed what the application embeds."""
        context = self._context
        context.control.wait_while_paused()
        prepared = Prepared(seen=len(page))
        if not page:
            return prepared
        if self._old_vectors is not None:
            return self._prepare_old(page, self._old_vectors, prepared)
        texts = self._texts(page, prepared) if embed else {}
        vectors = context.embedder.embed(texts.values(), past=context.past)
        for document in page:
            vector: Vector | None = None
            if document.id in texts:
                outcome = vectors[texts[document.id]]
                if isinstance(outcome, TextFailure):
                    prepared.failures[document.id] = Failure("embed", outcome.reason)
                else:
                    vector = outcome
            prepared.lines[document.id] = line_of(document, self._field, vector)
            stored = NO_VECTOR if vector is None else vector.tobytes()
            content = document.content_hash()
            prepared.records[document.id] = record_of(
                context, document, texts.get(document.id, ""), stored, content_of(document, self.others)
            )
            prepared.contents[document.id] = content
        return prepared

    def _prepare_old(self, page: Page, old_vectors: OldVectors, prepared: Prepared) -> Prepared:
        """Every document with the vector that it had, the very numbers, where it had one."""
        ids = [document.id for document in page]
        old = old_vectors.get(ids)
        known = self._context.ledger.documents(self._context.server.address, self._name, ids)
        described = None if self._collection.template == UNDESCRIBED else self._collection
        missing = [document for document in page if document.id not in old]
        added = added_since(self._context.server, self._name, described, missing, old_vectors, known)
        self.added.update(dict.fromkeys(added))
        for document in page:
            vector = old.get(document.id)
            if document.id not in old or described is None:
                pass
            elif (record := known.get(document.id)) and record.text_hash != text_hash(
                self._collection.text_of(document.fields)
            ):
                self.changed[document.id] = None
            prepared.lines[document.id] = line_of(document, self._field, None if vector is None else vector.tolist())
            stored = NO_VECTOR if vector is None else np.asarray(vector, np.float64).astype(np.float32).tobytes()
            text, content = self._collection.text_of(document.fields), document.content_hash()
            prepared.records[document.id] = record_of(
                self._context, document, text, stored, content_of(document, self.others)
            )
            prepared.contents[document.id] = content
        return prepared

    def _texts(self, page: Page, prepared: Prepared) -> dict[str, str]:
        """The texts to embed: of eligible documents, and of the others only where a vector is required."""
        eligible: set[str] | None = None
        if self.vector_is_optional:
            ids = [document.id for document in page]
            eligible = eligible_of(self._context.server, self._name, self._collection.filter_by, ids)
        texts: dict[str, str] = {}
        for document in page:
            if eligible is not None and document.id not in eligible:
                continue
            text = self._collection.text_of(document.fields)
            if text:
                texts[document.id] = text
            else:
                prepared.failures[document.id] = Failure("embed", NO_TEXT)
        return texts


def added_since(
    server: Typesense,
    name: str,
    collection: EmbeddedCollection | None,
    page: Page,
    old: OldVectors,
    known: Mapping[str, DocumentRecord],
) -> list[str]:
    """Which documents of a page, none of them in the backup, came after it and so lack an old vector.

    Not those that the ledger knows with the vector that they have: the run found that there and left it alone.
    Nor those outside the filter or without a text, which get no vector. A backup that is not complete lacks
    documents that were there all along. Of a collection that is not described, what has no vector needs none.
    """
    if not old.complete:
        return []
    new = []
    for document in page:
        stored, record = document.vector_bytes(), known.get(document.id)
        if record is not None and stored is not None and record.vector_hash == hashlib.sha256(stored).digest():
            continue
        if stored is not None if collection is None else collection.text_of(document.fields):
            new.append(document.id)
    if not new or collection is None:
        return new
    eligible = eligible_of(server, name, collection.filter_by, new)
    return [document_id for document_id in new if document_id in eligible]


def line_of(document: Document, field_name: str, vector: Vector | list[float] | None) -> bytes:
    """The whole document as a line of an import."""
    fields: dict[str, Any] = dict(document.fields)
    if vector is not None:
        fields[field_name] = vector
    return orjson.dumps(fields, option=orjson.OPT_SERIALIZE_NUMPY)
