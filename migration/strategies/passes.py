"""Bring a collection up to date in place, in passes, until a pass finds nothing left to do.

A pass reads every eligible document and compares it with the ledger: the text it was embedded from, the
vector that stands there, the model that made it. What agrees is left; the rest is embedded and written. The
first pass does the work; the next one finds what the application changed meanwhile, what a page boundary
hid, and what somebody overwrote; a pass that finds nothing is the proof that every eligible document
carries the target's vector. Resuming after a crash, catching up and checking are therefore one operation, and
so is going back, with the vectors of a backup in place of embedded ones.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Set, Sized
from dataclasses import dataclass, field, replace
from typing import Final

from kai.typesense import Schema
from kai.typesense_schemas import other_vector_fields
from kai.vectors import AnyVector
from migration.backup import BackupWriter
from migration.documents.fetch import (
    PAGE_SIZE,
    Document,
    Page,
    Selection,
    export_pages,
    fetch_again,
    fetch_pages,
)
from migration.documents.pipeline import run_pages
from migration.documents.update import Written, import_documents, update_line
from migration.ledger import DocumentRecord, FailureRecord, WrongDocument
from migration.strategies.context import Failure, Sampled
from migration.strategies.limit import Limit
from migration.strategies.read_back import ReadBack
from migration.strategies.sources import TENANT_FIELD, float32_bytes
from migration.strategies.task import Task

_PICKED: Final = 0.25
"""Share of the documents that may get into the sample; looking at each would cost more than it brings."""
MOST_PASSES: Final = 6


@dataclass(slots=True)
class _PageWork:
    """What is to be done for a page, and once it is written, what was."""

    seen: int = 0
    current: int = 0
    already_current: int = 0
    lines: dict[str, bytes] = field(default_factory=dict)
    rows: dict[str, DocumentRecord] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)
    other_fields_changed: list[WrongDocument] = field(default_factory=list)
    sample: list[Sampled] = field(default_factory=list)
    written: Written = field(default_factory=Written)


@dataclass(slots=True)
class _Tally:
    """A pass so far."""

    seen: int = 0
    success: int = 0
    wrote: int = 0
    written: list[str] = field(default_factory=list)
    """Ids written in a catch-up pass; in the first pass only their number counts."""
    nothing_to_do: bool = True
    failing: set[str] = field(default_factory=set)
    other_fields_changed: list[WrongDocument] = field(default_factory=list)
    sample: list[Sampled] = field(default_factory=list)
    sampled_from: int = 0


class Passes:
    """The embedding field of one collection, brought to what its source says.

    Args:
        task: whose vectors these are; its outcome is whole once `run` has returned.
        schema: the collection's, as the server gave it.
        backs_up: whether each page's old vectors go to a backup, durably, before the page is written.
        doing: what the first pass is called on the progress bar and in the status.
        limit: most documents to write; None for all.
        read_back: whether what the first pass writes is read again beside it; then the second one reads vectors only
            of documents that were not. Only where nobody else may write a vector without changing the text.
    """

    def __init__(
        self,
        task: Task,
        schema: Schema,
        *,
        backs_up: bool = False,
        doing: str = "Migrating",
        limit: int | None = None,
        read_back: bool = False,
    ) -> None:
        self._task = task
        self._context, self._source, self._name = task.context, task.source, task.name
        self._doing = doing
        self._limit_given = limit
        self._limit = Limit(limit)
        self._backup: BackupWriter | None = None
        self._server = task.server.address
        source = task.source
        self._field = source.collection.embedding_field
        tenant = (TENANT_FIELD,) if any(known["name"] == TENANT_FIELD for known in schema["fields"]) else ()
        lean = Selection(self._field, source.filter_by, (*source.collection.text_fields, *tenant))
        # With a backup the whole document is read, so that its other fields can be shown to be unchanged.
        whole = Selection(self._field, source.filter_by, excluded=other_vector_fields(schema, self._field))
        self._whole = backs_up and task.context.options.backup
        self._selection = whole if self._whole else lean
        self._read_back = ReadBack(task.server, task.name, self._selection, source) if read_back else None
        self._random = random.Random(len(task.name))  # noqa: S311 - repeatable, not secret
        self._failures: dict[str, Failure] = {}
        self._on_record: set[str] = set()
        """Ids that the ledger holds as failed in this run, from an earlier leg of it or from this one."""
        self._refused: dict[str, DocumentRecord] = {}
        """What would be known of the documents whose lines the server has refused."""
        self._lock = threading.Lock()
        self._tally = _Tally()
        self._catching_up = False
        self._outcome = task.outcome
        self.first_ended_at: float | None = None
        """Unix time at which the first pass had read, and written, every document; None before."""

    def run(self, total: int) -> None:
        """Pass after pass, until one finds nothing to do, or the run is stopped.

        Args:
            total: eligible documents, for the progress bar.
        """
        self._outcome.complete = False
        with self._read_back or contextlib.nullcontext():
            self._passes(total)
        if self._backup is not None:
            self._backup.is_complete = self._outcome.complete

    def _passes(self, total: int) -> None:
        outcome = self._outcome
        earlier = self._context.ledger.failures(self._context.run.id, self._name)
        self._on_record = {failure.document_id for failure in earlier if failure.stage != "copy"}
        for number in range(1, MOST_PASSES + 1):
            self._catching_up = number > 1
            self._tally = tally = _Tally()
            self._limit.left_out = False
            doing = "Checking" if self._catching_up else self._doing
            self._task.enter(doing.lower(), total)
            whole = False
            try:
                with self._context.console.progress(f"  {doing} {self._name}", total) as bar:
                    self._one_pass(self._pages(), bar.update)
                whole = not self._task.is_stopped and not self._limit.left_out
                if whole:
                    self.first_ended_at = self.first_ended_at or time.time()
            finally:
                self._account(whole)
            if self._task.is_stopped:
                return
            if self._limit.left_out:
                if not self._limit.reached and number < MOST_PASSES:
                    continue  # Some that were taken failed, or were right already, and others may take their place.
                outcome.limit_reached = True
                outcome.notes.append(
                    f"the limit of {self._limit_given} documents is reached, so two models' vectors stand in "
                    f"'{self._name}' now; run again without the limit to go on"
                )
                return
            # A document that failed and was deleted, or left the filter, is no failure any more.
            self._failures = {id_: self._failures[id_] for id_ in tally.failing}
            outcome.failures = dict(self._failures)
            self._clear_failures(self._on_record - self._failures.keys())
            if tally.nothing_to_do:
                break
            if self._catching_up:
                self._read_back = None  # Somebody else writes: nothing but what stands there now is a proof.
            total = tally.seen
        else:
            outcome.unsettled = self._settle(tally.written)
            outcome.changing = len(outcome.unsettled)
            if outcome.changing:
                outcome.notes.append(
                    f"the application keeps writing: {outcome.changing} documents were still changing after "
                    f"{MOST_PASSES} passes; run again when it is quieter"
                )
        outcome.complete = True
        outcome.notes += self._source.notes()

    def _account(self, whole: bool) -> None:
        outcome, tally = self._outcome, self._tally
        outcome.passes += 1
        outcome.written += tally.wrote
        # A later pass that was cut short has seen fewer documents than are done.
        later = self._catching_up and not whole
        outcome.success = max(outcome.success, tally.success) if later else tally.success
        outcome.failures = dict(self._failures)
        outcome.sample = tally.sample or outcome.sample  # Of documents that were read back, the first pass has picked.
        outcome.other_fields_changed = max(outcome.other_fields_changed, tally.other_fields_changed, key=len)
        outcome.application_wrote |= self._catching_up and not tally.nothing_to_do

    def _settle(self, ids: list[str]) -> list[str]:
        """Look once more at the documents that the last pass wrote; those that needed writing again."""
        self._tally = tally = _Tally()
        batches = [ids[start : start + PAGE_SIZE] for start in range(0, len(ids), PAGE_SIZE)]
        self._one_pass(([Document(id_, {"id": id_}, None) for id_ in batch] for batch in batches), lambda _: None)
        return tally.written

    def _pages(self) -> Iterator[Page]:
        server, name, selection = self._context.server, self._name, self._selection
        if not self._catching_up:
            return fetch_pages(server, name, selection)
        if self._read_back is not None:
            self._read_back.wait()
        # One snapshot of what there is; the vectors are read page by page, several at once.
        lean = replace(selection, fields=self._source.collection.text_fields, excluded=(), with_vector=False)
        return export_pages(server, name, lean)

    def _with_vectors(self, page: Page, work: _PageWork) -> Page:
        """The documents of a page that is looked through again, but for those whose vectors are proved already."""
        if self._read_back is not None:
            proved = {document.id for document in page if self._read_back.proves(document)}
            work.current += len(proved)
            page = [document for document in page if document.id not in proved]
        return fetch_again(self._context.server, self._name, self._selection, page) if page else page

    def _one_pass(self, pages: Iterable[Page], advance: Callable[[int], object]) -> None:
        def record(work: _PageWork) -> None:
            self._record(work)
            advance(work.seen)

        run_pages(
            pages,
            self._prepare,
            self._write,
            record,
            workers=lambda: self._context.control.pace.concurrency,
            stopped=lambda: self._task.is_stopped or self._limit.reached,
        )

    # -- the steps of a page ---------------------------------------------------------------------------

    def _prepare(self, page: Page) -> _PageWork:
        """Compare the page with the ledger, get the vectors of what is not current, and put old ones aside."""
        context, source = self._context, self._source
        context.control.wait_while_paused()
        work = _PageWork(seen=len(page))
        if self._catching_up:
            page = self._with_vectors(page, work)
        known = self._task.known(page)
        doubtful: Page = []
        for document in page:
            if (failure := source.failing(document)) is not None:
                work.failures[document.id] = failure
            elif (landed := self._landed_all_the_same(document)) is not None:
                work.rows[document.id] = landed
                work.already_current += 1
            elif self._has_no_vector(document):
                work.failing.add(document.id)
            elif (stored := source.current(document, known.get(document.id))) is not None:
                work.current += 1
                self._look_at(document, known[document.id], stored, work)
            else:
                doubtful.append(document)
        doubtful = self._limit.take(doubtful)
        wanted = source.wanted(doubtful, known, again=self._catching_up) if doubtful else {}
        to_write: list[tuple[Document, AnyVector | None]] = []
        stored_by_id: dict[str, bytes] = {}
        for document in doubtful:
            if document.id not in wanted:
                continue
            vector = wanted[document.id]
            if isinstance(vector, Failure):
                work.failures[document.id] = vector
            elif source.carries(document, vector, again=self._catching_up):
                record = known.get(document.id)
                work.already_current += record is None or record.run_id != context.run.id
                stored_by_id[document.id] = document.vector_bytes() or b""
            else:
                to_write.append((document, vector))
                stored_by_id[document.id] = float32_bytes(vector)
        self._limit.give_back(len(doubtful) - len(to_write))
        contents = {d.id: d.content_hash() for d in doubtful if d.id in stored_by_id} if self._whole else {}
        work.rows |= source.rows(doubtful, stored_by_id, contents, known)
        for document in doubtful:
            if document.id in stored_by_id:
                self._pick(document, stored_by_id[document.id], work)
        if to_write and (backup := self._its_backup()) is not None:
            self._task.back_up(backup, [document for document, _ in to_write], contents)
        for document, vector in to_write:
            document.numbers = None  # In the backup; it makes room for its line, which is as long: the most of a page.
            work.lines[document.id] = update_line(document.id, self._field, vector)
        return work

    def _its_backup(self) -> BackupWriter | None:
        with self._lock:
            if self._backup is None and self._whole:
                self._backup = self._task.open_backup("vectors")
            return self._backup

    def _look_at(self, document: Document, record: DocumentRecord, stored: bytes, work: _PageWork) -> None:
        """A document that is current may still have lost something else."""
        if self._whole and record.content_hash is not None and record.run_id == self._context.run.id:
            now = document.content_hash()
            if record.content_hash != now:
                changed = WrongDocument(document.id, record.content_hash.hex(), now.hex())
                work.other_fields_changed.append(changed)
        self._pick(document, stored, work)

    def _pick(self, document: Document, stored: bytes, work: _PageWork) -> None:
        """Perhaps into the sample: of the few picked here a few are kept, each as likely as any other."""
        if stored and self._random.random() < _PICKED:
            work.sample.append(Sampled(document.id, self._source.collection.text_of(document.fields), stored))

    def _write(self, work: _PageWork) -> _PageWork:
        """One import request for the page."""
        if not work.lines:
            return work
        context = self._context
        context.control.wait_for_load()
        begun = time.monotonic()
        work.written = import_documents(context.server, self._name, work.lines)
        seconds = time.monotonic() - begun
        context.meter.imported(sum(map(len, work.lines.values())), seconds)
        work.lines.clear()
        context.control.rest(seconds)
        return work

    def _record(self, work: _PageWork) -> None:
        """Commit what was done to the ledger, and count it."""
        context, written = self._context, work.written
        self._limit.give_back(len(written.failed) + len(written.gone))
        work.failures.update((id_, Failure("import", reason)) for id_, reason in written.failed.items())
        for id_ in (*written.failed, *written.gone):
            row = work.rows.pop(id_, None)
            if row is not None and id_ in work.failures:
                work.failures[id_].text_hash = row.text_hash
                self._refused[id_] = row
        context.ledger.record_documents(self._server, self._name, list(work.rows.values()), field=self._field)
        with self._lock:
            new = {id_: failure for id_, failure in work.failures.items() if id_ not in self._failures}
            for id_ in work.rows:
                self._failures.pop(id_, None)
            self._failures.update(work.failures)
            self._count(work, new)
        if self._read_back is not None and not self._catching_up:
            self._read_back.follow(work.rows)
        self._clear_failures(work.rows.keys() & self._on_record)
        self._note_failures(new)
        context.status.add(work.seen - len(work.failures), len(work.failures))

    def _count(self, work: _PageWork, new_failures: Sized) -> None:
        tally, written = self._tally, work.written
        tally.failing |= work.failing | work.failures.keys()
        tally.seen += work.seen
        tally.success += work.current + len(work.rows)
        tally.wrote += len(written.written)
        tally.nothing_to_do &= not (written.written or written.gone or work.already_current or new_failures)
        tally.other_fields_changed += work.other_fields_changed
        if self._catching_up:
            tally.written.extend(written.written)
        for document in work.sample:
            if document.id in self._failures:
                continue
            tally.sampled_from += 1
            if len(tally.sample) < self._context.options.verify_sample:
                tally.sample.append(document)
            elif (place := self._random.randrange(tally.sampled_from)) < len(tally.sample):
                tally.sample[place] = document

    def _note_failures(self, failures: Mapping[str, Failure]) -> None:
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

    # -- what need not be tried again ------------------------------------------------------------------

    def _has_no_vector(self, document: Document) -> bool:
        """Whether the provider refused this very text in an earlier pass."""
        failure = self._failures.get(document.id)
        return (
            failure is not None and failure.stage == "embed" and failure.text_hash == self._source.text_hash(document)
        )

    def _landed_all_the_same(self, document: Document) -> DocumentRecord | None:
        """What is known of a document whose line was refused after an earlier answer to it had been lost."""
        refused = self._refused.get(document.id)
        return refused if refused is not None and self._source.current(document, refused) is not None else None
