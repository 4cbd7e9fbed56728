"""Which ids came before, in memory that does not grow."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Self

from migration.backup.errors import BackupError


class Seen:
    """The ids that were shown to it. It keeps them in a temporary file, which is gone when it is closed."""

    def __init__(self) -> None:
        # An empty name: SQLite's own temporary file, unlinked from the start, private, made only when
        # the ids do not fit its cache.
        self._connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode=OFF")
        self._connection.execute("PRAGMA cache_size=-8000")  # kB
        self._connection.execute("CREATE TABLE seen (id BLOB PRIMARY KEY) WITHOUT ROWID")
        self._connection.execute("BEGIN")
        self.count = 0
        """Different ids so far."""

    def first(self, ids: Sequence[str]) -> list[bool]:
        """For each of the ids, whether it is here for the first time.

        Raises:
            BackupError: the temporary file cannot grow.
        """
        insert = "INSERT OR IGNORE INTO seen VALUES (?)"
        execute = self._connection.execute
        try:
            # As bytes: the comparison of texts could depend on SQLite's notion of them.
            first = [execute(insert, (id_.encode(),)).rowcount == 1 for id_ in ids]
        except sqlite3.Error as error:
            raise BackupError(
                f"the temporary file for the ids of a backup cannot grow ({error}): "
                "free some space in the folder for temporary files, or set TMPDIR to another disk"
            ) from error
        self.count += sum(first)
        return first

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
