"""Schemas of collections: how two differ, how a vector field gets another length, what refers to what."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from kai.typesense import Schema, Typesense, embedding_field
from kai.typesense_changes import alter_fields_until

_COLLECTION_ATTRIBUTES: Final = (
    "default_sorting_field",
    "enable_nested_fields",
    "token_separators",
    "symbols_to_index",
)
SIGNATURE: Final = (
    "family",
    "model",
    "dimensions",
    "task_type",
    "fingerprint",
    "run",
    "time",
    "field",
    "replaces",
)
"""What this program says of a field's vectors in the metadata's `embedding`; the rest is others'."""
_DEFAULTS: Final[dict[str, Any]] = {
    "facet": False,
    "index": True,
    "infix": False,
    "locale": "",
    "optional": False,
    "sort": False,
    "stem": False,
    "stem_dictionary": "",
    "store": True,
    "range_index": False,
    "reference": "",
    "async_reference": False,
    "token_separators": [],
    "symbols_to_index": [],
    "vec_dist": None,
    "hnsw_params": None,
}
"""What a vector field may have beside name, type and length, and what it has where nothing is said."""


def signature_of(schema: Schema, field: str = "") -> dict[str, Any]:
    """What the collection's metadata says of the model that the vectors of a field are from; empty for nothing.

    The metadata's `embedding` speaks of one field, with `field` its name, and of further ones in `fields` by theirs.
    What an older version of this program has written has no name and is of the field that is asked for, as is what is
    asked for without a name.
    """
    said = _said(schema)
    further = said.pop("fields")
    if field and field in further:
        return dict(further[field])
    return said if not field or said.get("field", field) == field else {}


def signed(schema: Schema, field: str, signature: Mapping[str, Any] | None, *, beside: bool = False) -> dict[str, Any]:
    """The metadata's `embedding`, with this signature of a field, and what others have written in it.

    Args:
        schema: the collection's.
        field: that the signature is of.
        signature: which model its vectors are from; None to say nothing of it any more.
        beside: whether another field is the one that serves, even where nothing is said of it yet.
    """
    said = _said(schema)
    further = said.pop("fields")
    is_first = not beside and said.get("field", field) == field
    further.pop(field, None)
    if is_first:
        said = {key: value for key, value in said.items() if key not in SIGNATURE} | dict(signature or {})
    elif signature:
        further[field] = dict(signature)
    return said | ({"fields": further} if further else {})


def handed_on(schema: Schema, field: str, to: str) -> dict[str, Any]:
    """The metadata's `embedding` once one field is gone and another serves in its place."""
    said, signature = _said(schema), signature_of(schema, to)
    further = {name: each for name, each in said.pop("fields").items() if name not in (field, to)}
    foreign = {key: value for key, value in said.items() if key not in SIGNATURE}
    gone = [*signature_of(schema, field).get("replaces", []), field]
    replaces = list(dict.fromkeys(name for name in gone if name != to))
    return foreign | signature | {"field": to, "replaces": replaces} | ({"fields": further} if further else {})


def serving_field(schema: Schema, field: str) -> str:
    """The field by which an application searches now where this one was replaced by it; else this one."""
    said = _said(schema)
    standing = str(said.get("field", ""))
    is_gone = embedding_field(schema, field) is None
    is_replaced = is_gone and field in said.get("replaces", ()) and embedding_field(schema, standing) is not None
    return standing if is_replaced else field


def _said(schema: Schema) -> dict[str, Any]:
    """The metadata's `embedding`, if it is of our form, with nothing of the schema's own in it."""
    found = (schema.get("metadata") or {}).get("embedding")
    said = dict(found) if isinstance(found, dict) else {}
    further = said.pop("fields", None)
    named = further if isinstance(further, dict) else {}
    return said | {"fields": {name: each for name, each in named.items() if isinstance(each, dict)}}


def schema_differences(wanted: Schema, found: Schema, *, but: str = "") -> list[str]:
    """How a collection's schema differs from the wanted one.

    The order of the fields does not count, nor does `num_dim` of the field `but`, nor whether a field that
    the server itself found inside an object (or under a pattern) is there: it comes with the documents.
    """
    wanted_fields = {field["name"]: _comparable(field, but) for field in wanted["fields"]}
    found_fields = {field["name"]: _comparable(field, but) for field in found["fields"]}
    differing = [
        name
        for name in sorted(wanted_fields.keys() | found_fields.keys())
        if wanted_fields.get(name) != found_fields.get(name)
        and not (name not in found_fields and _is_discovered(wanted_fields[name], wanted_fields))
        and not (name not in wanted_fields and _is_discovered(found_fields[name], found_fields))
    ]
    return [
        *(
            f"{attribute} is {found.get(attribute)!r}, not {wanted.get(attribute)!r}"
            for attribute in _COLLECTION_ATTRIBUTES
            if (wanted.get(attribute) or None) != (found.get(attribute) or None)
        ),
        *(f"field {name!r} is {found_fields.get(name)}, not {wanted_fields.get(name)}" for name in differing),
    ]


def set_dimensions(server: Typesense, name: str, field_name: str, dimensions: int) -> None:
    """Give an empty collection's vector field this length, everything else as it was.

    Raises:
        TypesenseError: the server refuses it, or does not do it within its patience.
        KeyError: the collection has no such field.
    """
    wanted: dict[str, Any] = {}

    def has_length(schema: Schema) -> bool:
        return (embedding_field(schema, field_name) or {}).get("num_dim") == dimensions

    def change(schema: Schema) -> list[dict[str, Any]]:
        nonlocal wanted
        if has_length(schema):
            return []
        if found := embedding_field(schema, field_name):
            wanted = vector_field(found, dimensions)
            return [{"name": field_name, "drop": True}, wanted]
        if not wanted:
            raise KeyError(field_name)
        return [wanted]

    claim = f"that the field {field_name!r} of {name!r} has {dimensions} dimensions"
    alter_fields_until(server, name, change, has_length, claim=claim)


def vector_field(field: dict[str, Any], dimensions: int) -> dict[str, Any]:
    """A vector field as the server describes it, in the form in which an alter adds it, with another length.

    The attributes that are not what the server takes anyway; none that it would not take.
    """
    said = {name: field[name] for name, default in _DEFAULTS.items() if name in field and field[name] != default}
    return {"name": field["name"], "type": field["type"], "num_dim": dimensions, **said}


def other_vector_fields(schema: Schema, embedding_field: str) -> tuple[str, ...]:
    """The collection's other vector fields: as bulky as the embedding, and never looked at."""
    return tuple(
        field["name"] for field in schema["fields"] if field.get("num_dim") and field["name"] != embedding_field
    )


def referring_fields(
    everything: Sequence[Schema],
    name: str,
    aliases: Mapping[str, str] | None = None,
    *,
    itself: bool = False,
    asynchronous: bool | None = None,
) -> dict[str, list[str]]:
    """Collections with fields that refer to the named one, by an alias too: collection -> field names.

    The named one is among them only where `itself` says so. `asynchronous` asks for references of that kind
    alone, or for the others alone; None for both.
    """
    names = {name, *(alias for alias, target in (aliases or {}).items() if target == name)}
    found: dict[str, list[str]] = {}
    for schema in everything:
        fields = [
            f["name"]
            for f in schema["fields"]
            if str(f.get("reference", "")).split(".")[0] in names
            and asynchronous in (None, bool(f.get("async_reference")))
        ]
        if fields and (itself or schema["name"] != name):
            found[str(schema["name"])] = fields
    return found


def detecting_field(schema: Schema, name: str) -> str | None:
    """The field by which the server would add one of this name to the schema by itself; None if there is none."""
    for known in schema["fields"]:
        pattern = str(known["name"])
        if "*" not in pattern and known["type"] not in ("auto", "string*"):
            continue
        try:
            matches = pattern == ".*" or re.fullmatch(pattern, name) is not None
        except re.error:
            matches = True  # In a dialect that is not ours: it may be anything.
        if matches:
            return pattern
    return None


def _comparable(field: dict[str, Any], but: str) -> dict[str, Any]:
    return {key: value for key, value in field.items() if not (key == "num_dim" and field["name"] == but)}


def _is_discovered(field: dict[str, Any], fields: dict[str, dict[str, Any]]) -> bool:
    """Whether the server may have added this field by itself, when a document came that had it."""
    if not field.get("optional") or field.get("num_dim") or field.get("reference"):
        return False
    parts = str(field["name"]).split(".")
    parents = (".".join(parts[:length]) for length in range(1, len(parts)))
    inside = any(str(fields.get(parent, {}).get("type", "")).startswith("object") for parent in parents)
    patterns = any(known["type"] == "auto" or "*" in known["name"] for known in fields.values())
    return inside or (patterns and "*" not in str(field["name"]))
