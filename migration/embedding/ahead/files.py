"""The files that batches are made of: one text a line, whole on disk before anything is said about them to anybody."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import orjson

from migration.backup.files import make_private_folder, sync_folder
from migration.embedding.ahead.service import BatchLimits

SUFFIX: Final = ".jsonl"
_UNFINISHED: Final = ".part"
_HASH_BYTES: Final = 32


class Fill:
    """How full a batch is, by what it may carry."""

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self.texts = self.size = self.tokens = 0

    def takes(self, size: int, tokens: int) -> bool:
        """Whether a further line fits, by its bytes and tokens. One that fits into none goes alone."""
        limits = self._limits
        return not self.texts or (
            self.texts < limits.texts
            and self.size + size <= limits.size
            and (limits.tokens is None or self.tokens + tokens <= limits.tokens)
        )

    def add(self, size: int, tokens: int) -> None:
        """Count it."""
        self.texts += 1
        self.size += size
        self.tokens += tokens


class BatchFile:
    """A file in the making; under its name only once it is whole and on disk, power cuts included.

    Args:
        folder: where to; 0700.
        name: of the batch.
        limits: of one.

    Attributes:
        name: of the batch.
        fill: how full it is.
        digests: hashes of its texts.
    """

    def __init__(self, folder: Path, name: str, limits: BatchLimits) -> None:
        make_private_folder(folder, folder.parent)
        self.name, self.fill = name, Fill(limits)
        self.digests: set[bytes] = set()
        self._path = folder / f"{name}{SUFFIX}"
        self._part = self._path.with_suffix(_UNFINISHED)
        self._file = os.fdopen(os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")

    def takes(self, line: bytes, tokens: int) -> bool:
        """Whether a further line fits."""
        return self.fill.takes(len(line) + 1, tokens)

    def add(self, digest: bytes, line: bytes, tokens: int) -> None:
        """Add a line, which has no end of its own."""
        self._file.write(line + b"\n")
        self.fill.add(len(line) + 1, tokens)
        self.digests.add(digest)

    def finish(self) -> Path:
        """Give it its name; it is on disk on return."""
        with self._file as file:
            file.flush()
            os.fsync(file.fileno())
        self._part.replace(self._path)
        sync_folder(self._path.parent)
        return self._path

    def discard(self) -> None:
        """Leave nothing of it; one that is finished stays."""
        self._file.close()
        self._part.unlink(missing_ok=True)


def batch_files(folder: Path, beginning: str) -> dict[str, Path]:
    """The whole files of batches whose names begin so, by name; what was not finished is removed."""
    for part in folder.glob(f"*{_UNFINISHED}"):
        part.unlink(missing_ok=True)
    return {path.stem: path for path in sorted(folder.glob(f"{beginning}*{SUFFIX}"))}


def digests_of(path: Path, key: str) -> Iterator[bytes]:
    """The hashes of a file's texts; `key` is the attribute of a line that has it."""
    with path.open("rb") as file:
        for line in file:
            if (digest := digest_of(orjson.loads(line).get(key))) is not None:
                yield digest


def digest_of(name: object) -> bytes | None:
    """The hash that a line's name is; None for any other name."""
    with contextlib.suppress(ValueError, TypeError):
        digest = bytes.fromhex(name)  # type: ignore[arg-type]  # of whatever a provider answers
        return digest if len(digest) == _HASH_BYTES else None
    return None
