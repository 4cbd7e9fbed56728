"""Which strategy a collection takes, and what speaks against it; found before anything is changed."""

from __future__ import annotations

from typing import Literal

from kai.collections import EmbeddedCollection
from kai.settings import ChosenStrategy
from kai.typesense import Schema, Typesense, TypesenseError, embedding_field
from kai.typesense_schemas import detecting_field

Strategy = Literal["in place", "recreate", "rebuild", "alter", "into", "alias", "create", "skipped"]


class Refused(Exception):  # noqa: N818 - the run is refused, nothing is broken
    """Nothing was changed, and nothing will be before this is mended. One message per problem."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


def explain(server: Typesense, error: TypesenseError) -> str:
    proxy = f"; it is asked through the proxy {server.proxy}, past which NO_PROXY leads" if server.proxy else ""
    if error.setting:
        return f"{error.setting}: Typesense at {server.url} cannot be used: {error}{proxy}"
    if error.unauthorized:
        return (
            f"TYPESENSE_API_KEY: Typesense at {server.url} refuses the key ({error}); use one with all actions{proxy}"
        )
    return (
        f"TYPESENSE_HOST, TYPESENSE_PORT, TYPESENSE_PROTOCOL, TYPESENSE_NODES: Typesense at {server.url} cannot be "
        f"used: {error}; check that it is running and that the address is right{proxy}"
    )


def field_problem(collection: EmbeddedCollection, schema: Schema) -> str | None:
    found = embedding_field(schema, collection.embedding_field)
    if found is None:
        return (
            f"collection {schema['name']!r} has no field {collection.embedding_field!r}; "
            "it would hold the embedding, so nothing can be migrated there"
        )
    if "." in collection.embedding_field and schema.get("enable_nested_fields"):
        return (
            f"field {collection.embedding_field!r} of collection {schema['name']!r} lies inside an object: Typesense "
            "cannot update it alone; the embedding must be in a field of the document itself"
        )
    if found["type"] != "float[]":
        return (
            f"field {collection.embedding_field!r} of collection {schema['name']!r} is of type {found['type']}, "
            "not float[]; it cannot hold an embedding"
        )
    return None


def way_problem(collection: EmbeddedCollection, schema: Schema, strategy: Strategy) -> str | None:
    """Why the field cannot be migrated in this way, though it could in another, or could be made to."""
    if strategy not in ("recreate", "rebuild", "alter", "into", "alias"):
        return None
    name, field_name = schema["name"], collection.embedding_field
    if (embedding_field(schema, field_name) or {}).get("embed"):
        begins = f"field {field_name!r} of collection {name!r} has an `embed` setting: "
        if strategy == "rebuild":
            return (
                f"{begins}it would be lost with the field, for the server does not show its secrets; leave --strategy "
                "out, then the vectors are migrated in place"
            )
        if strategy == "into":
            return (
                f"{begins}the server computes these vectors itself whenever a document is written, and would not "
                "compute those of a second field; leave --into out"
            )
        return (
            f"{begins}the server computes these vectors itself, so their length is the server's model's; change it "
            "there"
        )
    if strategy not in ("recreate", "alias") and (found := detecting_field(schema, field_name)):
        if strategy == "into":
            return (
                f"--into: the field {found!r} of collection {name!r} makes fields of what documents have, so a field "
                "that is taken out would come back by itself; leave --into out"
            )
        way = "in place" if strategy == "rebuild" else "by a recreate"
        return (
            f"--strategy: the field {found!r} of collection {name!r} makes fields of what documents have, so "
            f"{field_name!r} would come back by itself while it is out of the schema, without its num_dim; leave "
            f"--strategy out, then the vectors are migrated {way}"
        )
    return None


def decide(old: int | None, new: int, chosen: ChosenStrategy) -> Strategy:
    """In place where the length stays (or is none of the server's business), recreate where it changes.

    `rebuild` and `alter` are one way, with and without a change of dimensions; either name asks for it. `alias` is one
    whatever the dimensions.
    """
    if old is None:
        return "in place"
    if chosen == "alias":
        return "alias"
    refilled = chosen in ("rebuild", "alter")
    if old == new:
        return "rebuild" if refilled else "in place"
    return "alter" if refilled else "recreate"
