"""`include_fields` and `exclude_fields`, joins among them: which part of a document is shown."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Any, Literal

import orjson

from kai.sandbox.collection import Collection
from kai.sandbox.document import UNRESOLVED, Document
from kai.sandbox.errors import ApiError
from kai.sandbox.matching import referenced_seqs
from kai.sandbox.store import Store

Json = dict[str, Any]
Fate = Literal["whole", "in part", "hidden"]

JOIN = re.compile(r"\$([^\s(),]+)\(([^()]*)\)(?:\s+as\s+([^\s,]+))?")


class Projection:
    """Shows the documents of one collection as `include` and `exclude` ask.

    Both are comma-separated field names, `*` allowed in them; `include` may hold joins such as
    `$database_connections(alias)`, shown as an object under the collection's name (or after `as`).
    A joined document is the one that stands at the stored sequence number *now*, which after a recreated
    collection may be another one than was meant. ApiError 400 for a join that no reference supports.
    """

    def __init__(self, store: Store, collection: Collection, include: str, exclude: str) -> None:
        self.joins = [_Join(store, collection, *found.groups()) for found in JOIN.finditer(include)]
        self.include = _names(JOIN.sub("", include))
        self.exclude = [name for name in _names(JOIN.sub("", exclude)) if not name.startswith("$")]
        self.is_whole = not self.joins and not self.include and not self.exclude
        self._fates: dict[str, Fate] = {}

    def show(self, document: Document) -> bytes:
        """The document's JSON, keys sorted; ApiError 404 where an asynchronous reference leads nowhere."""
        if self.is_whole:
            return document.to_json()
        shown: Json = {}
        for name, value in document.parse().items():
            kept = self._prune(name, value)
            if kept is not None:
                shown[name] = kept
        for name, raw in document.slots().items():
            if self._fate(name) == "whole":
                shown[name] = orjson.Fragment(raw)
        for join in self.joins:
            joined = join.show(document)
            if joined is not None:
                shown[join.key] = joined
        return orjson.dumps(shown, option=orjson.OPT_SORT_KEYS)

    def _fate(self, path: str) -> Fate:
        """What becomes of what stands at a path, in this document as in every other."""
        if path not in self._fates:
            self._fates[path] = self._decided(path)
        return self._fates[path]

    def _decided(self, path: str) -> Fate:
        def is_inside(names: list[str]) -> bool:
            return any(name.startswith(f"{path}.") for name in names)

        is_included = not self.include or any(_covers(name, path) for name in self.include)
        if is_included and not is_inside(self.exclude) and not any(_covers(name, path) for name in self.exclude):
            return "whole"
        return "in part" if is_inside(self.include + self.exclude) else "hidden"

    def _prune(self, path: str, value: Any) -> Any:
        """The shown part of a value; None if nothing of it is."""
        fate = self._fate(path)
        if fate == "whole":
            return value
        if fate == "hidden":
            return None
        if isinstance(value, dict):
            parts = {key: self._prune(f"{path}.{key}", inner) for key, inner in value.items()}
            return {key: part for key, part in parts.items() if part is not None} or None
        if isinstance(value, list):
            return [self._prune(path, element) for element in value if isinstance(element, dict)]
        return None


class _Join:
    """One `$collection(fields)` of `include_fields`."""

    def __init__(self, store: Store, collection: Collection, name: str, fields: str, alias: str | None) -> None:
        target = store.find(name)
        self.fields = [spec for spec in collection.reference_fields if spec.reference_target()[0] == name]
        if target is None:
            raise ApiError(400, f"Referenced collection `{name}` in `include_fields` not found.")
        if not self.fields:
            raise ApiError(400, f"Failed to join on `{name}`: No reference field found.")
        self.key = alias or name
        self.target = target
        wanted = ",".join(part for part in _names(fields) if "strategy:" not in part.replace(" ", ""))
        self.projection = Projection(store, target, wanted, "")

    def show(self, document: Document) -> Any:
        """The joined document, a list of them for an array of references, None where there is none."""
        found: list[Any] = []
        is_array = False
        for spec in self.fields:
            is_array |= isinstance((document.references or {}).get(spec.name), list)
            for seq in referenced_seqs(document, spec.name):
                joined = self.target.documents.get(seq)
                if joined is None and (seq == UNRESOLVED or not spec.async_reference):
                    continue
                if joined is None:
                    raise ApiError(
                        404,
                        f"Referenced collection `{self.target.name}`: Could not locate the JSON document for "
                        f"sequence ID: {seq}",
                    )
                found.append(orjson.Fragment(self.projection.show(joined)))
        if is_array or len(found) > 1:
            return found
        return found[0] if found else None


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _covers(name: str, path: str) -> bool:
    """Whether a listed name means this path: itself, its parent, or a pattern of either."""
    if name == path or path.startswith(f"{name}."):
        return True
    return "*" in name and fnmatchcase(path, name)
