"""Look before anything is changed: which way each collection goes, and what is in the way of it.

In two steps: what is there is read (`migration.strategies.planning.inspection`), then the plan follows from what was
seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from kai.collections import EmbeddedCollection
from kai.settings import ChosenStrategy, EmbeddingSettings
from kai.typesense import Schema, Typesense, TypesenseError, embedding_field
from migration.strategies.alias.state import Pair, next_name, refuse_another_target, standing_in_the_way
from migration.strategies.context import MigrationOptions
from migration.strategies.plan import CollectionPlan, Plan
from migration.strategies.planning.hazards import find_hazards, hazards_of_version
from migration.strategies.planning.inspection import Inspected, Surroundings, inspect, look_around, refuse_by_documents
from migration.strategies.planning.ways import away_seconds, objection, server_seconds, ways_open
from migration.strategies.refusals import Refused, Strategy, decide, explain
from migration.strategies.second_field.mark import next_of
from migration.strategies.shadow_state import unfinished, unfinished_refill

_COPYING: Final = {"recreate": "recreating", "alias": "copying"}
"""What the strategies do that copy what is on disk."""


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
    plans: list[CollectionPlan] = []
    problems: list[str] = []
    try:
        server.health()
        around = look_around(server, wrote_lately=wrote_lately)
        for collection in collections:
            try:
                plans.append(plan_collection(server, embedding, collection, around, options))
            except Refused as refused:
                problems += refused.problems
            except TypesenseError as error:
                if error.status != 400 or not collection.filter_by:
                    raise
                told = f"--collections-file: filter_by {collection.filter_by!r} of {collection.name!r}: {error}"
                problems.append(told)
    except TypesenseError as error:
        raise Refused(explain(server, error)) from error
    problems += _asked_twice(plans)
    if problems:
        raise Refused(*problems)
    return Plan(embedding, tuple(plans), around.version, hazards_of_version(around.version))


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


def refuse_what_loses(plan: Plan, options: MigrationOptions) -> None:
    """Refuse to copy what the copy would lack: values that only the index has, or all beyond a limit.

    Raises:
        Refused: naming the collections, or the fields.
    """
    whole = [
        f"{item.name} ({item.strategy})"
        for item in plan.collections
        if item.strategy in ("recreate", "rebuild", "alter", "alias")
    ]
    if whole and (options.limit or options.until):
        raise Refused(f"--limit, --until: {', '.join(whole)} can only be migrated as a whole")
    problems = [
        f"the field {field['name']!r} of {item.name!r} has `store: false`: {_COPYING[item.strategy]} the collection "
        "would lose its values; give --allow-partial if that is all right"
        for item in plan.collections
        if item.strategy in _COPYING and not options.allow_partial
        for field in item.schema["fields"]
        if field.get("store") is False
    ]
    if problems:
        raise Refused(*problems)


def plan_collection(
    server: Typesense,
    embedding: EmbeddingSettings,
    collection: EmbeddedCollection,
    around: Surroundings,
    options: MigrationOptions,
) -> CollectionPlan:
    """Inspect one collection and decide how it would be migrated. Only reads.

    Args:
        server: where it is.
        embedding: the target.
        collection: what to migrate.
        around: what the server is like.
        options: what is asked for.

    Raises:
        Refused: the collection cannot be migrated.
        TypesenseError: the server cannot be read.
    """
    if collection.skipped:
        return CollectionPlan(collection, collection.name, {}, "skipped", None, embedding.dimensions, 0, 0)
    seen = inspect(server, embedding, collection, around)
    plan = plan_of(seen, options)
    if plan.strategy != "in place" and not (plan.is_swapped or seen.is_dropped):
        is_added = plan.strategy == "into" and next_of(seen.schema) is None
        refuse_by_documents(server, seen, second=plan.collection.embedding_field if is_added else "")
    return plan


def plan_of(seen: Inspected, options: MigrationOptions) -> CollectionPlan:
    """How a collection would be migrated, which follows from what was seen of it.

    Raises:
        Refused: it cannot be, or not as it is asked for.
        TypesenseError: that depends on the aliases, and the server did not list them.
    """
    if seen.pair is not None and seen.pair.is_swapped:
        return _plan_of_swapped(seen, seen.pair, into=options.into)
    chosen: ChosenStrategy = options.strategy or "auto"
    strategy = decide(seen.old_dimensions, seen.new_dimensions, "alter" if seen.refill else chosen)
    if seen.is_dropped:
        strategy = "recreate"
    if into := _second_field(seen, options):
        strategy = "into"
        if seen.refill is not None or seen.is_dropped:
            raise Refused(
                f"--into: {unfinished(seen.around.collections, seen.name)}; run that migration again without --into, "
                "which finishes it"
            )
    if problem := objection(seen, strategy, allow_lag=options.allow_lag):
        raise Refused(problem)
    documents, old, new = seen.documents, seen.old_dimensions, seen.new_dimensions
    away = away_seconds(documents, old or new, new, is_required=not seen.vector_field.get("optional"))
    seconds = server_seconds(documents, new, away)
    is_begun = seen.is_dropped or seen.refill is not None or next_of(seen.schema) is not None
    return CollectionPlan(
        replace(seen.collection, embedding_field=into) if into else seen.collection,
        seen.name,
        seen.schema,
        strategy,
        old,
        new,
        documents,
        seen.eligible,
        server_seconds=seconds,
        away_seconds=away,
        ways=() if is_begun else ways_open(seen, seconds, away),
        hazards=(*_first_to_know(seen, strategy, chosen), *find_hazards(seen, strategy, insists=chosen == "recreate")),
        beside=seen.collection.embedding_field if into else "",
        leftover=seen.mark,
        successor=next_name(seen.name) if strategy == "alias" else "",
    )


def _second_field(seen: Inspected, options: MigrationOptions) -> str:
    """The field that is to be filled beside the collection's own; empty where its own is to be migrated.

    Raises:
        Refused: it cannot be that field, or another one is being filled.
    """
    schema, name, serving, into = seen.schema, seen.name, seen.collection.embedding_field, options.into
    described = seen.collection.next_field if options.strategy in (None, "auto", "into") else ""
    found = next_of(schema)
    wanted = (into or described).replace("{field}", found.of if found else serving)
    if options.strategy == "into" and not wanted:
        raise Refused(
            f"--strategy into: which field of {name!r} is to be filled is not said; give --into FIELD, or next_field "
            "in the collections file"
        )
    if found is not None:
        if found.field != wanted:
            raise Refused(f"--into: collection {name!r} has a second field already: {found.ways_out}")
        if found.phase in ("contracting", "withdrawing"):
            raise Refused(f"--into: {found.leaving}")
        if found.fingerprint != seen.fingerprint:
            raise Refused(
                f"--into: the field {wanted!r} of collection {name!r} is filled with another model's vectors, or by "
                f"another template: {found.ways_out}"
            )
        return wanted
    if not wanted or (wanted == serving and not into):
        return ""
    if wanted == serving:
        raise Refused(f"--into: {wanted!r} is the embedding field of collection {name!r} already; name another one")
    if problem := _name_problem(wanted, schema):
        option = "--into" if into else "next_field"
        raise Refused(f"{option}: {wanted!r} cannot be a second embedding field of collection {name!r}: {problem}")
    return wanted


def _name_problem(wanted: str, schema: Schema) -> str:
    if not wanted.strip() or wanted != wanted.strip() or wanted == "id" or "*" in wanted:
        return "Typesense takes no such name; choose one of letters, digits and underscores"
    if "." in wanted:
        return "it would lie inside an object, where Typesense cannot update it alone"
    if embedding_field(schema, wanted) is not None:
        return "there is a field of this name, which this program has not made; choose another name"
    return ""


def _first_to_know(seen: Inspected, strategy: Strategy, chosen: ChosenStrategy) -> Iterator[str]:
    """What a dead run has left, and what of the options does nothing."""
    mark, old, collection = seen.mark, seen.old_dimensions, seen.collection
    if collection.on_request:
        yield (
            f"the template {collection.template!r} is taken from KAI's schema of {collection.name!r}; "
            "compare it with what your version of KAI embeds, and name another in a collections file where it differs"
        )
    if mark is not None:
        becomes = "it is of no use to this run, which removes it"
        if strategy == "recreate" and mark.fingerprint == seen.fingerprint:
            becomes = "this run goes on from there"
        elif seen.is_dropped:
            becomes = "this run finishes that one first, for the shadow is the full copy, and then does its own work"
        yield f"run {mark.run} left a shadow behind ({mark.phase}); {becomes}"
    if seen.refill is not None:
        yield f"run {seen.refill.get('run')} took the vector field out and did not finish; this run does"
    elif strategy == "into":
        return
    elif old is None and chosen != "auto":
        yield f"--strategy {chosen} has no effect: without a num_dim there is no index to take out"
    elif old == seen.new_dimensions and chosen == "recreate":
        yield "--strategy recreate has no effect: the length of the vectors stays, so they go in place"


def _plan_of_swapped(seen: Inspected, pair: Pair, *, into: str | None) -> CollectionPlan:
    """How to go on with a collection in whose place a run has put another.

    Raises:
        Refused: that run had another target, or is finished or taken back at the moment.
    """
    if into:
        raise Refused(f"--into: {standing_in_the_way(pair)}")
    return CollectionPlan(
        seen.collection,
        pair.old,
        refuse_another_target(pair, seen.fingerprint),
        "alias",
        seen.old_dimensions,
        seen.new_dimensions,
        seen.documents,
        seen.eligible,
        server_seconds=server_seconds(seen.documents, seen.new_dimensions, 0.0),
        successor=pair.new,
        is_swapped=True,
        hazards=(
            f"run {pair.run} put {pair.new!r} in the place of {pair.old!r}; this run carries over what was written to "
            "that since",
        ),
    )


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
