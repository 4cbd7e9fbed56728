"""API keys: which of them may do what."""

from __future__ import annotations

import hmac
import re
import secrets
import time
from typing import Any

from kai.sandbox.errors import ApiError
from kai.sandbox.store import Store

Json = dict[str, Any]

NO_EXPIRY = 64723363199
"""`expires_at` of a key that does not expire, in Unix seconds."""


def is_allowed(store: Store, admin_key: str, key: str, action: str, collections: list[str]) -> bool:
    """Whether `key` may do `action` (e.g. `documents:search`) in all of `collections`.

    The admin key may do everything; other keys what their actions and collection patterns say, until they
    expire.
    """
    if hmac.compare_digest(key.encode(), admin_key.encode()):
        return True
    found = [entry for entry in store.keys.values() if entry["value"] == key]
    if not key or not found or found[0]["expires_at"] < time.time():
        return False
    entry = found[0]
    family = action.partition(":")[0]
    if not {"*", action, f"{family}:*"} & set(entry["actions"]):
        return False
    return all(_covers(entry["collections"], name) for name in collections)


def _covers(patterns: list[str], name: str) -> bool:
    return any(pattern == "*" or re.fullmatch(pattern, name) for pattern in patterns)


def create_key(store: Store, body: Json) -> Json:
    """POST /keys; the answer is the only one that shows the whole key."""
    for name in ("actions", "collections"):
        value = body.get(name)
        if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
            raise ApiError(400, f"Wrong format for `{name}`. It should be an array of string.")
    if not isinstance(body.get("description"), str):
        raise ApiError(400, "Could not find a `description` key.")
    with store.lock:
        key_id = max(store.keys, default=-1) + 1
        key = {
            "actions": body["actions"],
            "autodelete": bool(body.get("autodelete", False)),
            "collections": body["collections"],
            "description": body["description"],
            "expires_at": int(body.get("expires_at", NO_EXPIRY)),
            "id": key_id,
            "value": body.get("value") or secrets.token_urlsafe(24),
        }
        store.change(["key", key_id, key])
    return key


def list_keys(store: Store) -> list[Json]:
    """GET /keys: every key, of its value only the first four characters."""
    return [_shown(key) for key in store.keys.values()]


def get_key(store: Store, key_id: str) -> Json:
    """GET /keys/:id."""
    key = store.keys.get(int(key_id)) if key_id.isdigit() else None
    if key is None:
        raise ApiError(404, "Not found.")
    return _shown(key)


def delete_key(store: Store, key_id: str) -> Json:
    """DELETE /keys/:id."""
    with store.lock:
        key = get_key(store, key_id)
        store.change(["key", key["id"], None])
        return {"id": key["id"]}


def _shown(key: Json) -> Json:
    shown = {name: value for name, value in key.items() if name != "value"}
    return shown | {"value_prefix": key["value"][:4]}
