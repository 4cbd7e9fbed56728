"""One collection of a run, as every strategy takes it over."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Final

from kai.typesense import Schema, Typesense
from kai.typesense_curation import NOTHING
from kai.typesense_schemas import signature_of
from migration.backup import Backup, BackupWriter, Kind
from migration.documents.fetch import Page, Selection, export_pages
from migration.documents.update import line_of
from migration.ledger import DocumentRecord
from migration.strategies.context import Outcome, RunContext, StrategyStopped
from migration.strategies.curation import read_curation
from migration.strategies.plan import CollectionPlan
from migration.strategies.sources import VectorSource

_BYTES_A_NUMBER: Final = 12
"""Bytes that a number of a vector takes in a backup at most; zstd brings it to about half."""
_BYTES_A_DOCUMENT: Final = 4096
_BYTES_TO_SPARE: Final = 64_000_000


def backup_space(documents: int, dimensions: int, *, whole: bool) -> int:
    """Bytes that must be free on the disk for a backup of old vectors of this length, or of whole documents."""
    return documents * (dimensions * _BYTES_A_NUMBER + (_BYTES_A_DOCUMENT if whole else 0)) + _BYTES_TO_SPARE


@dataclass(frozen=True, slots=True)
class Task:
    """What is to become of one collection, and what that takes.

    Attributes:
        context: the tools of the run.
        plan: what to do.
        source: what each document should carry.
        outcome: what was done so far; every step adds to it.
        identity: of the collection's run in the ledger.
        stack: closes at the end what is opened here.
    """

    context: RunContext
    plan: CollectionPlan
    source: VectorSource
    outcome: Outcome
    identity: str
    stack: ExitStack

    @property
    def server(self) -> Typesense:
        """Where the collection is."""
        return self.context.server

    @property
    def name(self) -> str:
        """Of the real collection."""
        return self.plan.name

    @property
    def field(self) -> str:
        """The embedding field."""
        return self.plan.collection.embedding_field

    @property
    def is_stopped(self) -> bool:
        """Whether the run is to end."""
        return self.context.control.stopped.is_set()

    def over(self, name: str) -> Task:
        """The same, with the documents of another collection of this schema."""
        return replace(self, plan=replace(self.plan, name=name))

    def enter(self, phase: str, total: int | None = None) -> None:
        """Note for scripts which phase begins, and over how many documents."""
        self.context.status.phase(phase, collection=self.name, total=total)

    def schema(self) -> Schema:
        """The collection as it stands.

        Raises:
            StrategyStopped: it is gone.
        """
        schema = self.server.collection(self.name)
        if schema is None:
            raise StrategyStopped(f"collection {self.name!r} is gone")
        return schema

    def known(self, page: Page, name: str = "") -> dict[str, DocumentRecord]:
        """What the ledger knows of these documents, by id; of the copies of them that the named collection has."""
        ids = [document.id for document in page]
        return self.context.ledger.documents(self.server.address, name or self.name, ids, field=self.field)

    def open_backup(self, kind: Kind) -> BackupWriter | None:
        """The backup of what is about to be overwritten, noted in the ledger before anything is.

        Args:
            kind: old vectors, or whole documents.

        Returns:
            None where none is wanted.

        Raises:
            BackupError: the disk has no room for it, say.
        """
        context, server, schema = self.context, self.server, self.plan.schema
        if not context.options.backup:
            return None
        documents, whole = int(schema.get("num_documents", 0)), kind == "documents"
        needed = backup_space(documents, self.plan.old_dimensions or self.plan.new_dimensions, whole=whole)
        with ExitStack() as opening:
            writer = opening.enter_context(
                BackupWriter.open(
                    context.home,
                    context.run.name,
                    str(schema["name"]),
                    kind=kind,
                    embedding_field=self.field,
                    server=server.address,
                    schema=schema,
                    curation=read_curation(server, schema) if whole else NOTHING,
                    free_space_needed=needed,
                    model=signature_of(schema, self.field).get("model"),
                )
            )
            # A way back must be found even if this process ends at the next line.
            context.ledger.update_collection(self.identity, backup_path=str(writer.folder.absolute()))
            # What was not noted is closed at once: the next page tries anew.
            self.stack.enter_context(opening.pop_all())
        return writer

    def back_up_whole(self, backup: BackupWriter, excluded: tuple[str, ...] = ()) -> bool:
        """Put every document of the collection in a backup that lacks it; False if the run was stopped before.

        Args:
            backup: where to; what an earlier start has put there stays as it is.
            excluded: fields that are not read.
        """
        held = {document_id for rows in Backup.load(backup.folder).contents() for document_id, _ in rows}
        total = int(self.schema()["num_documents"])
        self.enter("backing up", total)
        with self.context.console.progress(f"  Backing up {self.name}", total) as bar:
            for page in export_pages(self.server, self.name, Selection(self.field, excluded=excluded)):
                if self.is_stopped:
                    return False
                self.back_up(backup, [document for document in page if document.id not in held])
                self.context.status.add(len(page))
                bar.update(len(page))
        return not self.is_stopped

    def back_up(
        self,
        backup: BackupWriter,
        page: Page,
        contents: Mapping[str, bytes] | None = None,
        *,
        is_newer: bool = False,
    ) -> None:
        """Put the vectors of a page on disk, or its documents whole, as the backup's kind is; durable on return.

        Args:
            backup: where to.
            page: documents as they were read, old vectors included.
            contents: hashes of everything but vectors, by id; made here where they are not at hand.
            is_newer: whether they take the place of what the backup has of these documents: nothing was overwritten.
        """
        hashes = [contents[d.id] if contents else d.content_hash() for d in page]
        if backup.kind == "vectors":
            rows = [(d.id, d.numbers, content) for d, content in zip(page, hashes, strict=True)]
            backup.add_vectors(rows, is_newer=is_newer)
        else:
            lines = [line_of(d, self.field, None if d.vector is None else d.vector.tolist()) for d in page]
            backup.add(lines, hashes, [d.id for d in page], is_newer=is_newer)
