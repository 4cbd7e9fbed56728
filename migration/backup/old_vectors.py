"""The vectors of a backup by document id, for the way back."""

from __future__ import annotations

import sqlite3
import threading
from array import array
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from migration.backup.reader import Backup


class OldVectors:
    """The vectors of a backup by document id, in a file of their own so that memory does not grow.

    The first record of an id is the true one. Close it to remove the file.
    """

    # Raw sqlite3: a scratch file of one table, read and written a page at a time.

    def __init__(self, backup: Backup, file: Path) -> None:
        self._file = file
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        file.chmod(0o600)
        self._connection.execute("PRAGMA journal_mode = OFF")
        self._connection.execute("CREATE TABLE vectors (id TEXT PRIMARY KEY, vector BLOB) WITHOUT ROWID")
        for page in backup.vectors():
            rows = [(id_, None if vector is None else array("d", vector).tobytes()) for id_, vector in page]
            with closing(self._connection.cursor()) as cursor:
                cursor.execute("BEGIN")
                cursor.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", rows)
                cursor.execute("COMMIT")

    def __len__(self) -> int:
        with self._lock:
            return int(self._connection.execute("SELECT count(*) FROM vectors").fetchone()[0])

    def get(self, ids: Sequence[str]) -> dict[str, array[float] | None]:
        """The old vectors of these documents; an id that the backup does not have is absent."""
        with self._lock:
            marks = ",".join("?" * len(ids))
            rows = self._connection.execute(f"SELECT id, vector FROM vectors WHERE id IN ({marks})", ids)  # noqa: S608
            return {id_: None if blob is None else array("d", blob) for id_, blob in rows.fetchall()}

    def close(self) -> None:
        """Remove the scratch file."""
        self._connection.close()
        self._file.unlink(missing_ok=True)
