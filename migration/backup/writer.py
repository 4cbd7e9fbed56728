"""Writing a backup: a page is on the disk before its documents are overwritten."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson
from filelock import FileLock, Timeout

from kai.typesense_curation import NOTHING, PART_KINDS, SET_KINDS, Curation, names_sets
from migration.backup import pages
from migration.backup.errors import BackupError
from migration.backup.files import (
    free_space,
    in_words,
    make_private_folder,
    open_private,
    sha256_of,
    write_all,
    write_atomically,
)
from migration.backup.guide import creatable, restore_guide
from migration.backup.lines import Vector, document_id, vector_line
from migration.backup.manifest import (
    CREATE,
    CURATION,
    GUIDE,
    LOCK,
    MANIFEST,
    RECORDS,
    SCHEMA,
    FileFacts,
    Kind,
    Manifest,
    now,
    read_manifest,
)
from migration.backup.reader import Backup
from migration.backup.shelf import backup_folder

_log = logging.getLogger(__name__)


class BackupWriter:
    """A backup that is being written; made by `BackupWriter.open`.

    Every method may be called from any thread. Leaving a `with` block closes it, unless it was closed before.

    Attributes:
        folder: where it is.
        is_complete: whether everything that was to be backed up is in it, as leaving the block notes; False at first.
    """

    def __init__(self, folder: Path, manifest: Manifest, file: int, end: int, lock: FileLock) -> None:
        self.folder = folder
        self._manifest = manifest
        self._file = file
        self._end = end
        self._held = lock
        self._lock = threading.Lock()
        self._open = True
        self.is_complete = False

    @property
    def kind(self) -> Kind:
        """Old vectors by id, or whole documents."""
        return self._manifest.kind

    @classmethod
    def open(
        cls,
        home: Path,
        run: str,
        collection: str,
        *,
        kind: Kind,
        embedding_field: str,
        server: str,
        schema: Mapping[str, Any],
        curation: Curation = NOTHING,
        free_space_needed: int = 0,
        model: str | None = None,
    ) -> BackupWriter:
        """Begin the backup of a collection, or go on with the one that this run began.

        Going on, finished or not, keeps every whole page and cuts off one that was torn; schema, synonyms and
        curations stay as they were first.

        Args:
            home: MIGRATION_HOME; made where it is missing, 0700.
            run: the run's name.
            collection: the real collection's name.
            kind: `vectors` for old vectors by id, `documents` for whole documents.
            embedding_field: the field that is about to be overwritten.
            server: canonical address of the server where the collection is (`kai.address`).
            schema: the collection as `GET /collections/<name>` gives it.
            curation: synonyms and curations, own or by sets.
            free_space_needed: bytes that must be free on the disk; 0 does not look.
            model: that made the old vectors, where known.

        Raises:
            BackupError: too little space, no right to write, another process is writing it, or there is
                already one of another kind, field, server or collection.
        """
        folder = backup_folder(home, run, collection)
        time = now()
        manifest = Manifest(kind, server, collection, embedding_field, run, time, time, model=model)
        try:
            _check_space(home, free_space_needed)
            make_private_folder(folder, below=home)
            lock = FileLock(folder / LOCK, timeout=0, mode=0o600, thread_local=False)
            with contextlib.ExitStack() as on_failure:
                lock.acquire()
                on_failure.callback(lock.release)
                if (folder / MANIFEST).exists():
                    manifest = _continued(read_manifest(folder), manifest, folder)
                else:
                    _write_settings(folder, manifest, schema, curation)
                file = open_private(folder / RECORDS)
                on_failure.callback(os.close, file)
                end, records = _cut_to_whole_pages(folder / RECORDS, file)
                manifest = replace(
                    manifest, updated=now(), records=records, distinct_ids=None, bytes=0, complete=False, files={}
                )
                manifest.write(folder)
                on_failure.pop_all()
                return cls(folder, manifest, file, end, lock)
        except Timeout:
            raise BackupError(f"the backup {folder} is being written by another process") from None
        except OSError as error:
            raise _cannot_write(folder, error) from error

    def add(
        self,
        lines: Sequence[bytes],
        contents: Sequence[bytes | None] | None = None,
        ids: Sequence[str] | None = None,
        *,
        is_newer: bool = False,
    ) -> None:
        """Append one page. When it returns, the page survives a power cut; when it raises, nothing changed.

        Args:
            lines: the records, JSON objects with an `id`, one line each (see `vector_line` for the kind
                `vectors`; whole documents for the other), 250 or so. None at all writes nothing.
            contents: beside each line, a hash of the document without its vector, so that other fields can
                be shown to be unchanged later; kept apart from the line.
            ids: the ids in the lines, trusted; None to parse the lines for them, which takes about half as
                long as compressing them.
            is_newer: whether these are the old values, and not earlier records of the same ids: where nothing was
                overwritten yet when they were read.

        Raises:
            ValueError: a line is not such a record.
            BackupError: the disk is full or the file cannot be written, or the backup is closed.
        """
        lines = [line.removesuffix(b"\n") for line in lines]
        if ids is None:
            ids = [document_id(line) for line in lines]
        elif any(b"\n" in line for line in lines):
            raise ValueError("a record must be one line")
        self._append(lines, ids, contents, is_newer)

    def add_vectors(
        self, rows: Sequence[tuple[str, Vector | bytes | None, bytes | None]], *, is_newer: bool = False
    ) -> None:
        """Append one page of old vectors: id, vector (None where there is none), content hash (or None).

        As `add` with `vector_line`, but cheaper. Only for the kind `vectors`.

        Raises:
            ValueError: a vector is not finite, or this is a backup of whole documents.
            BackupError: as for `add`.
        """
        if self._manifest.kind != "vectors":
            raise ValueError("whole documents are backed up here, not vectors")
        lines = [vector_line(id_, self._manifest.embedding_field, vector) for id_, vector, _ in rows]
        self._append(lines, [id_ for id_, _, _ in rows], [content for _, _, content in rows], is_newer)

    def close(self, complete: bool) -> None:
        """Count, write the checksums into the manifest, and let go. Closing again does nothing.

        Args:
            complete: whether everything that was to be backed up is in it.

        Raises:
            BackupError: it cannot be read again or the manifest cannot be written; it counts as unfinished
                then, and its pages are as safe as before.
        """
        with self._lock:
            if not self._open:
                return
            self._open = False
            try:
                os.close(self._file)
                self._finished(complete).write(self.folder)
            except OSError as error:
                raise _cannot_write(self.folder, error) from error
            finally:
                self._held.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close(complete=self.is_complete)
        except BackupError:
            if error is None:  # What ends the block is worth more to know.
                raise

    def _append(
        self, lines: Sequence[bytes], ids: Sequence[str], contents: Sequence[bytes | None] | None, is_newer: bool
    ) -> None:
        if len(ids) != len(lines) or (contents is not None and len(contents) != len(lines)):
            raise ValueError(f"{len(lines)} records, {len(ids)} ids, {len(contents or lines)} content hashes")
        if not lines:
            return
        page = pages.encode(lines, ids, contents, is_newer=is_newer)
        with self._lock:
            if not self._open:
                raise BackupError(f"the backup {self.folder} is closed")
            try:
                os.lseek(self._file, self._end, os.SEEK_SET)
                write_all(self._file, page)
                os.fsync(self._file)
            except OSError as error:
                # Where even this fails, the next page is written over what is left of this one.
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file, self._end)
                raise _cannot_write(self.folder, error) from error
            self._end += len(page)

    def _finished(self, complete: bool) -> Manifest:
        records, distinct = Backup(self.folder, self._manifest).count()
        kept = [name for name in (RECORDS, SCHEMA, *CURATION.values(), CREATE, GUIDE) if (self.folder / name).exists()]
        # From the disk rather than while writing: what counts is what is there.
        files = {name: FileFacts((self.folder / name).stat().st_size, sha256_of(self.folder / name)) for name in kept}
        return replace(
            self._manifest,
            updated=now(),
            records=records,
            distinct_ids=distinct,
            bytes=sum(facts.bytes for facts in files.values()),
            complete=complete,
            files=files,
        )


def _cut_to_whole_pages(path: Path, file: int) -> tuple[int, int]:
    """Cut off a page that was torn; where the file ends then, and how many records it holds."""
    with path.open("rb") as reading:
        end, records, gaps = pages.end_of_whole_pages(reading)
    for gap in gaps:
        _log.warning("the backup %s is damaged: %s", path, gap)
    os.ftruncate(file, end)
    os.fsync(file)
    return end, records


def _continued(found: Manifest, wanted: Manifest, folder: Path) -> Manifest:
    for name in ("kind", "server", "collection", "embedding_field", "run"):
        if getattr(found, name) != getattr(wanted, name):
            raise BackupError(
                f"{folder} is already a backup of another {name.replace('_', ' ')} "
                f"({getattr(found, name)!r} instead of {getattr(wanted, name)!r}); move it away"
            )
    return found


def _write_settings(folder: Path, manifest: Manifest, schema: Mapping[str, Any], curation: Curation) -> None:
    write_atomically(folder / SCHEMA, orjson.dumps(schema, option=orjson.OPT_INDENT_2) + b"\n")
    for kind in (*PART_KINDS, *(SET_KINDS if names_sets(schema) else ())):
        write_atomically(folder / CURATION[kind], b"".join(orjson.dumps(each) + b"\n" for each in curation.of(kind)))
    if manifest.kind == "documents":
        write_atomically(folder / CREATE, orjson.dumps(creatable(schema), option=orjson.OPT_INDENT_2) + b"\n")
    write_atomically(folder / GUIDE, restore_guide(manifest, curation).encode())


def _check_space(home: Path, needed: int) -> None:
    if needed <= 0:
        return
    free = free_space(home)
    if free < needed:
        raise BackupError(
            f"the backup needs {in_words(needed)}, but MIGRATION_HOME ({home}) has {in_words(free)} free: "
            "free some space, set MIGRATION_HOME to another disk, or run a migration with --no-backup"
        )


def _cannot_write(folder: Path, error: OSError) -> BackupError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    remedy = "free some space, or set MIGRATION_HOME to another disk" if full else "see MIGRATION_HOME"
    return BackupError(f"the backup {folder} cannot be written ({error.strerror or error}): {remedy}")
