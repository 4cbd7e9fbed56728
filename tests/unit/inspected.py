"""A collection as an inspection shows it, without a server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kai.collections import EmbeddedCollection
from kai.typesense import Schema, TypesenseError, embedding_field
from migration.strategies.alias.state import find_pair
from migration.strategies.planning.inspection import Inspected, Surroundings
from migration.strategies.shadow_state import find_shadow, unfinished_refill

TARGET = "target"
"""Its fingerprint."""


def inspected(
    schema: Schema,
    *others: Schema,
    asked: str = "notes",
    next_field: str = "",
    dimensions: int = 4,
    aliases: Mapping[str, str] | TypesenseError | None = None,
    lagging: str = "",
    writes_a_second: float = 0.0,
) -> Inspected:
    """A collection of notes, all of which are eligible.

    Args:
        schema: its own; the field is `vector`.
        others: the schemas of what stands beside it.
        asked: the name by which it was asked for.
        next_field: the second one that its description names.
        dimensions: of the target.
        aliases: none by default; the error where the server does not list them.
        lagging: what is said where reads lag.
        writes_a_second: of an application.
    """
    everything, name = [schema, *others], str(schema["name"])
    refill: dict[str, Any] | None = unfinished_refill(schema)
    field = embedding_field(schema, "vector") or {}
    return Inspected(
        Surroundings(everything, aliases or {}, lagging, writes_a_second=writes_a_second),
        EmbeddedCollection(asked, "vector", "{text}", next_field=next_field),
        name,
        schema,
        int(schema["num_documents"]),
        refill["old_dimensions"] if refill else field.get("num_dim"),
        dimensions,
        TARGET,
        field,
        "vector",
        find_pair(everything, name),
        find_shadow(everything, name),
        refill,
    )
