"""Empty, then fill: the strategies `rebuild` (same dimensions) and `alter` (other ones).

    embed everything and back up -> mark -> drop the field -> take its values out of the documents
    -> add the field again, while nothing has a value for it -> passes in place fill it

Updating an indexed vector is the slowest thing that Typesense does; filling an empty index is six to ten times
as fast (measured on 29.0: 8.5 s in all for 6,000 documents of 768 dimensions that took 52 s in place). The
collection never disappears and takes writes all the time; only its vector search pauses, for the second or two
without the field, then tells the new model's vectors alone, as far as they are there. Everything was embedded
before that begins, and from the moment the field stands again the server itself refuses vectors of another length.

The mark in the collection's metadata holds the field's attributes, so that any start, on any machine, can
finish what a dead run began: is the field missing? add it; then passes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any, Final

from kai.typesense import Schema, TypesenseError, embedding_field
from kai.typesense_changes import alter_fields_until, wait_for_alters
from kai.typesense_schemas import vector_field
from migration.backup import BackupWriter
from migration.documents.fetch import Page, Selection, export_pages, fetch_newest, fetch_pages
from migration.documents.update import import_documents, take_values_out, update_line
from migration.strategies.context import StrategyStopped
from migration.strategies.moment import passed, ready
from migration.strategies.passes import Passes
from migration.strategies.shadow_state import MARK, REFILLING, own_metadata, unfinished_refill
from migration.strategies.staging import Staging
from migration.strategies.task import Task

_NEWEST: Final = 30
"""Documents that are looked at before each try to add the field: an application that keeps writing adds there."""
_TRIES_BETWEEN_SWEEPS: Final = 5
"""Tries after which the whole collection is looked through: changed documents are not among the newest."""
_TRIES_BEFORE_A_WORD: Final = 20
_BETWEEN_TRIES: Final = 0.01
"""Seconds, more with every try, so that a server under load is not asked without a pause."""
_REQUIREMENTS: Final = 5
"""How often a field is to become required again while documents without a vector keep coming."""
_REFUSED: Final = ("incompatible", "already part of the schema")
"""What the server says where stored values are of another length, and where it has made the field again by itself."""
_INCOMPLETE: Final = ("incompatible", "not found in the documents already present")
"""What it says where a required field has no value in some documents, or one of another length."""


class Refill:
    """One collection, its vector field emptied and filled again.

    Args:
        task: its plan's strategy is `rebuild` or `alter`.
        backup: that is begun already; None to open one.
    """

    def __init__(self, task: Task, backup: BackupWriter | None = None) -> None:
        self._task = task
        self._context = task.context
        self._server = task.server
        self._plan = task.plan
        self._name, self._field = task.name, task.field
        self._source = task.source
        self._backup = backup
        self._outcome = task.outcome

    def run(self) -> None:
        """From wherever it stands to the end.

        Raises:
            StrategyStopped: nothing was changed yet; or the field stands, and documents keep it from being required.
        """
        self._outcome.complete = False
        self._server.settle()
        schema = self._task.schema()
        found = unfinished_refill(schema)
        wanted = self._wanted_field(schema, found)
        mark = self._taken_over(found, wanted) if found else None
        if not wanted.get("optional"):
            self._source = self._source.everywhere()
        if mark is None and self._nothing_to_write():
            if self._context.options.rehearse:
                self._outcome.rehearsed = not self._task.is_stopped
                return
            self._passes("Checking", backs_up=True).run(self._plan.eligible)
            return
        if not (self._is_given(wanted) if mark is None else self._has_vectors()):
            return
        self._server.settle()
        if unfinished_refill(self._task.schema()) != found:
            raise StrategyStopped(f"another run is emptying or filling {self._name!r}; wait until it has ended")
        mark = self._stand_empty(mark, wanted)
        passed(self._task)
        self._fill(mark, wanted)

    def _taken_over(self, found: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
        """What a dead run wrote down, as this run's: of another target, it begins anew with the emptying."""
        mark = found | {"field": wanted}
        if found.get("fingerprint", self._source.fingerprint) == self._source.fingerprint:
            return mark
        # A field that stands is away only from here on.
        dropped_at = 0.0 if found["phase"] == "filling" else found.get("dropped_at", 0.0)
        return mark | {"phase": "emptying", "fingerprint": self._source.fingerprint, "dropped_at": dropped_at}

    @property
    def _changes_dimensions(self) -> bool:
        return self._plan.old_dimensions != self._plan.new_dimensions

    def _wanted_field(self, schema: Schema, mark: dict[str, Any] | None) -> dict[str, Any]:
        """The field as it is to stand in the end: its own attributes, the target's length."""
        if mark is not None:
            return dict(mark["field"]) | {"num_dim": self._plan.new_dimensions}
        found = embedding_field(schema, self._field)
        if found is None:
            raise StrategyStopped(f"collection {self._name!r} has no field {self._field!r}")
        return vector_field(found, self._plan.new_dimensions)

    # -- before the pause ------------------------------------------------------------------------------

    def _nothing_to_write(self) -> bool:
        """Whether every eligible document carries the target's vector: no reason to pause the search."""
        context, source = self._context, self._source
        if self._changes_dimensions or context.options.force:
            return False
        selection = Selection(self._field, source.filter_by, source.collection.text_fields)
        for page in fetch_pages(self._server, self._name, selection):
            known = self._task.known(page)
            for document in page:
                if source.failing(document) is None and source.current(document, known.get(document.id)) is None:
                    return False
            if self._task.is_stopped:
                return False
        return True

    def _has_vectors(self) -> bool:
        """Where the old values are out already, or may be: every vector is at hand; False if the run was stopped."""
        Staging(self._task, self._source).gather()
        return not self._task.is_stopped

    def _is_given(self, wanted: dict[str, Any]) -> bool:
        """Every vector is at hand and every old one in the backup, and nobody has anything against the pause.

        Raises:
            StrategyStopped: something would be without a vector where the field must have one.
        """
        backup = self._backup or self._task.open_backup("vectors")
        staging = Staging(self._task, self._source, backup)

        def refuse_gaps() -> None:
            if (without := staging.without) and not wanted.get("optional"):
                raise StrategyStopped(
                    f"the field {self._field!r} must have a value in every document, and {len(without)} would have "
                    f"none, {next(iter(without))!r} among them, because they have no text or the provider refuses it; "
                    "nothing was changed"
                )

        staging.gather()
        if self._task.is_stopped:
            return False
        if backup is not None:
            backup.is_complete = True
        refuse_gaps()
        is_given = ready(self._task, staging.catch_up, refuse_gaps)
        if self._outcome.rehearsed:
            self._outcome.failures = {id_: why for id_, why in staging.without.items() if why is not None}
        elif is_given and backup is not None:
            backup.close(complete=True)
        return is_given

    # -- the pause -------------------------------------------------------------------------------------

    def _stand_empty(self, mark: dict[str, Any] | None, wanted: dict[str, Any]) -> dict[str, Any]:
        """The field stands with the target's length and without the old values; from wherever an earlier run was left.

        Without its field the collection has no vector search: no Ctrl-C ends the waiting for it.
        """
        self._task.enter("emptying", self._plan.eligible)
        with self._server.unstoppable():
            if mark is not None:
                wait_for_alters(self._server, self._name)
                if mark["phase"] == "filling" and self._is_back(self._task.schema()):
                    return mark
            if mark is None or not mark.get("dropped_at"):
                mark = self._mark(**(mark or {}) | {"phase": "emptying", "field": wanted, "dropped_at": time.time()})
            if mark["phase"] != "adding":
                self._alter(self._dropped, lambda now: not _length(now, self._field))
                # Where the length stays, documents outside the filter keep theirs.
                of_these = "" if self._changes_dimensions else self._source.filter_by
                take_values_out(self._server, self._name, self._field, of_these)
                mark = self._mark(**mark | {"phase": "adding"})
            self._task.enter("indexing", self._plan.eligible)
            if not self._is_back(self._task.schema()):
                self._add(wanted)
            return self._mark(**mark | {"phase": "filling", "back_at": time.time()})

    def _mark(self, **values: Any) -> dict[str, Any]:
        """Write down how far it is, for any start that has to go on from here."""
        mark = {
            "role": REFILLING,
            "run": self._context.run.name,
            "old_dimensions": self._plan.old_dimensions,
            "fingerprint": self._source.fingerprint,
            **values,
        }
        self._server.set_metadata(self._name, {**(own_metadata(self._task.schema()) or {}), MARK: mark})
        return mark

    def _add(self, wanted: dict[str, Any]) -> None:
        """Add the field; what an application writes between the last look and the request is taken out again.

        Not given up while the server can be reached: without its field the collection has no vector search.

        Raises:
            StrategyStopped: a document has a value of another length that the server does not let go.
        """
        optional = wanted | {"optional": True}  # A required one cannot be added while nothing has a value.
        selection = Selection(self._field, fields=())
        sorted_otherwise = bool(self._plan.schema.get("default_sorting_field"))
        for attempt in count(1):
            kept: dict[str, str] = {}
            if sorted_otherwise or attempt % _TRIES_BETWEEN_SWEEPS == 0:
                for page in export_pages(self._server, self._name, selection):
                    kept |= self._clean(page)
            kept |= self._clean(fetch_newest(self._server, self._name, selection, _NEWEST)[1])
            try:
                self._alter(lambda now: [*self._dropped(now), optional], self._is_back)
            except TypesenseError as error:
                if error.status != 400 or not any(words in str(error) for words in _REFUSED):
                    raise
                if kept:
                    document_id, why = next(iter(kept.items()))
                    raise StrategyStopped(
                        f"the field {self._field!r} of {self._name!r} cannot come back while {len(kept)} documents "
                        f"keep a value of another length, {document_id!r} among them ({why}); mend or delete them, "
                        "and run again"
                    ) from error
                self._context.console.detail(f"the field cannot come back yet: {error}")
                if attempt == _TRIES_BEFORE_A_WORD:
                    self._context.console.warn(
                        f"An application keeps writing vectors of another length into {self._name!r}, which keep its "
                        f"field {self._field!r} away; it is tried again until it stands. To have it sooner, pause what "
                        "writes them."
                    )
                if attempt >= _TRIES_BEFORE_A_WORD and self._task.is_stopped:
                    raise StrategyStopped(
                        f"the field {self._field!r} of {self._name!r} is out of the schema, because vectors of another "
                        "length keep coming; pause what writes them, and run again"
                    ) from error
                time.sleep(min(attempt * _BETWEEN_TRIES, 1.0))
            else:
                return

    def _clean(self, page: Page) -> dict[str, str]:
        """Take away values of another length than the field is to have; those that the server refuses to, and why."""
        wanted = self._plan.new_dimensions
        wrong = [d.id for d in page if d.numbers is not None and _numbers(d.vector_bytes()) != wanted]
        lines = {document_id: update_line(document_id, self._field, None) for document_id in wrong}
        return import_documents(self._server, self._name, lines).failed if lines else {}

    def _is_back(self, schema: Schema) -> bool:
        """Whether the field stands there as a vector index of the target's length."""
        return _length(schema, self._field) == self._plan.new_dimensions

    def _dropped(self, schema: Schema) -> list[dict[str, Any]]:
        """The part of an alter that drops the field, where it stands."""
        return [{"name": self._field, "drop": True}] if embedding_field(schema, self._field) else []

    def _alter(self, change: Callable[[Schema], list[dict[str, Any]]], is_done: Callable[[Schema], bool]) -> None:
        """Alter the schema and wait until it is done, however long the server takes.

        Args:
            change: the fields of the alter, by the schema as it stands.
            is_done: whether a schema has what was wanted.
        """
        claim = f"that it changed the fields of {self._name!r}"
        alter_fields_until(self._server, self._name, change, is_done, claim=claim)

    # -- after the pause -------------------------------------------------------------------------------

    def _fill(self, mark: dict[str, Any], wanted: dict[str, Any]) -> None:
        """Passes in place, which are the proof; then the mark goes."""
        outcome = self._outcome
        dropped_at, back_at = float(mark["dropped_at"]), float(mark["back_at"])
        outcome.downtime_seconds = back_at - dropped_at
        # A server that takes the old length still may get an old vector after the new one was read back.
        passes = self._passes("Filling", read_back=self._changes_dimensions)
        try:
            passes.run(self._plan.eligible)
        finally:
            outcome.incomplete_seconds = (passes.first_ended_at or time.time()) - back_at
        if not outcome.complete:
            return
        if not wanted.get("optional") and not self._is_required(self._task.schema()):
            with self._server.unstoppable():
                self._require(wanted)
        self._server.set_metadata(self._name, own_metadata(self._task.schema()) or {})
        outcome.notes.append(
            f"vector search paused for {outcome.downtime_seconds:.2f} s, and told a part of the documents for "
            f"{outcome.incomplete_seconds:.2f} s; keyword search did not pause"
        )

    def _passes(self, doing: str, *, backs_up: bool = False, read_back: bool = False) -> Passes:
        task = replace(self._task, source=self._source)
        return Passes(task, self._task.schema(), doing=doing, backs_up=backs_up, read_back=read_back)

    def _require(self, wanted: dict[str, Any]) -> None:
        """The field must have a value in every document again: dropped and added once more, over all of its values."""
        outcome = self._outcome
        self._task.enter("indexing", self._plan.eligible)
        for _ in range(_REQUIREMENTS):
            begun = time.time()
            try:
                self._alter(lambda now: [*self._dropped(now), wanted], self._is_required)
            except TypesenseError as error:
                if error.status != 400 or not any(words in str(error) for words in _INCOMPLETE):
                    raise
                self._passes("Filling").run(self._plan.eligible)  # The application has added documents without one.
            else:
                outcome.downtime_seconds = (outcome.downtime_seconds or 0.0) + time.time() - begun
                return
        named = f", {next(iter(outcome.failures))!r} among them" if outcome.failures else ""
        raise StrategyStopped(
            f"the field {self._field!r} of {self._name!r} stands and is filled, but is optional for now: it must have "
            f"a value in every document, and some have none{named}; give them a text, or delete them, and run again"
        )

    def _is_required(self, schema: Schema) -> bool:
        return self._is_back(schema) and not (embedding_field(schema, self._field) or {}).get("optional")


def _length(schema: Schema, field_name: str) -> int | None:
    length: int | None = (embedding_field(schema, field_name) or {}).get("num_dim")
    return length


def _numbers(vector: bytes | None) -> int | None:
    """How many numbers a vector has; None for what is no vector at all."""
    return None if vector is None else len(vector) // 4
