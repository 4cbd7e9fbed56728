"""Look before anything is changed: which way each collection goes, and what is in the way of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from kai.collections import EmbeddedCollection
from kai.models import fingerprint
from kai.settings import ChosenStrategy, EmbeddingSettings
from kai.typesense import Schema, Typesense, TypesenseError, embedding_field
from kai.typesense_schemas import referring_fields, serving_field
from migration.documents.fetch import Selection, fetch_newest
from migration.strategies.alias.state import (
    Pair,
    find_pair,
    next_name,
    refuse_another_target,
    refuse_unmovable,
    standing_in_the_way,
)
from migration.strategies.context import MigrationOptions
from migration.strategies.hazards import (
    find_hazards,
    hazards_of_version,
    lagging,
)
from migration.strategies.next_field import next_of, wanted_next
from migration.strategies.plan import CollectionPlan, Plan
from migration.strategies.refusals import (
    Refused,
    decide,
    explain,
    field_problem,
    refuse_without_text,
    way_problem,
)
from migration.strategies.shadow_state import (
    Mark,
    find_shadow,
    is_foreign,
    past_the_drop,
    read_mark,
    unfinished,
    unfinished_refill,
)
from migration.strategies.ways import away_seconds, server_seconds


def make_plan(
    server: Typesense,
    embedding: EmbeddingSettings,
    collections: Sequence[EmbeddedCollection],
    options: MigrationOptions,
    *,
    wrote_lately: bool = False,
) -> Plan:
    """Inspect the collections and decide how each would be migrated. Only reads.

    Args:
        server: where they are.
        embedding: the target.
        collections: what to migrate.
        options: what is asked for.
        wrote_lately: whether a run of this program wrote in the last seconds, which the server's figures still show.

    Raises:
        Refused: Typesense cannot be used, or a collection cannot be migrated; every problem at once.
    """
    everything = _check_server(server)
    plans: list[CollectionPlan] = []
    problems: list[str] = []
    for collection in collections:
        try:
            plans.append(plan_collection(server, embedding, collection, everything, options, wrote_lately=wrote_lately))
        except Refused as refused:
            problems += refused.problems
        except TypesenseError as error:
            if error.status == 400 and collection.filter_by:
                problems.append(
                    f"--collections-file: filter_by {collection.filter_by!r} of {collection.name!r}: {error}"
                )
                continue
            raise Refused(explain(server, error)) from error
    problems += _asked_twice(plans)
    if problems:
        raise Refused(*problems)
    version = server.told_version()
    return Plan(embedding, tuple(plans), version, hazards_of_version(version))


def refuse_unwritable(server: Typesense, plan: Plan) -> None:
    """Refuse a key that may read and not write, which would stop the run in its middle.

    Raises:
        Refused: it may not write documents of a collection of the plan.
    """
    for item in plan.collections:
        # A rebuild was begun with a key that may write, and its alter, still under way, would keep an import waiting.
        if item.strategy == "skipped" or unfinished_refill(item.schema) is not None:
            continue
        try:
            server.check_writable(str(item.schema["name"]))
        except TypesenseError as error:
            if error.unauthorized:
                raise Refused(
                    f"TYPESENSE_API_KEY: the key may read collection {item.name!r} but not write its documents "
                    f"({error}); use one with all actions; documents:* and collections:* are the least it needs"
                ) from error


def plan_collection(
    server: Typesense,
    embedding: EmbeddingSettings,
    collection: EmbeddedCollection,
    everything: Sequence[Schema],
    options: MigrationOptions,
    *,
    wrote_lately: bool = False,
) -> CollectionPlan:
    """Inspect one collection and decide how it would be migrated. Only reads.

    Args:
        server: where it is.
        embedding: the target.
        collection: what to migrate.
        everything: the schemas of all collections.
        options: what is asked for.
        wrote_lately: whether a run of this program wrote in the last seconds.

    Raises:
        Refused: the collection cannot be migrated.
        TypesenseError: the server cannot be read.
    """
    if collection.skipped:
        return CollectionPlan(collection, collection.name, {}, "skipped", None, embedding.dimensions, 0, 0)
    schema = server.collection(collection.name)
    # The target of an alias may be away in the middle of a cut-over: then only the alias knows its name.
    name = str(schema["name"]) if schema else server.aliases().get(collection.name, collection.name)
    if (pair := find_pair(everything, name)) is not None and pair.is_swapped:
        return _plan_of_swapped(server, embedding, collection, pair, into=options.into)
    shadow = find_shadow(everything, name)
    mark = read_mark(shadow) if shadow else None
    if mark is not None and mark.held_elsewhere:
        raise Refused(mark.holder)
    is_dropped = past_the_drop(mark, schema)
    # A dead run dropped the original: the shadow is the full copy, whatever has its name.
    schema = shadow if is_dropped else schema
    if schema is None:
        raise Refused(_not_found(server, collection))
    rebuilding = unfinished_refill(schema)
    if rebuilding is not None and (other := rebuilding["field"].get("name")) != collection.embedding_field:
        raise Refused(
            f"run {rebuilding.get('run')} took the vector field {other!r} of collection {name!r} out and did not "
            f"finish; run that migration again before {collection.embedding_field!r} is migrated"
        )
    notes: list[str] = []
    if (serving := serving_field(schema, collection.embedding_field)) != collection.embedding_field:
        notes.append(
            f"the field {serving!r} has replaced {collection.embedding_field!r} and is migrated; name it in the "
            "collections file"
        )
        collection = replace(collection, embedding_field=serving)
    if rebuilding is None and (problem := field_problem(collection, schema)):
        raise Refused(problem)
    vector_field = embedding_field(schema, collection.embedding_field) or (rebuilding or {}).get("field", {})
    old = rebuilding["old_dimensions"] if rebuilding else vector_field.get("num_dim")
    dimensions, strategy = embedding.dimensions, options.strategy or "auto"
    decided = "recreate" if is_dropped else decide(old, dimensions, "alter" if rebuilding else strategy)
    into = _second_field(server, embedding, collection, schema, options)
    if into:
        decided = "into"
        if rebuilding is not None or is_dropped:
            raise Refused(
                f"--into: {unfinished(everything, name)}; run that migration again without --into, which finishes it"
            )
    if rebuilding is None and (problem := way_problem(collection, schema, decided)):
        raise Refused(problem)
    if decided == "recreate":
        _refuse_recreate(server, name, schema, shadow, options, is_dropped=is_dropped)
    if decided == "alias":
        refuse_unmovable(server, everything, name, collection.name, allow_lag=options.allow_lag)
    if decided in ("recreate", "rebuild", "alter", "into", "alias") and not is_dropped:
        refuse_without_text(server, collection, schema)
    documents = int(schema["num_documents"])
    away = away_seconds(documents, old or dimensions, dimensions, is_required=not vector_field.get("optional"))
    seconds = server_seconds(documents, dimensions, away)
    plan = CollectionPlan(
        collection,
        name,
        schema,
        decided,
        old,
        dimensions,
        documents,
        server.count(str(schema["name"]), collection.filter_by),
        server_seconds=seconds,
        away_seconds=away,
        leftover=mark,
        successor=next_name(name) if decided == "alias" else "",
    )
    if into:
        into_it = replace(collection, embedding_field=into)
        plan = replace(plan, collection=into_it, beside=collection.embedding_field)
    hazards = notes + list(
        find_hazards(
            server,
            collection,
            schema,
            everything,
            decided,
            dimensions,
            insists=strategy == "recreate",
            wrote_lately=wrote_lately,
        )
    )
    hazards[:0] = _first_to_know(plan, strategy, rebuilding, fingerprint(embedding, collection.template))
    return replace(plan, hazards=tuple(hazards))


def _not_found(server: Typesense, collection: EmbeddedCollection) -> str:
    remedy = "check TYPESENSE_HOST and TYPESENSE_PORT, or name the collections to migrate with --collections"
    if collection.on_request:
        remedy = "only newer versions of KAI have it; leave it out of --collections, for `all` does not ask for it"
    return f"Collection not found: collection {collection.name!r} does not exist on {server.url}; {remedy}"


def _refuse_recreate(
    server: Typesense,
    name: str,
    schema: Schema,
    shadow: Schema | None,
    options: MigrationOptions,
    *,
    is_dropped: bool,
) -> None:
    """Refuse what would lose something, or cannot be copied.

    Raises:
        Refused: saying which way would do.
    """
    if shadow is not None and is_foreign(shadow, schema):
        raise Refused(
            f"a collection {shadow['name']!r} is there that this tool did not make; rename or delete it first"
        )
    if own := referring_fields([schema], name, itself=True):
        raise Refused(
            f"collection {name!r} refers to itself by {', '.join(own[name])}: its documents cannot be copied in "
            "any order that the server would take; use --strategy alter"
        )
    if not is_dropped and server.lags and not options.allow_lag:
        raise Refused(
            f"TYPESENSE_HOST, TYPESENSE_PORT: {lagging(server)}; a recreate of {name!r} could lose what an "
            "application writes right before the drop: name the nodes, use --strategy alter, or give --allow-lag"
        )


def _second_field(
    server: Typesense,
    embedding: EmbeddingSettings,
    collection: EmbeddedCollection,
    schema: Schema,
    options: MigrationOptions,
) -> str:
    """The field that is to be filled beside the collection's own; empty for none.

    Raises:
        Refused: it cannot be.
    """
    another = options.strategy not in (None, "auto", "into")
    wanted = wanted_next(
        replace(collection, next_field="") if another else collection,
        schema,
        into=options.into,
        insists=options.strategy == "into",
        fingerprint=fingerprint(embedding, collection.template),
    )
    if not wanted or next_of(schema) is not None:
        return wanted
    if any(d.numbers for d in fetch_newest(server, str(schema["name"]), Selection(wanted, fields=()), 30)[1]):
        raise Refused(
            f"--into: documents of collection {schema['name']!r} have values by the name {wanted!r} already, which "
            "would be overwritten; choose another name"
        )
    return wanted


def _first_to_know(
    plan: CollectionPlan, asked: ChosenStrategy, rebuilding: dict[str, Any] | None, target: str
) -> Iterator[str]:
    """What a dead run has left, and what of the options does nothing."""
    mark, old = plan.leftover, plan.old_dimensions
    if plan.collection.on_request:
        yield (
            f"the template {plan.collection.template!r} is taken from KAI's schema of {plan.collection.name!r}; "
            "compare it with what your version of KAI embeds, and name another in a collections file where it differs"
        )
    if mark is not None:
        is_wanted = plan.strategy == "recreate" and mark.fingerprint == target
        yield _what_becomes_of(mark, is_wanted=is_wanted, is_dropped=past_the_drop(mark, plan.schema))
    if rebuilding is not None:
        yield f"run {rebuilding.get('run')} took the vector field out and did not finish; this run does"
    elif plan.strategy == "into":
        return
    elif old is None and asked != "auto":
        yield f"--strategy {asked} has no effect: without a num_dim there is no index to take out"
    elif old == plan.new_dimensions and asked == "recreate":
        yield "--strategy recreate has no effect: the length of the vectors stays, so they go in place"


def _plan_of_swapped(
    server: Typesense, embedding: EmbeddingSettings, collection: EmbeddedCollection, pair: Pair, *, into: str | None
) -> CollectionPlan:
    """How to go on with a collection in whose place a run has put another.

    Raises:
        Refused: that run had another target, or is finished or taken back at the moment.
    """
    if into:
        raise Refused(f"--into: {standing_in_the_way(pair)}")
    schema = refuse_another_target(pair, fingerprint(embedding, collection.template))
    collection = replace(collection, embedding_field=pair.field)
    documents = int(schema["num_documents"])
    return CollectionPlan(
        collection,
        pair.old,
        schema,
        "alias",
        (embedding_field(schema, collection.embedding_field) or {}).get("num_dim"),
        embedding.dimensions,
        documents,
        server.count(pair.old, collection.filter_by),
        server_seconds=server_seconds(documents, embedding.dimensions, 0.0),
        successor=pair.new,
        is_swapped=True,
        hazards=(
            f"run {pair.run} put {pair.new!r} in the place of {pair.old!r}; this run carries over what was written to "
            "that since",
        ),
    )


def _what_becomes_of(mark: Mark, *, is_wanted: bool, is_dropped: bool) -> str:
    if is_wanted:
        next_ = "this run goes on from there"
    elif is_dropped:
        next_ = "this run finishes that one first, for the shadow is the full copy, and then does its own work"
    else:
        next_ = "it is of no use to this run, which removes it"
    return f"run {mark.run} left a shadow behind ({mark.phase}); {next_}"


def _check_server(server: Typesense) -> list[Schema]:
    try:
        server.health()
        return server.collections()
    except TypesenseError as error:
        raise Refused(explain(server, error)) from error


def _asked_twice(plans: Sequence[CollectionPlan]) -> list[str]:
    """Collections that were asked for under several names: a run holds each once."""
    names: dict[str, list[str]] = {}
    for plan in plans:
        if plan.strategy != "skipped":
            names.setdefault(plan.name, []).append(plan.collection.name)
    return [
        f"{', '.join(map(repr, asked))} are one collection, {name!r}: name one of them with --collections"
        for name, asked in names.items()
        if len(asked) > 1
    ]
