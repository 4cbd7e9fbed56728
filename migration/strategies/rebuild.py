"""The fast way for large collections: the vector field leaves the schema while its values are rewritten.

    embed everything and back up -> mark -> drop the field -> rewrite the values as plain attributes
    -> add the field back with its attributes -> passes in place

Updating an indexed vector is the slowest thing that Typesense does; a plain attribute it rewrites nine times
as fast, and indexes all of them in one go when the field comes back (measured on 29.0: 14.7 s for 6,000
documents of 768 dimensions that took 52 s in place). The collection never disappears and takes writes all
the time; only its vector search pauses, and everything was embedded before that begins. The same way leads
across a change of dimensions (`alter`).

The mark in the collection's metadata holds the field's attributes, so that any start, on any machine, can
finish what a dead run began. An alter may outlast every time-out and goes on without the client: it is
watched at `/operations/schema_changes`, and sent again only when the server shows that it was not done.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from kai.typesense import Schema, Typesense, TypesenseError, embedding_field, nameable
from migration.backup.errors import BackupError
from migration.documents.eligible import eligible_of
from migration.documents.fetch import Page, Selection, export_pages, fetch_pages, other_vector_fields
from migration.documents.pipeline import run_pages
from migration.documents.schemas import vector_field
from migration.documents.update import import_documents, update_line
from migration.embedding.embed import TextFailure
from migration.runtime.control import Control
from migration.strategies.context import Context, Outcome
from migration.strategies.freshness import current_vector
from migration.strategies.passes import InPlace
from migration.strategies.shadow_state import MARK, REBUILDING, own_metadata, unfinished_rebuild

if TYPE_CHECKING:
    from migration.backup import BackupWriter
    from migration.strategies.plan import CollectionPlan

_ADDITIONS: Final = 40
"""How often the field is added back while the application keeps writing vectors of another length."""
_NOT_YET: Final = ("incompatible", "not found in the documents already present", "already part of the schema")
"""What the server says where stored vectors are of another length, where a required one is missing, and where it
has made the field again of the documents by itself."""
_SETTLED: Final = 3.0
"""Seconds for which the server must show no alter before it counts as having none."""
_POLL: Final = 0.25


class RebuildStopped(Exception):  # noqa: N818
    """The field could not be put back; the next start goes on from here."""


class Rebuild:
    """One collection, its vector field taken out and put back.

    Args:
        context: the tools of the run.
        plan: what to do; its strategy is `rebuild` or `alter`.
        open_backup: opens the backup of the old vectors; None for no backup.

    Attributes:
        outcome: what was done so far.
    """

    def __init__(
        self, context: Context, plan: CollectionPlan, open_backup: Callable[[], BackupWriter] | None = None
    ) -> None:
        self._context = context
        self._server = context.server
        self._plan = plan
        self._name = plan.name
        self._field = plan.collection.embedding_field
        self._open_backup = open_backup
        self._begun = 0.0
        self.outcome = Outcome(complete=False)

    def run(self, total: int) -> Outcome:
        """From wherever it stands to the end.

        Args:
            total: eligible documents, for the progress bars.

        Raises:
            RebuildStopped: the field cannot be put back at the moment.
        """
        schema = self._schema()
        mark = unfinished_rebuild(schema)
        if mark is None and self._nothing_to_write():
            self._check(self._in_place("Checking", self._context, self._open_backup), total)
            return self.outcome
        failing = self._embed_everything(total, back_up=mark is None)
        if self._context.control.stopped.is_set():
            return self.outcome
        field = embedding_field(schema, self._field)
        if failing and field and not field.get("optional") and self._changes_dimensions:
            raise RebuildStopped(
                f"the field {self._field!r} must have a value in every document, and {len(failing)} would have none, "
                f"{failing[0]!r} among them, because they have no text or the provider refuses it; nothing was changed"
            )
        # Without its field the collection has no vector search: no Ctrl-C ends the waiting for it.
        with self._server.unstoppable():
            self._pause(schema, mark, total)
        return self.outcome

    def _pause(self, schema: Schema, mark: dict[str, Any] | None, total: int) -> None:
        """From the drop of the field, or wherever an earlier run was left, to the end."""
        if mark is None or (mark["phase"] == "dropping" and embedding_field(schema, self._field)):
            if self._changes_dimensions:
                self._remove_outside_vectors()
            wanted = mark["field"] if mark else self._wanted_field(schema)
            mark = self._mark("dropping", wanted, own_metadata(schema))
            self._begun = time.time()
            self._drop()
        else:
            self._begun = float(mark.get("dropped_at", time.time()))
            wait_for_alters(self._server, self._name)
            found = embedding_field(self._schema(), self._field)
            if found is not None and not self._is_back(self._schema()):
                # Of another target, or found by the server itself in the documents: nothing to search by.
                self._drop()
        if not self._is_back(self._schema()):
            self._put_back(mark["field"], total)
        self.outcome.downtime_seconds = time.time() - self._begun
        self._finish(total)

    @property
    def _changes_dimensions(self) -> bool:
        return self._plan.old_dimensions != self._plan.new_dimensions

    def _is_back(self, schema: Schema) -> bool:
        """Whether the field stands there as a vector index of the target's length."""
        found = embedding_field(schema, self._field)
        return found is not None and found.get("num_dim") == self._plan.new_dimensions

    def _nothing_to_write(self) -> bool:
        """Whether every eligible document with a text carries the target's vector: no reason to pause the search."""
        context, collection = self._context, self._plan.collection
        if self._changes_dimensions or context.force:
            return False
        selection = Selection(self._field, collection.filter_by, collection.text_fields)
        for page in fetch_pages(self._server, self._name, selection):
            known = context.ledger.documents(self._server.address, self._name, [document.id for document in page])
            for document in page:
                text = collection.text_of(document.fields)
                if text and current_vector(document, text, known.get(document.id), context.model.id) is None:
                    return False
            if context.control.stopped.is_set():
                return False
        return True

    # -- before the pause ------------------------------------------------------------------------------

    def _embed_everything(self, total: int, *, back_up: bool) -> list[str]:
        """Every vector is in the cache, and every old one in the backup, before the search pauses.

        Returns:
            Ids of documents that will have no vector.
        """
        failing: list[str] = []
        context, collection = self._context, self._plan.collection
        backup = self._open_backup() if back_up and self._open_backup is not None else None
        excluded = other_vector_fields(self._plan.schema, self._field)
        selection = Selection(self._field, "" if backup else collection.filter_by, excluded=excluded)
        context.status.phase("embedding", collection=self._name, total=total)

        def prepare(page: Page) -> int:
            context.control.wait_while_paused()
            # With a backup the page has documents outside the filter too, which nobody is to pay for.
            wanted = {d.id for d in page} if backup is None else self._may_be_eligible([d.id for d in page])
            texts = {d.id: collection.text_of(d.fields) for d in page if d.id in wanted}
            vectors = context.embedder.embed([text for text in texts.values() if text], past=context.past)
            failing.extend(id_ for id_, t in texts.items() if not t or isinstance(vectors[t], TextFailure))
            if backup is not None:
                backup.add_vectors([(d.id, d.vector, d.content_hash()) for d in page])
            return len(page)

        try:
            documents = self._plan.documents if backup else total
            with context.console.progress(f"  Embedding {self._name}", documents) as bar:

                def count(documents: int) -> None:
                    context.status.add(documents)
                    bar.update(documents)

                run_pages(
                    export_pages(self._server, self._name, selection),
                    prepare,
                    lambda documents: documents,
                    count,
                    workers=context.workers,
                    stopped=context.control.stopped.is_set,
                )
        except BaseException:
            if backup is not None:
                with contextlib.suppress(BackupError):  # What stopped the run is worth more to know.
                    backup.close(complete=False)
            raise
        if backup is not None:
            backup.close(complete=not context.control.stopped.is_set())
        return failing

    def _remove_outside_vectors(self) -> None:
        """Documents outside the filter lose their vector of the old length, which the new field would refuse."""
        if not self._plan.collection.filter_by:
            return
        selection = Selection(self._field, fields=(), with_vector=True)
        for page in export_pages(self._server, self._name, selection):
            with_vector = [document.id for document in page if document.vector is not None]
            eligible = self._may_be_eligible(with_vector)
            lines = {id_: update_line(id_, self._field, None) for id_ in with_vector if id_ not in eligible}
            import_documents(self._server, self._name, lines)

    def _may_be_eligible(self, ids: list[str]) -> set[str]:
        """Which of a page's documents the filter lets through; those that no filter finds are among them."""
        filter_by = self._plan.collection.filter_by
        return eligible_of(self._server, self._name, filter_by, ids) | {id_ for id_ in ids if not nameable(id_)}

    def _wanted_field(self, schema: Schema) -> dict[str, Any]:
        found = embedding_field(schema, self._field)
        if found is None:
            raise RebuildStopped(f"collection {self._name!r} has no field {self._field!r}")
        return vector_field(found, self._plan.new_dimensions)

    # -- the pause -------------------------------------------------------------------------------------

    def _mark(
        self, phase: str, field: dict[str, Any], metadata: dict[str, Any] | None, dropped_at: float = 0.0
    ) -> dict[str, Any]:
        mark = {
            "role": REBUILDING,
            "phase": phase,
            "field": field | {"num_dim": self._plan.new_dimensions},
            "run": self._context.run.name,
            "old_dimensions": self._plan.old_dimensions,
            "dropped_at": dropped_at or time.time(),
        }
        self._server.set_metadata(self._name, {**(metadata or {}), MARK: mark})
        return mark

    def _put_back(self, field: dict[str, Any], total: int) -> None:
        """Rewrite the values until a pass finds nothing, then add the field; again if the application got between."""
        wanted = field | {"num_dim": self._plan.new_dimensions}
        failures = self._rewrite(total)
        if wanted.get("optional"):
            self._drop_failed_vectors(failures)
        self._mark("adding", wanted, own_metadata(self._schema()), self._begun)
        self._context.status.phase("indexing", collection=self._name, total=total)
        for number in range(_ADDITIONS):
            try:
                self._alter(lambda now: [*self._dropped(now), wanted], self._is_back)
            except TypesenseError as error:
                if error.status != 400 or not any(words in str(error) for words in _NOT_YET):
                    raise
                self._context.console.detail(f"the field cannot come back yet: {error}")
                # At once after this: what the application writes with its old model comes without a pause.
                if wanted.get("optional"):
                    self._drop_outsiders()
                # Outside the filter too, where nothing else can bring the field back.
                elif failing := self._rewrite(total, everything=self._changes_dimensions or number > 0):
                    raise RebuildStopped(
                        f"the field {self._field!r} of {self._name!r} must have a value in every document, and "
                        f"{len(failing)} can have none, {failing[0]!r} among them, because they have no text or the "
                        "provider refuses it; give them a text, or delete them, and run again"
                    ) from error
            else:
                return
        raise RebuildStopped(
            f"the field {self._field!r} of {self._name!r} cannot be added back while vectors of another length keep "
            "coming; pause what writes them and run again"
        )

    def _rewrite(self, total: int, *, everything: bool = False) -> list[str]:
        """Fill in what is not the target's; the ids of documents that have no vector of the target."""
        steps = self._rewriting("Rewriting", everything=everything)
        steps.run(total)
        self.outcome.written += steps.outcome.written
        return list(steps.outcome.failures)

    def _rewriting(self, doing: str, *, everything: bool = False) -> InPlace:
        """Passes that find every vector in the cache and every old one in the backup.

        A Ctrl-C does not stop them: without its field the collection has no vector search, so it comes back first.

        Args:
            doing: what they are called.
            everything: whether documents outside the filter are written too.
        """
        unstoppable = Control(nice=self._context.control.nice)
        context = replace(self._context, force=False, limit=None, backup=False, control=unstoppable)
        return self._in_place(doing, context, everything=everything)

    def _in_place(
        self,
        doing: str,
        context: Context,
        open_backup: Callable[[], BackupWriter] | None = None,
        *,
        everything: bool = False,
    ) -> InPlace:
        collection = replace(self._plan.collection, filter_by="") if everything else self._plan.collection
        return InPlace(context, collection, self._name, schema=self._schema(), open_backup=open_backup, doing=doing)

    def _drop_failed_vectors(self, ids: list[str]) -> None:
        """A document that could not be embedded keeps its old vector only where its length still fits."""
        if ids and self._changes_dimensions:
            lines = {id_: update_line(id_, self._field, None) for id_ in ids}
            import_documents(self._server, self._name, lines)

    def _drop_outsiders(self) -> None:
        """Take away vectors of a wrong length, written meanwhile; the passes at the end bring the right ones."""
        wanted = self._plan.new_dimensions
        selection = Selection(self._field, fields=())
        for page in export_pages(self._server, self._name, selection):
            wrong = [d.id for d in page if d.vector is not None and len(d.vector) != wanted]
            import_documents(self._server, self._name, {id_: update_line(id_, self._field, None) for id_ in wrong})

    def _drop(self) -> None:
        """Take the field out. A plain one that the server makes of the documents at once is none to search by."""
        self._alter(self._dropped, lambda now: (embedding_field(now, self._field) or {}).get("num_dim") is None)

    def _dropped(self, schema: Schema) -> list[dict[str, Any]]:
        """The part of an alter that drops the field, where it stands."""
        return [{"name": self._field, "drop": True}] if embedding_field(schema, self._field) else []

    def _alter(self, change: Callable[[Schema], list[dict[str, Any]]], is_done: Callable[[Schema], bool]) -> None:
        """Alter the schema and wait until it is done, however long the server takes.

        Args:
            change: the fields of the alter, by the schema as it stands.
            is_done: whether a schema has what was wanted.
        """
        for _ in range(3):
            try:
                if fields := change(self._schema()):
                    self._server.alter_fields(self._name, fields)
            except TypesenseError as error:
                if not error.transient:
                    raise
                # Whether it was taken, refused or never heard of, only the server's state says, in time.
                wait_for_alters(self._server, self._name)
            if is_done(self._schema()):
                return
        raise RebuildStopped(f"the server does not carry out the change of {self._name!r}")

    def _schema(self) -> Schema:
        schema = self._server.collection(self._name)
        if schema is None:
            raise RebuildStopped(f"collection {self._name!r} is gone")
        return schema

    # -- after the pause -------------------------------------------------------------------------------

    def _finish(self, total: int) -> None:
        """Passes in place, which are the proof; then the mark goes."""
        self._check(self._rewriting("Checking"), total)
        self._server.set_metadata(self._name, own_metadata(self._schema()) or {})
        paused = self.outcome.downtime_seconds or 0
        self.outcome.notes.append(f"vector search paused for {paused:.2f} s; keyword search did not")

    def _check(self, steps: InPlace, total: int) -> None:
        """Passes in place; what they find is the outcome."""
        try:
            steps.run(total)
        finally:
            done, outcome = steps.outcome, self.outcome
            outcome.success, outcome.failures = done.success, done.failures
            outcome.passes, outcome.changing = done.passes, done.changing
            outcome.left_alone, outcome.sample = done.left_alone, done.sample
            outcome.application_wrote = done.application_wrote
            outcome.written += done.written
            outcome.notes += done.notes
            outcome.complete = done.complete


def wait_for_alters(server: Typesense, name: str) -> None:
    """Return once the server has shown no alter of this collection for a while.

    A server that was killed in mid-alter answers 503 while it replays its log and then begins the alter
    anew by itself, so that one empty answer proves nothing.
    """
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < _SETTLED:
        if any(change.get("collection") == name for change in server.schema_changes()):
            quiet_since = time.monotonic()
        time.sleep(_POLL)
