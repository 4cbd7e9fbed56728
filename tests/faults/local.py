"""What goes wrong on the tool's own machine: full disks, locks held by others, a clock that jumps."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Self
from unittest.mock import patch

Store = Literal["ledger", "cache", "backup"]
FILES = {"ledger": "ledger.sqlite", "cache": "vectors.sqlite"}


@contextlib.contextmanager
def full_disk(home: Path, store: Store, room: int) -> Iterator[None]:
    """No more room than this for one of the stores: pages beyond the present ones for a database, else bytes."""
    with _full_database(home / FILES[store], room) if store in FILES else _full_folder(home / "backups", room):
        yield


@contextlib.contextmanager
def _full_database(file: Path, pages: int) -> Iterator[None]:
    """SQLite itself says that the disk is full, at the page where it would be."""
    connect = sqlite3.connect
    if file.exists():
        with contextlib.closing(connect(file)) as database:
            database.execute("VACUUM")  # Pages that an upgrade has freed would be room, too.

    def limited(database: Any, *args: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(database, *args, **options)
        if Path(str(database)).name == file.name:
            count = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count={max(count, 1) + pages}")
        return connection

    with patch("sqlite3.connect", limited), patch("sqlite3.dbapi2.connect", limited):
        yield


@contextlib.contextmanager
def _full_folder(folder: Path, room: int) -> Iterator[None]:
    """Writing to files below the folder fails with ENOSPC once so many bytes were written there."""
    write = os.write
    left = room

    def limited(file: int, content: Any) -> int:
        nonlocal left
        if not Path(f"/proc/self/fd/{file}").resolve().is_relative_to(folder):
            return write(file, content)
        if left < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left -= len(content)
        return write(file, content)

    with patch("os.write", limited):
        yield


class HeldLock:
    """Somebody else who writes to a store, from `take` to `release` or the end of the `with` block.

    Args:
        home: MIGRATION_HOME.
        store: the database that is locked.
        seconds: after which the lock is released; None for never.
    """

    def __init__(self, home: Path, store: Literal["ledger", "cache"], seconds: float | None = None) -> None:
        self._path = home / FILES[store]
        self._seconds = seconds
        self._connection: sqlite3.Connection | None = None
        self._timer: threading.Timer | None = None

    @property
    def taken(self) -> bool:
        """Whether the store was ever locked."""
        return self._connection is not None

    def take(self) -> None:
        """Lock the store, if it is there."""
        if self.taken or not self._path.exists():
            return
        connection = sqlite3.connect(self._path, timeout=20, check_same_thread=False, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        self._connection = connection
        if self._seconds is not None:
            self._timer = threading.Timer(self._seconds, self.release)
            self._timer.start()

    def release(self) -> None:
        """Let go."""
        if self._connection is not None and self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.join()
        self.release()
        if self._connection is not None:
            self._connection.close()


@contextlib.contextmanager
def jumping_clock(seed: int) -> Iterator[None]:
    """The time of day jumps by up to a year back or forth whenever somebody looks at it."""
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    seconds, broken_down = time.time, time.gmtime

    def jump() -> float:
        return chance.choice((0.0, 3600.0, -3600.0, chance.uniform(-3e7, 3e7)))

    def gmtime(moment: float | None = None) -> time.struct_time:
        return broken_down(seconds() + jump() if moment is None else moment)

    def now() -> datetime:
        return datetime.now(UTC) + timedelta(seconds=jump())

    with (
        patch("time.time", lambda: seconds() + jump()),
        patch("time.gmtime", gmtime),
        patch("migration.ledger.store.now", now),
        patch("migration.ledger.runs.now", now),
        patch("migration.ledger.documents.now", now),
        patch("migration.backup.writer.now", lambda: now().isoformat(timespec="microseconds")),
    ):
        yield
