"""Bring a collection up to date in place, in passes, until a pass finds nothing left to do.

A pass reads every eligible document and compares it with the ledger: the text it was embedded from, the
vector that stands there, the model that made it. What agrees is left; the rest is embedded and written. The
first pass does the work; the next one finds what the application changed meanwhile, what a page boundary
hid, and what somebody overwrote; a pass that finds nothing is the proof that every eligible document
carries the target's vector. Resuming after a crash, catching up and checking are therefore one operation.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final

from kai.collections import EmbeddedCollection
from kai.typesense import Schema
from migration.backup.errors import BackupError
from migration.documents.fetch import (
    PAGE_SIZE,
    Document,
    Page,
    Selection,
    export_pages,
    fetch_documents,
    fetch_pages,
    other_vector_fields,
)
from migration.documents.pipeline import run_pages
from migration.documents.update import Written, import_documents, update_line
from migration.embedding.embed import TextFailure, text_hash
from migration.embedding.vectors import Vector
from migration.strategies.context import Context, Failure, Outcome, Sampled
from migration.strategies.freshness import carries, current_vector
from migration.strategies.ledger_rows import NO_TEXT, TENANT_FIELD, record_of

if TYPE_CHECKING:
    from migration.backup import BackupWriter
    from migration.ledger import DocumentRecord

_PICKED: Final = 0.25
"""Share of the documents that may get into the sample; looking at each would cost more than it brings."""
MOST_PASSES: Final = 6
_EXACT: Final = 1e-6
"""Relative difference up to which a vector found in the first pass counts as the target's own."""
_SAME_MODEL: Final = 0.02
"""The same for one that appeared while the run was under way: providers are not exact (cosine 0.9998)."""


@dataclass(slots=True)
class _Prepared:
    """A page ready to be written."""

    lines: dict[str, bytes] = field(default_factory=dict)
    records: dict[str, DocumentRecord] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)
    current: int = 0
    left_alone: int = 0
    seen: int = 0
    other_fields_changed: int = 0
    sample: list[Sampled] = field(default_factory=list)


@dataclass(slots=True)
class _Tally:
    seen: int = 0
    success: int = 0
    written: list[str] = field(default_factory=list)
    """Ids written in a catch-up pass; in the first pass only their number counts."""
    wrote: int = 0
    gone: int = 0
    left_alone: int = 0
    new_failures: int = 0
    failing: set[str] = field(default_factory=set)
    other_fields_changed: int = 0
    sample: list[Sampled] = field(default_factory=list)
    sampled_from: int = 0

    @property
    def clean(self) -> bool:
        """Whether the pass had nothing to do."""
        return not (self.wrote or self.gone or self.left_alone or self.new_failures)


class InPlace:
    """The embedding field of one collection, brought to the target.

    Args:
        context: the tools of the run.
        collection: text template, embedding field, filter.
        name: the real collection's name.
        open_backup: opens the backup, which takes each page's old vectors, durably, before the page is
            written; called before the first page is. None for no backup.
        doing: what the first pass is called on the progress bar and in the status.
        schema: the collection's, as the server gave it.
    """

    def __init__(
        self,
        context: Context,
        collection: EmbeddedCollection,
        name: str,
        *,
        schema: Schema,
        open_backup: Callable[[], BackupWriter] | None = None,
        doing: str = "Migrating",
    ) -> None:
        self._context = context
        self._collection = collection
        self._name = name
        self._open_backup = open_backup
        self._doing = doing
        self._backup: BackupWriter | None = None
        self._source = context.server.address
        field_name, filter_by = collection.embedding_field, collection.filter_by
        tenant = (TENANT_FIELD,) if any(known["name"] == TENANT_FIELD for known in schema["fields"]) else ()
        lean = Selection(field_name, filter_by, (*collection.text_fields, *tenant))
        # With a backup the whole document is read, so that its other fields can be shown to be unchanged.
        whole = Selection(field_name, filter_by, excluded=other_vector_fields(schema, field_name))
        self._whole = open_backup is not None
        self._selection = whole if self._whole else lean
        self._random = random.Random(len(name))  # noqa: S311 - repeatable, not secret
        self._failures: dict[str, Failure] = {}
        self._on_record: set[str] = set()
        """Ids that the ledger holds as failed in this run, from an earlier leg of it or from this one."""
        self._refused: dict[str, DocumentRecord] = {}
        """What would be known of the documents whose lines the server has refused."""
        self._lock = threading.Lock()
        self._tally = _Tally()
        self._catching_up = False
        self._to_go: int | None = None
        """Documents that may still be written under a limit."""
        self._turned_away = False
        """Whether the limit has kept a document of this pass from being written."""
        self.outcome = Outcome(complete=False)
        """What was done so far; whole once `run` has returned."""

    def run(self, total: int) -> Outcome:
        """Pass after pass, until one finds nothing to do, or the run is stopped.

        Args:
            total: eligible documents, for the progress bar.
        """
        try:
            self._passes(total)
        except BaseException:
            if self._backup is not None:
                with contextlib.suppress(BackupError):  # What stopped the run is worth more to know.
                    self._backup.close(complete=False)
            raise
        if self._backup is not None:
            self._backup.close(complete=self.outcome.complete)
        return self.outcome

    def _passes(self, total: int) -> None:
        limit = self._to_go = self._context.limit_of(total)
        standing = self._context.ledger.failures(self._context.run.id, self._name)
        self._on_record = {failure.document_id for failure in standing if failure.stage != "copy"}
        for number in range(1, MOST_PASSES + 1):
            self._catching_up = number > 1
            self._tally = tally = _Tally()
            self._turned_away = False
            doing = "Checking" if self._catching_up else self._doing
            self._context.status.phase(doing.lower(), collection=self._name, total=total)
            whole = False
            try:
                with self._context.console.progress(f"  {doing} {self._name}", total) as bar:
                    self._one_pass(self._pages(), bar.update)
                whole = not self._stopped() and not self._turned_away
            finally:
                self._account(number, whole)
            if self._stopped():
                return
            if self._turned_away:
                if self._to_go and number < MOST_PASSES:
                    continue  # Some that were taken failed, or were right already, and others may take their place.
                self.outcome.limit_reached = True
                self.outcome.notes.append(
                    f"the limit of {limit} documents is reached, so two models' vectors stand in '{self._name}' now; "
                    "run again without the limit to go on"
                )
                return
            # A document that failed and was deleted, or left the filter, is no failure any more.
            self._failures = {id_: self._failures[id_] for id_ in tally.failing}
            self.outcome.failures = dict(self._failures)
            self._clear_failures(self._on_record - self._failures.keys())
            self.outcome.complete = True
            if tally.clean:
                return
            total = tally.seen
        self.outcome.changing = self._settle(tally.written)
        if self.outcome.changing:
            self.outcome.notes.append(
                f"the application keeps writing: {self.outcome.changing} documents were still changing after "
                f"{MOST_PASSES} passes; run again when it is quieter"
            )

    def _account(self, number: int, whole: bool) -> None:
        outcome, tally = self.outcome, self._tally
        outcome.passes = number
        outcome.written += tally.wrote
        outcome.left_alone += tally.left_alone
        # A later pass that was cut short has seen fewer documents than are done.
        outcome.success = tally.success if whole or number == 1 else max(outcome.success, tally.success)
        outcome.failures = dict(self._failures)
        outcome.sample = tally.sample
        outcome.other_fields_changed = max(outcome.other_fields_changed, tally.other_fields_changed)
        outcome.application_wrote |= number > 1 and not tally.clean

    def _settle(self, ids: list[str]) -> int:
        """Look once more at the documents that the last pass wrote; how many needed writing again."""
        self._tally = tally = _Tally()
        batches = [ids[start : start + 250] for start in range(0, len(ids), 250)]
        pages = (fetch_documents(self._context.server, self._name, self._selection, batch) for batch in batches)
        self._one_pass(pages, lambda _: None)
        return tally.wrote

    def _pages(self) -> Iterator[Page]:
        if self._catching_up:
            return export_pages(self._context.server, self._name, self._selection)
        return fetch_pages(self._context.server, self._name, self._selection)

    def _one_pass(self, pages: Iterator[Page], advance: Callable[[int], object]) -> None:
        def record(prepared_and_written: tuple[_Prepared, Written]) -> None:
            self._record(*prepared_and_written)
            advance(prepared_and_written[0].seen)

        run_pages(
            pages,
            self._prepare,
            self._write,
            record,
            workers=self._context.workers,
            stopped=lambda: self._stopped() or (self._turned_away and not self._to_go),
        )

    def _within_limit(self, texts: dict[str, str]) -> dict[str, str]:
        if self._to_go is None:
            return texts
        with self._lock:
            kept = dict(islice(texts.items(), self._to_go))
            self._to_go -= len(kept)
            self._turned_away |= len(kept) < len(texts)
        return kept

    def _give_back(self, number: int) -> None:
        """Documents that were taken under the limit and not written after all."""
        if self._to_go is not None and number:
            with self._lock:
                self._to_go += number

    def _stopped(self) -> bool:
        return self._context.control.stopped.is_set()

    # -- the steps of a page ---------------------------------------------------------------------------

    def _prepare(self, page: Page) -> _Prepared:
        """Compare the page with the ledger, embed what is not current, and put old vectors aside."""
        context = self._context
        context.control.wait_while_paused()
        known = context.ledger.documents(self._source, self._name, [document.id for document in page])
        prepared = _Prepared(seen=len(page))
        texts: dict[str, str] = {}
        for document in page:
            text = self._collection.text_of(document.fields)
            if not text:
                prepared.failures[document.id] = Failure("embed", NO_TEXT)
            elif (refused := self._landed_all_the_same(document, text)) is not None:
                prepared.records[document.id] = refused
                prepared.left_alone += 1
            elif self._failed_before(document.id, text_hash(text)):
                prepared.failing.add(document.id)
            elif (stored := self._current(document, text, known.get(document.id))) is not None:
                prepared.current += 1
                self._look_at(document, text, known[document.id], stored, prepared)
            else:
                texts[document.id] = text
        texts = self._within_limit(texts)
        vectors = context.embedder.embed(texts.values(), past="none" if self._catching_up else context.past)
        to_write: list[tuple[Document, Vector]] = []
        for document in page:
            text = texts.get(document.id, "")
            if not text:
                continue
            vector = vectors[text]
            if isinstance(vector, TextFailure):
                prepared.failures[document.id] = Failure("embed", vector.reason, text_hash(text))
                continue
            if carries(document, vector, _SAME_MODEL if self._catching_up else _EXACT):
                prepared.left_alone += 1
                stored = document.vector_bytes() or b""
            else:
                to_write.append((document, vector))
                stored = vector.tobytes()
            content = document.content_hash() if self._whole else None
            prepared.records[document.id] = record_of(context, document, text, stored, content)
            if self._is_picked():
                prepared.sample.append(Sampled(document.id, text, stored))
        self._give_back(len(texts) - len(to_write))
        if to_write and (backup := self._its_backup()) is not None:
            contents = (prepared.records[document.id].content_hash for document, _ in to_write)
            backup.add_vectors([(d.id, d.numbers, content) for (d, _), content in zip(to_write, contents, strict=True)])
        for document, vector in to_write:
            document.numbers = None  # The most memory of the page; it is in the backup.
            prepared.lines[document.id] = update_line(document.id, self._collection.embedding_field, vector)
        return prepared

    def _its_backup(self) -> BackupWriter | None:
        with self._lock:
            if self._backup is None and self._open_backup is not None:
                self._backup = self._open_backup()
            return self._backup

    def _look_at(
        self, document: Document, text: str, record: DocumentRecord, stored: bytes, prepared: _Prepared
    ) -> None:
        """A document that is current may still have lost something else."""
        if self._whole and record.content_hash is not None and record.run_id == self._context.run.id:
            prepared.other_fields_changed += record.content_hash != document.content_hash()
        if self._is_picked():
            prepared.sample.append(Sampled(document.id, text, stored))

    def _is_picked(self) -> bool:
        """Whether the pass may keep a document as a sample: of the few picked a few, each as likely as any other."""
        return self._random.random() < _PICKED

    def _write(self, prepared: _Prepared) -> tuple[_Prepared, Written]:
        """One import request for the page."""
        if not prepared.lines:
            return prepared, Written()
        context = self._context
        begun = time.monotonic()
        written = import_documents(context.server, self._name, prepared.lines)
        seconds = time.monotonic() - begun
        context.meter.imported(sum(map(len, prepared.lines.values())), seconds)
        prepared.lines.clear()
        context.control.rest(seconds)
        return prepared, written

    def _record(self, prepared: _Prepared, written: Written) -> None:
        """Commit what was done to the ledger, and count it."""
        context = self._context
        self._give_back(len(written.failed) + len(written.gone))
        failures = prepared.failures | {id_: Failure("import", reason) for id_, reason in written.failed.items()}
        for id_ in (*written.failed, *written.gone):
            record = prepared.records.pop(id_, None)
            if record is not None and id_ in failures:
                failures[id_].text_hash = record.text_hash
                self._refused[id_] = record
        context.ledger.record_documents(self._source, self._name, list(prepared.records.values()))
        with self._lock:
            new = {id_: failure for id_, failure in failures.items() if id_ not in self._failures}
            for id_ in prepared.records:
                self._failures.pop(id_, None)
            self._failures.update(failures)
            tally = self._tally
            tally.failing |= prepared.failing | failures.keys()
            tally.seen += prepared.seen
            tally.success += prepared.current + len(prepared.records)
            tally.wrote += len(written.written)
            tally.gone += len(written.gone)
            tally.left_alone += prepared.left_alone
            tally.new_failures += len(new)
            tally.other_fields_changed += prepared.other_fields_changed
            self._merge_sample(prepared.sample)
            if self._catching_up:
                tally.written.extend(written.written)
        self._clear_failures(prepared.records.keys() & self._on_record)
        self._note_failures(new)
        context.status.add(prepared.seen - len(failures), len(failures))

    def _merge_sample(self, picked: list[Sampled]) -> None:
        tally = self._tally
        for document in picked:
            if document.id in self._failures:
                continue
            tally.sampled_from += 1
            if len(tally.sample) < self._context.verify_sample:
                tally.sample.append(document)
            elif (place := self._random.randrange(tally.sampled_from)) < len(tally.sample):
                tally.sample[place] = document

    def _note_failures(self, failures: dict[str, Failure]) -> None:
        if not failures:
            return
        from migration.ledger import FailureRecord

        context = self._context
        rows = [FailureRecord(id_, failure.stage, failure.reason) for id_, failure in failures.items()]
        context.ledger.record_failures(context.run.id, self._name, rows)
        self._on_record |= failures.keys()

    def _clear_failures(self, document_ids: Set[str]) -> None:
        """These have succeeded, or are not there any more."""
        ids = sorted(document_ids)
        for start in range(0, len(ids), PAGE_SIZE):
            self._context.ledger.clear_failure(self._context.run.id, self._name, ids[start : start + PAGE_SIZE])
        self._on_record -= document_ids

    # -- what counts as current ------------------------------------------------------------------------

    def _failed_before(self, document_id: str, digest: bytes) -> bool:
        failure = self._failures.get(document_id)
        return failure is not None and failure.text_hash == digest

    def _landed_all_the_same(self, document: Document, text: str) -> DocumentRecord | None:
        """What is known of a document whose line was refused after an earlier answer to it had been lost."""
        refused = self._refused.get(document.id)
        return refused if self._current(document, text, refused) is not None else None

    def _current(self, document: Document, text: str, record: DocumentRecord | None) -> bytes | None:
        if self._context.force and record is not None and record.run_id != self._context.run.id:
            return None
        return current_vector(document, text, record, self._context.model.id)
