"""Documents from one collection to another on the same server, as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from kai.typesense import Typesense, nameable
from migration.documents.fetch import IDS, PAGE_SIZE, Page, Selection, export_line_pages, export_pages, fetch_documents
from migration.documents.pipeline import run_pages
from migration.documents.update import Written, import_documents, line_of, update_line
from migration.strategies.context import Failure, Rejected
from migration.strategies.shadow.references import forget_old_numbers, is_old_number
from migration.strategies.shadow.watching import Watch
from migration.strategies.shadow_state import Mark, MarkKeeper, shadow_name
from migration.strategies.task import Task

_BETWEEN_LOOKS: Final = 50
"""Documents that are copied between two looks at what the application has written: a real server inserts as many
in 66 ms (measured on 29.0, 768 dimensions, 2 cores), and answers a look in 2 ms or so."""

Lines = dict[str, bytes]
"""Lines of an import by document id."""


def copy_everything(server: Typesense, source: str, target: str) -> dict[str, str]:
    """Copy every document, vectors and all; id -> the server's words for those that it does not take."""
    failed: dict[str, str] = {}
    for page in export_line_pages(server, source):
        failed |= import_documents(server, target, {line.id: line.content for line in page}, "upsert").failed
    return failed


def remove_vectors(server: Typesense, name: str, embedding_field: str, watch: Watch) -> None:
    """Take the vector away from every document that has one."""
    for page in export_pages(server, name, Selection(embedding_field, fields=())):
        watch.saw(document.id for document in page)
        lines = {d.id: update_line(d.id, embedding_field, None) for d in page if d.vector is not None}
        import_documents(server, name, lines)


class CopyBack:
    """The shadow's documents into the collection that stands under the old name.

    The id of the last document of each page is in the shadow's mark as soon as the page is copied, so that no
    page is copied twice: a document that the application deletes after its page was copied does not come back.
    Nor does one that it wrote and deleted before: what was once seen there is not copied.

    Args:
        task: whose collection is copied to, from its shadow.
        keeper: of the shadow's mark.
        watch: on the collection of that name.

    Attributes:
        refused: documents that it does not take, by id.
        left_out: how many the application had written itself by then.
    """

    def __init__(self, task: Task, keeper: MarkKeeper, watch: Watch) -> None:
        self._status = task.context.status
        self._server = task.server
        self._shadow, self._name = shadow_name(task.name), task.name
        self._keeper = keeper
        self._watch = watch
        self.refused: dict[str, Rejected] = {}
        self.left_out = 0

    def run(self, advance: Callable[[int], object]) -> None:
        """Copy what is not copied yet; what is refused at first is tried again when the rest is there.

        Raises:
            TypesenseError: the server could not be read or written within its patience.
        """

        def record(done: tuple[Lines, Written]) -> None:
            advance(self._record(*done))

        run_pages(
            export_line_pages(self._server, self._shadow, self._keeper.mark.copied_to or None),
            lambda page: {line.id: line.content for line in page},
            self._write,
            record,
        )
        while self.refused and self._try_again():
            pass

    def _write(self, page: Lines) -> tuple[Lines, Written]:
        written = Written()
        items = list(page.items())
        self._watch.look()
        for start in range(0, len(items), _BETWEEN_LOOKS):
            if start:
                self._watch.look_again()
            some = dict(items[start : start + _BETWEEN_LOOKS])
            new = {id_: line for id_, line in some.items() if id_ not in self._watch.seen}
            self.left_out += len(some) - len(new)
            if new:
                written.failed.update(import_documents(self._server, self._name, new, "create").failed)
        return page, written

    def _record(self, page: Lines, written: Written) -> int:
        for document_id, why in written.failed.items():
            if "already exists" not in why:
                self.refused[document_id] = Rejected(why, page[document_id])
        if not self.refused:
            self._keeper.write(copied_to=next(reversed(page)))
        self._status.add(len(page), 0)
        return len(page)

    def _try_again(self) -> int:
        """Import what was refused once more, unless it is gone from the shadow; how many are settled by that."""
        ids = list(self.refused)
        if any(is_old_number(each.reason) for each in self.refused.values()):
            forget_old_numbers(self._server, self._name)
        self._server.settle()
        for start in range(0, len(ids), PAGE_SIZE):
            some = ids[start : start + PAGE_SIZE]
            found = fetch_documents(self._server, self._shadow, IDS, some)
            there = {document.id for document in found}
            page = {id_: self.refused[id_].line for id_ in some if id_ in there or not nameable(id_)}
            failed = import_documents(self._server, self._name, page, "create").failed
            for document_id in some:
                if "already exists" in failed.get(document_id, "already exists"):
                    self.refused.pop(document_id)
        return len(ids) - len(self.refused)


class Adoption:
    """What an application wrote into a collection of its own making, into the shadow, as its newest content.

    Args:
        task: whose collection's name the application's has.
        mark: of the shadow.
        vector_is_optional: whether a document may come without one.
        watch: on the application's collection.
        copied: id -> hash of the content of what the shadow has; where the application's collection has the same,
            it is a copy, and the shadow keeps its own. The server may count documents there that it refused.

    Attributes:
        refused: documents that the shadow does not take, by id.
    """

    def __init__(
        self,
        task: Task,
        mark: Mark,
        watch: Watch,
        *,
        vector_is_optional: bool,
        copied: Mapping[str, bytes] | None = None,
    ) -> None:
        self._server = task.server
        self._name, self._shadow = task.name, shadow_name(task.name)
        self._watch = watch
        self._copied = copied
        self._field = task.field
        self._dimensions = mark.dimensions
        # One that must have a vector gets it here; others from the passes at the end.
        is_embedded = not vector_is_optional and mark.fingerprint == task.source.fingerprint
        self._source = task.source if is_embedded else None
        self._selection = Selection(task.field, with_vector=not vector_is_optional)
        self._adopted: dict[str, bytes] = {}
        self._gone: set[str] = set()
        self.refused: dict[str, Rejected] = {}

    @property
    def count(self) -> int:
        """How many documents were adopted."""
        return len(self._adopted) - len(self.refused)

    def catch_up(self) -> int:
        """Take over what is new, changed or deleted since the last time; how many documents that were."""
        there: set[str] = set()
        changed = 0
        self._watch.look()
        seen = set(self._watch.seen)
        copied = self._copied or {}
        for page in export_pages(self._server, self._name, self._selection, is_counted=self._copied is None):
            there.update(document.id for document in page)
            new = [d for d in page if self._adopted.get(d.id, copied.get(d.id)) != d.content_hash()]
            if new:
                changed += len(new)
                self._adopt(new)
        gone = (self._adopted.keys() | (seen - self._gone)) - there
        for document_id in gone:
            self._server.delete_document(self._shadow, document_id)
            self.refused.pop(document_id, None)
            self._adopted.pop(document_id, None)
        self._gone = (self._gone | gone) - there
        return changed + len(gone)

    def _adopt(self, page: Page) -> None:
        lines = self._lines(page)
        written = import_documents(self._server, self._shadow, lines, "upsert")
        for document in page:
            self._adopted[document.id] = document.content_hash()
            if (why := written.failed.get(document.id)) is None:
                self.refused.pop(document.id, None)
            else:
                self.refused[document.id] = Rejected(why, lines[document.id])

    def _lines(self, page: Page) -> Lines:
        with_text = [d for d in page if self._source and self._source.failing(d) is None]
        wanted = self._source.wanted(with_text, {}) if self._source else {}
        lines: Lines = {}
        for document in page:
            vector = wanted.get(document.id)
            if vector is not None and not isinstance(vector, Failure):
                lines[document.id] = line_of(document, self._field, vector)
            else:
                # Of whatever space: the passes at the end replace it.
                old = document.vector
                fits = old is not None and len(old) == self._dimensions
                lines[document.id] = line_of(document, self._field, old.tolist() if old and fits else None)
        return lines
