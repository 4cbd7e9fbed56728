"""The append-only log that makes the sandbox's data outlive it, `kill -9` included.

One record a line: a JSON array, then raw parts separated by tabs (raw parts are compact JSON, in which a
tab cannot occur). Records are handed to the operating system before the request is answered, so a killed
process loses none that was acknowledged; a record torn by the kill has no newline and is cut off at the
next start. (A power cut is another matter: the log is not synced to the disk at every write.)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from kai.sandbox.errors import ApiError

Record = tuple[list[Any], tuple[bytes, ...]]


def encode(header: list[Any], *parts: bytes) -> bytes:
    """One line of the log."""
    return b"\t".join((orjson.dumps(header), *parts)) + b"\n"


def decode(line: bytes) -> Record:
    """The record of one whole line."""
    header, *parts = line[:-1].split(b"\t")
    return orjson.loads(header), tuple(parts)


class Log:
    """An open log file; not thread-safe, the store's lock protects it.

    Attributes:
        records: how many it holds.
        on_commit: called with the encoded records that were just handed to the operating system.
    """

    def __init__(self, path: Path) -> None:
        """Open `path` for appending, cutting off a torn last line; the file is created if missing."""
        self.path = path
        self.records = 0
        self.on_commit: Callable[[list[bytes]], None] = lambda lines: None
        self._is_closed = False
        _cut_torn_line(path)
        self._pending: list[bytes] = []
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def append(self, header: list[Any], *parts: bytes) -> None:
        """Add a record to the pending ones."""
        self._pending.append(encode(header, *parts))

    def commit(self) -> None:
        """Hand the pending records to the operating system; ApiError 503 once the log is closed."""
        if not self._pending:
            return
        if self._is_closed:
            raise ApiError(503, "Not Ready or Lagging")
        lines, self._pending = self._pending, []
        self.records += len(lines)
        data = memoryview(b"".join(lines))
        while data:
            data = data[os.write(self._descriptor, data) :]
        self.on_commit(lines)

    def read(self) -> Iterator[Record]:
        """Every record from the beginning."""
        with self.path.open("rb") as lines:
            for line in lines:
                self.records += 1
                yield decode(line)

    def replace(self, records: Iterable[bytes]) -> None:
        """Put encoded `records` in the place of everything written so far, atomically."""
        self.commit()
        self.records = write_log(self.path, records)
        os.close(self._descriptor)
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)

    def close(self) -> None:
        """Write what is pending and close the file; a second time does nothing."""
        if self._is_closed:
            return
        self.commit()
        self._is_closed = True
        os.close(self._descriptor)


def write_log(path: Path, records: Iterable[bytes]) -> int:
    """A whole log at `path`, appearing there only when complete and synced; the number of records."""
    temporary = path.with_suffix(".tmp")
    count = 0
    with temporary.open("wb") as file:
        for record in records:
            file.write(record)
            count += 1
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return count


def _cut_torn_line(path: Path) -> None:
    if not path.exists():
        return
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        keep = end
        while keep > 0:
            start = max(0, keep - 65536)
            file.seek(start)
            newline = file.read(keep - start).rfind(b"\n")
            if newline >= 0:
                keep = start + newline + 1
                break
            keep = start
        if keep < end:
            file.truncate(keep)
