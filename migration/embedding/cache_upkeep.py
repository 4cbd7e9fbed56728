"""What the vector cache holds, what goes out of it, and all of it, a page at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from kai.vectors import Vector
from migration.embedding.cache import LITTLE_ENDIAN, VectorCache

_PAGE: Final = 250
_ROW: Final = 130
"""Bytes that an entry takes beside its numbers, index included; measured on SQLite."""
_REMOVED_AT_ONCE: Final = 50_000


@dataclass(frozen=True, slots=True)
class Space:
    """What the cache holds of one embedding space.

    Attributes:
        fingerprint: of model, dimensions and task type.
        family, model, dimensions, task_type: what it is of; the first three None where an older program has kept it and
            nobody has said it since.
        entries: vectors.
        cut: of them, those that were cut from longer ones of the same model.
        bytes: about what they take.
        first, last: Unix times at which the oldest and the newest of them came.
        hits: texts that found their vector here, since that is counted, by runs that came to their end.
    """

    fingerprint: str
    family: str | None
    model: str | None
    dimensions: int | None
    task_type: str | None
    entries: int
    cut: int
    bytes: int
    first: int
    last: int
    hits: int

    @property
    def name(self) -> str:
        """Family, model and dimensions, or the fingerprint."""
        return f"{self.family}/{self.model}@{self.dimensions}" if self.model else self.fingerprint


@dataclass(frozen=True, slots=True)
class Condition:
    """Which entries are meant; all that is given must be met.

    Attributes:
        spaces: only of these; None for all.
        before: Unix time before which they came; None for any.
        keep_bytes: only what is left over when the newest of `spaces` are counted up to so many bytes.
    """

    spaces: tuple[str, ...] | None = None
    before: float | None = None
    keep_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One vector: of which space and text, as float32; what it was cut from, if it was; when it came (Unix time)."""

    space: str
    text_hash: bytes
    vector: Vector
    cut_from: int | None
    added_at: int


class Upkeep:
    """Looks after a vector cache.

    Args:
        cache: to look after.
    """

    def __init__(self, cache: VectorCache) -> None:
        self._cache = cache
        self._store = cache.store

    @property
    def place(self) -> str:
        """Where it is, for a person: never a user or a password."""
        return self._store.place

    def size(self) -> int:
        """What it takes on the disk, with room that was freed and is not given back yet."""
        return self._cache.attempt(self._store.bytes, 0)

    def spaces(self) -> list[Space]:
        """What it holds, the largest first. Reads the whole cache once."""
        query = (
            "SELECT v.space, s.family, s.model, s.dimensions, s.task_type, v.entries, v.cut, v.numbers, v.first, "  # noqa: S608
            "v.last, COALESCE(s.hits, 0) FROM (SELECT space, COUNT(*) AS entries, COUNT(cut_from) AS cut, "
            "SUM(dimensions) AS numbers, MIN(added_at) AS first, MAX(added_at) AS last "
            f"FROM {self._store.vectors} GROUP BY space) v LEFT JOIN {self._store.spaces} s ON s.space = v.space "
            "ORDER BY v.numbers DESC, v.space"
        )
        rows = self._rows(query)
        return [_space_of(row) for row in rows]

    def prunable(self, condition: Condition) -> dict[str, tuple[int, int]]:
        """What would be removed, by space: entries, and their bytes."""
        which, values = self._selected(condition)
        query = (
            f"SELECT space, COUNT(*), SUM(dimensions) FROM {self._store.vectors} WHERE id IN ({which}) "  # noqa: S608
            "GROUP BY space"
        )
        rows = self._rows(query, values)
        return {space: (entries, int(numbers) * 4 + entries * _ROW) for space, entries, numbers in rows}

    def prune(self, condition: Condition) -> int:
        """Remove entries for good, a part at a time, so that nobody waits for long; how many they were.

        Stopped in between, what is left is as good as before. Raises CacheError as `put_many` does.
        """
        which, values = self._selected(condition)
        query = f"DELETE FROM {self._store.vectors} WHERE id IN ({which} LIMIT {_REMOVED_AT_ONCE})"  # noqa: S608
        removed = 0
        while True:
            some = self._cache.attempt(lambda cursor: int(cursor.execute(query, values).rowcount), 0, writes=True)
            removed += some
            if some < _REMOVED_AT_ONCE:
                return removed

    def shrink(self) -> bool:
        """Give the room of what was removed back to the disk; False where that cannot be done now."""
        return self._cache.attempt(lambda _: self._store.shrink(), False)

    def pages(self, spaces: Sequence[str]) -> Iterator[list[Entry]]:
        """Everything that it holds of these spaces, in the order in which it came, a page at a time."""
        marks = ", ".join([self._store.parameter] * len(spaces))
        query = (
            f"SELECT id, space, text_hash, vector, cut_from, added_at FROM {self._store.vectors} "  # noqa: S608
            f"WHERE id > {self._store.parameter} AND space IN ({marks}) ORDER BY id LIMIT {_PAGE}"
        )
        last = -1
        while True:
            values = [last, *spaces]
            rows = self._rows(query, values)
            if not rows:
                return
            last = rows[-1][0]
            sound = {(row[1], row[2]): row for row in rows if isinstance(row[3], bytes) and len(row[3]) % 4 == 0}
            vectors = {key: np.frombuffer(row[3], LITTLE_ENDIAN) for key, row in sound.items()}
            yield [Entry(*key, vectors[key], row[4], row[5]) for key, row in sound.items()]

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        nothing: list[Any] = []
        return self._cache.attempt(lambda cursor: list(cursor.execute(query, values).fetchall()), nothing)

    def _selected(self, condition: Condition) -> tuple[str, list[Any]]:
        """A query for the ids of the rows that meet the condition."""
        mark = self._store.parameter
        spaces = f"WHERE space IN ({', '.join([mark] * len(condition.spaces))})" if condition.spaces is not None else ""
        values: list[Any] = [_ROW, *(condition.spaces or ())]
        wanted = []
        if condition.before is not None:
            wanted.append(f"added_at < {mark}")
            values.append(int(condition.before))
        if condition.keep_bytes is not None:
            wanted.append(f"kept > {mark}")
            values.append(condition.keep_bytes)
        inner = (
            f"SELECT id, added_at, SUM(dimensions * 4 + {mark}) OVER (ORDER BY added_at DESC, id DESC) AS kept "  # noqa: S608
            f"FROM {self._store.vectors} {spaces}"
        )
        such = f" WHERE {' AND '.join(wanted)}" if wanted else ""
        return f"SELECT id FROM ({inner}) newest{such}", values  # noqa: S608


def _space_of(row: Sequence[Any]) -> Space:
    fingerprint, family, model, dimensions, task_type, entries, cut, numbers, first, last, hits = row
    size = int(numbers) * 4 + entries * _ROW
    return Space(fingerprint, family, model, dimensions, task_type, entries, cut, size, first, last, hits)
