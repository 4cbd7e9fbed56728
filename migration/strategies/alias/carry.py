"""What was written to one of two collections, into the other, and never over what was written to that one since.

A document that is new in the source is created in the target, and left where it is there already; one that changed is
changed only if the target still has the content that both had in common; one that is gone is deleted only then. What
is settled is noted in the base, whichever way it went, so that a pass which finds nothing is the proof that nothing is
left to be carried.

A change is sent as the difference to what stands in the target, with `action=update`: a document that the application
deletes in that moment stays deleted. Typesense changes nothing on a condition, so the application may write between
the look at a document and its change. The answer to the change tells what it changed, and that to a deletion what it
deleted; where that is not what was looked at, it is the application's, and is put back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import orjson

from kai.typesense import Typesense
from migration.documents.fetch import IDS, PAGE_SIZE, Document, Page, Selection, export_pages, fetch_again
from migration.documents.update import Written, import_documents
from migration.ledger import Ledger
from migration.strategies.alias.base import Base, hash_of
from migration.strategies.context import Failure, Rejected
from migration.strategies.shadow.pages import PagePreparer, Prepared
from migration.strategies.task import Task

_SLICE: Final = 20
"""Documents of the target that are looked at and written in one go: the fewer, the shorter the time in between."""
_EXISTS: Final = "already exists"


class Carry:
    """One direction between two collections of the same documents.

    Args:
        task: whose collection is read: its plan's name is the source, its plan's schema the target's, its source knows
            the vectors that the target's documents should have.
        target: name of the collection that is written to.
        base: what both have in common.

    Attributes:
        carried: how many documents were created, changed or deleted in the target.
        refused: documents that the target does not take, by id.
        failures: documents that came without a vector.
        left: ids of those that were written to on both sides, of which the target's was left.
    """

    def __init__(self, task: Task, target: str, base: Base) -> None:
        self._task = task
        self._server: Typesense = task.server
        self._ledger: Ledger = task.context.ledger
        self._source, self._target = task.name, target
        self._field = task.field
        self._base = base
        self._pages = PagePreparer(task)
        self._whole = Selection(self._field)
        self._without_vector = Selection(self._field, with_vector=False)
        self.carried = 0
        self.refused: dict[str, Rejected] = {}
        self.failures: dict[str, Failure] = {}
        self.left: set[str] = set()

    def pass_over(self) -> int:
        """Read the source once, and carry what is to be carried; how many documents were settled by that.

        Nothing is sure of a pass in which the run was stopped.

        Raises:
            TypesenseError: the server could not be read or written within its patience.
        """
        seen: set[str] = set()
        settled = 0
        for page in export_pages(self._server, self._source, self._without_vector):
            if self._task.is_stopped:
                return settled
            seen.update(document.id for document in page)
            if changed := [d for d in page if self._base.contents.get(d.id) != hash_of(d)]:
                settled += self._bring(changed)
        return settled + self._delete(self._base.contents.keys() - seen)

    def _bring(self, page: Page) -> int:
        fresh = fetch_again(self._server, self._source, self._whole, page)
        prepared = self._pages.prepare(fresh)
        settled = 0
        for start in range(0, len(fresh), _SLICE):
            settled += self._bring_some(fresh[start : start + _SLICE], prepared)
        return settled

    def _bring_some(self, some: Page, prepared: Prepared) -> int:
        """Look at what stands in the target and write at once; what was prepared before is all that takes time."""
        there = self._standing(some)
        new: dict[str, bytes] = {}
        changed: dict[str, bytes] = {}
        written: set[str] = set()
        for document in some:
            before, standing = self._base.contents.get(document.id), there.get(document.id)
            line = prepared.lines[document.id]
            if standing is not None and hash_of(standing) == hash_of(document):
                continue  # Carried by a run that died before it could note that, or both wrote the same.
            if standing is None and before is None:
                new[document.id] = line
            elif standing is not None and before == hash_of(standing):
                changed[document.id] = change_line(standing, orjson.loads(line), self._field)
            else:
                self.left.add(document.id)
        created = import_documents(self._server, self._target, new, "create")
        self.left.update(id_ for id_, why in created.failed.items() if _EXISTS in why)
        updated = self._change(changed, there)
        failed = {id_: why for id_, why in (created.failed | updated.failed).items() if _EXISTS not in why}
        written.update(created.written, updated.written)
        self._account(some, prepared, written - self.left, failed)
        return len(some) - len(self.refused.keys() & {document.id for document in some})

    def _change(self, lines: Mapping[str, bytes], there: Mapping[str, Document]) -> Written:
        """Change documents of the target, and undo that where it was not what was looked at that was changed.

        Args:
            lines: the changes, by id.
            there: the documents that they were made for.
        """
        result = import_documents(self._server, self._target, lines, look=True)
        last, meant, ours = result, dict[str, dict[str, Any]](), dict[str, dict[str, Any]]()
        while overtaken := {
            id_: (before, after)
            for id_, (before, after) in last.changed.items()
            if hash_of(self._document(before)) not in (hash_of(there[id_]), hash_of(self._document(after)))
        }:
            self.left.update(overtaken)
            meant = {
                id_: _meant(before, ours.get(id_, {}), meant.get(id_, {})) for id_, (before, _) in overtaken.items()
            }
            ours = {id_: after for id_, (_, after) in overtaken.items()}
            there = {id_: self._document(after) for id_, after in ours.items()}
            back = {id_: change_line(there[id_], whole, self._field) for id_, whole in meant.items()}
            last = import_documents(self._server, self._target, back, look=True)
            result.failed |= last.failed
        return result

    def _document(self, whole: Mapping[str, Any]) -> Document:
        """A document of the target as `_standing` has it."""
        return Document(str(whole["id"]), {k: v for k, v in whole.items() if k != self._field}, None)

    def _account(self, some: Page, prepared: Prepared, written: set[str], failed: Mapping[str, str]) -> None:
        rows = [prepared.rows[id_] for id_ in written if id_ in prepared.rows]
        self._ledger.record_documents(self._server.address, self._target, rows, field=self._field)
        for document in some:
            self.failures.pop(document.id, None)
            self.refused.pop(document.id, None)
            if (why := failed.get(document.id)) is not None:
                self.refused[document.id] = Rejected(why, prepared.lines[document.id])
            elif document.id in written and (failure := prepared.failures.get(document.id)) is not None:
                self.failures[document.id] = failure
        self.carried += len(written)
        self._base.note({d.id: hash_of(d) for d in some if d.id not in self.refused})

    def _delete(self, gone: Iterable[str]) -> int:
        ids = sorted(gone)
        settled = 0
        for start in range(0, len(ids), PAGE_SIZE):
            if self._task.is_stopped:
                break
            missing = _named(ids[start : start + PAGE_SIZE])
            # A stream that broke off and was read on, or a node that lags, may have hidden some.
            back = {document.id for document in fetch_again(self._server, self._source, IDS, missing)}
            settled += self._delete_some([document for document in missing if document.id not in back])
        return settled

    def _delete_some(self, missing: Page) -> int:
        there = self._standing(missing)
        deleted: list[str] = []
        for document in missing:
            self.refused.pop(document.id, None)
        for document_id, standing in there.items():
            if hash_of(standing) != self._base.contents.get(document_id):
                self.left.add(document_id)
            elif (gone := self._server.delete_document(self._target, document_id)) is not None:
                if hash_of(self._document(gone)) == hash_of(standing):
                    deleted.append(document_id)
                else:
                    self._create_again(document_id, gone)
        self._ledger.forget_documents(self._server.address, self._target, deleted, field=self._field)
        self.carried += len(deleted)
        self._base.forget(document.id for document in missing)
        return len(missing)

    def _create_again(self, document_id: str, whole: Mapping[str, Any]) -> None:
        """Put back what the application wrote right before it was deleted, unless it has written it again itself."""
        line = orjson.dumps(whole)
        failed = import_documents(self._server, self._target, {document_id: line}, "create").failed
        if (why := failed.get(document_id)) is not None and _EXISTS not in why:
            self.refused[document_id] = Rejected(why, line)
        self.left.add(document_id)

    def _standing(self, page: Page) -> dict[str, Document]:
        found = fetch_again(self._server, self._target, self._without_vector, page)
        return {document.id: document for document in found}


def carry_until_even(task: Task, carry: Carry, passes: int, wait: Callable[[], object]) -> bool:
    """Pass after pass, until one finds nothing to settle; False if none did, or the run was stopped.

    Args:
        task: of the run.
        carry: the direction.
        passes: most of them.
        wait: called before each.
    """
    for _ in range(passes):
        wait()
        settled = carry.pass_over()
        if task.is_stopped:
            return False
        if not settled:
            return True
    return False


def _meant(seen: Mapping[str, Any], ours: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """The document as the application has it: as it stood, but where that was our own change, as it was before."""
    kept = {name: value for name, value in before.items() if seen.get(name) == ours.get(name)}
    return {name: value for name, value in seen.items() if value != ours.get(name)} | kept


def _named(ids: Iterable[str]) -> Page:
    return [Document(id_, {"id": id_}, None) for id_ in ids]


def change_line(standing: Document, wanted: Mapping[str, Any], vector_field: str) -> bytes:
    """The line of an update that makes the wanted document of what stands there, and says nothing of what is right.

    Without a vector in the wanted one, the standing one's is taken away.
    """
    change = {name: value for name, value in _difference(standing.fields, wanted).items() if name != vector_field}
    return orjson.dumps({**change, "id": standing.id, vector_field: wanted.get(vector_field)})


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """What an update must send: the values that differ, whole, and null for what is no more.

    Also within objects, which the server merges (RFC 7386).
    """
    gone: dict[str, Any] = {name: None for name in old if name not in new}
    return gone | {name: _merged(old.get(name), value) for name, value in new.items() if old.get(name) != value}


def _merged(old: Any, new: Any) -> Any:
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    gone = {name: None for name in old if name not in new}
    return gone | {name: _merged(old.get(name), value) for name, value in new.items()}
