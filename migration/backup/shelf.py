"""All backups under a home: where each has its place, what is there, and what may go."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

from filelock import FileLock, Timeout

from migration.backup.errors import BackupError
from migration.backup.files import size_of
from migration.backup.manifest import LOCK, Kind
from migration.backup.reader import Backup

_LONGEST_NAME: Final = 150
_REMOVED: Final = ".removed-"


@dataclass(frozen=True, slots=True)
class BackupSummary:
    """One backup in a list.

    Attributes:
        run: the run that made it.
        collection: the real collection's name.
        kind: old vectors or whole documents; None if its manifest cannot be read.
        created: when it was begun, UTC.
        records: records in it, repeated ids included.
        bytes: what it takes on the disk.
        complete: whether everything that was to be backed up is in it.
        folder: where it is.
    """

    run: str
    collection: str
    kind: Kind | None
    created: datetime
    records: int
    bytes: int
    complete: bool
    folder: Path


def backup_folder(home: Path, run: str, collection: str) -> Path:
    """Where the backup of a run and collection is, or would be: `HOME/backups/<run>/<collection>`.

    Names that would not do as a folder's are percent-encoded; whatever they are, it is inside HOME/backups.
    """
    return home / "backups" / folder_name(run) / folder_name(collection)


def list_backups(home: Path) -> list[BackupSummary]:
    """Every backup under a home, oldest first. Symbolic links are not followed."""
    found = []
    for folder in (folder for run in _folders_in(home / "backups") for folder in _folders_in(run)):
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            found.append(_summary(folder))
    return sorted(found, key=lambda each: (each.created, each.run, each.collection))


def prune(
    home: Path, keep: int | None = None, older_than_days: int | None = None, runs: Sequence[str] = ()
) -> list[BackupSummary]:
    """Remove backups for good. What several of the conditions are given for must meet all of them.

    Args:
        home: where backups are.
        keep: spare the newest runs, so many; None spares none.
        older_than_days: only runs that began their backups longer ago; None for any age.
        runs: only these runs; empty for any. Without any condition nothing is removed.

    Backups that are being written are spared. Symbolic links are not followed.

    Returns:
        What was removed.

    Raises:
        ValueError: `keep` or `older_than_days` is negative.
        BackupError: a backup cannot be removed; the message names it.
    """
    if (keep is not None and keep < 0) or (older_than_days is not None and older_than_days < 0):
        raise ValueError("keep and older_than_days must not be negative")
    _finish_removing(home)
    if keep is None and older_than_days is None and not runs:
        return []
    backups = list_backups(home)
    newest = {each.run: each.created for each in backups}  # sorted: the last of a run is its newest
    by_age = sorted(newest, key=lambda run: newest[run], reverse=True)
    goes = set(by_age[keep or 0 :])
    if runs:
        goes &= set(runs)
    if older_than_days is not None:
        limit = datetime.now(UTC) - timedelta(days=older_than_days)
        goes = {run for run in goes if newest[run] < limit}
    return [each for each in backups if each.run in goes and _remove(home, each.folder)]


def _folders_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if not path.is_symlink() and path.is_dir()]
    return sorted(path for path in found if not path.name.startswith("."))


def _summary(folder: Path) -> BackupSummary:
    size = size_of(folder)
    try:
        backup = Backup.load(folder)
    except BackupError:
        created = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
        run, collection = unquote(folder.parent.name), unquote(folder.name)
        return BackupSummary(run, collection, None, created, 0, size, False, folder)
    manifest = backup.manifest
    # One that was not closed is counted by its pages, which say so without being decompressed.
    records = manifest.records if manifest.closed else backup.count()[0]
    created = datetime.fromisoformat(manifest.created)
    return BackupSummary(
        manifest.run, manifest.collection, manifest.kind, created, records, size, manifest.complete, folder
    )


def _remove(home: Path, folder: Path) -> bool:
    """Whether it was removed, rather than spared because it is being written."""
    lock = FileLock(folder / LOCK, timeout=0, mode=0o600, thread_local=False)
    removed = home / "backups" / f"{_REMOVED}{uuid.uuid4().hex}"
    try:
        lock.acquire()
        # Renamed first: removing takes a while, and half of a backup must never look like one.
        folder.rename(removed)
        lock.release()
        shutil.rmtree(removed)
        with contextlib.suppress(OSError):  # other collections of the run are there
            folder.parent.rmdir()
    except Timeout:
        return False
    except OSError as error:
        raise BackupError(f"the backup {folder} cannot be removed: {error.strerror}") from error
    return True


def _finish_removing(home: Path) -> None:
    """Remove what an interrupted removal left."""
    for path in (home / "backups").glob(f"{_REMOVED}*"):
        if not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


def folder_name(name: str) -> str:
    """A collection's or run's name as the name of a folder or file, on any file system."""
    encoded = quote(name, safe=" ") or "%"
    if encoded.startswith("."):
        encoded = f"%2E{encoded[1:]}"
    if len(encoded) > _LONGEST_NAME:
        # Cut between characters, not inside an escape.
        short = re.sub(r"%[0-9A-F]?$", "", encoded[: _LONGEST_NAME - 33])
        encoded = f"{short}~{hashlib.sha256(name.encode()).hexdigest()[:32]}"
    return encoded
