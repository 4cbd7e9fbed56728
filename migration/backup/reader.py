"""Reading a backup, page by page."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from itertools import compress, islice
from pathlib import Path
from typing import Any, TypeVar

import orjson

from kai.typesense_curation import PART_KINDS, Curation
from migration.backup import pages
from migration.backup.errors import BackupError
from migration.backup.files import sha256_of
from migration.backup.manifest import CURATION, RECORDS, SCHEMA, Manifest, read_manifest
from migration.backup.seen import Seen

PAGE = 250
"""Records in a page that is read; the last may have fewer."""

T = TypeVar("T")
_Row = tuple[str, bytes, bytes | None]


class Backup:
    """A backup on disk, finished or not.

    The same id may stand in it several times, after a resumed run or a pass that caught up: the FIRST record
    of an id is the true old value, for a later one may have been read after it was overwritten; but for pages that
    are known to be from before that, of which the last counts.

    Attributes:
        folder: where it is.
        manifest: what it is.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self._damage: list[str] = []
        self._torn: str | None = None

    @classmethod
    def load(cls, folder: Path) -> Backup:
        """The backup in a folder, by its manifest; no records are read yet.

        Raises:
            BackupError: the folder has no manifest that can be read.
        """
        return cls(folder, read_manifest(folder))

    @property
    def schema(self) -> dict[str, Any]:
        """The collection's schema as the server gave it. Raises BackupError naming the file."""
        schema = self._read(SCHEMA, orjson.loads)
        if not isinstance(schema, dict):
            raise BackupError(f"{self.folder / SCHEMA} is not a schema")
        return schema

    @property
    def curation(self) -> Curation:
        """The collection's synonyms and curations as the server gave them. Raises BackupError naming the file."""
        there = (kind for kind, name in CURATION.items() if kind in PART_KINDS or (self.folder / name).exists())
        return Curation.made_of({kind: self._read(CURATION[kind], _json_lines) for kind in there})

    @property
    def damage(self) -> tuple[str, ...]:
        """What the last reading of records found damaged or missing, a line each; empty if nothing."""
        return (*self._damage, self._torn) if self._torn else tuple(self._damage)

    def records(self, first_wins: bool = True) -> Iterator[list[tuple[str, bytes]]]:
        """The records in the order in which they were written, in pages of 250: id and line.

        Lines are the bytes that were written, without newline, ready for import: `action=update` for
        vectors, `create` for whole documents. Memory does not grow with the collection.

        Args:
            first_wins: only the first record of every id; False for all of them.

        Damaged pages are passed over; see `damage` afterwards.
        """
        for page in _in_pages(self._rows(first_wins=first_wins)):
            yield [(id_, line) for id_, line, _ in page]

    def vectors(self) -> Iterator[list[tuple[str, list[float] | None]]]:
        """The old vector of every id, or None where it had none; in pages of 250, the first record wins."""
        field = self.manifest.embedding_field
        for page in _in_pages(self._rows()):
            yield [(id_, orjson.loads(line).get(field)) for id_, line, _ in page]

    def contents(self) -> Iterator[list[tuple[str, bytes]]]:
        """The content hash of every id that has one, in pages of 250, the first record wins.

        It is what the writer was given. Where whole documents came without one, it is the SHA-256 of the
        document without its embedding field, as JSON with sorted keys.
        """
        whole = self.manifest.kind == "documents"
        for page in _in_pages(self._rows(with_lines=whole)):
            if some := [(id_, content or self._content(line)) for id_, line, content in page if content or whole]:
                yield some

    def verify(self) -> None:
        """Read everything and compare it with the manifest.

        A backup whose writer was killed has no checksums yet: then every page is checked by its own, and a
        torn page at the end is no fault, because nobody was told that it is safe (it shows in `damage`).

        Raises:
            BackupError: a file is missing, damaged or not as it was; the message names it.
        """
        for name, facts in self.manifest.files.items():
            path = self.folder / name
            try:
                if path.stat().st_size != facts.bytes:
                    raise BackupError(f"{path} has {path.stat().st_size} bytes instead of {facts.bytes}")
                if sha256_of(path) != facts.sha256:
                    raise BackupError(f"{path} is damaged: its checksum is not that of the manifest")
            except OSError as error:
                raise BackupError(f"{path} cannot be read: {error.strerror}") from error
        _ = self.schema, self.curation
        records, distinct = self.count(with_lines=True)
        faults = self.damage if self.manifest.closed else self._damage
        if faults:
            raise BackupError(f"{self.folder / RECORDS} is damaged: {faults[0]}")
        expected = (self.manifest.records, self.manifest.distinct_ids)
        if self.manifest.closed and (records, distinct) != expected:
            raise BackupError(
                f"{self.folder / RECORDS} holds {records} records of {distinct} ids instead of "
                f"{expected[0]} of {expected[1]}"
            )

    def count(self, *, with_lines: bool = False) -> tuple[int, int]:
        """Records, and different ids among them, by what the pages say of themselves; by their lines, too: slower."""
        records = 0
        with Seen() as seen:
            for page, lines in self._walk(with_lines=with_lines):
                if lines is not None:
                    records += len(page.ids)
                    seen.first(page.ids)
            return records, seen.count

    def _content(self, line: bytes) -> bytes:
        document = orjson.loads(line)
        document.pop(self.manifest.embedding_field, None)
        return hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).digest()

    def _rows(self, *, first_wins: bool = True, with_lines: bool = True) -> Iterator[_Row]:
        newest = self._newest() if first_wins else {}
        with Seen() as seen:
            for page, lines in self._walk(with_lines=with_lines):
                wanted = seen.first(page.ids) if first_wins else [True] * len(page.ids)
                if newest:
                    wanted = [
                        newest[id_] == page.start if id_ in newest else is_first
                        for id_, is_first in zip(page.ids, wanted, strict=True)
                    ]
                if lines is not None:  # else its ids are known all the same: a later record is not the old value
                    yield from compress(zip(page.ids, lines, page.contents, strict=True), wanted)

    def _newest(self) -> dict[str, int]:
        """Ids of pages that take the place of earlier records: where the last of them begins."""
        walked = self._walk(with_lines=False)
        return {id_: page.start for page, _ in walked if page.is_newer for id_ in page.ids}

    def _walk(self, *, with_lines: bool) -> Iterator[tuple[pages.Page, list[bytes] | None]]:
        """Page by page, and its lines: each empty if they are not asked for, None if they are damaged."""
        self._damage = damage = []
        self._torn = None
        records = 0
        try:
            with (self.folder / RECORDS).open("rb") as file:
                for found in pages.scan(file):
                    if isinstance(found, pages.Gap):
                        if found.at_end:
                            self._torn = f"{RECORDS}: {found}"
                        else:
                            damage.append(f"{RECORDS}: {found}")
                        continue
                    lines: list[bytes] | None
                    try:
                        lines = pages.read_lines(file, found) if with_lines else [b""] * len(found.ids)
                        records += len(found.ids)
                    except pages.DamagedPageError as error:
                        damage.append(f"{RECORDS}: {error}")
                        lines = None
                    yield found, lines
        except OSError as error:
            damage.append(f"{RECORDS}: {error.strerror}")
        if self.manifest.closed and records < self.manifest.records:
            damage.append(f"{RECORDS}: {self.manifest.records - records} of {self.manifest.records} records missing")

    def _read(self, name: str, parse: Callable[[bytes], T]) -> T:
        path = self.folder / name
        try:
            return parse(path.read_bytes())
        except (OSError, ValueError) as error:
            raise BackupError(f"{path} cannot be read: {error}") from error


def _json_lines(content: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in content.split(b"\n") if line]


def _in_pages(rows: Iterator[_Row]) -> Iterator[list[_Row]]:
    while page := list(islice(rows, PAGE)):
        yield page
