"""Vectors that were paid for, on disk, so that no text is embedded twice.

A vector that was bought but not yet written to Typesense survives a crash here, and a text that turns up
again, in another document, collection or run, finds its vector. Rows are keyed by the fingerprint of the
embedding space and the SHA-256 of the text; the text itself is not kept.

The cache is worth money but never correctness: one that is damaged is set aside and begun anew.
"""

# Raw sqlite3 instead of SQLAlchemy, which the ledger uses: taking 250 blobs through SQLAlchemy's processing
# of values costs 3 to 4 ms of CPU a page, more than SQLite needs to store them, and there are only a handful
# of statements here.

import logging
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, Self, TypeVar

import numpy as np

from kai.vectors import Vector
from migration.ledger.database import create_private_file

Row = tuple[bytes, int, bytes]
T = TypeVar("T")

_log = logging.getLogger(__name__)

_FILE: Final = "vectors.sqlite"
_PAGE: Final = 250
"""Rows read or written at once, which bounds memory."""
_LITTLE_ENDIAN: Final = np.dtype("<f4")  # the file may move to another machine

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS vectors (
    id INTEGER PRIMARY KEY,
    space TEXT NOT NULL,
    text_hash BLOB NOT NULL,
    dimensions INTEGER NOT NULL,
    vector BLOB NOT NULL,
    UNIQUE (space, text_hash)
)
"""


class CacheError(Exception):
    """The cache cannot take what was paid for. The message is one line with cause and remedy."""


class VectorCache:
    """A cache of vectors in one SQLite file, `vectors.sqlite` in the folder `home`, mode 0600.

    Every method may be called from any thread; processes may share the file. `patience` is how many seconds
    to wait for a lock of another process.

    A file that is damaged or cannot be read is renamed to `vectors.sqlite.damaged-<time>` with a warning.
    Where even that fails, the cache finds nothing and keeps nothing, with a warning.
    """

    def __init__(self, home: Path, *, patience: float = 30.0) -> None:
        self.path: Final = home / _FILE
        self._patience = patience
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._opened: int | None = None
        self._useless = False
        self._attempt(lambda connection: None, None)

    @staticmethod
    def is_in(home: Path) -> bool:
        """Whether there is a cache already; opening one makes it."""
        return (home / _FILE).exists()

    def close(self) -> None:
        """Close the file. A closed cache that is used again opens it again."""
        with self._lock:
            self._disconnect()

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
        for start in range(0, len(text_hashes), _PAGE):
            some = text_hashes[start : start + _PAGE]
            with self._lock:
                rows: list[Row] = self._attempt(partial(_select, space, some), [])
            stored = [
                (text_hash, blob)
                for text_hash, length, blob in rows
                if isinstance(blob, bytes) and len(blob) == length * 4 and dimensions in (None, length)
            ]
            found.update(_sound(stored))
        return found

    def put_many(self, space: str, pairs: Iterable[tuple[bytes, Vector]]) -> None:
        """Keep vectors by the hashes of their texts. When it returns they are on disk, power cuts included.

        Vectors that are not finite or all zero are not kept. Raises CacheError when the disk is full or the
        file is locked by another process or cannot be written.
        """
        remaining = iter(pairs)
        while some := list(islice(remaining, _PAGE)):
            stored = [(text_hash, np.asarray(vector, _LITTLE_ENDIAN).tobytes()) for text_hash, vector in some]
            if rows := [(space, text_hash, len(vector), vector.data) for text_hash, vector in _sound(stored)]:
                with self._lock:
                    self._attempt(partial(_insert, rows), None)

    def has(self, space: str) -> bool:
        """Whether there is any vector of the space."""
        with self._lock:
            return self._attempt(partial(_has, space), False)

    def forget(self, space: str) -> None:
        """Forget every vector of a space. Raises CacheError as `put_many` does."""
        with self._lock:
            self._attempt(partial(_delete, space), None)

    def _attempt(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """Do some work on the file; on a damaged one, set it aside and do the work on a new one.

        To be called with the lock held, or by the one that makes it. `otherwise` is what a useless cache answers.
        """
        for last in (False, True):
            if self._useless:
                return otherwise
            try:
                return work(self._connected())
            except (sqlite3.Error, OSError) as error:
                if not _is_damage(error):
                    raise CacheError(self._explain(error)) from error
                if last:
                    self._give_up(error)
                else:
                    self._set_aside(error)
        return otherwise

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and _inode(self.path) != self._opened:
            self._disconnect()  # set aside by another process, or deleted: SQLite would not notice
        if self._connection is None:
            create_private_file(self.path)
            # isolation_level None: transactions begin where this module says so.
            connection = sqlite3.connect(
                self.path, timeout=self._patience, isolation_level=None, check_same_thread=False
            )
            try:
                # Several vectors to a page of 16 KB; on the usual 4 KB, one of 768 dimensions takes a page.
                connection.execute("PRAGMA page_size=16384")
                # Hashes come in no order, so every row finds its place in another page of the index.
                connection.execute("PRAGMA cache_size=-8000")  # kB
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")  # what was paid for survives a power cut
                connection.execute(_SCHEMA)
                # A file of other making has the table, perhaps, but not the columns.
                connection.execute("SELECT id, space, text_hash, dimensions, vector FROM vectors LIMIT 1")
            except BaseException:
                connection.close()
                raise
            self._connection, self._opened = connection, _inode(self.path)
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _set_aside(self, error: Exception) -> None:
        self._disconnect()
        aside = self.path.with_name(f"{self.path.name}.damaged-{time.time_ns()}")
        _log.warning("the vector cache %s cannot be read (%s); set aside as %s", self.path, error, aside.name)
        try:
            for suffix in ("", "-wal", "-shm"):
                part = self.path.with_name(self.path.name + suffix)
                if part.exists():
                    part.replace(aside.with_name(aside.name + suffix))
        except OSError as failure:
            self._give_up(failure)

    def _give_up(self, error: Exception) -> None:
        self._disconnect()
        self._useless = True
        _log.warning("going on without the vector cache %s: %s (see MIGRATION_HOME)", self.path, error)

    def _explain(self, error: Exception) -> str:
        message = str(error)
        where = f"the vector cache {self.path}"
        if "full" in message or "disk I/O" in message or "No space" in message:
            return f"{where} cannot grow ({message}): free some space, or set MIGRATION_HOME to another disk"
        if "locked" in message:
            return f"{where} is locked by another process; wait until that one has finished, or end it"
        return f"{where} cannot be written: {message} (see MIGRATION_HOME)"


def _select(space: str, hashes: Sequence[bytes], connection: sqlite3.Connection) -> list[Row]:
    marks = ", ".join("?" * len(hashes))
    query = f"SELECT text_hash, dimensions, vector FROM vectors WHERE space = ? AND text_hash IN ({marks})"  # noqa: S608
    return connection.execute(query, [space, *hashes]).fetchall()


def _insert(rows: Sequence[tuple[str, bytes, int, memoryview]], connection: sqlite3.Connection) -> None:
    with connection:  # commits, or rolls back
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT INTO vectors (space, text_hash, dimensions, vector) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (space, text_hash) "
            "DO UPDATE SET dimensions = excluded.dimensions, vector = excluded.vector",
            rows,
        )


def _has(space: str, connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM vectors WHERE space = ? LIMIT 1", [space]).fetchone() is not None


def _delete(space: str, connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM vectors WHERE space = ?", [space])


def _sound(stored: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, Vector]]:
    """The vectors that are finite and not all zero, by hash; all of the same length are checked at once."""
    by_size: dict[int, list[tuple[bytes, bytes]]] = defaultdict(list)
    for text_hash, blob in stored:
        by_size[len(blob)].append((text_hash, blob))
    by_size.pop(0, None)
    for entries in by_size.values():
        vectors = np.frombuffer(b"".join(blob for _, blob in entries), dtype=_LITTLE_ENDIAN).reshape(len(entries), -1)
        sound = np.logical_and(np.isfinite(vectors).all(axis=1), vectors.any(axis=1))
        for row in np.flatnonzero(sound).tolist():
            yield entries[row][0], vectors[row]


def _is_damage(error: Exception) -> bool:
    """Whether another file would help: this one is not a database, damaged, not a file, or not readable."""
    if isinstance(error, OSError):
        return isinstance(error, IsADirectoryError | NotADirectoryError | FileExistsError | PermissionError)
    # SQLITE_ERROR: the file has other tables than this module makes.
    signs = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_CANTOPEN", "SQLITE_READONLY")
    code = str(getattr(error, "sqlite_errorname", ""))
    return code == "SQLITE_ERROR" or code.startswith(signs)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None
