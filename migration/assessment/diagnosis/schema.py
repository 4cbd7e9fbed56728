"""The schema of an embedded collection, against the configured model: what can be seen without reading a document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kai.collections import EmbeddedCollection
from kai.models import EmbeddingSettings, fingerprint
from kai.typesense import Schema, embedding_field
from kai.typesense_schemas import signature_of
from migration.assessment.diagnosis.findings import Check, Finding
from migration.strategies.planning.hazards import hazards_of_field
from migration.strategies.refusals import field_problem

_UNIT: Final = 0.01
"""How far a normalised vector's length may be from 1."""


def check_schema(
    collection: EmbeddedCollection, schema: Schema, target: EmbeddingSettings | None, probe_length: float | None = None
) -> Check:
    """Whether the embedding field can hold the configured model's vectors, and is searched as that model wants it.

    Args:
        collection: with the name of the field that serves.
        schema: as the server gave it.
        target: the configured model; None where none is.
        probe_length: Euclidean length of a vector that the model gave; None where it was not asked.
    """
    where = f"{schema['name']}.{collection.embedding_field}"
    if (problem := field_problem(collection, schema)) is not None:
        remedy = "correct embedding_field in the collections file, or add the field"
        return Check("schema", where, "the field is not there", (Finding("error", "field", problem, where, remedy),))
    field = embedding_field(schema, collection.embedding_field) or {}
    findings = [
        Finding("warning", "schema", sentence, where, "give the field what it needs in the collection's schema")
        for sentence in hazards_of_field(collection, schema)
    ]
    findings += _other_model(collection, schema, target, where)
    distance = field.get("vec_dist") or "cosine"
    if distance == "ip" and probe_length is not None and not is_unit(probe_length):
        what = (
            f"vec_dist is ip, which ranks by length too, and the model's vectors are not normalised (length "
            f"{probe_length:.3g})"
        )
        findings.append(Finding("warning", "vec_dist", what, where, "set vec_dist to cosine, or normalise the vectors"))
    return Check("schema", where, f"num_dim {field.get('num_dim')}, vec_dist {distance}", tuple(findings))


def is_unit(length: float) -> bool:
    """Whether a vector of this Euclidean length counts as normalised."""
    return abs(length - 1) <= _UNIT


def stamp_is_of(collection: EmbeddedCollection, schema: Schema, target: EmbeddingSettings) -> bool | None:
    """Whether the collection's metadata says that its vectors are this model's; None where it says nothing."""
    stamped = signature_of(schema, collection.embedding_field).get("fingerprint")
    return None if stamped is None else stamped == fingerprint(target, collection.template)


def _other_model(
    collection: EmbeddedCollection, schema: Schema, target: EmbeddingSettings | None, where: str
) -> Iterator[Finding]:
    """That the vectors are another model's by their length, or by what the metadata says: as before a migration."""
    if target is None:
        return
    ours = target.name
    migrate = "migrate, or configure the model that the vectors are of"
    length = (embedding_field(schema, collection.embedding_field) or {}).get("num_dim")
    if length is not None and length != target.dimensions:
        what = f"num_dim is {length} and EMBEDDING_DIMENSIONS {target.dimensions}: the vectors are another model's"
        yield Finding("info", "num_dim", what, where, migrate)
    if stamp_is_of(collection, schema, target) is False:
        stamp = signature_of(schema, collection.embedding_field)
        theirs = "/".join(str(stamp.get(part)) for part in ("family", "model", "dimensions"))
        differs = theirs if theirs != ours else f"{theirs} of another template or task type"
        what = f"by the collection's metadata the vectors are of {differs}, and {ours} is configured"
        yield Finding("info", "model_stamp", what, where, migrate)
