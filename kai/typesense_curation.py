"""Synonyms and curations: what Typesense searches with beside the documents.

Up to version 29 a collection has synonyms and overrides of its own, which come and go with it. From 30 on there
are synonym sets and curation sets, which belong to the server: a collection's schema names those that it uses,
others may name the same ones, and they outlive it. Which of the two it is, the server's answers say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, get_args
from urllib.parse import quote

import orjson

from kai.typesense_answers import Schema, TypesenseError, read_json, read_list, read_object
from kai.typesense_connection import Connection

Part = dict[str, Any]
"""One synonym or override (with its `id`), or one set: its `name` and its `items`."""
PartKind = Literal["synonyms", "overrides"]
"""What a collection has of its own, up to version 29."""
SetKind = Literal["synonym_sets", "curation_sets"]
"""What a collection's schema names, from version 30 on."""

PART_KINDS: Final[tuple[PartKind, ...]] = get_args(PartKind)
SET_KINDS: Final[tuple[SetKind, ...]] = get_args(SetKind)
ITEMS_OF: Final[dict[SetKind, PartKind]] = {"synonym_sets": "synonyms", "curation_sets": "overrides"}
"""What the items of a set are called where they belong to a collection."""

MADE_BY_UPGRADE: Final[dict[SetKind, str]] = {
    "synonym_sets": "{}_synonyms_index",
    "curation_sets": "{}_curations_index",
}
"""What an upgrade to version 30 calls the sets that it makes of what a collection had of its own."""
IN_WORDS: Final[dict[SetKind, str]] = {"synonym_sets": "synonym set", "curation_sets": "curation set"}
_TAKEN_BY_29: Final[dict[PartKind, frozenset[str]]] = {
    "synonyms": frozenset({"id", "root", "synonyms", "locale", "symbols_to_index"}),
    "overrides": frozenset(
        {
            "id", "rule", "includes", "excludes", "filter_by", "sort_by", "replace_query", "remove_matched_tokens",
            "filter_curated_hits", "stop_processing", "effective_from_ts", "effective_to_ts", "metadata",
        }
    ),
}  # fmt: skip
"""Attributes that version 29 knows; it would drop others without a word."""
_RULES_TAKEN_BY_29: Final = frozenset({"query", "match", "filter_by", "tags"})
_DEFAULTS: Final[dict[str, Any]] = {"stop_processing": True}
"""What an item has where nothing is said, beside what is empty or false."""
_PARTS_AT_ONCE: Final = 250


@dataclass(frozen=True, slots=True)
class Curation:
    """All that belongs to one collection: parts of its own, or the sets that it names, with their items."""

    synonyms: tuple[Part, ...] = ()
    overrides: tuple[Part, ...] = ()
    synonym_sets: tuple[Part, ...] = ()
    curation_sets: tuple[Part, ...] = ()

    def of(self, kind: PartKind | SetKind) -> tuple[Part, ...]:
        """The parts or sets of a kind."""
        found: tuple[Part, ...] = getattr(self, kind)
        return found

    @classmethod
    def made_of(cls, kinds: Mapping[str, list[Part]]) -> Curation:
        """From lists by kind; a kind that is not among them is empty."""
        return cls(**{each.name: tuple(kinds.get(each.name, ())) for each in fields(cls)})


NOTHING: Final = Curation()


def names_sets(schema: Mapping[str, Any]) -> bool:
    """Whether a collection's schema, as a server gave it, has room for names of sets: then it has no parts."""
    return any(kind in schema for kind in SET_KINDS)


def set_names(schema: Mapping[str, Any]) -> dict[SetKind, list[str]]:
    """The names of the sets that a collection uses, in their order: the first curation that fits may be the last."""
    return {kind: [str(name) for name in schema.get(kind) or ()] for kind in SET_KINDS}


def unknown_to_29(kind: SetKind, item: Part) -> list[str]:
    """The attributes of a set's item that version 29 would not take."""
    unknown = item.keys() - _TAKEN_BY_29[ITEMS_OF[kind]] | (item.get("rule") or {}).keys() - _RULES_TAKEN_BY_29
    return sorted(unknown)


def same_items(one: Part, other: Part) -> bool:
    """Whether two sets hold the same items, but for what says nothing: a server adds some of that by itself."""
    return _items_by_id(one) == _items_by_id(other)


def _items_by_id(part: Part) -> dict[str, Part]:
    return {
        str(item.get("id")): {key: value for key, value in item.items() if _says(key, value)} for item in part["items"]
    }


def _says(attribute: str, value: Any) -> bool:
    return bool(value != _DEFAULTS[attribute] if attribute in _DEFAULTS else value)


class CurationCalls(Connection):
    """The calls for synonyms and curations, of both kinds of server."""

    def has_sets(self) -> bool:
        """Whether synonyms and curations are the server's, in sets; a key that may not see them tells as well."""
        try:
            self.repeat(lambda: read_json(self.http.get("/synonym_sets")))
        except TypesenseError as error:
            if error.missing:
                return False
            if not error.unauthorized:
                raise
        return True

    def parts(self, name: str, kind: PartKind) -> list[Part]:
        """The collection's own synonyms or overrides, all of them: the listing is asked for in pages."""
        items: dict[str, Part] = {}
        url = f"/collections/{_path(name)}/{kind}"

        def ask() -> list[Part]:
            answer = read_json(self.http.get(url, params={"limit": _PARTS_AT_ONCE, "offset": len(items)}))
            return [{**item, "id": str(item["id"])} for item in read_list(answer[kind])]

        while True:
            try:
                page = self.repeat(ask)
            except TypesenseError as error:
                # The server refuses an offset at the very end: there are as many as whole pages hold.
                if items and error.status == 400 and "offset" in str(error):
                    return list(items.values())
                raise
            before = len(items)
            for item in page:
                items.setdefault(item["id"], item)
            if len(page) != _PARTS_AT_ONCE or len(items) == before:
                return list(items.values())

    def put_part(self, name: str, kind: PartKind, part: Part) -> None:
        """Create or replace one synonym or override of a collection, given as the listing shows it."""
        body = orjson.dumps({key: value for key, value in part.items() if key != "id"})
        url = f"/collections/{_path(name)}/{kind}/{_path(str(part['id']))}"
        self.repeat(lambda: read_json(self.http.put(url, content=body)))

    def delete_part(self, name: str, kind: PartKind, part_id: str) -> None:
        """Delete one synonym or override of a collection; one that is not there is no error."""
        url = f"/collections/{_path(name)}/{kind}/{_path(part_id)}"
        try:
            self.repeat(lambda: read_json(self.http.delete(url)))
        except TypesenseError as error:
            if not error.missing:
                raise

    def set_of_name(self, kind: SetKind, name: str) -> Part | None:
        """One set of the server, name and items; None if there is none of this name."""
        try:
            found = self.repeat(lambda: read_object(read_json(self.http.get(f"/{kind}/{_path(name)}"))))
        except TypesenseError as error:
            if error.missing:
                return None
            raise
        return {"name": name, "items": [read_object(item) for item in read_list(found.get("items"))]}

    def put_set(self, kind: SetKind, part: Part) -> None:
        """Create or replace one set of the server, given as `set_of_name` shows it."""
        body = orjson.dumps({"items": part["items"]})
        self.repeat(lambda: read_json(self.http.put(f"/{kind}/{_path(str(part['name']))}", content=body)))

    def use_sets(self, name: str, sets: Mapping[SetKind, list[str]]) -> Schema:
        """Let a collection name these sets, and no others.

        Raises:
            TypesenseError: `missing` where one of them is not there.
        """
        body = orjson.dumps(dict(sets))
        return self.repeat(lambda: read_object(read_json(self.http.patch(f"/collections/{_path(name)}", content=body))))


def _path(part: str) -> str:
    return quote(part, safe="")
