"""How one document is held in memory: raw JSON, cut at its float arrays.

A vector of 1536 numbers costs 15 times its JSON when it is a list of Python floats, and parsing it costs
more than everything else in an update. So the values of float arrays stay the bytes that were sent, in
*slots*, and the other attributes stay the JSON *segments* between them:

    layout   = ("prompt_embedding",)
    segments = (b'"id":"c1"', b'"prompt_text":"..."')      # before and after the slot, keys sorted
    values   = (b'[0.1,0.2]',)                             # None: not set

Documents are never changed, only replaced: a reader that holds one holds a snapshot.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import lru_cache
from typing import Any

import orjson

Json = dict[str, Any]
References = dict[str, int | list[int]]

UNRESOLVED = 2**32 - 1
"""Sequence number of an async reference whose target has not arrived."""


@lru_cache(maxsize=4096)
def _slot_keys(layout: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(orjson.dumps(name) + b":" for name in layout)


class Document:
    """One stored document; see the module for its form."""

    __slots__ = ("_attributes", "id", "layout", "references", "segments", "seq", "values")

    def __init__(
        self,
        seq: int,
        document_id: str,
        *,
        layout: tuple[str, ...],
        segments: tuple[bytes, ...],
        values: tuple[bytes | None, ...],
        references: References | None,
    ) -> None:
        """`len(segments) == len(layout) + 1`, `len(values) == len(layout)`."""
        self.seq = seq
        self.id = document_id
        self.layout = layout
        self.segments = segments
        self.values = values
        self.references = references
        self._attributes: Json | None = None

    @classmethod
    def build(
        cls,
        seq: int,
        attributes: Json,
        values: dict[str, bytes],
        layout: tuple[str, ...],
        references: References | None,
    ) -> Document:
        """A document from its parsed `attributes` (with "id") and the raw `values` of its slots."""
        parts: list[Json] = [{} for _ in range(len(layout) + 1)]
        for key, value in attributes.items():
            parts[bisect_left(layout, key)][key] = value
        segments = tuple(orjson.dumps(part, option=orjson.OPT_SORT_KEYS)[1:-1] for part in parts)
        raw = tuple(values.get(name) for name in layout)
        return cls(
            seq,
            attributes["id"],
            layout=layout,
            segments=segments,
            values=raw,
            references=references or None,
        )

    @property
    def attributes(self) -> Json:
        """Everything but the slots, parsed once and kept; do not change it."""
        if self._attributes is None:
            self._attributes = self.parse()
        return self._attributes

    def parse(self) -> Json:
        """The same without keeping what was parsed: for whoever passes every document once."""
        if self._attributes is not None:
            return self._attributes
        parsed: Json = orjson.loads(b"{" + b",".join(filter(None, self.segments)) + b"}")
        return parsed

    def slots(self) -> dict[str, bytes]:
        """The raw values that are set."""
        pairs = zip(self.layout, self.values, strict=True)
        return {name: value for name, value in pairs if value is not None}

    def raw(self, name: str) -> bytes | None:
        """The JSON of one top-level attribute, or None."""
        if name in self.layout:
            return self.values[self.layout.index(name)]
        value = self.attributes.get(name)
        return None if value is None else orjson.dumps(value, option=orjson.OPT_SORT_KEYS)

    def with_slot(self, name: str, value: bytes | None) -> Document:
        """The same document with another value in one slot."""
        if name not in self.layout:
            return self.with_layout(tuple(sorted((*self.layout, name)))).with_slot(name, value)
        index = self.layout.index(name)
        values = (*self.values[:index], value, *self.values[index + 1 :])
        return self._replaced(values, self.references)

    def with_layout(self, layout: tuple[str, ...]) -> Document:
        """The same document with its float arrays in other slots."""
        if layout == self.layout:
            return self
        attributes = self.attributes | {
            name: orjson.loads(value) for name, value in self.slots().items() if name not in layout
        }
        kept = {name: value for name, value in self.slots().items() if name in layout}
        moved = {name: orjson.dumps(attributes.pop(name)) for name in layout if name in attributes}
        return Document.build(self.seq, attributes, kept | moved, layout, self.references)

    def with_seq(self, seq: int) -> Document:
        """The same document under another sequence number."""
        changed = self._replaced(self.values, self.references)
        changed.seq = seq
        return changed

    def with_references(self, references: References | None) -> Document:
        """The same document with other internal references."""
        return self._replaced(self.values, references)

    def _replaced(self, values: tuple[bytes | None, ...], references: References | None) -> Document:
        changed = Document(
            self.seq,
            self.id,
            layout=self.layout,
            segments=self.segments,
            values=values,
            references=references,
        )
        changed._attributes = self._attributes
        return changed

    def to_json(self) -> bytes:
        """The document as export and search show it: keys sorted, internal fields hidden."""
        parts = [self.segments[0]] if self.segments[0] else []
        for key, value, segment in zip(_slot_keys(self.layout), self.values, self.segments[1:], strict=True):
            if value is not None:
                parts.append(key + value)
            if segment:
                parts.append(segment)
        return b"{" + b",".join(parts) + b"}"

    def to_internal_json(self) -> bytes:
        """The document as GET by id shows it, with `.ref` and the sequence numbers of its references."""
        if not self.references:
            return self.to_json()
        attributes = dict(self.attributes)
        attributes[".ref"] = [f"{name}_sequence_id" for name in sorted(self.references)]
        attributes |= {f"{name}_sequence_id": seq for name, seq in self.references.items()}
        return Document.build(self.seq, attributes, self.slots(), self.layout, None).to_json()


def raw_array(line: bytes, name: str, value: list[Any]) -> bytes:
    """The JSON of a top-level array of numbers as it was sent, without white space.

    `value` is the same array parsed from `line`. Where the place in `line` is not certain (the name occurs
    more than once, or is written with escapes), the value is written anew.
    """
    key = orjson.dumps(name)
    start = line.find(key)
    opening = line.find(b"[", start + len(key))
    closing = line.find(b"]", opening) + 1
    if start >= 0 < opening < closing and line[start + len(key) : opening].strip() == b":":
        around = line[:start] + line[closing:]
        if key not in around and b"\\u" not in around:
            raw = line[opening:closing]
            # Looking for white space first is cheaper than removing it from where there is none.
            return raw.translate(None, b" \t\r\n") if b" " in raw or b"\t" in raw else raw
    return orjson.dumps(value)
