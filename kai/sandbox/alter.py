"""Schema changes of existing collections: PATCH /collections/:name.

A real server needs seconds to hours for one, and most of its behaviour in that time matters to a
migration. With `alter_seconds` a change of a collection that holds documents takes that long here too; it
is in the log before it begins, so that it survives a kill and is carried out again at the next start.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import orjson

from kai.sandbox.collection import Collection
from kai.sandbox.documents import check_attributes
from kai.sandbox.errors import ApiError
from kai.sandbox.schema import Field, Schema, parse_field
from kai.sandbox.store import Store

Json = dict[str, Any]

STEPS = 20
"""How many times a slow change reports its progress."""

RECOVERY_SHARE = 0.25
"""Share of its own time that an interrupted change shows the new field, and then the old schema."""


def alter(store: Store, name: str, payload: Json) -> Json:
    """Change `fields`, `metadata` and, from 30 on, the sets; the answer of PATCH, when the change is complete.

    ApiError 400 for a payload that cannot be applied or does not fit the stored documents, 404 for an
    unknown collection or set, 422 while another change of the same collection is running.
    """
    collection = store.get(name)
    if not payload:
        raise ApiError(400, "Alter payload is empty.")
    if not set(payload) <= {"fields", "metadata", *store.set_kinds}:
        known = "`fields`, `metadata` and `synonym_sets`" if store.has_sets else "`fields` and `metadata`"
        raise ApiError(400, f"Only {known} can be updated at the moment.")
    sets = store.check_sets(payload)
    answer: Json = {}
    if "fields" in payload:
        answer["fields"] = _alter_fields(store, collection, payload["fields"])
    if "metadata" in payload:
        if not isinstance(payload["metadata"], dict):
            raise ApiError(400, "The `metadata` value should be an object.")
        store.change(["metadata", collection.name, payload["metadata"]])
        answer["metadata"] = payload["metadata"]
    if sets:
        store.change(["named_sets", collection.name, sets])
    return answer | sets


def _alter_fields(store: Store, collection: Collection, raw: Any) -> list[Json]:
    with store.lock:
        if collection.altering:
            raise ApiError(422, "Another collection update operation is in progress.")
        store.check_references(collection.name, plan_change(collection.schema, raw).added)
        collection.altering = True
    try:
        with collection.gate:
            # Planned once more: an import that held the gate may have found new nested fields.
            change = plan_change(collection.schema, raw)
            with store.lock:
                number = max(store.unfinished, default=0) + 1
                store.change(["alter", number, collection.name, raw])
            _run(store, collection, number, change, list(collection.fields.values()))
    finally:
        collection.altering = False
    return change.answer


@dataclass
class FieldChange:
    """What a change of `fields` comes to.

    Attributes:
        fields: all fields after it.
        added: those to be validated and indexed, a field dropped and added again among them.
        answer: the `fields` of the answer.
    """

    fields: list[Field]
    added: list[Field]
    answer: list[Json]


def plan_change(schema: Schema, raw: Any) -> FieldChange:
    """The change that `fields` of a PATCH asks for; ApiError 400 for an invalid one."""
    if not isinstance(raw, list) or not raw:
        raise ApiError(
            400,
            "The `fields` value should be an array of objects containing the field `name` and other properties.",
        )
    fields = dict(schema.fields)
    added: list[Field] = []
    answer: list[Json] = []
    for entry in raw:
        name = entry.get("name") if isinstance(entry, dict) else None
        if name == "id":
            raise ApiError(400, "Field `id` cannot be altered.")
        if isinstance(entry, dict) and entry.get("drop") is True:
            if name not in fields:
                raise ApiError(400, f"Field `{name}` is not part of collection schema.")
            # With an object go the fields that were found inside it.
            fields = {key: spec for key, spec in fields.items() if key != name and not key.startswith(f"{name}.")}
            answer.append({"drop": True, "embed": None, "name": name})
            continue
        spec = parse_field(entry)
        if spec.name in fields:
            raise ApiError(
                400,
                f"Field `{spec.name}` is already part of the schema: To change this field, drop it first "
                "before adding it back to the schema.",
            )
        fields[spec.name] = spec
        added.append(spec)
        answer.append(spec.to_alter_json())
    return FieldChange(list(fields.values()), added, answer)


def _run(store: Store, collection: Collection, number: int, change: FieldChange, old: list[Field]) -> None:
    """Validate, index, make it permanent, or go back to the `old` fields if stored documents do not fit.

    The caller holds the gate; the change is in the log.
    """
    total = len(collection.documents)
    progress = _not_begun(collection.name)
    seconds = store.change_seconds(collection, change.added)
    with store.lock:
        store.schema_changes = (store.schema_changes or {}) | {collection.name: progress}
    try:
        misfit = _misfit(collection, change.added)
        if misfit is None and change.added:
            with store.lock:
                # Shown at once, usable only at the end; what is only dropped is there until the end.
                collection.unready = {spec.name for spec in change.added}
                collection.set_fields(change.fields)
        _wait(store, seconds / 2, progress, "validated_docs", total)
        if misfit is not None:
            raise misfit
        _wait(store, seconds / 2, progress, "altered_docs", total)
    except ApiError:
        _finish(store, collection, number, old)
        raise
    if store.stopping.is_set():
        # Left in the log as unfinished: the next start carries it out.
        raise ApiError(503, "Not Ready or Lagging")
    _finish(store, collection, number, change.fields)


def _finish(store: Store, collection: Collection, number: int, fields: list[Field]) -> None:
    with store.lock:
        shown = [spec.to_json(masked=False) for spec in fields]
        store.change(["fields", collection.name, shown])
        store.change(["altered", number])
        collection.unready = set()
        (store.schema_changes or {}).pop(collection.name, None)


def _wait(store: Store, seconds: float, progress: Json, counter: str, total: int) -> None:
    for step in range(1, STEPS + 1):
        if seconds and store.stopping.wait(seconds / STEPS):
            return
        progress[counter] = total * step // STEPS


def _not_begun(name: str) -> Json:
    return {"collection": name, "validated_docs": 0, "altered_docs": 0}


def show_alters(store: Store) -> None:
    """Have a store that only repeats the changes of another list those that are not completed."""
    if store.unfinished or store.schema_changes:
        store.schema_changes = {name: _not_begun(name) for name, _ in store.unfinished.values()}


def _misfit(collection: Collection, added: list[Field]) -> ApiError | None:
    """The first stored document that does not fit the added fields, as the error to answer with."""
    if not added:
        return None
    schema = Schema(collection.name, {spec.name: spec for spec in added}, 0)
    slots = [spec.name for spec in added if spec.name in collection.layout]
    only_slots = len(slots) == len(added)
    for document in collection.snapshot():
        values = {} if only_slots else dict(document.attributes)
        for name in slots:
            raw = document.raw(name)
            if raw is not None:
                values[name] = orjson.loads(raw)
        for spec in added:
            if spec.name in values or spec.optional or spec.is_pattern or spec.embed is not None or "." in spec.name:
                continue
            return ApiError(
                400,
                f"Field `{spec.name}` has been declared in the schema, but is not found in the documents already "
                "present in the collection. If you still want to add this field, set it as `optional: true`.",
            )
        try:
            check_attributes(values, schema, "reject", partial=False)
        except ApiError as error:
            return ApiError(
                400,
                "Schema change is incompatible with the type of documents already stored in this "
                f"collection. error: {error.message}",
            )
    return None


def longest_unfinished(store: Store) -> float:
    """The seconds that the longest of the changes takes that a killed server left unfinished."""
    names = [name for name, _ in store.unfinished.values() if name in store.collections]
    return max((store.change_seconds(store.collections[name], []) for name in names), default=0.0)


def resume_alters(store: Store, *, delay: float = 0.0) -> list[threading.Thread]:
    """Carry out the changes that a killed server left unfinished; one running thread for each.

    They begin after `delay` seconds. Call it before requests are served: the collections are closed for
    writing from here on.
    """
    threads: list[threading.Thread] = []
    for number, (name, _) in list(store.unfinished.items()):
        collection = store.collections.get(name)
        if collection is None:
            store.change(["altered", number])
            continue
        store.schema_changes = (store.schema_changes or {}) | {name: _not_begun(name)}
        collection.altering = True
        collection.gate.acquire()
        thread = threading.Thread(target=_resume, args=(store, collection, number, delay), daemon=True)
        thread.start()
        threads.append(thread)
    return threads


def _resume(store: Store, collection: Collection, number: int, delay: float) -> None:
    raw = store.unfinished[number][1]
    old = list(collection.fields.values())
    try:
        if delay and store.stopping.wait(delay):
            return
        change = plan_change(collection.schema, raw)
        dropped = {entry["name"] for entry in raw}
        pause = store.change_seconds(collection, change.added) * RECOVERY_SHARE
        # A recovering server shows the field, then does not, then does again.
        collection.unready = dropped
        for shown in (change.fields, [spec for spec in old if spec.name not in dropped]):
            with store.lock:
                collection.set_fields(shown)
            if pause and store.stopping.wait(pause):
                return
        _run(store, collection, number, change, old)
    except ApiError:
        with store.lock:
            if number in store.unfinished and not store.stopping.is_set():
                _finish(store, collection, number, old)
    finally:
        collection.altering = False
        collection.gate.release()
