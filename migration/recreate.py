"""A change of dimensions: the collection is recreated under its own name, with every document in it.

    back up + build the shadow -> catch up -> check -> cut over (migration.cutover) -> passes in place

While the shadow is built the live collection serves on, and nothing about it changes. Every page goes to the
backup on disk before it goes to the shadow. Catching up compares the live documents with what the shadow
was given, by content; the shadow's own order of things, the ledger's rows under its name and the mark on
the server say after any crash how far it got.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson

from kai.models import fingerprint
from kai.typesense import Schema, TypesenseError, embedding_field
from migration.context import Context, Failure, Outcome
from migration.embed import TextFailure, Vector, text_hash
from migration.fetch import Document, Page, Selection, export_pages, fetch_documents
from migration.lock import Held
from migration.passes import NO_TEXT, TENANT_FIELD
from migration.pipeline import run_pages
from migration.shadow import (
    BEAT_EVERY,
    Mark,
    find_shadow,
    own_metadata,
    read_mark,
    role_of,
    schema_differences,
    set_role,
    shadow_name,
    write_mark,
)
from migration.update import Written, import_documents

if TYPE_CHECKING:
    from migration.backup import BackupWriter
    from migration.ledger import DocumentRecord
    from migration.plan import CollectionPlan

CATCH_UPS: Final = 3
NO_VECTOR: Final = b""


class CannotCopy(Exception):  # noqa: N818 - named for what it means to the run
    """The shadow refuses documents, or is not what it should be. The live collection is untouched."""


@dataclass(slots=True)
class Prepared:
    """A page ready for the shadow."""

    lines: dict[str, bytes] = field(default_factory=dict)
    records: dict[str, DocumentRecord] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    seen: int = 0


class ShadowBuilder:
    """Fills the shadow from the live collection and keeps it abreast.

    Args:
        context: the tools of the run.
        plan: what to do.
        backup: takes each page, durably, before it goes to the shadow; None for no backup.

    Attributes:
        refused: id -> the server's words, for documents that the shadow does not take.
        failures: documents that came along without a vector.
    """

    def __init__(self, context: Context, plan: CollectionPlan, backup: BackupWriter | None) -> None:
        self._context = context
        self._collection = plan.collection
        self._backup = backup
        self.name = plan.name
        self.shadow = shadow_name(plan.name)
        self.mark: Mark | None = None
        self.refused: dict[str, str] = {}
        self.refused_documents: dict[str, bytes] = {}
        self.failures: dict[str, Failure] = {}
        self._source = context.server.address
        vector_field = embedding_field(plan.schema, plan.collection.embedding_field) or {}
        self._vector_is_optional = bool(vector_field.get("optional"))
        self.whole = Selection(plan.collection.embedding_field)
        self._without_vector = Selection(plan.collection.embedding_field, with_vector=False)
        self._changed = 0
        self._lock = threading.Lock()
        self._advance: Callable[[int], object] = lambda _: None

    # -- creating --------------------------------------------------------------------------------------

    def create(self, live: Schema, existing: Schema | None) -> None:
        """Clone the schema on the server, mark the clone, and change the length of its vectors."""
        server = self._context.server
        if existing is None:
            try:
                server.clone_collection(self.name, self.shadow)
            except TypesenseError as error:
                # The answer may have been lost after the server acted: what counts is what stands there.
                if not error.transient and "already exists" not in str(error):
                    raise
            existing = server.collection(self.shadow)
            if existing is None:
                server.clone_collection(self.name, self.shadow)
                existing = server.collection(self.shadow) or live
        self.mark = write_mark(server, self._new_mark(live))
        self.set_dimensions(existing)

    def set_dimensions(self, shadow: Schema) -> None:
        """Give the empty shadow's embedding field the target's length, everything else as it was."""
        context = self._context
        found = embedding_field(shadow, self._collection.embedding_field)
        if found is not None and found.get("num_dim") == context.embedding.dimensions:
            return
        # A crash between the drop and the addition cannot be seen: both are one PATCH. A field that is
        # missing all the same (a lost alter) is rebuilt from the live collection's.
        live = context.server.collection(self.name) or shadow
        source = found or embedding_field(live, self._collection.embedding_field)
        if source is None:
            raise CannotCopy(f"{self.shadow!r} has no field {self._collection.embedding_field!r}")
        wanted = {key: value for key, value in source.items() if value not in ("", None)}
        wanted["num_dim"] = context.embedding.dimensions
        drop = [{"name": wanted["name"], "drop": True}] if found else []
        try:
            context.server.alter_fields(self.shadow, [*drop, wanted])
        except TypesenseError as error:
            if not error.transient:
                raise
            self._wait_for_alters()
            again = context.server.collection(self.shadow) or {"fields": []}
            now = embedding_field(again, self._collection.embedding_field)
            if now is None or now.get("num_dim") != context.embedding.dimensions:
                context.server.alter_fields(
                    self.shadow, [*([{"name": wanted["name"], "drop": True}] if now else []), wanted]
                )

    def _wait_for_alters(self) -> None:
        while any(change.get("collection") == self.shadow for change in self._context.server.schema_changes()):
            time.sleep(0.5)

    def _new_mark(self, live: Schema) -> Mark:
        context = self._context
        return Mark(
            of=self.name,
            run=context.run.name,
            phase="building",
            fingerprint=fingerprint(context.embedding, self._collection.template),
            dimensions=context.embedding.dimensions,
            embedding_field=self._collection.embedding_field,
            live_metadata=own_metadata(live),
        )

    def restore_ledger(self) -> None:
        """Know what the shadow holds from the shadow itself: a ledger may be lost, or speak of another shadow."""
        context = self._context
        context.ledger.forget_collection(self._source, self.shadow)
        for page in export_pages(context.server, self.shadow, self.whole):
            rows = [self._record_of(d, self._collection.text_of(d.fields), d.vector_bytes() or NO_VECTOR) for d in page]
            context.ledger.record_documents(self._source, self.shadow, rows)

    # -- filling ---------------------------------------------------------------------------------------

    def build(self, advance: Callable[[int], object]) -> None:
        """Copy every document that the shadow does not have yet, in insertion order, with its new vector.

        Raises:
            CannotCopy: the shadow refuses documents, and `allow_partial` was not asked for.
        """
        self._advance = advance
        self._pass(export_pages(self._context.server, self.name, self.whole), self.prepare)

    def catch_up(self) -> int:
        """Bring what changed in the live collection since it was read; how many documents that were."""
        context = self._context
        self._changed = 0
        self._advance = lambda _: None
        self._pass(export_pages(context.server, self.name, self._without_vector), self._prepare_changed)
        if context.control.stopped.is_set():
            return 0
        if context.server.count(self.shadow) + len(self.refused) != context.server.count(self.name):
            self._changed += self._delete_what_is_gone()
        return self._changed

    def adopt(self, page: Page) -> None:
        """Put documents that the application wrote into another collection of this name into the shadow."""
        prepared = self.prepare(page)
        self._record(prepared, self._write(prepared)[1])

    def _pass(self, pages: Iterator[Page], prepare: Callable[[Page], Prepared]) -> None:
        context = self._context
        run_pages(
            pages,
            prepare,
            self._write,
            lambda done: self._record(*done),
            workers=context.workers,
            stopped=lambda: context.control.stopped.is_set() or (bool(self.refused) and not context.allow_partial),
        )
        if self.refused and not context.allow_partial:
            raise CannotCopy(
                f"{len(self.refused)} documents cannot be copied, so nothing was dropped; "
                "mend them, or leave them out with --allow-partial"
            )

    def _prepare_changed(self, page: Page) -> Prepared:
        """Of a page read without vectors, take what differs from what the shadow was given."""
        known = self._context.ledger.documents(self._source, self.shadow, [d.id for d in page])
        changed = [
            d.id
            for d in page
            if d.id not in self.refused and (d.id not in known or known[d.id].content_hash != d.content_hash())
        ]
        if not changed:
            return Prepared(seen=len(page))
        fresh = fetch_documents(self._context.server, self.name, self.whole, changed)
        prepared = self.prepare(fresh, all_changed=True)
        prepared.seen = len(page)
        return prepared

    def prepare(self, page: Page, *, all_changed: bool = False) -> Prepared:
        """Embed what the application embeds, and put the page on disk before it goes anywhere."""
        context = self._context
        context.control.wait_while_paused()
        prepared = Prepared(seen=len(page))
        if not all_changed:
            known = context.ledger.documents(self._source, self.shadow, [document.id for document in page])
            page = [
                document
                for document in page
                if document.id not in known or known[document.id].content_hash != document.content_hash()
            ]
        if not page:
            return prepared
        texts = self._texts(page, prepared)
        vectors = context.embedder.embed(texts.values())
        for document in page:
            vector: Vector | None = None
            if document.id in texts:
                outcome = vectors[texts[document.id]]
                if isinstance(outcome, TextFailure):
                    prepared.failures[document.id] = Failure("embed", outcome.reason)
                else:
                    vector = outcome
            prepared.lines[document.id] = self._line(document, vector)
            stored = NO_VECTOR if vector is None else vector.tobytes()
            prepared.records[document.id] = self._record_of(document, texts.get(document.id, ""), stored)
        self.back_up(page)
        return prepared

    def back_up(self, page: Page) -> None:
        """Put whole documents, old vectors included, on disk."""
        if self._backup is not None:
            self._backup.add([self._backup_line(d) for d in page], [d.content_hash() for d in page])

    def _texts(self, page: Page, prepared: Prepared) -> dict[str, str]:
        """The texts to embed: of eligible documents, and of the others only where a vector is required."""
        eligible = self._eligible([document.id for document in page])
        texts: dict[str, str] = {}
        for document in page:
            if document.id not in eligible and self._vector_is_optional:
                continue
            text = self._collection.text_of(document.fields)
            if text:
                texts[document.id] = text
            else:
                prepared.failures[document.id] = Failure("embed", NO_TEXT)
        return texts

    def _eligible(self, ids: list[str]) -> set[str]:
        """Which of these documents the filter lets through; the server is asked, for the filter is its own."""
        if not self._collection.filter_by:
            return set(ids)
        wanted = ",".join(f"`{document_id}`" for document_id in ids)
        answer = self._context.server.search(
            self.name,
            {
                "q": "*",
                "per_page": len(ids),
                "include_fields": "id",
                "filter_by": f"({self._collection.filter_by}) && id:[{wanted}]",
            },
        )
        return {str(hit["document"]["id"]) for hit in answer["hits"]}

    def _line(self, document: Document, vector: Vector | None) -> bytes:
        fields: dict[str, Any] = dict(document.fields)
        if vector is not None:
            fields[self._collection.embedding_field] = vector
        return orjson.dumps(fields, option=orjson.OPT_SERIALIZE_NUMPY)

    def _backup_line(self, document: Document) -> bytes:
        fields: dict[str, Any] = dict(document.fields)
        if document.vector is not None:
            fields[self._collection.embedding_field] = document.vector.tolist()
        return orjson.dumps(fields)

    def _write(self, prepared: Prepared) -> tuple[Prepared, Written]:
        if not prepared.lines:
            return prepared, Written()
        context = self._context
        begun = time.monotonic()
        # upsert: a page that is sent again after a lost answer, or a changed document, replaces what is there.
        written = import_documents(context.server, self.shadow, prepared.lines, "upsert")
        seconds = time.monotonic() - begun
        context.meter.imported(sum(map(len, prepared.lines.values())), seconds)
        context.control.rest(seconds)
        return prepared, written

    def _record(self, prepared: Prepared, written: Written) -> None:
        context = self._context
        for document_id, reason in written.failed.items():
            prepared.records.pop(document_id, None)
            prepared.failures.pop(document_id, None)
            self.refused[document_id] = reason
            self.refused_documents[document_id] = prepared.lines[document_id]
        context.ledger.record_documents(self._source, self.shadow, list(prepared.records.values()))
        with self._lock:
            for document_id in prepared.records:
                self.failures.pop(document_id, None)
            self.failures.update(prepared.failures)
            self._changed += len(prepared.records)
        context.status.add(prepared.seen - len(written.failed), len(written.failed))
        self._advance(prepared.seen)
        self._beat()

    def _beat(self) -> None:
        """A sign of life for other machines."""
        if self.mark is not None and time.time() - self.mark.beat > BEAT_EVERY:
            self.mark = write_mark(self._context.server, self.mark)

    def _delete_what_is_gone(self) -> int:
        """Delete from the shadow what is not in the live collection any more; how many documents that were."""
        context = self._context
        ids_only = Selection(self._collection.embedding_field, fields=(), with_vector=False)
        gone = 0
        for page in export_pages(context.server, self.shadow, ids_only):
            ids = [document.id for document in page]
            standing = {d.id for d in fetch_documents(context.server, self.name, ids_only, ids)}
            for document_id in ids:
                if document_id not in standing:
                    context.server.delete_document(self.shadow, document_id)
                    context.ledger.forget_documents(self._source, self.shadow, [document_id])
                    self.failures.pop(document_id, None)
                    gone += 1
        return gone

    def _record_of(self, document: Document, text: str, stored: bytes) -> DocumentRecord:
        from migration.ledger import DocumentRecord

        tenant = document.fields.get(TENANT_FIELD)
        return DocumentRecord(
            document.id,
            text_hash(text),
            hashlib.sha256(stored).digest(),
            model_id=self._context.model.id,
            run_id=self._context.run.id,
            tenant=str(tenant) if tenant is not None else None,
            content_hash=document.content_hash(),
        )

    # -- checking --------------------------------------------------------------------------------------

    def check(self, live: Schema) -> list[str]:
        """What is not as it should be in the shadow as it stands on the server; documents are read back whole."""
        context = self._context
        shadow = context.server.collection(self.shadow)
        if shadow is None:
            return [f"{self.shadow!r} is gone"]
        wrong = schema_differences(live, shadow, but=self._collection.embedding_field)
        strange: list[str] = []
        standing = 0
        for page in export_pages(context.server, self.shadow, self.whole):
            known = context.ledger.documents(self._source, self.shadow, [document.id for document in page])
            standing += len(page)
            for document in page:
                record = known.get(document.id)
                stored = document.vector_bytes() or NO_VECTOR
                if (
                    record is None
                    or record.content_hash != document.content_hash()
                    or record.vector_hash != hashlib.sha256(stored).digest()
                    or (stored and len(stored) != 4 * context.embedding.dimensions)
                ):
                    strange.append(document.id)
        if standing - len(strange) < context.ledger.count_documents(self._source, self.shadow):
            # The shadow has lost documents (their references were deleted, say): learn anew what it holds.
            self.restore_ledger()
            return [*wrong, f"only {standing} documents stand in {self.shadow!r}"]
        if strange:
            # Known to be wrong: the next catch-up brings them again.
            context.ledger.forget_documents(self._source, self.shadow, strange)
            wrong.append(f"{len(strange)} documents differ from what was copied, {strange[0]!r} among them")
        return wrong


class Recreate:
    """The whole way of one collection to other dimensions; picks up where a dead run left it.

    Attributes:
        outcome: what was done so far.
    """

    def __init__(self, context: Context, plan: CollectionPlan, backup: BackupWriter | None = None) -> None:
        self._context = context
        self._plan = plan
        self._name = plan.name
        self._backup = backup
        self._builder = ShadowBuilder(context, plan, backup)
        self.outcome = Outcome(complete=False)

    def run(self, total: int) -> Outcome:
        """From wherever it stands to the end.

        Raises:
            CannotCopy: the live collection is untouched and the shadow is removed.
            Held: a run on another machine is at it.
        """
        try:
            return self._run(total)
        finally:
            if self._backup is not None:
                self._backup.close(complete=self.outcome.downtime_seconds is not None)

    def _run(self, total: int) -> Outcome:
        from migration.cutover import CutOver

        context = self._context
        builder = self._builder
        server = context.server
        everything = server.collections()
        shadow = find_shadow(everything, self._name)
        live = next((schema for schema in everything if schema["name"] == self._name), None)
        mark = read_mark(shadow) if shadow else None
        if mark is not None and mark.held_elsewhere:
            raise Held(
                f"collection {self._name!r} is held by run {mark.run} (process {mark.pid} on {mark.host}); "
                "wait until it has ended, or a minute if that machine is gone"
            )
        cut_over = CutOver(context, self._plan, builder, self.outcome)
        past_the_drop = mark is not None and mark.phase != "building" and not (live and role_of(live) == "original")
        if not past_the_drop:
            if live is None:
                raise CannotCopy(f"collection {self._name!r} is gone, and its shadow is no full copy of it")
            try:
                self._build(live, shadow, mark, total)
            except CannotCopy:
                self._undo(live)
                raise
            if context.control.stopped.is_set():
                return self.outcome
            self._complete_backup()
            cut_over.drop(live)
        else:
            builder.mark = mark
        cut_over.finish()
        return self.outcome

    def _build(self, live: Schema, shadow: Schema | None, mark: Mark | None, total: int) -> None:
        """Everything up to the drop: the shadow is complete, abreast and checked."""
        context, builder = self._context, self._builder
        if shadow is not None and mark is None and shadow["num_documents"]:
            raise Held(
                f"a collection {shadow['name']!r} is there that this tool did not make; rename or delete it first"
            )
        wanted = fingerprint(context.embedding, self._plan.collection.template)
        if mark is not None and mark.fingerprint != wanted:
            remove_shadow(context, self._name)
            shadow = None
        context.status.phase("copying", collection=self._name, total=total)
        builder.create(live, shadow)
        builder.restore_ledger()
        with context.console.progress(f"  Migrating {self._name}", int(live["num_documents"])) as bar:
            builder.build(bar.update)
        if context.control.stopped.is_set():
            self._account()
            return
        context.status.phase("catching up", collection=self._name)
        for _ in range(CATCH_UPS):
            if not (changed := builder.catch_up()) or context.control.stopped.is_set():
                break
        else:
            self.outcome.notes.append(
                f"the application keeps writing: {changed} documents changed during the last of {CATCH_UPS} catch-ups"
            )
        self._check(live)
        self._account()

    def _complete_backup(self) -> None:
        """Every document of the live collection is in the backup; a shadow that another machine built has none here."""
        if self._backup is None:
            return
        from migration.backup import Backup, Seen

        written = Backup.load(self._backup.folder)
        if written.count()[1] >= self._context.server.count(self._name):
            return
        with Seen() as seen:
            for page in written.contents():
                seen.first([document_id for document_id, _ in page])
            for documents in export_pages(self._context.server, self._name, self._builder.whole):
                new = seen.first([document.id for document in documents])
                self._builder.back_up([d for d, is_new in zip(documents, new, strict=True) if is_new])

    def _check(self, live: Schema) -> None:
        self._context.status.phase("checking", collection=self._name)
        if self._builder.check(live):
            self._builder.catch_up()
            if wrong := self._builder.check(live):
                raise CannotCopy(f"the shadow is not as it should be: {'; '.join(wrong)}")

    def _account(self) -> None:
        self.outcome.failures = dict(self._builder.failures)
        self.outcome.written = self._context.ledger.count_documents(self._context.server.address, self._builder.shadow)

    def _undo(self, live: Schema) -> None:
        """Leave the server as it was: no shadow, no mark."""
        remove_shadow(self._context, self._name)
        if role_of(live):
            set_role(self._context.server, self._name, own_metadata(live), None, "")
        self.outcome.failures = {
            **self._builder.failures,
            **{id_: Failure("copy", reason) for id_, reason in self._builder.refused.items()},
        }


def remove_shadow(context: Context, name: str) -> None:
    """Delete a shadow that is still being built, and what the ledger knew of it."""
    shadow = shadow_name(name)
    context.server.delete_collection(shadow)
    context.ledger.forget_collection(context.server.address, shadow)
