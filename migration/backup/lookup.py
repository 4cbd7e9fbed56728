"""The vectors of a backup by document id, for the way back."""

from __future__ import annotations

import sqlite3
import threading
from array import array
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from migration.backup.errors import BackupError
from migration.backup.reader import Backup


class OldVectors:
    """The vectors of a backup by document id, in a file of their own so that memory does not grow.

    The first record of an id is the true one. Close it to remove the file.

    Attributes:
        complete: whether everything that was to be backed up is among them.
    """

    # Raw sqlite3: a scratch file of one table, read and written a page at a time.

    def __init__(self, backup: Backup, file: Path) -> None:
        """Read the backup into the file.

        Raises:
            BackupError: the file cannot be written; nothing of it is left.
        """
        self.complete = backup.manifest.complete
        self._file = file
        self._lock = threading.Lock()
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file.unlink(missing_ok=True)
            self._connection = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
            try:
                self._fill(backup)
            except BaseException:
                self.close()
                raise
        except (sqlite3.Error, OSError) as error:
            raise self._explained(error) from error

    def _fill(self, backup: Backup) -> None:
        self._file.chmod(0o600)
        self._connection.execute("PRAGMA journal_mode = OFF")
        self._connection.execute("CREATE TABLE vectors (id TEXT PRIMARY KEY, vector BLOB) WITHOUT ROWID")
        for page in backup.vectors():
            rows = [(id_, None if vector is None else array("d", vector).tobytes()) for id_, vector in page]
            self._connection.execute("BEGIN")
            self._connection.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", rows)
            self._connection.execute("COMMIT")

    def get(self, ids: Sequence[str]) -> dict[str, array[float] | None]:
        """The old vectors of these documents; an id that the backup does not have is absent.

        Raises:
            BackupError: the file cannot be read.
        """
        marks = ",".join("?" * len(ids))
        query = f"SELECT id, vector FROM vectors WHERE id IN ({marks})"  # noqa: S608
        with self._lock:
            try:
                rows = self._connection.execute(query, ids).fetchall()
            except sqlite3.Error as error:
                raise self._explained(error) from error
        return {id_: None if blob is None else array("d", blob) for id_, blob in rows}

    def close(self) -> None:
        """Remove the scratch file."""
        self._connection.close()
        with suppress(OSError):
            self._file.unlink(missing_ok=True)

    def _explained(self, error: Exception) -> BackupError:
        what = (error.strerror if isinstance(error, OSError) else None) or error
        return BackupError(
            f"the old vectors cannot be laid out in {self._file} ({what}): free some space, or see MIGRATION_HOME"
        )
