"""Synonyms and curations: a collection's own up to version 29, items of the server's sets from 30 on.

Up to 29 a curation is called an override, and both belong to one collection. From 30 on they stand in sets
that collections name; a set may be shared, outlives the collections that name it, and may be deleted while
they do.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from kai.sandbox.collection import Collection
from kai.sandbox.errors import ApiError
from kai.sandbox.requests import Call, json_response, unsigned
from kai.sandbox.store import Store

Json = dict[str, Any]

SYNONYM_DEFAULTS: Json = {"root": ""}
CURATION_DEFAULTS: Json = {
    "excludes": [],
    "filter_curated_hits": False,
    "includes": [],
    "remove_matched_tokens": False,
    "stop_processing": True,
}
DEFAULTS = {
    "synonyms": SYNONYM_DEFAULTS,
    "overrides": CURATION_DEFAULTS,
    "synonym_sets": SYNONYM_DEFAULTS,
    "curation_sets": CURATION_DEFAULTS,
}
"""Kind -> what an entry is shown with where it does not say."""


def curations_of(store: Store, collection: Collection) -> list[Json]:
    """The curations (or overrides) that a search of the collection is under."""
    if not store.has_sets:
        return list(collection.curation["overrides"].values())
    sets = store.sets["curation_sets"]
    return [item for name in collection.schema.sets["curation_sets"] for item in sets.get(name, {}).values()]


def synonyms_of(store: Store, collection: Collection) -> list[Json]:
    """The synonyms that a keyword search of the collection is under; ApiError 404 if a named set is gone."""
    if not store.has_sets:
        return list(collection.curation["synonyms"].values())
    return [
        item for name in collection.schema.sets["synonym_sets"] for item in _set(store, "synonym_sets", name).values()
    ]


# ---------------------------------------------------------------------- up to 29: a collection's own


def list_own(kind: str, call: Call) -> Response:
    """GET /collections/:name/synonyms, …/overrides: all, or as many as `limit` from `offset` on"""
    found = list(call.store.get(call.collection).curation[kind].values())
    limit, offset = unsigned(call.params, "limit", 0), unsigned(call.params, "offset", 0)
    if offset and offset >= len(found):
        raise ApiError(400, "Invalid offset param.")
    shown = found[offset : offset + limit if limit else None]
    return json_response({kind: [DEFAULTS[kind] | entry for entry in shown]})


def get_own(kind: str, call: Call) -> Response:
    """GET /collections/:name/synonyms/:id, …/overrides/:id"""
    return json_response(DEFAULTS[kind] | _own_entry(kind, call))


def put_own(kind: str, call: Call) -> Response:
    """PUT /collections/:name/synonyms/:id, …/overrides/:id"""
    entry_id = call.path["entry_id"]
    body = call.json()
    if kind == "synonyms" and not isinstance(body.get("synonyms"), list):
        raise ApiError(400, "Could not find an array of `synonyms`.")
    if kind == "overrides" and not isinstance(body.get("rule"), dict):
        raise ApiError(400, "Missing `rule` definition.")
    collection = call.store.get(call.collection)
    entry = body | {"id": entry_id}
    call.store.change(["curation", collection.name, kind, entry_id, entry])
    return json_response(entry)


def delete_own(kind: str, call: Call) -> Response:
    """DELETE /collections/:name/synonyms/:id, …/overrides/:id"""
    entry = _own_entry(kind, call)
    collection = call.store.get(call.collection)
    call.store.change(["curation", collection.name, kind, entry["id"], None])
    return json_response({"id": entry["id"]})


def _own_entry(kind: str, call: Call) -> Json:
    return _entry(call.store.get(call.collection).curation[kind], call)


def _entry(entries: dict[str, Json], call: Call) -> Json:
    if call.path["entry_id"] not in entries:
        raise ApiError(404, "Could not find that `id`.")
    return entries[call.path["entry_id"]]


# ---------------------------------------------------------------------- from 30 on: sets of the server


def list_sets(kind: str, call: Call) -> Response:
    """GET /synonym_sets, /curation_sets"""
    return json_response([_shown(call.store, kind, name) for name in sorted(call.store.sets[kind])])


def get_set(kind: str, call: Call) -> Response:
    """GET /synonym_sets/:name, /curation_sets/:name"""
    return json_response(_shown(call.store, kind, call.path["set_name"]))


def put_set(kind: str, call: Call) -> Response:
    """PUT /synonym_sets/:name, /curation_sets/:name: in the place of the one that was there"""
    items = call.json().get("items")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ApiError(400, "Missing or invalid 'items' field")
    for item in items:
        _check_item(kind, item)
        if not isinstance(item.get("id"), str):
            raise ApiError(400, "Missing or invalid 'id' field")
    call.store.change(["set", kind, call.path["set_name"], items])
    return get_set(kind, call)


def delete_set(kind: str, call: Call) -> Response:
    """DELETE /synonym_sets/:name, /curation_sets/:name; collections may go on naming it"""
    name = call.path["set_name"]
    _set(call.store, kind, name)
    call.store.change(["set", kind, name, None])
    return json_response({"name": name})


def list_items(kind: str, call: Call) -> Response:
    """GET /synonym_sets/:name/items, /curation_sets/:name/items"""
    return json_response(_shown(call.store, kind, call.path["set_name"])["items"])


def get_item(kind: str, call: Call) -> Response:
    """GET /synonym_sets/:name/items/:id, /curation_sets/:name/items/:id"""
    return json_response(DEFAULTS[kind] | _entry(_set(call.store, kind, call.path["set_name"]), call))


def put_item(kind: str, call: Call) -> Response:
    """PUT /synonym_sets/:name/items/:id, /curation_sets/:name/items/:id"""
    item = call.json() | {"id": call.path["entry_id"]}
    _check_item(kind, item)
    _change_items(kind, call, {item["id"]: item})
    return json_response(item)


def delete_item(kind: str, call: Call) -> Response:
    """DELETE /synonym_sets/:name/items/:id, /curation_sets/:name/items/:id"""
    entry_id = _entry(_set(call.store, kind, call.path["set_name"]), call)["id"]
    _change_items(kind, call, {entry_id: None})
    return json_response({"id": entry_id})


def _change_items(kind: str, call: Call, changes: dict[str, Json | None]) -> None:
    with call.store.lock:
        name = call.path["set_name"]
        items = _set(call.store, kind, name) | changes
        call.store.change(["set", kind, name, [item for item in items.values() if item is not None]])


def _set(store: Store, kind: str, name: str) -> dict[str, Json]:
    found = store.sets[kind].get(name)
    if found is None:
        raise ApiError(404, f"{kind.partition('_')[0].capitalize()} index not found")
    return found


def _shown(store: Store, kind: str, name: str) -> Json:
    items = list(_set(store, kind, name).values())
    if kind == "curation_sets":
        # Curations are kept by id, synonyms in the order in which they came.
        items.sort(key=lambda item: str(item["id"]))
    return {"items": [DEFAULTS[kind] | item for item in items], "name": name}


def _check_item(kind: str, item: Json) -> None:
    if kind == "synonym_sets":
        if not isinstance(item.get("synonyms"), list):
            raise ApiError(400, "Could not find an array of `synonyms`")
        return
    rule = item.get("rule")
    if not isinstance(rule, dict):
        raise ApiError(400, "Missing `rule` definition.")
    if "tags" not in rule and not {"query", "match"} <= set(rule):
        raise ApiError(400, "The `rule` definition must contain either a `tags` or a `query` and `match`.")
