"""The way back across a change of dimensions: the collection is recreated with the vectors of a backup.

It goes the whole way of a recreate (`migration.recreate`): shadow, catching up, check, cut-over; only that the
vectors come from the backup and nothing is embedded. A collection that is gone is created anew from a backup
of whole documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields

from kai.collections import EmbeddedCollection
from kai.settings import EmbeddingSettings
from migration.backup import BackupWriter, creatable
from migration.backup.old_vectors import OldVectors
from migration.context import Context, Failure, Outcome, Workshop
from migration.embed import Embedder, TextFailure
from migration.mark import read_mark
from migration.meter import Meter
from migration.plan import CollectionPlan
from migration.recreate import CannotCopy, Recreate
from migration.shadow.cutover import CutOverStopped
from migration.undo.in_place import Way
from migration.update import import_documents
from migration.vectors import Vector


class RestoreStopped(Exception):  # noqa: N818
    """The way back could not be gone to its end; the message says what stands where."""


class NoEmbedder(Embedder):
    """Stands where an embedder is expected on a way on which nothing is embedded."""

    def __init__(self) -> None:
        """Needs nothing."""

    def embed(self, texts: Iterable[str], *, fresh: bool = False) -> dict[str, Vector | TextFailure]:
        """Refuse each text."""
        return {text: TextFailure("a rollback embeds nothing") for text in texts}


class RestoreByRecreating:
    """Recreates a collection with its old dimensions and old vectors.

    Args:
        workshop: the tools of the run.
        way: which collection, and what it goes back to.
        vectors: of the backup.
        collection: as the application embeds it; None where it is not described.
        model_id: of the model that made the vectors, as the ledger knows it; None where it does not.
        open_backup: opens the backup of what is replaced; None for none.

    Attributes:
        outcome: what was done so far.
    """

    def __init__(
        self,
        workshop: Workshop,
        way: Way,
        vectors: OldVectors,
        *,
        collection: EmbeddedCollection | None,
        model_id: str | None,
        open_backup: Callable[[], BackupWriter] | None,
    ) -> None:
        self._workshop = workshop
        self._way = way
        self._vectors = vectors
        self._collection = collection or EmbeddedCollection(way.name, way.backup.manifest.embedding_field, "{id}")
        self._model_id = model_id
        self._open_backup = open_backup
        self.outcome = Outcome(complete=False)

    def run(self, total: int) -> Outcome:
        """From wherever it stands to the end.

        Raises:
            RestoreStopped: it could not be finished; run again.
        """
        if self._way.schema is None and self._way.shadow is None:
            return self._create_anew()
        plan = self._plan(total)
        backup = self._open_backup() if self._open_backup is not None and self._way.schema is not None else None
        recreate = Recreate(self._context(), plan, backup, self._vectors)
        self.outcome = recreate.outcome
        try:
            recreate.run(total)
        except (CannotCopy, CutOverStopped) as error:
            self.outcome.complete = False
            raise RestoreStopped(str(error)) from error
        finally:
            self.outcome.success = max(0, self.outcome.success - len(self.outcome.failures))
        return self.outcome

    def _plan(self, total: int) -> CollectionPlan:
        way, shadow = self._way, self._way.shadow
        return CollectionPlan(
            self._collection,
            way.name,
            way.schema or shadow or way.backup.schema,
            "recreate",
            way.dimensions,
            way.old_dimensions or 0,
            total,
            total,
            leftover=read_mark(shadow) if shadow else None,
        )

    def _context(self) -> Context:
        workshop, way = self._workshop, self._way
        dimensions = way.old_dimensions or 0
        ledger = workshop.ledger
        model = ledger.find_model(self._model_id) if self._model_id else None
        source = f"before {way.backup.manifest.run}"
        if model is None:
            # Vectors that stood there before the ledger began: known to be of one space, of which is unknown.
            model = ledger.register_model(
                family="unknown", model=source, dimensions=dimensions, fingerprint=f"{way.name}: {source}"[:64]
            )
        shared = {each.name: getattr(workshop, each.name) for each in fields(Workshop)}
        return Context(
            **shared,
            embedding=EmbeddingSettings("backup", source, dimensions),
            embedder=NoEmbedder(),
            model=model,
            meter=Meter(),
        )

    def _create_anew(self) -> Outcome:
        """The collection is gone: from the backup alone, its documents, synonyms and overrides included."""
        server, way, backup = self._workshop.server, self._way, self._way.backup
        server.create_collection({**creatable(backup.schema), "name": way.name})
        restored: set[str] = set()
        for synonym in backup.synonyms:
            server.put_synonym(way.name, synonym)
        for override in backup.overrides:
            server.put_override(way.name, override)
        # Every record in its order, so that of a document that is there twice the newest content stays.
        for page in backup.records(first_wins=False):
            written = import_documents(server, way.name, dict(page), "upsert")
            restored.update(written.written)
            self.outcome.failures.update({id_: Failure("import", why) for id_, why in written.failed.items()})
        self.outcome.success = len(restored)
        self.outcome.complete = True
        return self.outcome
