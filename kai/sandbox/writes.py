"""Writing documents: single ones, imports, deletions, updates by filter."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from kai.sandbox.collection import Collection
from kai.sandbox.document import Document, raw_array
from kai.sandbox.documents import (
    DIRTY_VALUES,
    check_attributes,
    default_dirty_values,
    discover_fields,
    fit,
)
from kai.sandbox.errors import ApiError, document_not_found
from kai.sandbox.jsonerrors import bad_json
from kai.sandbox.references import Waiting, delete_cascading, resolve_waiting, take_references, waiting_for
from kai.sandbox.schema import nested_field
from kai.sandbox.store import Store

Json = dict[str, Any]

ACTIONS = ("create", "update", "upsert", "emplace")
BATCH_LINES = 100
"""Import lines written under one hold of the store's lock, so that other writes get their turn."""


class Writer:
    """Writes to one collection; the caller holds its gate.

    `action` is one of `ACTIONS`, `dirty_values` one of `DIRTY_VALUES` or None for the schema's default.
    ApiError 400 for an unknown action.
    """

    def __init__(self, store: Store, collection: Collection, action: str, dirty_values: str | None = None) -> None:
        if action not in ACTIONS:
            raise ApiError(400, "Parameter `action` must be a create|update|upsert.")
        if dirty_values is not None and dirty_values not in DIRTY_VALUES:
            raise ApiError(400, "Parameter `dirty_values` is invalid.")
        self.store = store
        self.collection = collection
        self.action = action
        self.dirty = dirty_values or default_dirty_values(collection.schema)

    def write(self, line: bytes) -> Document:
        """Store one document given as JSON; logged, not yet committed. ApiError if it is refused."""
        try:
            attributes = orjson.loads(line)
        except orjson.JSONDecodeError:
            raise ApiError(400, bad_json(line)) from None
        if not isinstance(attributes, dict):
            raise ApiError(400, "Bad JSON: not a proper document.")
        return self.write_attributes(attributes, line)

    def write_attributes(self, attributes: Json, line: bytes = b"") -> Document:
        """The same for parsed attributes; `line`, where given, is the JSON they were parsed from."""
        stored = self._stored(attributes)
        if stored is not None and self.action == "create":
            raise ApiError(409, f"A document with id {stored.id} already exists.")
        is_merge = stored is not None and self.action in ("update", "emplace")
        if stored is not None and is_merge and len(attributes) == 2:
            changed = self._write_slot(stored, attributes, line)
            if changed is not None:
                return changed
        references = take_references(
            self.store,
            self.collection,
            attributes,
            stored.references if stored is not None else None,
            is_new=stored is None,
        )
        schema = self.collection.schema
        values: dict[str, bytes] = {}
        fitted = check_attributes(attributes, schema, self.dirty, partial=is_merge)
        slots = {name: fitted.pop(name) for name in self.collection.layout if name in fitted}
        for name, value in slots.items():
            values[name] = _raw(line, name, value, attributes[name])
        if stored is not None and is_merge:
            removed = {name for name, value in attributes.items() if value is None}
            moved = stored.with_layout(self.collection.layout)
            kept = {name: raw for name, raw in moved.slots().items() if name not in removed}
            values = kept | values
            merged = _merge_patch(moved.attributes, dict.fromkeys(removed) | fitted)
        else:
            merged = fitted
        seq = stored.seq if stored is not None else self.collection.next_seq
        while "id" not in merged:
            # The number serves as the id, unless a document was given that id by hand.
            if str(seq) in self.collection.ids:
                seq += 1
            else:
                merged["id"] = str(seq)
        document = Document.build(seq, merged, values, self.collection.layout, references)
        waiting = [] if stored is not None else self._waiting_for(document)
        self._discover(merged, slots)
        self.collection.put(document)
        self.store.log_document(self.collection, document)
        resolve_waiting(self.store, waiting, document)
        return document

    def _waiting_for(self, document: Document) -> list[Waiting]:
        try:
            return waiting_for(self.store, self.collection, document)
        except ApiError:
            # As on the server, which indexes the document, then refuses it and leaves number and count as they are.
            self.collection.refused += 1
            self.store.change(["next_seq", self.collection.name, document.seq + 1])
            raise

    def import_lines(self, body: bytes, *, return_id: bool, return_doc: bool) -> bytes:
        """Write every line of a JSON Lines body; one answer a line, blank lines skipped."""
        lines = [line for line in body.split(b"\n") if line.strip()]
        answers: list[bytes] = []
        for start in range(0, len(lines), BATCH_LINES):
            with self.store.lock:
                batch = lines[start : start + BATCH_LINES]
                answers.extend(self._import_line(line, return_id, return_doc) for line in batch)
                # Before the answer, and before other requests can see more than the disk holds for long.
                self.store.log.commit()
        return b"\n".join(answers)

    def _import_line(self, line: bytes, return_id: bool, return_doc: bool) -> bytes:
        try:
            document = self.write(line)
        except ApiError as error:
            answer: Json = {"code": error.status, "error": error.message, "success": False}
            if return_id:
                answer["id"] = _sent_id(line)
            if return_doc:
                answer["document"] = line.decode(errors="replace")
            return orjson.dumps(answer, option=orjson.OPT_SORT_KEYS)
        if not return_id and not return_doc:
            return b'{"success":true}'
        answer = {"success": True}
        if return_id:
            answer["id"] = document.id
        if return_doc:
            answer["document"] = orjson.Fragment(document.to_internal_json())
        return orjson.dumps(answer, option=orjson.OPT_SORT_KEYS)

    def _stored(self, attributes: Json) -> Document | None:
        document_id = attributes.get("id")
        if document_id is None:
            if self.action == "update":
                raise ApiError(400, "For update, the `id` key must be provided.")
            return None
        if not isinstance(document_id, str):
            raise ApiError(400, "Document's `id` field should be a string.")
        if not document_id:
            raise ApiError(400, "The `id` should not be empty.")
        stored = self.collection.get(document_id)
        if stored is None and self.action == "update":
            raise document_not_found(document_id)
        return stored

    def _write_slot(self, stored: Document, attributes: Json, line: bytes) -> Document | None:
        """The shortcut for `{"id", "<vector>"}`, the one update that comes by the hundred thousand."""
        name = next(key for key in attributes if key != "id")
        value = attributes[name]
        if name not in self.collection.layout or not isinstance(value, list):
            return None
        spec = self.collection.fields.get(name)
        fitted = value if spec is None else fit(value, spec, self.dirty)
        if spec is not None and not spec.store:
            return None
        # A value that fitted as it was is an array of numbers; outside the schema it may be anything.
        is_numbers = spec is not None and fitted is value
        raw = raw_array(line, name, value) if line and is_numbers else _raw(line, name, fitted, value)
        changed = stored.with_slot(name, raw)
        self.collection.put(changed)
        self.store.log.append(["slot", self.collection.name, stored.seq, name], raw)
        return changed

    def _discover(self, attributes: Json, slots: Json) -> None:
        found = discover_fields(attributes, self.collection.schema)
        if any(spec.is_pattern for spec in self.collection.fields.values()):
            missing = [name for name in slots if name not in self.collection.fields]
            found += [nested_field(name, "float[]") for name in missing]
        if found:
            fields = [*self.collection.fields.values(), *found]
            self.store.change(["fields", self.collection.name, [spec.to_json(masked=False) for spec in fields]])


def delete_documents(store: Store, collection: Collection, documents: Iterable[Document]) -> int:
    """Delete documents with everything that refers to them; how many of these were still there."""
    with store.lock:
        removed = [delete_cascading(store, collection, document.seq) for document in documents]
        store.log.commit()
    return sum(document is not None for document in removed)


def _raw(line: bytes, name: str, value: Any, sent: Any) -> bytes:
    """The JSON of a slot's value, cut out of the line where it is there as it was sent."""
    # Only numbers may be cut out: a string could hold the bracket that is looked for.
    if line and value is sent and isinstance(value, list) and set(map(type, value)) <= {float, int}:
        return raw_array(line, name, value)
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _sent_id(line: bytes) -> str:
    try:
        attributes = orjson.loads(line)
    except orjson.JSONDecodeError:
        return ""
    sent = attributes.get("id", "") if isinstance(attributes, dict) else ""
    return sent if isinstance(sent, str) else ""


def _merge_patch(target: Json, patch: Json) -> Json:
    """RFC 7386: objects are merged, null removes."""
    merged = dict(target)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            inner = merged.get(name)
            merged[name] = _merge_patch(inner if isinstance(inner, dict) else {}, value)
        else:
            merged[name] = value
    return merged
