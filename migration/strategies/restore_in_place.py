"""The way back: the vectors of a backup stand again where they stood, bit for bit, without an embedding call.

Like a migration it works in passes: read every document, write what differs from the backup, until a pass
finds nothing. What it overwrites goes into a backup of its own first, so a way back has a way back. A
document deleted since stays deleted; one added since has no old vector, and one whose text changed since
gets the vector of its old text: both are named.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from kai.collections import EmbeddedCollection
from kai.typesense import Schema, embedding_field
from migration.backup import Backup, BackupError, BackupWriter, vector_line
from migration.backup.old_vectors import OldVectors
from migration.documents.fetch import Document, Page, Selection, export_pages
from migration.documents.pipeline import run_pages
from migration.documents.update import Written, import_documents
from migration.embedding.cache import CacheError, VectorCache
from migration.embedding.embed import text_hash
from migration.runtime.console import named
from migration.strategies.context import Failure, Outcome, Workshop
from migration.strategies.shadow.pages import added_since
from migration.strategies.shadow_state import role_of

if TYPE_CHECKING:
    from migration.ledger import DocumentRecord, ModelRecord

MOST_PASSES: Final = 6


@dataclass(frozen=True, slots=True)
class Way:
    """One collection's way back.

    Attributes:
        name: the collection.
        backup: what it goes back to.
        schema: the collection as it is now; None if it is gone.
        shadow: what a dead run left of its way; None if nothing.
    """

    name: str
    backup: Backup
    schema: Schema | None
    shadow: Schema | None = None

    @property
    def old_dimensions(self) -> int | None:
        """The length of the backup's vectors, as the schema had it then."""
        found = embedding_field(self.backup.schema, self.backup.manifest.embedding_field)
        return found.get("num_dim") if found else None

    @property
    def dimensions(self) -> int | None:
        """The length of the collection's vectors now."""
        found = embedding_field(self.schema, self.backup.manifest.embedding_field) if self.schema else None
        return found.get("num_dim") if found else None

    @property
    def is_gone(self) -> bool:
        """Whether there is no such collection, nor what a dead run made of it."""
        return self.schema is None and self.shadow is None

    @property
    def lacks_the_field(self) -> bool:
        """Whether the collection is there, without the field that the backup's vectors belong to."""
        return self.schema is not None and embedding_field(self.schema, self.backup.manifest.embedding_field) is None

    @property
    def is_being_restored(self) -> bool:
        """Whether a dead run began to create the collection anew from a backup."""
        return self.schema is not None and role_of(self.schema) == "restored"

    @property
    def strategy(self) -> str:
        """How it goes: in place, or by recreating the collection."""
        fits = self.schema is not None and self.old_dimensions == self.dimensions and not self.is_being_restored
        return "in place" if fits and self.shadow is None else "recreate"


class KnownModels:
    """Which model has made a vector, where the vector cache remembers that it gave this one for this text.

    Nothing is guessed: a run that is undone may have been one of several that wrote to the collection.
    """

    def __init__(self, cache: VectorCache | None, models: Sequence[ModelRecord]) -> None:
        self._cache = cache
        self._models = models

    def of(self, vectors: Mapping[str, tuple[bytes, bytes]]) -> dict[str, str]:
        """The models' ids by document id, for the text's hash and the vector as float32 by document id."""
        found: dict[str, str] = {}
        for model in self._models:
            if self._cache is None:
                break
            try:
                cached = self._cache.get_many(model.fingerprint, list({digest for digest, _ in vectors.values()}))
            except CacheError:
                break  # What it remembers is worth knowing, and not worth stopping for.
            made = {digest: vector.tobytes() for digest, vector in cached.items()}
            found.update((id_, model.id) for id_, (digest, vector) in vectors.items() if made.get(digest) == vector)
        return found


@dataclass(slots=True)
class _Prepared:
    lines: dict[str, bytes] = field(default_factory=dict)
    records: dict[str, DocumentRecord] = field(default_factory=dict)
    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    current: int = 0
    seen: int = 0


class RestoreInPlace:
    """Puts the vectors of a backup back into a collection whose dimensions are those of the backup.

    Args:
        context: the tools of the run.
        name: the collection.
        schema: as it is now.
        embedding_field: where the vectors go.
        vectors: of the backup.
        models: which model made which of them.
        collection: as the application embeds it; None where it is not described.
        open_backup: opens the backup of what is overwritten; None for none.

    Attributes:
        outcome: what was done so far.
        added: ids of documents that came after the backup and should have a vector.
        changed: ids of documents whose text is not what it was.
    """

    def __init__(
        self,
        context: Workshop,
        name: str,
        schema: Schema,
        embedding_field: str,
        vectors: OldVectors,
        *,
        models: KnownModels,
        collection: EmbeddedCollection | None,
        open_backup: Callable[[], BackupWriter] | None,
    ) -> None:
        self._context = context
        self._name = name
        self._field = embedding_field
        self._vectors = vectors
        self._models = models
        self._collection = collection
        self._open_backup = open_backup
        self._backup: BackupWriter | None = None
        self._lock = threading.Lock()
        self._source = context.server.address
        others = tuple(f["name"] for f in schema["fields"] if f.get("num_dim") and f["name"] != embedding_field)
        self._selection = Selection(embedding_field, excluded=others)
        self.outcome = Outcome(complete=False)
        self.added: dict[str, None] = {}
        self.changed: dict[str, None] = {}
        self._wrote = self._current = 0

    def run(self, total: int) -> Outcome:
        """Pass after pass, until one finds nothing to do, or the run is stopped."""
        try:
            self._passes(total)
        except BaseException:
            if self._backup is not None:
                with contextlib.suppress(BackupError):  # What stopped the way back is worth more to know.
                    self._backup.close(complete=False)
            raise
        if self._backup is not None:
            self._backup.close(complete=self.outcome.complete)
        return self.outcome

    def _passes(self, total: int) -> None:
        control = self._context.control
        for number in range(1, MOST_PASSES + 1):
            self._wrote = self._current = 0
            doing = "Restoring" if number == 1 else "Checking"
            self._context.status.phase(doing.lower(), collection=self._name, total=total)
            with self._context.console.progress(f"  {doing} {self._name}", total) as bar:
                self._one_pass(export_pages(self._context.server, self._name, self._selection), bar.update)
            self.outcome.passes = number
            self.outcome.written += self._wrote
            self.outcome.success = self._current + self._wrote
            if control.stopped.is_set():
                return
            if not self._wrote:
                self.outcome.complete = True
                break
        else:
            self.outcome.complete = True
            self.outcome.changing = self._wrote
        self.outcome.notes += named(self.added, "were added since and have no old vector")
        self.outcome.notes += named(self.changed, "have another text now than their old vector is of")

    def _one_pass(self, pages: Iterator[Page], advance: Callable[[int], object]) -> None:
        def record(done: tuple[_Prepared, Written]) -> None:
            self._record(*done)
            advance(done[0].seen)

        stopped = self._context.control.stopped.is_set
        run_pages(pages, self._prepare, self._write, record, workers=self._context.workers, stopped=stopped)

    def _prepare(self, page: Page) -> _Prepared:
        from migration.ledger import DocumentRecord

        self._context.control.wait_while_paused()
        ids = [document.id for document in page]
        old = self._vectors.get(ids)
        known = self._context.ledger.documents(self._source, self._name, ids)
        missing = [document for document in page if document.id not in old]
        added = added_since(self._context.server, self._name, self._collection, missing, self._vectors, known)
        prepared = _Prepared(ids=ids, added=added, seen=len(page))
        overwritten: list[Document] = []
        restored: dict[str, tuple[bytes, bytes]] = {}
        for document in page:
            if document.id not in old:
                continue
            record = known.get(document.id)
            if self._collection is not None:
                digest = text_hash(self._collection.text_of(document.fields))
                if record is not None and record.text_hash != digest:
                    prepared.changed.append(document.id)
            else:
                digest = record.text_hash if record is not None else text_hash("")
            vector = old[document.id]
            if document.vector == vector:
                prepared.current += 1
            else:
                prepared.lines[document.id] = vector_line(document.id, self._field, vector)
                overwritten.append(document)
            if vector is not None:
                stored = np.frombuffer(vector, np.float64).astype(np.float32).tobytes()
                restored[document.id] = (digest, stored)
                prepared.records[document.id] = DocumentRecord(
                    document.id,
                    digest,
                    hashlib.sha256(stored).digest(),
                    model_id=None,
                    run_id=self._context.run.id,
                    tenant=record.tenant if record else None,
                )
        for id_, model_id in self._models.of(restored).items():
            prepared.records[id_] = replace(prepared.records[id_], model_id=model_id)
        if overwritten and (backup := self._own_backup()) is not None:
            backup.add([vector_line(d.id, self._field, d.vector) for d in overwritten])
        return prepared

    def _own_backup(self) -> BackupWriter | None:
        with self._lock:
            if self._backup is None and self._open_backup is not None:
                self._backup = self._open_backup()
            return self._backup

    def _write(self, prepared: _Prepared) -> tuple[_Prepared, Written]:
        if not prepared.lines:
            return prepared, Written()
        return prepared, import_documents(self._context.server, self._name, prepared.lines)

    def _record(self, prepared: _Prepared, written: Written) -> None:
        context = self._context
        for document_id in (*written.failed, *written.gone):
            prepared.records.pop(document_id, None)
        context.ledger.record_documents(self._source, self._name, list(prepared.records.values()))
        for document_id in prepared.ids:
            # One that failed in an earlier pass may have succeeded now.
            self.outcome.failures.pop(document_id, None)
        self._wrote += len(written.written)
        self._current += prepared.current
        self.added.update(dict.fromkeys(prepared.added))
        self.changed.update(dict.fromkeys(prepared.changed))
        self.outcome.failures.update({id_: Failure("import", why) for id_, why in written.failed.items()})
        context.status.add(prepared.seen - len(written.failed), len(written.failed))
