"""How long a real Typesense takes for what the sandbox does at once: a table of rates, and what they come to.

Each rate was measured on a single node of Typesense 29.0 with two cores; 30 was as fast where it was tried. What a
vector costs grows with its length, so most are *numbers* (elements of vectors) a second, written as documents a
second times the dimensions that they were measured with.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import orjson

from kai.sandbox.collection import Collection
from kai.sandbox.schema import Field

Json = dict[str, Any]

REWRITE: Final = 115 * 768
"""A vector in the place of an indexed one, by import: 115 documents/s whatever the batch; at 1536 dimensions 52."""
REWRITE_SINGLY: Final = 41 * 768
"""The same, one PATCH a document: 41 documents/s; at 1536 dimensions 28."""
FILL: Final = 1_000 * 768
"""A vector for a document that had none in that field: 850 to 1,109 documents/s; at 1536 dimensions 360 to 485."""
INSERT: Final = 900 * 768
"""A whole new document with its vector: 758 to 1,150 documents/s; at 1536 dimensions 288."""
PLAIN: Final = 1_080 * 768
"""A vector as a plain value, its field out of the schema: 1,080 documents/s."""
TAKE_OUT: Final = 6_000 * 768 / 1.1
"""A vector set to null: 1.1 s for 6,000 documents, 3.3 s for 10,000 of 1536 dimensions."""
WITHOUT_VECTOR: Final = 8_000
"""Documents a second for an update or insert that carries no vector."""

CHANGE_READS: Final = 6_000 * 768 / 1.9
"""Stored numbers that a schema change goes through: a field dropped, or added beside a vector field, in 1.9 to 2 s."""
CHANGE_DOCUMENTS: Final = 60_000
"""Documents a second, besides: a field added to 6,000 that hold no vector took 0.1 s, to 10,000 0.2 s."""
CHANGE_INDEXES: Final = 6_000 * 768 / 4.3
"""Numbers that an added field finds stored: 942 documents/s, the reading of them included."""

COPY: Final = 6_000 * 768 / 7.1
"""`copy_documents` of 6,000 documents in 7.1 s."""
EXPORT_DOCUMENTS: Final = 9_500
"""Documents a second of an export without vectors: 100,000 in 10.5 s."""
EXPORT_NUMBERS: Final = 20_000_000
"""Numbers a second, besides: a catch-up of 1,500 documents with vectors took 150 to 280 ms."""
PAGE_HITS: Final = 250 / 0.015
"""Hits a second of a search page: the first page of 250 took 15 ms."""
PAGE_SKIPPED: Final = 400 * 250 / 0.053
"""Hits a second skipped before a page: page 400 took 68 ms."""


def write_seconds(collection: Collection, body: bytes, *, document_id: str = "") -> float:
    """The time for a body of documents (JSON Lines), judged by what the collection holds before it is written.

    `document_id` is the document's where it is no import but the PATCH of this one.
    """
    seconds = 0.0
    for line in body.split(b"\n"):
        try:
            attributes = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(attributes, dict):
            seconds += _document_seconds(collection, attributes, document_id)
    return seconds


def _document_seconds(collection: Collection, attributes: Json, document_id: str) -> float:
    stored = collection.get(document_id or str(attributes.get("id", "")))
    seconds = 0.0
    for name in collection.layout:
        raw = stored.raw(name) if stored is not None else None
        value = attributes.get(name)
        if isinstance(value, list):
            spec = collection.fields.get(name)
            if spec is None or not spec.num_dim:
                rate: float = PLAIN
            elif stored is None:
                rate = INSERT
            elif raw is None:
                rate = FILL
            else:
                rate = REWRITE_SINGLY if document_id else REWRITE
            seconds += len(value) / rate
        elif name in attributes and raw is not None:
            seconds += _numbers(raw) / TAKE_OUT
    return seconds or 1 / WITHOUT_VECTOR


def change_seconds(collection: Collection, added: Iterable[Field]) -> float:
    """The time for a schema change that drops fields, adds `added`, or both."""
    documents = collection.snapshot()
    numbers = sum(_numbers(raw) for document in documents for raw in document.values if raw is not None)
    indexed = sum(spec.num_dim for spec in added for document in documents if spec.num_dim and document.raw(spec.name))
    return len(documents) / CHANGE_DOCUMENTS + numbers / CHANGE_READS + indexed / CHANGE_INDEXES


def copy_seconds(collection: Collection) -> float:
    """The time for a clone of the collection with its documents."""
    return sum(_numbers(raw) for document in collection.snapshot() for raw in document.values if raw) / COPY


def export_seconds(piece: bytes) -> float:
    """The time for a piece of an export."""
    return piece.count(b"\n") / EXPORT_DOCUMENTS + piece.count(b",") / EXPORT_NUMBERS


def page_seconds(page: int, per_page: int) -> float:
    """The time for a page of a search for everything, the first being 1."""
    return per_page / PAGE_HITS + max(0, page - 1) * per_page / PAGE_SKIPPED


def _numbers(raw: bytes) -> int:
    """How many numbers a stored vector has."""
    return raw.count(b",") + 1
