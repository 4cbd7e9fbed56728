"""`manifest.json`: what a backup is, and how to tell that it is whole."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, get_args

import orjson

from kai.address import canonical_address
from kai.typesense_curation import PART_KINDS, SET_KINDS
from migration.backup.errors import BackupError
from migration.backup.files import write_atomically

Kind = Literal["vectors", "documents"]
"""Old vectors by id, or whole documents."""

RECORDS: Final = "documents.jsonl.zst"
SCHEMA: Final = "schema.json"
CURATION: Final = {kind: f"{kind}.jsonl" for kind in (*PART_KINDS, *SET_KINDS)}
"""The file of each kind of synonyms and curations; those of sets are there where the collection names sets."""
CREATE: Final = "create.json"
GUIDE: Final = "RESTORE.md"
MANIFEST: Final = "manifest.json"
LOCK: Final = ".lock"

_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class FileFacts:
    """One file of a backup: its size in bytes, its SHA-256 in hexadecimal digits."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup is.

    Attributes:
        kind: old vectors by id, or whole documents.
        server: canonical address of the server where the collection is.
        collection: the real collection's name.
        embedding_field: the field whose values are about to be overwritten.
        run: the run that made it.
        created: when it was begun, ISO 8601, UTC.
        updated: when this manifest was written, ISO 8601, UTC.
        records: records in it; an id that was backed up again counts again.
        distinct_ids: different ids among them; None while it is being written.
        bytes: size of all files but the manifest; 0 while it is being written.
        complete: whether everything that was to be backed up is in it.
        files: every file but the manifest, by name; empty while it is being written, and after a crash.
        model: that made the old vectors, where known.
        format: version of the layout of the folder.
    """

    kind: Kind
    server: str
    collection: str
    embedding_field: str
    run: str
    created: str
    updated: str
    records: int = 0
    distinct_ids: int | None = None
    bytes: int = 0
    complete: bool = False
    files: dict[str, FileFacts] = field(default_factory=dict)
    model: str | None = None
    format: int = _FORMAT

    @property
    def closed(self) -> bool:
        """Whether its writer came to an end, complete or not; else the last page may be torn."""
        return bool(self.files)

    def write(self, folder: Path) -> None:
        """Replace the manifest in a folder, atomically and durably."""
        write_atomically(folder / MANIFEST, orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2) + b"\n")


def read_manifest(folder: Path) -> Manifest:
    """The manifest in a folder.

    Raises:
        BackupError: it is missing, damaged, or of a newer format; the message names the file.
    """
    path = folder / MANIFEST
    try:
        found = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        raise BackupError(f"{folder} is not a backup: it has no {MANIFEST}") from None
    except (OSError, ValueError) as error:
        raise BackupError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("format"), int):
        raise BackupError(f"{path} is not the manifest of a backup")
    if found["format"] > _FORMAT:
        raise BackupError(f"{path} was written by a newer version (format {found['format']}); use that version")
    try:
        return _manifest(found)
    except (KeyError, TypeError, ValueError) as error:
        raise BackupError(f"{path} is damaged: {error!r}") from error


def now() -> str:
    """The time, ISO 8601, UTC; such texts sort by time."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _manifest(found: dict[str, Any]) -> Manifest:
    known = {each.name for each in fields(Manifest)}
    values = {name: value for name, value in found.items() if name in known}
    values["files"] = {name: FileFacts(int(f["bytes"]), str(f["sha256"])) for name, f in values["files"].items()}
    if values["kind"] not in get_args(Kind):
        raise ValueError(f"kind {values['kind']!r}")
    if datetime.fromisoformat(values["created"]).tzinfo is None:
        raise ValueError("created")
    types = {str: ("server", "collection", "embedding_field", "run"), int: ("records", "bytes"), bool: ("complete",)}
    for kind, names in types.items():
        for name in names:
            if not isinstance(values[name], kind):
                raise TypeError(name)
    values["server"] = canonical_address(values["server"])  # an older version wrote it as it was given
    return Manifest(**values)
