"""Whether the vector that stands in a document is the one that should: known by the ledger, or by its numbers."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

import numpy as np

from migration.documents.fetch import Document
from migration.embedding.embed import text_hash
from migration.embedding.vectors import Vector

if TYPE_CHECKING:
    from migration.ledger import DocumentRecord


def current_vector(document: Document, text: str, record: DocumentRecord | None, model_id: str) -> bytes | None:
    """The vector that stands there, as float32, if it is the one that the ledger knows of this text and model."""
    if record is None or record.model_id != model_id or record.text_hash != text_hash(text):
        return None
    stored = document.vector_bytes()
    return stored if stored is not None and record.vector_hash == hashlib.sha256(stored).digest() else None


def carries(document: Document, vector: Vector, tolerance: float) -> bool:
    """Whether this vector stands there, but for a relative difference of at most `tolerance`."""
    stored = document.vector_bytes()
    if stored is None or len(stored) != vector.nbytes:
        return False
    difference = np.frombuffer(stored, np.float32) - vector
    return math.sqrt(difference @ difference) <= tolerance * math.sqrt(vector @ vector)
