"""How a collection goes back: to the vectors of a backup, or to what served before a second field was filled."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from kai.collections import EmbeddedCollection, described_as, load_collections
from kai.settings import ChosenStrategy, Settings
from kai.typesense import Schema, Typesense, embedding_field
from kai.typesense_schemas import serving_field, signature_of, signed
from migration.backup import Backup
from migration.backup.lookup import OldVectors
from migration.backup.shelf import folder_name
from migration.operations.models.earlier_model import earlier_model, readable_cache
from migration.runtime.console import Console
from migration.strategies.alias.back import SwapBack
from migration.strategies.alias.state import Pair
from migration.strategies.by_strategy import by_strategy
from migration.strategies.context import Outcome, RunContext
from migration.strategies.curation import refuse_unusable
from migration.strategies.plan import CollectionPlan
from migration.strategies.refusals import Refused, Strategy, decide, way_problem
from migration.strategies.restorable_curation import restorable
from migration.strategies.second_field.expand import Contract
from migration.strategies.second_field.mark import NextField, next_of, set_next
from migration.strategies.shadow_state import find_shadow, past_the_drop, read_mark, role_of, unfinished_refill
from migration.strategies.sources import (
    UNDESCRIBED,
    AsItStands,
    KnownModels,
    PutBack,
    VectorSource,
    fingerprint_before,
)
from migration.strategies.task import Task


@dataclass(frozen=True, slots=True)
class WayBack:
    """One collection's way back.

    Attributes:
        plan: how it goes.
        backup: what it goes back to.
        is_gone: whether there is no such collection, nor what a dead run made of it.
        stopped: how the line begins that says that it was stopped.
    """

    plan: CollectionPlan
    backup: Backup
    is_gone: bool
    stopped: str = "Stopped"

    def what_happens(self, address: str) -> str:
        """In a line, before anything is changed."""
        count, theirs = self.backup.count()[1], self.backup.manifest.server
        origin = "" if theirs == address else f"; the backup is of ANOTHER SERVER, {theirs}, this one is {address}"
        if self.is_gone:
            return f"DOES NOT EXIST; it will be CREATED, with the {count} documents of the backup{origin}"
        return f"{count} old vectors of {self.plan.new_dimensions or 'any'} dimensions, {self.plan.strategy}{origin}"

    def announce(self, console: Console) -> None:
        plan = self.plan
        console.line(f"Going back for '{plan.name}' to what run {self.backup.manifest.run} replaced...")
        dimensions = f"{plan.old_dimensions or 'none'} -> {plan.new_dimensions or 'none'}"
        console.line(f"  - Dimensions: {dimensions}, {plan.strategy}")

    def tell_completed(self, console: Console, outcome: Outcome) -> None:
        failed = len(outcome.failures)
        console.line(f"  Complete: {outcome.success} vectors stand as they stood, {failed} failed")

    def source(self, context: RunContext, stack: contextlib.ExitStack) -> PutBack:
        scratch = context.home / "runs" / context.run.name / f"{folder_name(self.plan.name)}.vectors"
        vectors = stack.enter_context(contextlib.closing(OldVectors(self.backup, scratch)))
        return PutBack(context, self.plan, self.backup.manifest.run, vectors, _known_models(context, stack))

    def carry_out(self, task: Task) -> CollectionPlan:
        return by_strategy(task, self._plan_anew)

    def _plan_anew(self, context: RunContext) -> CollectionPlan:
        return way_back(context.server, self.plan.name, self.backup, self.plan.collection).plan

    def conclude(self, context: RunContext, plan: CollectionPlan, outcome: Outcome) -> None:
        """The collection's metadata names the model that it named before."""
        context.server.settle()
        schema: Schema = context.server.collection(plan.name) or {}
        if plan.beside:
            field = plan.collection.embedding_field
            earlier = signature_of(self.backup.schema, field)
            signature = earlier | {"field": field} if earlier else None
            set_next(context.server, plan.name, next_of(schema), lambda now: signed(now, field, signature, beside=True))
            outcome.notes.append(
                f"set the application to the field {field!r} and its model, both at one moment; then `kai-migrate "
                f"finish {context.run.name}` takes {plan.beside!r} out of '{plan.name}'"
            )
            return
        metadata = dict(schema.get("metadata") or {})
        former = (self.backup.schema.get("metadata") or {}).get("embedding")
        if metadata.get("embedding") != former:
            metadata.pop("embedding", None)
            context.server.set_metadata(plan.name, {**metadata, **({"embedding": former} if former else {})})


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A second field that is taken out again; nothing else was ever changed.

    Attributes:
        plan: which field goes, and which one stays.
        mark: of the collection.
        is_gone: never.
        stopped: how the line begins that says that it was stopped.
    """

    plan: CollectionPlan
    mark: NextField
    is_gone: bool = False
    stopped: str = "Stopped"

    @classmethod
    def of(cls, schema: Schema, mark: NextField) -> Withdrawal:
        """Of a collection with a second field.

        Raises:
            Refused: the field that served before is being taken out already.
        """
        if mark.phase == "contracting":
            raise Refused(mark.leaving)
        name, count = str(schema["name"]), int(schema["num_documents"])
        collection = EmbeddedCollection(name, mark.field, UNDESCRIBED)
        length, stays = _length(schema, mark.field), _length(schema, mark.of)
        return cls(
            CollectionPlan(collection, name, schema, "into", length, stays or 0, count, count, beside=mark.of), mark
        )

    def what_happens(self, _address: str) -> str:
        """In a line, before anything is changed."""
        return f"the field {self.mark.field!r} is taken out with its values; {self.mark.of!r} was never changed"

    def announce(self, console: Console) -> None:
        console.line(f"Taking the field {self.mark.field!r} out of '{self.plan.name}'...")

    def tell_completed(self, console: Console, outcome: Outcome) -> None:
        console.line(f"  Complete: {self.mark.field!r} is gone, {self.mark.of!r} stands as it stood")

    def source(self, context: RunContext, stack: contextlib.ExitStack) -> AsItStands:
        return AsItStands(self.plan.collection)

    def carry_out(self, task: Task) -> CollectionPlan:
        Contract(task, self.mark.field, backs_up=False).run()
        task.outcome.success = self.plan.documents - len(task.outcome.failures)
        return self.plan

    def conclude(self, context: RunContext, plan: CollectionPlan, outcome: Outcome) -> None:
        """Nothing is left to be said: the mark went with the field."""


@dataclass(frozen=True, slots=True)
class SwapBackWay:
    """A collection that serves again, in place of the one that took its place.

    Attributes:
        plan: which collection, and its successor.
        settings: the model that is configured, which may be the earlier one.
        is_gone: never.
        stopped: how the line begins that says that it was stopped.
    """

    plan: CollectionPlan
    settings: Settings
    is_gone: bool = False
    stopped: str = "Stopped"

    def what_happens(self, _address: str) -> str:
        """In a line, before anything is changed."""
        return f"its aliases lead to it again, with what was written since; {self.plan.successor!r} goes"

    def announce(self, console: Console) -> None:
        console.line(f"Going back from '{self.plan.successor}' to '{self.plan.name}'...")

    def tell_completed(self, console: Console, outcome: Outcome) -> None:
        console.line(f"  Complete: '{self.plan.name}' serves again, '{self.plan.successor}' is gone")

    def source(self, context: RunContext, stack: contextlib.ExitStack) -> VectorSource:
        return earlier_model(self.settings, context, stack, self.plan.collection, self.plan.schema)

    def carry_out(self, task: Task) -> CollectionPlan:
        return SwapBack(task).run()

    def conclude(self, context: RunContext, plan: CollectionPlan, outcome: Outcome) -> None:
        """Nothing is left to be said: which model the vectors are from was said all along."""


AnyWay: TypeAlias = WayBack | Withdrawal | SwapBackWay


def swap_back(server: Typesense, settings: Settings, pair: Pair, collections_file: Path | None) -> SwapBackWay:
    """How a collection whose place was taken comes to serve again.

    Raises:
        Refused: it is gone, or a run is at it.
    """
    mark, schema = pair.mark, pair.old_schema
    if mark is None or schema is None:
        raise Refused(
            f"run {pair.run} was being finished, and collection {pair.old!r} is gone; run `kai-migrate finish "
            f"{pair.run}` again"
        )
    if mark.held_elsewhere:
        raise Refused(mark.holder)
    known, aliases = load_collections(collections_file), server.aliases()
    described = described_as(known, pair.new, aliases) or described_as(known, pair.old, aliases)
    collection = replace(
        described or EmbeddedCollection(pair.old, mark.embedding_field, UNDESCRIBED),
        embedding_field=mark.embedding_field,
    )
    return SwapBackWay(
        CollectionPlan(
            collection,
            pair.old,
            schema,
            "alias",
            mark.dimensions,
            _length(schema, mark.embedding_field) or 0,
            int(schema["num_documents"]),
            server.count(pair.old, collection.filter_by),
            successor=pair.new,
        ),
        settings,
    )


def ways_back(server: Typesense, backups: Mapping[str, Backup], collections_file: Path | None) -> list[WayBack]:
    known, aliases = load_collections(collections_file), server.aliases()
    return [way_back(server, name, backup, described_as(known, name, aliases)) for name, backup in backups.items()]


def way_back(server: Typesense, name: str, backup: Backup, collection: EmbeddedCollection | None) -> WayBack:
    """How a collection goes back to a backup.

    Raises:
        Refused: it cannot, and why.
    """
    field_name = backup.manifest.embedding_field
    schema, shadow = server.collection(name), find_shadow(server.collections(), name)
    mark = read_mark(shadow) if shadow else None
    if mark is not None and mark.held_elsewhere:
        raise Refused(mark.holder)
    described = collection or EmbeddedCollection(name, field_name, UNDESCRIBED)
    collection = replace(described, embedding_field=field_name)  # Which may be another one by now.
    new = _length(backup.schema, field_name)
    refill = unfinished_refill(schema) if schema else None
    # One of this very way back is gone on with.
    if refill and refill.get("fingerprint") != fingerprint_before(backup.manifest.run, new or 0, collection.template):
        raise Refused(
            f"run {refill.get('run')} took the vector field of {name!r} out and did not finish; run that "
            "migration again, which puts it back, and go back then"
        )
    beside = _beside(schema, field_name) if schema is not None and not refill else ""
    if schema is not None and not refill and not beside and embedding_field(schema, field_name) is None:
        raise Refused(
            f"collection {name!r} has no field {field_name!r}, which the backup "
            f"{backup.folder} of {backup.manifest.collection!r} holds the vectors of"
        )
    if schema is not None and role_of(schema) == "replaced":
        raise Refused(
            f"another collection took the place of {name!r}, which only stands until that is finished; kai-migrate "
            "list shows by which run; finish it, or take it back, first"
        )
    backup.verify()
    is_gone = schema is None and shadow is None
    if is_gone and backup.manifest.kind == "vectors":
        raise Refused(
            f"collection {name!r} does not exist on {server.url}, and the backup holds vectors, not documents"
        )
    old = refill["old_dimensions"] if refill else _length(schema, field_name)
    standing = shadow if schema is None or past_the_drop(mark, schema) else schema
    documents = int(standing["num_documents"]) if standing else backup.count()[1]
    # A run that emptied and filled backed up vectors alone, and goes back in the same way where it can.
    as_it_came = backup.manifest.kind == "vectors" or server.lags
    may_refill = as_it_came and old != new and schema is not None and not way_problem(collection, schema, "alter")
    chosen: ChosenStrategy = "alter" if refill or may_refill else "auto"
    strategy: Strategy = "in place" if new is None else decide(old, new, chosen)
    if beside:
        strategy, old = "into", _length(schema, beside)
    if is_gone or (schema is not None and role_of(schema) == "restored"):
        strategy = "create"
    elif past_the_drop(mark, schema):
        strategy = "recreate"
    if strategy == "create":
        restorable(server, backup, name)
    elif strategy == "recreate" and schema is not None and not past_the_drop(mark, schema):
        refuse_unusable(server, [schema], contents=True)
    return WayBack(
        CollectionPlan(
            collection,
            name,
            standing or backup.schema,
            strategy,
            old,
            new or 0,
            documents,
            documents,
            beside=beside,
            leftover=mark,
            backup=backup,
        ),
        backup,
        is_gone,
    )


def _beside(schema: Schema, field_name: str) -> str:
    """The field that has taken this one's place since; empty if it serves still.

    Raises:
        Refused: a second field waits, and is to be settled first.
    """
    mark = next_of(schema)
    if mark is not None and mark.field != field_name:
        raise Refused(f"collection {schema['name']!r} has a second field: {mark.ways_out}")
    if mark is not None:
        return mark.of
    serving = serving_field(schema, field_name)
    return serving if serving != field_name else ""


def _length(schema: Schema | None, field_name: str) -> int | None:
    found = embedding_field(schema, field_name) if schema else None
    return found.get("num_dim") if found else None


def _known_models(context: RunContext, stack: contextlib.ExitStack) -> KnownModels:
    """By the vector cache; without one no model is known."""
    cache = readable_cache(context, stack)
    return KnownModels(cache, [known.model for known in context.ledger.models()] if cache is not None else ())
