"""The vector cache in one SQLite file: opened, set aside where it is damaged, and its errors in words that help."""

# Raw sqlite3 instead of SQLAlchemy, which the ledger uses: taking 250 blobs through SQLAlchemy's processing
# of values costs 3 to 4 ms of CPU a page, more than SQLite needs to store them, and there are only a handful
# of statements here.

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final, TypeVar

from migration.embedding.cache_errors import CacheError
from migration.ledger.database import create_private_file, log_ahead

T = TypeVar("T")

_log = logging.getLogger("migration.embedding.cache")

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS vectors (
    id INTEGER PRIMARY KEY,
    space TEXT NOT NULL,
    text_hash BLOB NOT NULL,
    dimensions INTEGER NOT NULL,
    vector BLOB NOT NULL,
    cut_from INTEGER,
    added_at INTEGER NOT NULL DEFAULT 0,
    UNIQUE (space, text_hash)
)
"""
_SPACES: Final = """
CREATE TABLE IF NOT EXISTS spaces (
    space TEXT PRIMARY KEY,
    family TEXT NOT NULL,
    model TEXT NOT NULL,
    dimensions INTEGER NOT NULL,
    task_type TEXT,
    has_cut INTEGER NOT NULL DEFAULT 0,
    hits INTEGER NOT NULL DEFAULT 0
)
"""


class CacheFile:
    """One SQLite file, mode 0600, and one connection to it.

    A file that is damaged or cannot be read is renamed to `<name>.damaged-<time>` with a warning. Where even that
    fails, it finds nothing and keeps nothing, with a warning.

    Attributes:
        path: of the file.
        is_useless: whether it keeps nothing.
    """

    parameter: Final = "?"
    vectors: Final = "vectors"
    spaces: Final = "spaces"

    def __init__(self, path: Path, patience: float) -> None:
        self.path: Final = path
        self._patience = patience
        self.connection: sqlite3.Connection | None = None
        self._opened: int | None = None
        self.is_useless = False

    @property
    def place(self) -> str:
        """Where it is, for a person."""
        return str(self.path)

    def bytes(self, _cursor: object = None) -> int:
        """What it takes on the disk."""
        parts = (self.path.with_name(self.path.name + suffix) for suffix in ("", "-wal"))
        return sum(part.stat().st_size for part in parts if part.exists())

    def attempt(self, work: Callable[[Any], T], otherwise: T, *, writes: bool = False) -> T:
        """Do some work with a cursor; on a damaged file, set that aside and do the work on a new one.

        Args:
            work: what is to be done.
            otherwise: what a useless cache answers.
            writes: whether the work is one transaction that writes.

        Raises:
            CacheError: the disk is full, say, or another process holds the file.
        """
        for last in (False, True):
            if self.is_useless:
                return otherwise
            try:
                connection = self._connected()
                with closing(connection.cursor()) as cursor:
                    if not writes:
                        return work(cursor)
                    with connection:  # commits, or rolls back
                        cursor.execute("BEGIN IMMEDIATE")
                        return work(cursor)
            except (sqlite3.Error, OSError) as error:
                if not _is_damage(error):
                    raise CacheError(self._explain(error)) from error
                if last:
                    self._give_up(error)
                else:
                    self._set_aside(error)
        return otherwise

    def shrink(self) -> bool:
        """Give the room of what was deleted back to the disk; False where another process, or a full disk, forbids."""
        try:
            self._connected().execute("VACUUM")
            self._connected().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except (sqlite3.Error, OSError):
            return False
        return True

    def close(self) -> None:
        """Close the file. Used again, it is opened again."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()

    def _connected(self) -> sqlite3.Connection:
        if self.connection is not None and _inode(self.path) != self._opened:
            self.close()  # set aside by another process, or deleted: SQLite would not notice
        if self.connection is None:
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
                log_ahead(connection, self._patience)
                connection.execute("PRAGMA synchronous=FULL")  # what was paid for survives a power cut
                _make_tables(connection)
            except BaseException:
                connection.close()
                raise
            self.connection, self._opened = connection, _inode(self.path)
        return self.connection

    def _set_aside(self, error: Exception) -> None:
        self.close()
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
        self.close()
        self.is_useless = True
        _log.warning("going on without the vector cache %s: %s (see MIGRATION_HOME)", self.path, error)

    def _explain(self, error: Exception) -> str:
        message = str(error)
        where = f"the vector cache {self.path}"
        if "full" in message or "disk I/O" in message or "No space" in message:
            return f"{where} cannot grow ({message}): free some space, or set MIGRATION_HOME to another disk"
        if "locked" in message:
            return f"{where} is locked by another process; wait until that one has finished, or end it"
        return f"{where} cannot be written: {message} (see MIGRATION_HOME)"


def _make_tables(connection: sqlite3.Connection) -> None:
    connection.execute(_SCHEMA)
    # A file of other making has the table, perhaps, but not the columns.
    connection.execute("SELECT id, space, text_hash, dimensions, vector FROM vectors LIMIT 1")
    if len(_columns(connection)) < 7:
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            there = _columns(connection)  # Another process may have been faster.
            if "cut_from" not in there:
                connection.execute("ALTER TABLE vectors ADD COLUMN cut_from INTEGER")
            if "added_at" not in there:
                # What an older program has kept counts as added now, so that nothing goes too early.
                connection.execute(
                    f"ALTER TABLE vectors ADD COLUMN added_at INTEGER NOT NULL DEFAULT {time.time():.0f}"
                )
    connection.execute(_SPACES)


def _columns(connection: sqlite3.Connection) -> set[str]:
    return {str(row[1]) for row in connection.execute("PRAGMA table_info(vectors)")}


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
