"""Expand and contract: a second vector field is filled beside the one that serves; the operator says when to switch.

    expand: mark -> add the field, optional -> passes fill it      (the old field is never written: search goes on)
    the application switches, field and model at one moment
    contract: back up the old vectors -> drop the old field -> take its values out of the documents

Filling a field beside another is nearly as fast as inserting (29.0 and 30, 6,000 documents of 768 dimensions: 850 a
second, where rewriting an indexed vector is 150), and no search ever meets two models' vectors. Going back before the
contraction is a contraction of the new field; going back after it is an expansion in the other direction, filled from
the backup. The mark in the collection's metadata (`migration.strategies.second_field.mark`) says how far it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from kai.collections import EmbeddedCollection
from kai.typesense import Schema, Typesense, TypesenseError, embedding_field
from kai.typesense_changes import alter_fields_until, wait_for_alters
from kai.typesense_schemas import handed_on, other_vector_fields, signed, vector_field
from migration.documents.fetch import Page, Selection, export_pages
from migration.documents.update import take_values_out
from migration.embedding.embed import text_hash
from migration.ledger import Ledger
from migration.strategies.context import Failure, StrategyStopped
from migration.strategies.passes import Passes
from migration.strategies.second_field.mark import NextField, Phase, next_of, set_next
from migration.strategies.task import Task

_INCOMPATIBLE: Final = "incompatible"
"""What the server says where a document has a value of another length by the new field's name."""
_NAMED: Final = 3


class Expand:
    """A second field of one collection, added and filled.

    Args:
        task: its plan's strategy is `into`; `plan.beside` is the field that serves.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._server = task.server
        self._outcome = task.outcome

    def run(self) -> None:
        """From wherever it stands until every document has its vector in the new field.

        Raises:
            StrategyStopped: the field cannot be added, or the collection is in other hands.
        """
        task, plan, outcome = self._task, self._task.plan, self._outcome
        outcome.complete = False
        self._server.settle()
        schema = task.schema()
        wanted = self._wanted_field(schema)
        found = next_of(schema)
        mark = self._mark(found)
        task.context.ledger.name_field(self._server.address, task.name, plan.beside)
        if found is not None and found.phase == "filling":
            wait_for_alters(self._server, task.name)  # Of a dead run, whose field shows before it can be used.
        self._add(wanted)
        limit = task.context.options.limit_of(plan.eligible)
        Passes(task, task.schema(), doing="Filling", limit=limit, read_back=limit is None).run(plan.eligible)
        if not outcome.complete:
            return
        if plan.backup is not None and not wanted.get("optional"):
            self._require(wanted)
        outcome.waits = True
        self._server.settle()
        if next_of(task.schema()) == mark:  # Else somebody finishes it, or takes it back.
            set_next(self._server, task.name, replace(mark, phase="waiting"))

    def _wanted_field(self, schema: Schema) -> dict[str, Any]:
        """As the field that serves; on the way back as it was backed up."""
        plan, new = self._task.plan, self._task.field
        like = embedding_field(schema, plan.beside)
        if plan.backup is not None:
            like = embedding_field(plan.backup.schema, new)
        if like is None:
            raise StrategyStopped(f"collection {self._task.name!r} has no field {plan.beside!r} any more")
        return vector_field(like | {"name": new, "type": "float[]"}, plan.new_dimensions)

    def _mark(self, found: NextField | None) -> NextField:
        """This run's, on the server before anything else is done."""
        task = self._task
        # One of a dead run, or of a run that waits, is gone on with under its own name.
        run = found.run if found else task.context.run.name
        fingerprint, kind = task.source.fingerprint, task.context.run.kind
        mark = NextField(task.field, task.plan.beside, run, "filling", fingerprint, kind)
        if found is not None and replace(found, phase="filling") != mark:
            raise StrategyStopped(f"collection {task.name!r} is in other hands meanwhile: {found.ways_out}")
        if found is None:
            set_next(self._server, task.name, mark)
        return found or mark

    def _add(self, wanted: dict[str, Any]) -> None:
        """The field stands, optional: no document has a value for it yet."""
        task = self._task

        def stands(schema: Schema) -> bool:
            return (embedding_field(schema, task.field) or {}).get("num_dim") == task.plan.new_dimensions

        task.enter("adding the field")
        try:
            _alter(task, [wanted | {"optional": True}], stands)
        except TypesenseError as error:
            if error.status != 400 or _INCOMPATIBLE not in str(error):
                raise
            raise StrategyStopped(
                f"the field {task.field!r} cannot be added to {task.name!r}: documents have values by that name which "
                f"are no vectors of {task.plan.new_dimensions} dimensions; choose another name, and roll this run back "
                f"({error})"
            ) from error

    def _require(self, wanted: dict[str, Any]) -> None:
        """A field that comes back must have a value in every document as it did, where all have one."""
        task = self._task

        def is_required(schema: Schema) -> bool:
            found = embedding_field(schema, task.field)
            return found is not None and not found.get("optional")

        if is_required(task.schema()):
            return
        try:
            _alter(task, [{"name": task.field, "drop": True}, wanted], is_required)
        except TypesenseError as error:
            if error.status != 400:
                raise
            self._outcome.notes.append(
                f"the field {task.field!r} of '{task.name}' is optional now, where it was required, because documents "
                "have no value for it"
            )


@dataclass(frozen=True, slots=True)
class Lacking:
    """Documents that have a text and not its vector in a field.

    Attributes:
        count: how many were looked at.
        ids: of those without a vector of the right length, or with that of an earlier text.
        without_text: how many have no text, and so can have no vector.
    """

    count: int
    ids: tuple[str, ...]
    without_text: int

    def __str__(self) -> str:
        named = ", ".join(map(repr, self.ids[:_NAMED]))
        return f"{len(self.ids)} of {self.count} documents ({named}{', …' if len(self.ids) > _NAMED else ''})"


def lacking(
    server: Typesense,
    ledger: Ledger,
    collection: EmbeddedCollection,
    schema: Schema,
    pages: Iterable[Page] | None = None,
) -> Lacking:
    """Which documents lack their vector in the collection's embedding field. Reads the collection once.

    Args:
        server: where it is.
        ledger: knows of which text a vector is, where the run was this machine's.
        collection: text template, filter, and the field that is looked at.
        schema: as the server gave it.
        pages: the documents to look at; None for every eligible one.
    """
    name, field_name = str(schema["name"]), collection.embedding_field
    dimensions = (embedding_field(schema, field_name) or {}).get("num_dim")
    selection = Selection(field_name, collection.filter_by, collection.text_fields)
    ids: list[str] = []
    count = without_text = 0
    for page in pages if pages is not None else export_pages(server, name, selection):
        known = ledger.documents(server.address, name, [document.id for document in page], field=field_name)
        for document in page:
            count += 1
            stored, record = document.vector_bytes(), known.get(document.id)
            text = collection.text_of(document.fields)
            if not text:
                without_text += 1
                continue
            is_there = stored is not None and len(stored) == 4 * int(dimensions or 0)
            is_stale = record is not None and record.has_vector(stored) and record.text_hash != text_hash(text)
            if not is_there or is_stale:
                ids.append(document.id)
    return Lacking(count, tuple(ids), without_text)


class Contract:
    """One of two fields taken out of a collection, with its values; the other one serves.

    Args:
        task: of the collection.
        goes: the field that is taken out.
        backs_up: whether the vectors that go are put on disk first.
        is_served: whether every document has its vector in the field that stays; asked last before anything goes.
    """

    def __init__(self, task: Task, goes: str, *, backs_up: bool, is_served: Callable[[], str] = str) -> None:
        going = replace(task.plan.collection, embedding_field=goes)
        self._task = replace(task, plan=replace(task.plan, collection=going))
        self._server = task.server
        self._backs_up = backs_up
        self._is_served = is_served

    def run(self) -> None:
        """From wherever it stands to the end.

        Raises:
            StrategyStopped: the application still writes without the field that stays; nothing was dropped.
        """
        task, server = self._task, self._server
        server.settle()
        mark = next_of(task.schema())
        if mark is None or task.field not in (mark.field, mark.of):
            raise StrategyStopped(f"collection {task.name!r} has no second field any more")
        is_withdrawn = task.field == mark.field
        leaving: Phase = "withdrawing" if is_withdrawn else "contracting"
        if mark.phase != leaving:
            if self._backs_up and not self._is_backed_up():
                return
            if problem := self._is_served():
                set_next(server, task.name, replace(mark, phase="waiting"))
                raise StrategyStopped(problem)
            set_next(server, task.name, replace(mark, phase=leaving))
        with server.unstoppable():
            self._drop()
            task.enter("emptying", task.plan.documents)
            refused = take_values_out(server, task.name, task.field, advance=task.context.status.add)
            stays = mark.field

            def said(schema: Schema) -> dict[str, Any]:
                return signed(schema, task.field, None) if is_withdrawn else handed_on(schema, task.field, stays)

            set_next(server, task.name, None, said)
        task.outcome.failures |= {document_id: Failure("import", reason) for document_id, reason in refused.items()}
        task.context.ledger.forget_collection(server.address, task.name, field=task.field)
        task.outcome.complete = True

    def _is_backed_up(self) -> bool:
        """Whether the vectors that go are on disk; False if the run was stopped before."""
        task = self._task
        backup = task.open_backup("vectors")
        if backup is not None and task.back_up_whole(backup, other_vector_fields(task.schema(), task.field)):
            backup.close(complete=True)
        return not task.is_stopped

    def _drop(self) -> None:
        task = self._task
        task.enter("dropping the field")

        def is_gone(schema: Schema) -> bool:
            return embedding_field(schema, task.field) is None

        _alter(task, [{"name": task.field, "drop": True}], is_gone)


def _alter(task: Task, fields: Sequence[dict[str, Any]], is_done: Callable[[Schema], bool]) -> None:
    """Change the collection's fields, unless that is done, and wait until it is, however long the server takes."""
    claim = f"that it changed the fields of {task.name!r}"
    alter_fields_until(task.server, task.name, lambda now: [] if is_done(now) else fields, is_done, claim=claim)
