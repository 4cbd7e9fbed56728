"""Everything the server holds, and the log that keeps it.

Every change has a record. Small changes go through `Store.change`, which applies a record and logs it;
documents are put in place by the writer (`kai.sandbox.writes`), which logs them itself. At start the log is
replayed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kai.sandbox.collection import Collection
from kai.sandbox.document import Document
from kai.sandbox.errors import ApiError, collection_not_found
from kai.sandbox.log import Log, decode, encode, write_log
from kai.sandbox.schema import SET_KINDS, Field, Schema, parse_field, parse_schema

Json = dict[str, Any]
ChangeSeconds = Callable[[Collection, Sequence[Field]], float]
"""The seconds that a schema change of the collection takes which adds these fields, or none and only drops some."""

LOG_NAME = "sandbox.log"
VERSIONS = (29, 30)
"""The versions of Typesense that can be behaved as."""
SET_NAMES = {"synonyms": ("synonym_sets", "synonyms_index"), "overrides": ("curation_sets", "curations_index")}
"""What a collection has up to 29 -> (kind of set it is kept in from 30 on, end of that set's name)."""
SUPERFLUOUS_RECORDS = 1000
"""A log is rewritten when it holds at least this many records more than it needs."""


class Store:
    """The collections, aliases and keys of one data folder.

    Attributes:
        collections: name -> collection, oldest first.
        aliases: alias -> name of a collection, which need not exist.
        keys: id -> API key with its actions.
        version: the version of Typesense behaved as, one of `VERSIONS`.
        sets: kind -> name of a set -> id -> item; only from version 30 on.
        lock: held while anything is changed, so that changes happen one at a time.
        schema_changes: collection -> progress of a running schema change; None before the first.
        skip_writes: whether every write is refused; forgotten when the server ends.
        unfinished: number -> (collection, fields) of schema changes begun and not yet completed.
        stopping: set when the server shuts down; a running schema change then leaves off.
        is_leader: whether changes begin here; False for a node of a cluster that repeats those of another.
    """

    def __init__(
        self, data_dir: Path, *, alter_seconds: float | ChangeSeconds = 0.0, version: int = VERSIONS[-1]
    ) -> None:
        """Open `data_dir` (created if missing) and replay its log; what an older version wrote is carried over.

        `alter_seconds` is how long a schema change of a collection with documents takes, or tells for each.
        """
        data_dir.mkdir(parents=True, exist_ok=True)
        self.collections: dict[str, Collection] = {}
        self.aliases: dict[str, str] = {}
        self.keys: dict[int, Json] = {}
        self.version = version
        self.sets: dict[str, dict[str, dict[str, Json]]] = {kind: {} for kind in SET_KINDS}
        self.lock = threading.RLock()
        self._alter_seconds = alter_seconds
        self.schema_changes: dict[str, Json] | None = None
        self.skip_writes = False
        self.unfinished: dict[int, tuple[str, list[Json]]] = {}
        self.stopping = threading.Event()
        self.is_leader = True
        self.log = Log(data_dir / LOG_NAME)
        for header, parts in self.log.read():
            self._apply(header, parts)
        if self.has_sets:
            self._move_into_sets()

    def change_seconds(self, collection: Collection, added: Sequence[Field]) -> float:
        """How long a schema change takes that adds these fields, or none and only drops some."""
        if callable(self._alter_seconds):
            return self._alter_seconds(collection, added)
        return self._alter_seconds if collection.documents else 0.0

    @property
    def num_documents(self) -> int:
        """How many documents there are in all collections."""
        return sum(collection.num_documents for collection in list(self.collections.values()))

    @property
    def has_sets(self) -> bool:
        """Whether synonyms and curations are sets of the server, not a collection's own."""
        return self.version >= 30

    @property
    def set_kinds(self) -> tuple[str, ...]:
        """The kinds of sets that a collection may name."""
        return SET_KINDS if self.has_sets else ()

    def _move_into_sets(self) -> None:
        """Carry over the synonyms and overrides that a collection had of its own up to version 29."""
        for collection in self.collections.values():
            for kind, (set_kind, ending) in SET_NAMES.items():
                entries = dict(collection.curation[kind])
                if not entries:
                    continue
                name = f"{collection.name}_{ending}"
                self.change(["set", set_kind, name, list(entries.values())])
                self.change(["named_sets", collection.name, {set_kind: [name]}])
                for entry_id in entries:
                    self.change(["curation", collection.name, kind, entry_id, None])

    # ------------------------------------------------------------------ changes

    def change(self, header: list[Any], *parts: bytes) -> None:
        """Apply one record, log it and commit the log."""
        with self.lock:
            self._apply(header, parts)
            self.log.append(header, *parts)
            self.log.commit()

    def repeat(self, lines: Iterable[bytes]) -> None:
        """Apply encoded records that another store has logged."""
        with self.lock:
            for line in lines:
                self._apply(*decode(line))

    def _apply(self, header: list[Any], parts: tuple[bytes, ...]) -> None:
        kind, *arguments = header
        getattr(self, f"_apply_{kind}")(*arguments, *((parts,) if parts else ()))

    def _apply_collection(self, raw: Json, next_seq: int) -> None:
        schema = parse_schema(raw, raw["created_at"], self.set_kinds)
        self.collections[schema.name] = Collection(schema, next_seq)

    def _apply_drop(self, name: str) -> None:
        del self.collections[name]

    def _apply_fields(self, name: str, fields: list[Json]) -> None:
        self.collections[name].set_fields(parse_field(raw) for raw in fields)

    def _apply_metadata(self, name: str, metadata: Json) -> None:
        self.collections[name].schema.metadata = metadata

    def _apply_curation(self, name: str, kind: str, entry_id: str, body: Json | None) -> None:
        entries = self.collections[name].curation[kind]
        entries.pop(entry_id, None)
        if body is not None:
            entries[entry_id] = body

    def _apply_set(self, kind: str, name: str, items: list[Json] | None) -> None:
        self.sets[kind].pop(name, None)
        if items is not None:
            self.sets[kind][name] = {item["id"]: item for item in items}

    def _apply_named_sets(self, name: str, sets: dict[str, list[str]]) -> None:
        self.collections[name].schema.sets |= sets

    def _apply_alias(self, name: str, target: str | None) -> None:
        self.aliases.pop(name, None)
        if target is not None:
            self.aliases[name] = target

    def _apply_key(self, key_id: int, key: Json | None) -> None:
        self.keys.pop(key_id, None)
        if key is not None:
            self.keys[key_id] = key

    def _apply_alter(self, number: int, name: str, fields: list[Json]) -> None:
        self.unfinished[number] = (name, fields)

    def _apply_altered(self, number: int) -> None:
        del self.unfinished[number]

    def _apply_put(self, name: str, seq: int, put: list[Any], parts: tuple[bytes, ...] = (b"",)) -> None:
        document_id, layout, references = put
        values = tuple(value or None for value in parts[1::2])
        self.collections[name].put(
            Document(
                seq,
                document_id,
                layout=tuple(layout),
                segments=parts[::2],
                values=values,
                references=references,
            )
        )

    def _apply_next_seq(self, name: str, next_seq: int) -> None:
        self.collections[name].next_seq = next_seq

    def _apply_slot(self, name: str, seq: int, field: str, parts: tuple[bytes, ...] = ()) -> None:
        collection = self.collections[name]
        collection.put(collection.documents[seq].with_slot(field, parts[0] if parts else None))

    def _apply_refs(self, name: str, seq: int, references: Json | None) -> None:
        collection = self.collections[name]
        collection.put(collection.documents[seq].with_references(references))

    def _apply_delete(self, name: str, seq: int) -> None:
        self.collections[name].remove(seq)

    # ------------------------------------------------------------------ persistence

    def log_document(self, collection: Collection, document: Document) -> None:
        """Add a whole document to the pending records."""
        self.log.append(*_put_record(collection, document))

    def records(self) -> Iterator[bytes]:
        """The encoded records of the present state, nothing superfluous among them."""
        for collection in self.collections.values():
            name = collection.name
            yield encode(["collection", collection.schema.to_json(0, masked=False), collection.next_seq])
            for kind, entries in collection.curation.items():
                for entry_id, body in entries.items():
                    yield encode(["curation", name, kind, entry_id, body])
            for document in collection.snapshot():
                header, *parts = _put_record(collection, document)
                yield encode(header, *parts)
        for kind, sets in self.sets.items():
            for name, items in sets.items():
                yield encode(["set", kind, name, list(items.values())])
        for alias, target in self.aliases.items():
            yield encode(["alias", alias, target])
        for key_id, key in self.keys.items():
            yield encode(["key", key_id, key])
        for number, (name, fields) in self.unfinished.items():
            yield encode(["alter", number, name, fields])

    def compact(self) -> None:
        """Rewrite the log if much of it has become superfluous; nobody else may have it open."""
        needed = sum(len(collection.documents) + 1 for collection in self.collections.values())
        if self.log.records > 2 * needed + SUPERFLUOUS_RECORDS:
            self.log.replace(self.records())

    def write_snapshot(self, folder: Path) -> None:
        """A copy of the whole state that a sandbox can be started on."""
        folder.mkdir(parents=True, exist_ok=True)
        with self.lock:
            write_log(folder / LOG_NAME, self.records())

    def close(self) -> None:
        """Stop schema changes where they are (they are resumed at the next start) and close the log."""
        self.stopping.set()
        with self.lock:
            self.log.close()

    # ------------------------------------------------------------------ collections

    def find(self, name: str) -> Collection | None:
        """The collection of that name, or the one that an alias of that name points to."""
        found = self.collections.get(name)
        return found if found is not None else self.collections.get(self.aliases.get(name, ""))

    def get(self, name: str) -> Collection:
        """The same; ApiError 404 if there is none."""
        found = self.find(name)
        if found is None:
            raise collection_not_found()
        return found

    @contextmanager
    def gate(self, name: str) -> Iterator[Collection]:
        """The collection for one write request; waits while its schema is changed or another writes."""
        while True:
            collection = self.get(name)
            with collection.gate:
                # While this waited, the collection may have been dropped, and another made in its place.
                if self.find(name) is collection:
                    yield collection
                    return

    def check_sets(self, raw: Json) -> dict[str, list[str]]:
        """The names of sets in a schema or a change; ApiError 400 if malformed, 404 if a set is not there."""
        named = {kind: raw[kind] for kind in self.set_kinds if kind in raw}
        for kind, names in named.items():
            if not isinstance(names, list):
                raise ApiError(400, f"The `{kind}` value should be an array.")
            for name in names:
                if name not in self.sets[kind]:
                    raise ApiError(404, f"{kind.partition('_')[0].capitalize()} set `{name}` not found.")
        return named

    def check_references(self, name: str, fields: Iterable[Field]) -> None:
        """ApiError 400 if a field of the collection `name` refers to it; up to 29 that is allowed."""
        for spec in fields:
            if self.version >= 30 and spec.reference_target()[0] == name:
                raise ApiError(
                    400,
                    f"Referencing a field of the same collection is not allowed: `{spec.name}` field references "
                    f"`{name}` collection.",
                )

    def create_collection(self, raw: Json) -> Collection:
        """POST /collections; ApiError 409 if the name is taken, 404 if a set that it names is not there."""
        with self.lock:
            self.check_sets(raw)
            schema = parse_schema(raw, int(time.time()), self.set_kinds)
            self.check_references(schema.name, schema.fields.values())
            if schema.name in self.collections:
                raise ApiError(409, f"A collection with name `{schema.name}` already exists.")
            return self._create(schema)

    def clone_collection(self, source_name: str, name: object, *, with_documents: bool = False) -> Collection:
        """POST /collections?src_name=…: schema, synonyms and overrides (or the names of sets), without metadata."""
        with self.lock:
            source = self.collections.get(source_name)
            if source is None:
                raise ApiError(400, f"Collection with name `{source_name}` not found.")
            if not isinstance(name, str) or not name:
                raise ApiError(400, "Parameter `name` is required.")
            if name in self.collections:
                raise ApiError(400, f"Collection with name `{name}` already exists.")
            raw = source.schema.to_json(0, masked=False) | {"name": name, "metadata": None}
            clone = self._create(parse_schema(raw, int(time.time()), self.set_kinds))
            for kind, entries in source.curation.items():
                for entry_id, body in entries.items():
                    self.change(["curation", name, kind, entry_id, body])
            for document in source.snapshot() if with_documents else ():
                copied = document.with_seq(clone.next_seq)
                clone.put(copied)
                self.log_document(clone, copied)
            self.log.commit()
            return clone

    def _create(self, schema: Schema) -> Collection:
        self.change(["collection", schema.to_json(0, masked=False), 0])
        return self.collections[schema.name]

    def drop_collection(self, name: str) -> Json:
        """DELETE /collections/:name, through an alias too; the dropped schema."""
        if self.find(name) is None:
            raise ApiError(404, f"No collection with name `{name}` found.")
        with self.gate(name) as collection, self.lock:
            shown = collection.schema.to_json(collection.num_documents)
            self.change(["drop", collection.name])
            return shown

    # ------------------------------------------------------------------ aliases

    def set_alias(self, name: str, target: object) -> Json:
        """PUT /aliases/:name."""
        with self.lock:
            if not isinstance(target, str) or not target:
                raise ApiError(400, "Parameter `collection_name` is required.")
            if name in self.collections:
                raise ApiError(500, f"Name `{name}` conflicts with an existing collection name.")
            self.change(["alias", name, target])
            return {"collection_name": target, "name": name}

    def get_alias(self, name: str) -> Json:
        """GET /aliases/:name."""
        if name not in self.aliases:
            raise collection_not_found()
        return {"collection_name": self.aliases[name], "name": name}

    def delete_alias(self, name: str) -> Json:
        """DELETE /aliases/:name."""
        with self.lock:
            shown = self.get_alias(name)
            self.change(["alias", name, None])
            return shown


def _put_record(collection: Collection, document: Document) -> tuple[list[Any], *tuple[bytes, ...]]:
    parts = [document.segments[0]]
    for value, segment in zip(document.values, document.segments[1:], strict=True):
        parts += [value or b"", segment]
    contents = [document.id, document.layout, document.references]
    return (["put", collection.name, document.seq, contents], *parts)
