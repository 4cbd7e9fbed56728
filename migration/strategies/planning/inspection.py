"""What is there before a way is chosen: all that a plan rests on is read here, and by that alone it is decided.

What the server as a whole is like is read once a plan; then each collection, with what a dead run has left of it; and
last, once the way is known, the documents that could speak against it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kai.collections import EmbeddedCollection
from kai.models import fingerprint
from kai.settings import EmbeddingSettings
from kai.typesense import Schema, Typesense, TypesenseError, embedding_field
from kai.typesense_schemas import serving_field
from migration.documents.fetch import Selection, fetch_newest, fetch_pages
from migration.strategies.alias.state import Pair, find_pair
from migration.strategies.refusals import Refused, field_problem
from migration.strategies.shadow_state import Mark, find_shadow, past_the_drop, read_mark, unfinished_refill


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the server is like, whichever of its collections is asked about.

    Attributes:
        collections: the schemas of all.
        listed: alias -> collection; the error where the server did not say, as not every key may list them.
        lagging: what is wrong with an address whose reads lag; empty where they do not.
        version: as the server says; `unknown` where it does not.
        free_memory: bytes; None where the server does not say.
        writes_a_second: requests of other programs that write; 0 where that is not known.
    """

    collections: Sequence[Schema] = ()
    listed: Mapping[str, str] | TypesenseError = field(default_factory=dict)
    lagging: str = ""
    version: str = "unknown"
    free_memory: int | None = None
    writes_a_second: float = 0.0

    @property
    def aliases(self) -> Mapping[str, str]:
        """Alias -> collection.

        Raises:
            TypesenseError: with which the server refused to list them.
        """
        if isinstance(self.listed, TypesenseError):
            raise self.listed
        return self.listed


@dataclass(frozen=True, slots=True)
class Inspected:
    """A collection as it stands, beside the target.

    Attributes:
        around: the server that it is on.
        collection: as it was asked for, but its field is the one that serves.
        name: the real collection's, where an alias was asked for.
        schema: of the full copy: the shadow's where a dead run has dropped the original; of a pair that was swapped,
            that of the collection that was replaced, or where that is gone, of the other.
        eligible: documents that the filter lets through.
        old_dimensions: `num_dim` of the field; None where it has none and is no vector index.
        new_dimensions: of the target.
        fingerprint: of the target, template included.
        vector_field: as the schema has it, or as a dead run wrote it down that took it out.
        asked_field: that was asked for, and that the one that serves may have replaced.
        pair: the collection, and the one that takes or took its place.
        shadow: the schema of what has the shadow's name.
        refill: what a dead run wrote down before it took the vector field out.
    """

    around: Surroundings
    collection: EmbeddedCollection
    name: str
    schema: Schema
    eligible: int
    old_dimensions: int | None
    new_dimensions: int
    fingerprint: str
    vector_field: dict[str, Any]
    asked_field: str
    pair: Pair | None = None
    shadow: Schema | None = None
    refill: dict[str, Any] | None = None

    @property
    def documents(self) -> int:
        """All of the collection."""
        return int(self.schema["num_documents"])

    @property
    def mark(self) -> Mark | None:
        """Of the shadow that a dead run has left."""
        return read_mark(self.shadow) if self.shadow else None

    @property
    def is_dropped(self) -> bool:
        """Whether a dead run has dropped the original, so that the shadow is the full copy."""
        return past_the_drop(self.mark, self.schema)


def look_around(server: Typesense, *, wrote_lately: bool = False) -> Surroundings:
    """What the server is like. Of what the key may not read, its collections alone are needed.

    Args:
        server: that is asked.
        wrote_lately: whether a run of this program wrote in the last seconds: the server's figures cannot tell its
            writes from an application's, and are not asked for.

    Raises:
        TypesenseError: it does not list its collections.
    """
    collections = server.collections()
    try:
        listed: Mapping[str, str] | TypesenseError = server.aliases()
    except TypesenseError as error:
        listed = error
    return Surroundings(
        collections,
        listed,
        lagging(server),
        server.told_version(),
        server.free_memory(),
        0.0 if wrote_lately else server.writes_a_second(),
    )


def lagging(server: Typesense) -> str:
    """What is wrong with an address whose reads lag, for a hazard or a refusal; empty where they do not."""
    if not server.lags:
        return ""
    return (
        f"{server.url} is a follower, or a load balancer before several nodes: it shows what was written only after "
        f"about {server.lag:g} s (name every node with TYPESENSE_NODES, so that the leader is read)"
    )


def inspect(
    server: Typesense, embedding: EmbeddingSettings, collection: EmbeddedCollection, around: Surroundings
) -> Inspected:
    """One collection as it stands.

    Args:
        server: where it is.
        embedding: the target.
        collection: what is asked for.
        around: what the server is like.

    Raises:
        Refused: no way of migrating it would do, or another run holds it.
        TypesenseError: the server cannot be read, or does not take the filter.
    """
    live = server.collection(collection.name)
    # The target of an alias may be away in the middle of a cut-over: then only the alias knows its name.
    name = str(live["name"]) if live else around.aliases.get(collection.name, collection.name)
    pair, shadow, refill = find_pair(around.collections, name), find_shadow(around.collections, name), None
    if pair is not None and pair.is_swapped:
        name, schema, serving, shadow = pair.old, pair.old_schema or pair.new_schema, pair.field, None
    else:
        schema = _full_copy(server, collection, live, shadow)
        refill = unfinished_refill(schema)
        serving = _serving(collection, schema, refill)
    vector_field = embedding_field(schema, serving) or (refill or {}).get("field", {})
    return Inspected(
        around,
        replace(collection, embedding_field=serving),
        name,
        schema,
        server.count(str(schema["name"]), collection.filter_by),
        refill["old_dimensions"] if refill else vector_field.get("num_dim"),
        embedding.dimensions,
        fingerprint(embedding, collection.template),
        vector_field,
        collection.embedding_field,
        pair,
        shadow,
        refill,
    )


def _full_copy(server: Typesense, collection: EmbeddedCollection, live: Schema | None, shadow: Schema | None) -> Schema:
    """The schema of what has all documents.

    Raises:
        Refused: there is none, or another run is at it.
    """
    mark = read_mark(shadow) if shadow else None
    if mark is not None and mark.held_elsewhere:
        raise Refused(mark.holder)
    # A dead run dropped the original: the shadow is the full copy, whatever has its name.
    if (schema := shadow if past_the_drop(mark, live) else live) is not None:
        return schema
    remedy = "check TYPESENSE_HOST and TYPESENSE_PORT, or name the collections to migrate with --collections"
    if collection.on_request:
        remedy = "only newer versions of KAI have it; leave it out of --collections, for `all` does not ask for it"
    raise Refused(f"Collection not found: collection {collection.name!r} does not exist on {server.url}; {remedy}")


def _serving(collection: EmbeddedCollection, schema: Schema, refill: Mapping[str, Any] | None) -> str:
    """The field that is to be migrated.

    Raises:
        Refused: it is none that could be, or a dead run has to be finished first.
    """
    serving = serving_field(schema, collection.embedding_field)
    if refill is None and (problem := field_problem(replace(collection, embedding_field=serving), schema)):
        raise Refused(problem)
    if refill is not None and (other := refill["field"].get("name")) != collection.embedding_field:
        raise Refused(
            f"run {refill.get('run')} took the vector field {other!r} of collection {schema['name']!r} out and did not "
            f"finish; run that migration again before {collection.embedding_field!r} is migrated"
        )
    return serving


def refuse_by_documents(server: Typesense, seen: Inspected, *, second: str) -> None:
    """Refuse what only the documents tell of: values by a second field's name, or that none has a text.

    By a template that fits none of them all vectors would be lost. Reads a page, where it is right.

    Args:
        server: where they are.
        seen: their collection.
        second: the field that is to be added; empty for none.

    Raises:
        Refused: saying what to change.
        TypesenseError: the server cannot be read.
    """
    collection, name = seen.collection, str(seen.schema["name"])
    if second and any(d.numbers for d in fetch_newest(server, name, Selection(second, fields=()), 30)[1]):
        raise Refused(
            f"--into: documents of collection {name!r} have values by the name {second!r} already, which "
            "would be overwritten; choose another name"
        )
    selection = Selection(collection.embedding_field, collection.filter_by, collection.text_fields, with_vector=False)
    found: set[str] = set()
    documents = 0
    for page in fetch_pages(server, name, selection):
        documents += len(page)
        for document in page:
            if collection.text_of(document.fields):
                return
            found |= {name for name in collection.text_fields if collection.has(document.fields, name)}
    if documents:
        missing = [f"{{{name}}}" for name in collection.text_fields if name not in found]
        which = f"no document has {', '.join(missing)}" if missing else "all of its fields are empty"
        raise Refused(
            f"collection {name!r}: none of {documents} documents has a text by the template "
            f"{collection.template!r} ({which}), and all vectors would be lost; correct the template"
        )
