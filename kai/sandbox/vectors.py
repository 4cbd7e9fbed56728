"""Exact nearest neighbours over one vector field."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from kai.sandbox.document import Document

Vector = npt.NDArray[np.float32]


FEW_DIMENSIONS = 16


def inner_products(matrix: Vector, vector: Vector) -> Vector:
    """The inner product of each row (n, d) with the vector (d,): (n,), in single precision."""
    if len(vector) > FEW_DIMENSIONS:
        products: Vector = np.einsum("ij,j->i", matrix, vector)
        return products
    # One after another, as the server adds them up: short vectors then agree with it to the last bit.
    total: Vector = np.zeros(len(matrix), dtype=np.float32)
    for column, factor in zip(matrix.T, vector, strict=True):
        total += column * factor
    return total


class VectorIndex:
    """The vectors of one field as rows of a matrix, built at the first query and refreshed at the next.

    `num_dim` is the length of a row; `distance` is `cosine` (rows are stored normalized) or `ip`.
    """

    def __init__(self, name: str, num_dim: int, distance: str, stale: Iterable[int]) -> None:
        """An empty index of the field `name`; `stale` are the sequence numbers to read at first use."""
        self.name = name
        self.num_dim = num_dim
        self.distance = distance
        self._stale = set(stale)
        self._lock = threading.Lock()
        self._rows: dict[int, int] = {}
        self._seqs: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._matrix: Vector = np.zeros((0, num_dim), dtype=np.float32)

    def invalidate(self, seq: int) -> None:
        """Have the document `seq` read again before the next query."""
        self._stale.add(seq)

    def nearest(
        self, documents: Mapping[int, Document], query: list[float], allowed: set[int] | None
    ) -> list[tuple[float, int]]:
        """(distance, sequence number) of every vector, nearest first, equal distances newest first.

        `query` has `num_dim` numbers; `allowed` limits the answer to those sequence numbers. Distance is
        one minus the inner product, of the normalized vectors where the field's distance is `cosine`.
        """
        with self._lock:
            self._refresh(documents)
            seqs = self._seqs[: len(self._rows)]
            matrix = self._matrix[: len(self._rows)]
            if allowed is not None:
                chosen = np.fromiter((seq in allowed for seq in seqs.tolist()), bool, len(seqs))
                seqs, matrix = seqs[chosen], matrix[chosen]
            target = self._prepared(np.asarray(query, dtype=np.float32))
            distances = np.float32(1.0) - inner_products(matrix, target)
            order = np.lexsort((-seqs, distances))
            return list(zip(distances[order].tolist(), seqs[order].tolist(), strict=True))

    def _prepared(self, vector: Vector) -> Vector:
        if self.distance != "cosine":
            return vector
        # Single precision throughout, as the server computes it: the distances then agree to the last bit.
        norm = np.float32(1.0) / (np.sqrt(np.sum(vector * vector, dtype=np.float32)) + np.float32(1e-30))
        normalized: Vector = vector * norm
        return normalized

    def _refresh(self, documents: Mapping[int, Document]) -> None:
        # Swapped, not cleared: a write may mark another document while this runs.
        stale, self._stale = self._stale, set()
        for seq in sorted(stale):
            document = documents.get(seq)
            raw = document.raw(self.name) if document is not None else None
            if raw is None:
                self._remove(seq)
            else:
                self._set(seq, orjson.loads(raw))

    def _set(self, seq: int, value: Any) -> None:
        row = self._rows.get(seq)
        if row is None:
            row = len(self._rows)
            if row == len(self._seqs):
                capacity = max(64, 2 * row)
                self._seqs = np.concatenate([self._seqs, np.zeros(capacity - row, dtype=np.int64)])
                grown = np.zeros((capacity, self.num_dim), dtype=np.float32)
                grown[:row] = self._matrix
                self._matrix = grown
            self._rows[seq] = row
            self._seqs[row] = seq
        self._matrix[row] = self._prepared(np.asarray(value, dtype=np.float32))

    def _remove(self, seq: int) -> None:
        row = self._rows.pop(seq, None)
        if row is None:
            return
        last = len(self._rows)
        if row != last:
            moved = int(self._seqs[last])
            self._seqs[row] = moved
            self._matrix[row] = self._matrix[last]
            self._rows[moved] = row
