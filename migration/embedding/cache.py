"""Vectors that were paid for, kept, so that no text is embedded twice.

A vector that was bought but not yet written to Typesense survives a crash here, and a text that turns up
again, in another document, collection or run, finds its vector. Rows are keyed by the fingerprint of the
embedding space and the SHA-256 of the text; the text itself is not kept. The rows are in a file of this machine, or
on a server that several machines share.

The cache is worth money but never correctness: a file that is damaged is set aside and begun anew.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import numpy as np

from kai.models import EmbeddingSettings
from kai.vectors import Vector
from migration.embedding.cache_errors import CacheError
from migration.embedding.cache_file import CacheFile
from migration.embedding.cache_server import CacheServer

__all__ = ["CacheError", "VectorCache"]

Row = tuple[bytes, int, bytes]
T = TypeVar("T")

_FILE: Final = "vectors.sqlite"
_PAGE: Final = 250
"""Rows read or written at once, which bounds memory."""
LITTLE_ENDIAN: Final = np.dtype("<f4")  # the file may move to another machine


class VectorCache:
    """A cache of vectors in one SQLite file, `vectors.sqlite` in the folder `home`, mode 0600; or on PostgreSQL.

    Every method may be called from any thread; processes may share the file, and machines the server.

    A file that is damaged or cannot be read is renamed to `vectors.sqlite.damaged-<time>` with a warning.
    Where even that fails, the cache finds nothing and keeps nothing, with a warning.

    Args:
        home: the folder of the file.
        patience: seconds to wait for a lock of another process.
        url: SQLAlchemy URL of a PostgreSQL server; None for the file.

    Attributes:
        store: where the rows are.
    """

    def __init__(self, home: Path, *, patience: float = 30.0, url: str | None = None) -> None:
        self.store: CacheFile | CacheServer = CacheServer(url, patience) if url else CacheFile(home / _FILE, patience)
        self._lock = threading.Lock()
        self._hits: Counter[str] = Counter()
        self.attempt(lambda _: None, None)

    @staticmethod
    def is_in(home: Path, url: str | None = None) -> bool:
        """Whether there is a cache already; opening one makes it. Raises CacheError where that cannot be asked."""
        if not url:
            return (home / _FILE).exists()
        with contextlib.closing(CacheServer(url, 0.0)) as server:
            return server.is_there()

    @property
    def keeps(self) -> bool:
        """Whether it keeps anything: not where there is no place for it."""
        return not self.store.is_useless

    def close(self) -> None:
        """Note the hits, and close the file. A closed cache that is used again opens it again."""
        with self._lock:
            hits, self._hits = self._hits, Counter()
            try:
                if hits:
                    self.store.attempt(partial(self._note_hits, hits), None, writes=True)
            except CacheError:
                pass  # Nice to know, and nothing to wait or to stop for.
            finally:
                self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get_many(self, space: str, text_hashes: Sequence[bytes], dimensions: int | None = None) -> dict[bytes, Vector]:
        """The vectors of these texts in the space with this fingerprint, by hash; absent where unknown.

        Vectors are float32 and read-only. Rows are ignored whose length is not that of `dimensions` (None:
        the length they were stored with), or which are not finite, or all zero.
        """
        found: dict[bytes, Vector] = {}
        for some in _parts(text_hashes):
            rows: list[Row] = self.attempt(partial(self._select, "dimensions, vector", space, some, ""), [])
            stored = [
                (text_hash, blob)
                for text_hash, length, blob in rows
                if isinstance(blob, bytes) and len(blob) == length * 4 and dimensions in (None, length)
            ]
            found.update(_sound(stored))
        return found

    def cut_from(self, space: str, text_hashes: Sequence[bytes]) -> dict[bytes, int]:
        """Of vectors that no provider gave, by hash: the length of those of the same model that they were cut from."""
        query = f"SELECT has_cut FROM {self.store.spaces} WHERE space = {self.store.parameter}"  # noqa: S608
        # Asked first, for it is 2 ms less a page where none is cut, as in nearly every space.
        has_cut = self.attempt(lambda cursor: cursor.execute(query, [space]).fetchone(), None)
        found: dict[bytes, int] = {}
        for some in _parts(text_hashes) if has_cut is not None and has_cut[0] else ():
            found.update(self.attempt(partial(self._select, "cut_from", space, some, " AND cut_from IS NOT NULL"), []))
        return found

    def put_many(
        self, space: str, pairs: Iterable[tuple[bytes, Vector]], *, cut_from: int | None = None, replaces: bool = True
    ) -> None:
        """Keep vectors by the hashes of their texts. When it returns they are on disk, power cuts included.

        Vectors that are not finite or all zero are not kept. Raises CacheError when the disk is full or the
        file is locked by another process or cannot be written.

        Args:
            space: fingerprint of model, dimensions and task type.
            pairs: hash and vector.
            cut_from: length of the vectors that they were cut from; None where a provider gave them. The space must
                have its name.
            replaces: whether they take the place of what is there.
        """
        remaining = iter(pairs)
        now = int(time.time())
        while some := list(islice(remaining, _PAGE)):
            stored = [(text_hash, np.asarray(vector, LITTLE_ENDIAN).tobytes()) for text_hash, vector in some]
            # In one order, so that no two machines each wait for a row that the other one holds.
            rows = [
                (space, text_hash, len(vector), vector.tobytes(), cut_from, now)
                for text_hash, vector in sorted(_sound(stored), key=lambda pair: pair[0])
            ]
            if rows:
                self.attempt(partial(self._insert, rows, replaces), None, writes=True)

    def has(self, space: str) -> bool:
        """Whether there is any vector of the space."""
        query = f"SELECT 1 FROM {self.store.vectors} WHERE space = {self.store.parameter} LIMIT 1"  # noqa: S608
        return self.attempt(lambda cursor: cursor.execute(query, [space]).fetchone() is not None, False)

    def forget(self, space: str) -> None:
        """Forget every vector of a space. Raises CacheError as `put_many` does."""
        query = f"DELETE FROM {self.store.vectors} WHERE space = {self.store.parameter}"  # noqa: S608
        self.attempt(lambda cursor: cursor.execute(query, [space]), None, writes=True)

    def name(self, space: str, embedding: EmbeddingSettings) -> None:
        """Say which model a space is of, for those who look into the cache."""
        mark = self.store.parameter
        query = (
            f"INSERT INTO {self.store.spaces} (space, family, model, dimensions, task_type) "  # noqa: S608
            f"VALUES ({mark}, {mark}, {mark}, {mark}, {mark}) ON CONFLICT (space) DO NOTHING"
        )
        values = [space, embedding.family, embedding.model, embedding.dimensions, embedding.task_type]
        self.attempt(lambda cursor: cursor.execute(query, values), None, writes=True)

    def count_hits(self, space: str, hits: int) -> None:
        """So many texts found their vectors here; noted when the cache is closed."""
        self._hits[space] += hits

    def attempt(self, work: Callable[[Any], T], otherwise: T, *, writes: bool = False) -> T:
        """Do some work with a cursor of the store, while no other thread does; see `CacheFile.attempt`."""
        with self._lock:
            return self.store.attempt(work, otherwise, writes=writes)

    # -- statements ------------------------------------------------------------------------------------

    def _select(self, columns: str, space: str, hashes: Sequence[bytes], further: str, cursor: Any) -> Any:
        mark = self.store.parameter
        marks = ", ".join([mark] * len(hashes))
        query = (
            f"SELECT text_hash, {columns} FROM {self.store.vectors} "  # noqa: S608
            f"WHERE space = {mark} AND text_hash IN ({marks}){further}"
        )
        return cursor.execute(query, [space, *hashes]).fetchall()

    def _insert(self, rows: Sequence[tuple[Any, ...]], replaces: bool, cursor: Any) -> None:
        marks = ", ".join([self.store.parameter] * 6)
        columns = ("dimensions", "vector", "cut_from", "added_at")
        changes = ", ".join(f"{name} = excluded.{name}" for name in columns)
        query = (
            f"INSERT INTO {self.store.vectors} (space, text_hash, {', '.join(columns)}) VALUES ({marks}) "  # noqa: S608
            f"ON CONFLICT (space, text_hash) DO {f'UPDATE SET {changes}' if replaces else 'NOTHING'}"
        )
        cursor.executemany(query, rows)
        for space in {row[0] for row in rows if row[4] is not None}:
            mark = self.store.parameter
            cursor.execute(f"UPDATE {self.store.spaces} SET has_cut = 1 WHERE space = {mark}", [space])  # noqa: S608

    def _note_hits(self, hits: Counter[str], cursor: Any) -> None:
        mark = self.store.parameter
        query = f"UPDATE {self.store.spaces} SET hits = hits + {mark} WHERE space = {mark}"  # noqa: S608
        cursor.executemany(query, [(count, space) for space, count in hits.items()])


def _parts(hashes: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    return (hashes[start : start + _PAGE] for start in range(0, len(hashes), _PAGE))


def _sound(stored: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, Vector]]:
    """The vectors that are finite and not all zero, by hash; all of the same length are checked at once."""
    by_size: dict[int, list[tuple[bytes, bytes]]] = defaultdict(list)
    for text_hash, blob in stored:
        by_size[len(blob)].append((text_hash, blob))
    by_size.pop(0, None)
    for entries in by_size.values():
        vectors = np.frombuffer(b"".join(blob for _, blob in entries), dtype=LITTLE_ENDIAN).reshape(len(entries), -1)
        sound = np.logical_and(np.isfinite(vectors).all(axis=1), vectors.any(axis=1))
        for row in np.flatnonzero(sound).tolist():
            yield entries[row][0], vectors[row]
