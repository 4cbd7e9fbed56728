"""What a rebuild or an alter stages before the search pauses: every vector, and every old one on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kai.typesense import nameable
from kai.typesense_schemas import other_vector_fields
from migration.backup import Backup, BackupWriter
from migration.documents.fetch import Page, Selection, eligible_of, export_pages, fetch_again
from migration.documents.pipeline import run_pages
from migration.strategies.context import Failure
from migration.strategies.sources import VectorSource
from migration.strategies.task import Task


class Staging:
    """The vectors of one collection, in the cache, and the ones that they replace, in the backup.

    Args:
        task: whose collection it is; nothing of it is changed here.
        source: what the documents are to carry.
        backup: of the old vectors; None for no backup.

    Attributes:
        without: documents that will have no vector, by id, and why, where the source says so.
    """

    def __init__(self, task: Task, source: VectorSource, backup: BackupWriter | None = None) -> None:
        self._task = task
        self._context, self._server, self._name, self._field = task.context, task.server, task.name, task.field
        self._source = source
        self._backup = backup
        self._whole = Selection(
            task.field,
            excluded=other_vector_fields(task.plan.schema, task.field)
            if backup is None or backup.kind == "vectors"
            else (),
        )
        self._is_followed = task.context.options.hold is not None
        self._known: dict[str, bytes] = {}
        """Id -> hash of the content that the backup has, of an earlier start; and that was last read, where it is to
        be caught up with."""
        self.without: dict[str, Failure | None] = {}

    def gather(self) -> None:
        """Get all of them; less, if the run is stopped meanwhile."""
        plan, status = self._task.plan, self._context.status
        # With a backup, documents outside the filter are read too; nobody is to pay for theirs.
        filter_by, fields = (self._source.filter_by, self._source.collection.text_fields)
        if self._backup is not None:
            filter_by, fields = "", ()
            for rows in Backup.load(self._backup.folder).contents():
                self._known.update(rows)
        lean = Selection(self._field, filter_by, fields, with_vector=False)
        total = plan.documents if self._backup else plan.eligible
        self._task.enter("embedding", plan.eligible)
        with self._context.console.progress(f"  Embedding {self._name}", total) as bar:

            def advance(documents: int) -> None:
                status.add(documents)
                bar.update(documents)

            def prepare(page: Page) -> int:
                self._context.control.wait_while_paused()
                self._take(page)
                return len(page)

            self._read(lean, prepare, advance)

    def catch_up(self) -> int:
        """Get those of documents that came or changed since they were last read; how many documents that were.

        One of which nothing changed but its vector is not seen.
        """
        fields = self._source.collection.text_fields
        lean = Selection(self._field, self._source.filter_by, fields, with_vector=False)
        if self._backup is not None:
            lean = Selection(self._field, excluded=self._whole.excluded, with_vector=False)
        there: set[str] = set()
        changed: list[int] = []

        def prepare(page: Page) -> int:
            there.update(document.id for document in page)
            new = [document for document in page if self._known.get(document.id) != document.content_hash()]
            if new:
                self._context.control.wait_while_paused()
                self._take(new)
            changed.append(len(new))
            return len(page)

        self._read(lean, prepare)
        if not self._task.is_stopped:
            self.without = {id_: why for id_, why in self.without.items() if id_ in there}
        return sum(changed)

    def _read(
        self, selection: Selection, prepare: Callable[[Page], int], advance: Callable[[int], object] = lambda _: None
    ) -> None:
        run_pages(
            export_pages(self._server, self._name, selection),
            prepare,
            lambda documents: documents,
            advance,
            workers=lambda: self._context.control.pace.concurrency,
            stopped=lambda: self._task.is_stopped,
        )

    def _take(self, page: Page) -> None:
        """Embed these documents, and back up what the backup does not have yet."""
        if self._backup is not None:
            page = fetch_again(self._server, self._name, self._whole, page)
        self._embed(page)
        contents = {document.id: document.content_hash() for document in page}
        if self._backup is not None:
            self._back_up(self._backup, page, contents)
        if self._is_followed:
            self._known.update(contents)

    def _back_up(self, backup: BackupWriter, page: Page, contents: Mapping[str, bytes]) -> None:
        """New documents; and changed ones, unless this run has written their vector already, as a canary in place."""
        new = [document for document in page if document.id not in self._known]
        changed = [d for d in page if self._known.get(d.id, contents[d.id]) != contents[d.id]]
        known = self._task.known(changed)
        changed = [d for d in changed if (row := known.get(d.id)) is None or row.run_id != self._context.run.id]
        self._task.back_up(backup, new, contents)
        self._task.back_up(backup, changed, contents, is_newer=True)

    def _embed(self, page: Page) -> None:
        source = self._source
        for document in page:
            self.without.pop(document.id, None)
        eligible = page if self._backup is None else self._eligible(page)
        with_text = [document for document in eligible if source.failing(document) is None]
        known = self._task.known(with_text)
        wanted = source.wanted(with_text, known)
        for document in eligible:
            vector = wanted.get(document.id)
            if vector is None or isinstance(vector, Failure):
                self.without[document.id] = vector or source.failing(document)

    def _eligible(self, page: Page) -> Page:
        """The documents of a page that the source has vectors for; those that no filter finds are among them."""
        found = eligible_of(self._server, self._name, self._source.filter_by, [document.id for document in page])
        return [document for document in page if document.id in found or not nameable(document.id)]
