"""The file of records: page after page, each of them whole or not there.

A page is two zstd frames. The first is a *skippable* one, which `zstd -dc` passes over: it says how long
the second is, its CRC-32, and the ids and content hashes of its records, so that ids can be counted without
decompressing vectors, and so that a damaged page can be told and passed over. The second is a usual frame
of JSON Lines.

    magic | length of the rest | KAIB | CRC-32 of the rest | frame length | frame CRC-32 | {"ids": [...], ...}

Numbers are little-endian, as everywhere in zstd.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final
from zlib import crc32

import orjson
import zstandard

LEVEL: Final = 1
"""Measured on 768 and 1536 numbers a line: less CPU than levels 2 and 3 and than gzip, and the smallest
result; the negative levels save a third of the CPU and double the size."""

_MAGIC: Final = struct.pack("<I", 0x184D2A5B)
_MARK: Final = b"KAIB"
_FRONT: Final = struct.Struct("<4sI4sI")
_FACTS: Final = struct.Struct("<QI")
_SEARCHED: Final = 1 << 20
_LONGEST: Final = 1 << 26
"""Bytes of ids and hashes in a page: a damaged length must not fill the memory."""


class DamagedPageError(Exception):
    """The frame of a page is not what was written."""


@dataclass(frozen=True, slots=True)
class Page:
    """Where a page stands, and what it holds.

    Attributes:
        start: its first byte.
        frame: the first byte of its compressed lines.
        end: the byte after its last.
        checksum: CRC-32 of the compressed lines.
        ids: the ids of its records, in order.
        contents: content hashes beside them; None where unknown.
        is_newer: whether its records take the place of earlier ones of the same ids.
    """

    start: int
    frame: int
    end: int
    checksum: int
    ids: list[str]
    contents: list[bytes | None]
    is_newer: bool = False


@dataclass(frozen=True, slots=True)
class Gap:
    """Bytes from `start` up to `end` that are no page; `at_end` if nothing comes after them."""

    start: int
    end: int
    at_end: bool

    def __str__(self) -> str:
        where = "at the end" if self.at_end else f"at byte {self.start}"
        return f"{self.end - self.start} bytes {where} are no whole page"


def encode(
    lines: Sequence[bytes], ids: Sequence[str], contents: Sequence[bytes | None] | None, *, is_newer: bool = False
) -> bytes:
    """One page for the file.

    Args:
        lines: JSON without newlines, as many as there are ids.
        ids: the ids in them.
        contents: hashes of the documents without their vectors; None where there are none.
        is_newer: whether they take the place of earlier records of the same ids.

    Raises:
        ValueError: too many records for one page.
    """
    # A compressor of its own, because they may not be shared by threads; making one takes 10 µs.
    compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj(
        size=sum(map(len, lines)) + len(lines)
    )
    # Line by line, because joined they would stand in memory twice.
    pieces = [compressor.compress(piece) for line in lines for piece in (line, b"\n")]
    frame = b"".join((*pieces, compressor.flush()))
    about: dict[str, object] = {"ids": list(ids)}
    if contents is not None and any(contents):
        about["contents"] = [content and content.hex() for content in contents]
    if is_newer:
        about["newer"] = True
    rest = _FACTS.pack(len(frame), crc32(frame)) + orjson.dumps(about)
    if len(rest) > _LONGEST:
        raise ValueError(f"{len(lines)} records are too many for one page")
    return _FRONT.pack(_MAGIC, len(rest) + 8, _MARK, crc32(rest)) + rest + frame


def scan(file: BinaryIO) -> Iterator[Page | Gap]:
    """What stands in the file, from its beginning; the lines themselves are not read.

    After something damaged it goes on with the next page.
    """
    size = file.seek(0, os.SEEK_END)
    place = 0
    while place < size:
        page = _page_at(file, place, size)
        if page is not None:
            yield page
            place = page.end
            continue
        following = _next_page(file, place + 1, size)
        yield Gap(place, following, at_end=following == size)
        place = following


def read_lines(file: BinaryIO, page: Page) -> list[bytes]:
    """The lines of a page, without newlines.

    Raises:
        DamagedPageError: they are not what was written.
    """
    file.seek(page.frame)
    frame = file.read(page.end - page.frame)
    # The CRC first: a damaged frame may claim to be terabytes long.
    if crc32(frame) != page.checksum:
        raise DamagedPageError(f"the page of {len(page.ids)} records at byte {page.start} is damaged")
    try:
        lines = zstandard.ZstdDecompressor().decompress(frame).split(b"\n")
    except zstandard.ZstdError as error:
        raise DamagedPageError(f"the page at byte {page.start} cannot be decompressed: {error}") from error
    if lines.pop() or len(lines) != len(page.ids):
        raise DamagedPageError(f"the page at byte {page.start} does not hold {len(page.ids)} records")
    return lines


def end_of_whole_pages(file: BinaryIO) -> tuple[int, int, list[Gap]]:
    """Where to go on writing.

    Only the last page can be torn, since each was durable before the next; so only its lines are looked at.

    Returns:
        The end of the last whole page, the number of records up to there, and the damage in the middle:
        pages that stand after it are kept.
    """
    records = 0
    last_two: deque[Page] = deque(maxlen=2)
    gaps: list[Gap] = []
    for found in scan(file):
        if isinstance(found, Gap):
            gaps.append(found)
        else:
            last_two.append(found)
            records += len(found.ids)
    try:
        if last_two:
            read_lines(file, last_two[-1])
    except DamagedPageError:
        records -= len(last_two.pop().ids)
    end = last_two[-1].end if last_two else 0
    return end, records, [gap for gap in gaps if gap.end <= end]


def _page_at(file: BinaryIO, place: int, size: int) -> Page | None:
    file.seek(place)
    front = file.read(_FRONT.size)
    if len(front) < _FRONT.size:
        return None
    magic, length, mark, checksum = _FRONT.unpack(front)
    frame = place + 8 + length
    if magic != _MAGIC or mark != _MARK or frame > size or not _FACTS.size <= length - 8 <= _LONGEST:
        return None
    rest = file.read(length - 8)
    if crc32(rest) != checksum:
        return None
    frame_length, frame_checksum = _FACTS.unpack_from(rest)
    if frame + frame_length > size:
        return None
    about = orjson.loads(rest[_FACTS.size :])
    ids = about["ids"]
    hashes = [content and bytes.fromhex(content) for content in about.get("contents", [None] * len(ids))]
    return Page(place, frame, frame + frame_length, frame_checksum, ids, hashes, bool(about.get("newer")))


def _next_page(file: BinaryIO, place: int, size: int) -> int:
    """The next place where a whole page begins; the size of the file if there is none."""
    while place < size:
        file.seek(place)
        window = file.read(_SEARCHED)
        at = window.find(_MAGIC)
        while at >= 0:
            if _page_at(file, place + at, size) is not None:
                return place + at
            at = window.find(_MAGIC, at + 1)
        if len(window) < _SEARCHED:
            break
        place += len(window) - len(_MAGIC) + 1  # the magic may stand across the border
    return size
