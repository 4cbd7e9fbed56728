"""One collection in memory: its documents and what is derived from them."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from kai.sandbox.document import Document, References
from kai.sandbox.documents import dig
from kai.sandbox.schema import Field, Schema, slot_names
from kai.sandbox.vectors import VectorIndex

Json = dict[str, Any]


class Collection:
    """Documents by sequence number, in the order in which they came.

    Reading needs no lock: documents are replaced, never changed, and `list(documents.values())` is one
    step of the interpreter. Writing happens under the store's lock.

    Attributes:
        documents: sequence number -> document. Numbers start at 0 and are never given out twice.
        ids: document id -> sequence number.
        referrers: own reference field -> target's sequence number -> sequence numbers of own documents.
        gate: held by each write request, and by a schema change for as long as it takes.
        altering: whether a schema change holds the gate or waits for it.
        unready: fields that are shown already but cannot be queried yet.
        version: grows with every change of the documents.
        refused: documents refused for the references to them, which the server counts all the same.
    """

    def __init__(self, schema: Schema, next_seq: int = 0) -> None:
        self.schema = schema
        self.next_seq = next_seq
        self.documents: dict[int, Document] = {}
        self.ids: dict[str, int] = {}
        self.referrers: dict[str, dict[int, set[int]]] = {}
        self.curation: dict[str, dict[str, Json]] = {"synonyms": {}, "overrides": {}}
        self.layout = slot_names(schema.fields.values())
        self.gate = threading.Lock()
        self.altering = False
        self.unready: set[str] = set()
        self.version = 0
        self.refused = 0
        self._vectors: dict[str, VectorIndex] = {}
        self._async_values = self._empty_async_values()

    @property
    def name(self) -> str:
        """The collection's own name, never an alias."""
        return self.schema.name

    @property
    def num_documents(self) -> int:
        """How many documents the server says there are."""
        return len(self.documents) + self.refused

    @property
    def fields(self) -> dict[str, Field]:
        """Name -> field, in the order that GET shows."""
        return self.schema.fields

    @property
    def reference_fields(self) -> list[Field]:
        """The fields that refer to another collection."""
        return [spec for spec in self.schema.fields.values() if spec.reference]

    def set_fields(self, fields: Iterable[Field]) -> None:
        """Replace the schema's fields; the layout keeps the slots of fields that were dropped."""
        self.schema.fields = {spec.name: spec for spec in fields}
        self.layout = tuple(sorted({*self.layout, *slot_names(self.schema.fields.values())}))
        self._vectors.clear()
        self._async_values = self._empty_async_values()
        for document in self.documents.values():
            self._index_values(document)

    def get(self, document_id: str) -> Document | None:
        """The document with that id."""
        seq = self.ids.get(document_id)
        return None if seq is None else self.documents.get(seq)

    def snapshot(self) -> list[Document]:
        """Every document at this instant, in insertion order."""
        return list(self.documents.values())

    def put(self, document: Document) -> None:
        """Add a document, or put it in the place of the one with its sequence number."""
        previous = self.documents.get(document.seq)
        self.documents[document.seq] = document
        self.ids[document.id] = document.seq
        self.next_seq = max(self.next_seq, document.seq + 1)
        if previous is None or previous.segments is not document.segments:
            self._index_values(document, previous)
        old = previous.references if previous is not None else None
        if old is not document.references:
            self._unlink(document.seq, old)
            self._link(document.seq, document.references)
        self._changed(document.seq)

    def remove(self, seq: int) -> Document | None:
        """Take a document out; None if it is not there."""
        document = self.documents.pop(seq, None)
        if document is not None:
            del self.ids[document.id]
            self._unlink(seq, document.references)
            self._index_values(None, document)
            self._changed(seq)
        return document

    def referring(self, field: str, target_seq: int) -> list[int]:
        """Sequence numbers of the documents whose `field` refers to the target's `target_seq`."""
        return sorted(self.referrers.get(field, {}).get(target_seq, ()))

    def holding(self, field: str, value: Any) -> list[Document]:
        """Documents that hold `value` in an asynchronous reference field, whatever their number says."""
        return [self.documents[seq] for seq in sorted(self._async_values[field].get(value, ()))]

    def vector_index(self, field: Field) -> VectorIndex:
        """The index of a vector field, made when it is first asked for."""
        index = self._vectors.get(field.name)
        if index is None:
            index = VectorIndex(field.name, field.num_dim, field.vec_dist, list(self.documents))
            self._vectors[field.name] = index
        return index

    def _changed(self, seq: int) -> None:
        self.version += 1
        for index in list(self._vectors.values()):
            index.invalidate(seq)

    def _empty_async_values(self) -> dict[str, dict[Any, set[int]]]:
        """Asynchronous reference field -> value -> sequence numbers of the documents that hold it."""
        return {spec.name: {} for spec in self.reference_fields if spec.async_reference}

    def _index_values(self, document: Document | None, previous: Document | None = None) -> None:
        for field, holders in self._async_values.items():
            for value, seq in _values(previous, field):
                holders[value].discard(seq)
            for value, seq in _values(document, field):
                holders.setdefault(value, set()).add(seq)

    def _link(self, seq: int, references: References | None) -> None:
        for field, target in _pairs(references):
            self.referrers.setdefault(field, {}).setdefault(target, set()).add(seq)

    def _unlink(self, seq: int, references: References | None) -> None:
        for field, target in _pairs(references):
            sources = self.referrers[field][target]
            sources.discard(seq)
            if not sources:
                del self.referrers[field][target]


def _values(document: Document | None, field: str) -> list[tuple[Any, int]]:
    """(value, sequence number) of each value of a reference field."""
    value = None if document is None else dig(document.parse(), field)
    values = value if isinstance(value, list) else [value]
    return [(item, document.seq) for item in values if document is not None and isinstance(item, str | int)]


def _pairs(references: References | None) -> list[tuple[str, int]]:
    pairs: list[tuple[str, int]] = []
    for field, target in (references or {}).items():
        # An array may name one target twice, the index must not.
        targets = {target} if isinstance(target, int) else set(target)
        pairs += [(field, seq) for seq in targets]
    return pairs
