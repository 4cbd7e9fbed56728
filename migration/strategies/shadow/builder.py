"""Fill the shadow from the live collection, keep it abreast, and check what stands in it.

Which content the shadow was given is kept in memory, a hash a document, so that a pass over the live
collection that finds nothing changed costs one export and no other request: the time between the last look
and the drop is the time in which a write cannot be seen.
"""

from __future__ import annotations

import functools
import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

import orjson

from kai.typesense import Schema, TypesenseError, nameable
from kai.typesense_schemas import schema_differences, set_dimensions
from migration.backup import Backup, BackupWriter
from migration.documents.fetch import (
    PAGE_SIZE,
    Document,
    Page,
    Selection,
    export_pages,
    fetch_again,
    fetch_documents,
    fetch_newest,
    whole_export,
)
from migration.documents.pipeline import run_pages
from migration.documents.update import import_documents
from migration.strategies.context import Failure, Rejected, StrategyStopped
from migration.strategies.shadow.pages import PagePreparer, Prepared
from migration.strategies.shadow_state import Mark, MarkKeeper, clone, own_metadata, read_mark, shadow_name
from migration.strategies.task import Task

_BROKEN_EXPORTS: Final = 8
_NEWEST: Final = 50
"""Documents that the last look before the drop compares."""


class CannotCopy(StrategyStopped):
    """The shadow refuses documents, or is not what it should be. The live collection is untouched."""


class ShadowBuilder:
    """Fills the shadow from the live collection and keeps it abreast.

    Args:
        task: whose collection gets a shadow.
        backup: takes each page, durably, before it goes to the shadow; None for no backup.
        shadow: name of the collection that is built; None for the shadow's usual one.

    Attributes:
        name: the live collection.
        shadow: the shadow's name.
        vector_is_optional: whether a document may come without a vector.
        quiet_since: monotonic time of the last change of the live collection that was seen, or of the first reading.
        saw_changes: whether there was one.
        whole: selects whole documents with their vectors.
        refused: documents that the shadow does not take, by id.
        failures: documents that came along without a vector.
    """

    def __init__(self, task: Task, backup: BackupWriter | None, shadow: str | None = None) -> None:
        self._task = task
        self._context = task.context
        self._backup = backup
        self.name = task.name
        self.shadow = shadow or shadow_name(task.name)
        self._keeper: MarkKeeper | None = None
        self.refused: dict[str, Rejected] = {}
        self.failures: dict[str, Failure] = {}
        self._source = task.server.address
        self._field = task.field
        self._sorted_otherwise = bool(task.plan.schema.get("default_sorting_field"))
        self._pages = PagePreparer(task)
        self.vector_is_optional = self._pages.vector_is_optional
        self.whole = Selection(self._field)
        self._without_vector = Selection(self._field, with_vector=False)
        self._known: dict[str, bytes] = {}
        """Id -> hash of the content that the shadow was given, or refused."""
        self._read: dict[bytes, str] = {}
        """Digest of a line of the live collection's export -> id, where that content is in the shadow."""
        self._rewritten: set[str] = set()
        self._backed_up: set[str] = set()
        """Ids of documents that are in the backup."""
        self.quiet_since = time.monotonic()
        self.saw_changes = False
        self._changed = 0
        self._whole_pass = False
        """Whether the last pass of a catch-up read the live collection to its end."""
        self._lock = threading.Lock()
        self._advance: Callable[[int], object] = lambda _: None

    @property
    def held(self) -> int:
        """How many documents should stand in the shadow."""
        return len(self._known) - len(self.refused)

    @property
    def contents(self) -> Mapping[str, bytes]:
        """Id -> hash of the content that the shadow was given, or refused."""
        return self._known

    @property
    def sees_all(self) -> bool:
        """Whether there are so few documents that `is_abreast` compares them all."""
        return len(self._known) <= PAGE_SIZE

    @property
    def sees_newest(self) -> bool:
        """Whether `is_abreast` sees what was added last: a `default_sorting_field` brings others first."""
        return self.sees_all or not self._sorted_otherwise

    @property
    def keeper(self) -> MarkKeeper:
        """Of the shadow's mark.

        Raises:
            CannotCopy: it has none.
        """
        if self._keeper is None:
            raise CannotCopy(f"the shadow {self.shadow!r} carries no mark")
        return self._keeper

    @property
    def mark(self) -> Mark:
        """The shadow's mark."""
        return self.keeper.mark

    def is_ours(self) -> bool:
        """Whether the shadow carries the mark that this run wrote."""
        return self._keeper is not None and self._keeper.is_ours()

    # -- creating --------------------------------------------------------------------------------------

    def create(self, live: Schema, existing: Schema | None) -> None:
        """Clone the schema on the server, mark the clone, and change the length of its vectors.

        Raises:
            CannotCopy: a run on another machine was faster, or the schema cannot be changed.
        """
        context = self._context
        server = context.server
        if existing is not None and schema_differences(live, existing, but=self._field):
            # The live collection's schema changed since, or the shadow is half-made.
            server.delete_collection(self.shadow)
            existing = None
        existing = existing or clone(server, self.name, self.shadow)
        found = read_mark(existing)
        if found is not None and found.held_elsewhere:
            raise CannotCopy(found.holder)
        mark = Mark(
            of=self.name,
            run=context.run.name,
            phase="building",
            fingerprint=self._task.source.fingerprint,
            dimensions=self._task.plan.new_dimensions,
            embedding_field=self._field,
            live_metadata=own_metadata(live),
        )
        self.take_up(mark)
        try:
            set_dimensions(server, self.shadow, self._field, mark.dimensions)
        except KeyError as error:
            raise CannotCopy(f"the shadow {self.shadow!r} has no field {self._field!r}") from error

    def take_up(self, mark: Mark) -> None:
        """Mark the shadow as this run's."""
        self._keeper = MarkKeeper(self._task.server, mark, self.shadow)
        self._keeper.write()

    def learn(self) -> None:
        """Know what the shadow holds from the shadow itself: a ledger may be lost, or speak of another shadow."""
        context = self._context
        self._known.clear()
        self._read.clear()
        self.refused.clear()
        context.ledger.forget_collection(self._source, self.shadow)
        for page in export_pages(context.server, self.shadow, self.whole):
            stored = {document.id: document.vector_bytes() or b"" for document in page}
            rows = self._pages.rows(page, stored, {}, self._pages.outside(page, self.shadow))
            context.ledger.record_documents(self._source, self.shadow, list(rows.values()), field=self._field)
            self._known.update((document.id, document.content_hash()) for document in page)

    # -- filling ---------------------------------------------------------------------------------------

    def build(self, advance: Callable[[int], object]) -> None:
        """Copy every document that the shadow does not have yet, in insertion order, with its new vector.

        Raises:
            CannotCopy: the shadow refuses documents, and `allow_partial` was not asked for.
        """
        if self._backup is not None:
            for rows in Backup.load(self._backup.folder).contents():
                self._backed_up.update(document_id for document_id, _ in rows)
        while True:
            self._advance = advance
            self._pass(export_pages(self._context.server, self.name, self.whole), self._prepare_new)
            self._advance = lambda _: None
            if not self._reconsider() or self._task.is_stopped:
                return

    def catch_up(self, *, embed: bool = True) -> int:
        """Bring what changed in the live collection since it was read; how many documents that were.

        Args:
            embed: False leaves the vectors of changed documents to the passes after the cut-over, where the
                field is optional: an application that writes all the time is not to wait for the provider.

        Raises:
            CannotCopy: as for `build`.
        """
        changed = self._catch_up(embed=embed)
        if changed:
            self.quiet_since, self.saw_changes = time.monotonic(), True
        return changed

    def _catch_up(self, *, embed: bool) -> int:
        for attempt in range(1, _BROKEN_EXPORTS + 1):
            self._changed = 0
            seen: set[str] = set()
            prepare = functools.partial(self._prepare_changed, embed or not self.vector_is_optional)
            try:
                self._pass(self._changes(seen), prepare)
            except TypesenseError as error:
                if not error.transient or attempt == _BROKEN_EXPORTS:
                    raise
                continue  # The export broke off: read it again from its beginning.
            if self._task.is_stopped:
                return 0
            if not self._whole_pass:
                return max(self._changed, self._reconsider())
            changed = self._changed + self._delete(self._known.keys() - seen)
            # What is refused may be the last page that changed, or one of an earlier catch-up.
            return changed + (0 if self._context.options.allow_partial else self._reconsider())
        raise AssertionError

    def is_abreast(self) -> bool:
        """Whether neither the number of live documents nor the newest of them have changed; one request.

        A change of an older document stays hidden from it, unless it `sees_all`.
        """
        looked_at = PAGE_SIZE if self.sees_all else _NEWEST
        found, newest = fetch_newest(self._context.server, self.name, self._without_vector, looked_at)
        abreast = found == len(self._known) and all(self._known.get(d.id) == d.content_hash() for d in newest)
        if not abreast:
            self.quiet_since, self.saw_changes = time.monotonic(), True
        return abreast

    def _pass(self, pages: Iterable[Page], prepare: Callable[[Page], Prepared]) -> None:
        context = self._context
        run_pages(
            pages,
            prepare,
            self._write,
            self._record,
            workers=lambda: context.control.pace.concurrency,
            stopped=lambda: self._task.is_stopped or (bool(self.refused) and not context.options.allow_partial),
        )

    def _changes(self, seen: set[str]) -> Iterator[Page]:
        """Documents of the live collection whose content is not what the shadow was given, without vectors."""
        self._whole_pass = False
        if self._rewritten:
            self._read = {line: id_ for line, id_ in self._read.items() if id_ not in self._rewritten}
            self._rewritten.clear()
        changed: Page = []
        for line in whole_export(self._context.server, self.name, self._without_vector):
            digest = hashlib.blake2b(line, digest_size=16).digest()
            document_id = self._read.get(digest)
            if document_id is None:
                try:
                    fields = orjson.loads(line)
                    document_id = str(fields["id"])
                except (orjson.JSONDecodeError, KeyError, TypeError) as error:
                    raise TypesenseError(f"a line cannot be read: {line[:80]!r}", transient=True) from error
                document = Document(document_id, fields, None)
                if self._known.get(document_id) == document.content_hash():
                    self._read[digest] = document_id
                else:
                    changed.append(document)
            seen.add(document_id)
            if len(changed) == PAGE_SIZE:
                self._changed += PAGE_SIZE
                yield changed
                changed = []
        if changed:
            self._changed += len(changed)
            yield changed
        self._whole_pass = True

    def _prepare_changed(self, embed: bool, page: Page) -> Prepared:
        """Read documents that changed once more, with their vectors for the backup."""
        fresh = fetch_again(self._context.server, self.name, self.whole, page)
        self.back_up(fresh)
        return self._pages.prepare(fresh, get_vectors=embed)

    def _prepare_new(self, page: Page) -> Prepared:
        """Put the page on disk before it goes anywhere, and take what the shadow does not have yet."""
        new = [d for d in page if self._known.get(d.id) != d.content_hash()]
        new_ids = {d.id for d in new}
        # A shadow that another machine began has no backup here.
        self.back_up([d for d in page if d.id in new_ids or d.id not in self._backed_up])
        prepared = self._pages.prepare(new)
        prepared.seen = len(page)
        return prepared

    def back_up(self, page: Page) -> None:
        """Put whole documents, old vectors included, on disk; of one that is there already this is the newer one."""
        if self._backup is not None and page:
            for is_newer in (False, True):
                some = [document for document in page if (document.id in self._backed_up) is is_newer]
                self._task.back_up(self._backup, some, is_newer=is_newer)
            self._backed_up.update(document.id for document in page)

    def _write(self, prepared: Prepared) -> Prepared:
        if not prepared.lines:
            return prepared
        context = self._context
        context.control.wait_for_load()
        begun = time.monotonic()
        # upsert: a page that is sent again after a lost answer, or a changed document, replaces what is there.
        prepared.written = import_documents(context.server, self.shadow, prepared.lines, "upsert")
        seconds = time.monotonic() - begun
        context.meter.imported(sum(map(len, prepared.lines.values())), seconds)
        context.control.rest(seconds)
        return prepared

    def _record(self, prepared: Prepared) -> None:
        context, written = self._context, prepared.written
        for document_id, reason in written.failed.items():
            prepared.rows.pop(document_id, None)
            prepared.failures.pop(document_id, None)
            self.refused[document_id] = Rejected(reason, prepared.lines[document_id])
        context.ledger.record_documents(self._source, self.shadow, list(prepared.rows.values()), field=self._field)
        with self._lock:
            for document_id in prepared.rows:
                self.failures.pop(document_id, None)
                self.refused.pop(document_id, None)
            self.failures.update(prepared.failures)
            self._known.update(prepared.contents)
            self._rewritten.update(prepared.contents)
        context.status.add(prepared.seen - len(written.failed), len(written.failed))
        self._advance(prepared.seen)

    def _reconsider(self) -> int:
        """Try the refused documents once more as they stand now; how many are none any more.

        A document may have been deleted meanwhile, with what it referred to, or the application mended it.

        Raises:
            CannotCopy: some are still refused, and `allow_partial` was not asked for.
        """
        if not self.refused or self._task.is_stopped:
            return 0
        before = set(self.refused)
        ids = sorted(before)
        for start in range(0, len(ids), PAGE_SIZE):
            some = ids[start : start + PAGE_SIZE]
            fresh = fetch_documents(self._context.server, self.name, self.whole, some)
            for document_id in set(some) - {document.id for document in fresh}:
                if nameable(document_id):  # Whether another is still there, no filter says: it stays refused.
                    self._forget(document_id)
            self._record(self._write(self._pages.prepare(fresh)))
        if self.refused and not self._context.options.allow_partial:
            raise CannotCopy(
                f"{len(self.refused)} documents cannot be copied, so nothing was dropped; "
                + (
                    "mend them, or leave them out with --allow-partial"
                    if self._context.run.kind == "migrate"
                    else "mend or delete them"
                )
            )
        return len(before - self.refused.keys())

    def _delete(self, gone: Iterable[str]) -> int:
        """Delete from the shadow what is not in the live collection any more; how many documents that were."""
        ids = sorted(gone)
        for document_id in ids:
            self._context.server.delete_document(self.shadow, document_id)
            self._forget(document_id)
        self._context.ledger.forget_documents(self._source, self.shadow, ids, field=self._field)
        return len(ids)

    def _forget(self, document_id: str) -> None:
        for known in (self._known, self.failures, self.refused):
            known.pop(document_id, None)
        self._rewritten.add(document_id)

    # -- checking --------------------------------------------------------------------------------------

    def check(self, live: Schema) -> list[str]:
        """What is not as it should be in the shadow as it stands on the server; documents are read back whole.

        What was not as it should be is known as such afterwards, so that the next catch-up brings it again.
        """
        context = self._context
        context.server.settle()
        shadow = context.server.collection(self.shadow)
        if shadow is None:
            return [f"{self.shadow!r} is gone"]
        wrong = schema_differences(live, shadow, but=self._field)
        strange: list[str] = []
        missing = self._known.keys() - self.refused.keys()
        for page in export_pages(context.server, self.shadow, self.whole):
            records = self._task.known(page, self.shadow)
            for document in page:
                missing.discard(document.id)
                record = records.get(document.id)
                stored = document.vector_bytes() or b""
                if (
                    record is None
                    or self._known.get(document.id) != document.content_hash()
                    or not record.has_vector(stored)
                    or (stored and len(stored) != 4 * self._task.plan.new_dimensions)
                ):
                    strange.append(document.id)
        for document_ids, how in ((strange, "differ from what was copied"), (sorted(missing), "are gone from it")):
            if document_ids:
                wrong.append(f"{len(document_ids)} documents {how}, {document_ids[0]!r} among them")
            self._rewritten.update(document_ids)
            self._known.update(dict.fromkeys(document_ids, b"not known"))
        return wrong
