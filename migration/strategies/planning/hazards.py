"""What an operator should know before a run: references, values that a copy loses, memory, a busy application.

What differs between versions of the server is taken from what it answers, never from the version that it says.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kai.collections import EmbeddedCollection
from kai.typesense import Schema, embedding_field
from kai.typesense_schemas import referring_fields
from migration.strategies.planning.inspection import Inspected
from migration.strategies.shadow_state import unfinished_refill

_BYTES_A_DOCUMENT = 1024
"""Rough memory of a document without its vector: text index, references, bookkeeping."""
ADDS_A_SECOND = 600 * 768
"""Numbers a second by which a vector field is dropped and added over its values (29.0, 2 cores)."""
TRIED: Final = (29, 30)
"""Major versions with which this program was tried."""


def find_hazards(seen: Inspected, strategy: str, *, insists: bool = False) -> Iterator[str]:
    """One sentence for each thing that is out of the ordinary.

    Args:
        seen: the collection as it stands.
        strategy: how it would be migrated.
        insists: whether it is recreated although an application keeps writing.

    Raises:
        TypesenseError: a copy depends on the aliases, and the server did not list them.
    """
    around, collection, schema = seen.around, seen.collection, seen.schema
    if collection.embedding_field != seen.asked_field:
        yield (
            f"the field {collection.embedding_field!r} has replaced {seen.asked_field!r} and is migrated; name it in "
            "the collections file"
        )
    if around.lagging:
        remedy = ""
        if strategy == "recreate":
            remedy = ": what Typesense takes right before the drop may be lost"
        elif strategy in ("rebuild", "alter"):
            remedy = ": an application that keeps writing vectors of the old length may keep the field away for long"
        yield f"{around.lagging}, and each change is waited for until it shows{remedy}"
    vector_field = embedding_field(schema, collection.embedding_field) or {}
    yield from hazards_of_field(collection, schema)
    names = {field["name"] for field in schema["fields"]}
    if not any(field["type"] == "auto" or "*" in field["name"] for field in schema["fields"]):
        for field in collection.text_fields:
            if field not in names and field.split(".")[0] not in names:
                yield (
                    f"the text field {field!r} is not in the schema; where a document lacks it, that part of its text "
                    "is empty"
                )
    if strategy in ("recreate", "alias"):
        yield from _hazards_of_copying(seen)
    if strategy == "alias":
        yield (
            "both collections stand until `kai-migrate finish`, the new one with a small one beside it that says what "
            "both have in common; what lists the collections sees all three"
        )
    if strategy in ("rebuild", "alter") and vector_field and not vector_field.get("optional"):
        seconds = seen.documents * seen.new_dimensions / ADDS_A_SECOND
        yield (
            f"the field {collection.embedding_field!r} must have a value in every document, so documents outside the "
            "filter are embedded too; it comes back as optional and is filled, and vector search pauses a second time, "
            f"for about {seconds:.1f} s, while it is made required again"
        )
    if (rate := around.writes_a_second) > 0:
        remedy = ""
        if strategy == "recreate" and insists:
            remedy = "; what it takes right before the drop is lost: stop the application, or use --strategy alter"
        elif strategy == "recreate":
            remedy = "; if it does not stand still before the drop, nothing is dropped and --strategy alter goes on"
        yield f"an application seems to be writing to this server ({rate:g} write requests a second){remedy}"


def hazards_of_field(collection: EmbeddedCollection, schema: Schema) -> Iterator[str]:
    """What is out of the ordinary in the embedding field, whatever is done to it."""
    vector_field = embedding_field(schema, collection.embedding_field) or {}
    if vector_field.get("num_dim") is None and unfinished_refill(schema) is None:
        yield (
            f"the field {collection.embedding_field!r} has no num_dim: Typesense stores its values "
            "but does not search by them, and takes vectors of any length"
        )
    if vector_field.get("embed"):
        yield (
            f"the field {collection.embedding_field!r} has an `embed` setting: the server itself computes this "
            "vector whenever one of its source fields is written, with its own model"
        )


def hazards_of_version(version: str) -> tuple[str, ...]:
    """A sentence if this version was never tried, or is not known."""
    tried = " and ".join(map(str, TRIED))
    major = version.removeprefix("v").split(".")[0]
    if not major.isdecimal():
        return (f"the server's version is not known ({version}); this program was tried with Typesense {tried}",)
    if int(major) in TRIED:
        return ()
    return (f"this program was never tried with Typesense {version}, only with {tried}: try it on a copy first",)


def shadow_memory(documents: int, dimensions: int) -> int:
    """Bytes that a second copy of the collection takes, roughly: vectors as float32, their graph, the rest."""
    return documents * (dimensions * 4 + 256 + _BYTES_A_DOCUMENT)


def _hazards_of_copying(seen: Inspected) -> Iterator[str]:
    around, schema, name = seen.around, seen.schema, str(seen.schema["name"])
    outside = seen.documents - seen.eligible if seen.collection.filter_by else 0
    if outside and seen.old_dimensions != seen.new_dimensions:
        if seen.vector_field.get("optional"):
            yield (
                f"{outside} documents outside the filter come along without a vector: one of the old length "
                "cannot be stored any more"
            )
        else:
            yield f"{outside} documents outside the filter are embedded too, because the field is not optional"
    for field in schema["fields"]:
        if not field.get("reference") or field.get("async_reference"):
            continue  # An asynchronous one the server takes without its target.
        yield (
            f"documents refer to {field['reference']} by {field['name']!r}: one whose target is gone cannot be "
            "copied and stops the run before anything is dropped"
        )
    for other, fields in referring_fields(around.collections, name, around.aliases, asynchronous=False).items():
        yield f"{other!r} refers to this collection by {', '.join(fields)}: its references are renewed afterwards"
    for other, fields in referring_fields(around.collections, name, around.aliases, asynchronous=True).items():
        yield (
            f"{other!r} refers to this collection by {', '.join(fields)} (asynchronously): before the documents come "
            "back, its references are renewed, without which the server would refuse them; this collection is away "
            "for that time too, and a search of one that joins the other answers 404 until then"
        )
    for field in schema["fields"]:
        if field.get("store") is False:
            yield (
                f"the field {field['name']!r} has `store: false`: its values are only in the index, no copy can "
                "have them, and recreating loses them (--strategy alter keeps them)"
            )
    needed, free = shadow_memory(seen.documents, seen.new_dimensions), around.free_memory
    if free is not None:
        room = "enough" if free > 1.5 * needed else "NOT ENOUGH"
        yield f"the shadow needs about {megabytes(needed)} of memory; the server has {megabytes(free)} free: {room}"


def megabytes(size: float) -> str:
    """A size in bytes as text in MB."""
    return f"{size / 1_000_000:,.1f} MB"
