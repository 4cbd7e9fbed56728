"""The way back across a change of dimensions: the collection is recreated with the vectors of a backup.

It goes the whole way of a recreate: shadow, catching up, check, cut-over; only that the vectors come from the
backup and nothing is embedded. A collection that is gone is created anew from a backup of whole documents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import fields, replace

import orjson

from kai.collections import EmbeddedCollection
from kai.models import fingerprint
from kai.settings import EmbeddingSettings
from migration.backup import Backup, BackupWriter, creatable
from migration.backup.old_vectors import OldVectors
from migration.documents.update import import_documents
from migration.embedding.embed import Cached, Embedder, TextFailure
from migration.embedding.vectors import Vector
from migration.runtime.meter import Meter
from migration.strategies.context import Context, Failure, Outcome, Workshop
from migration.strategies.plan import CollectionPlan
from migration.strategies.recreate import CannotCopy, Recreate, remove_shadow
from migration.strategies.restore_in_place import Way
from migration.strategies.shadow.cutover import CutOverStopped
from migration.strategies.shadow.pages import UNDESCRIBED
from migration.strategies.shadow.references import WrongJoins, renew_references_to
from migration.strategies.shadow_state import MARK, is_foreign, own_metadata, past_the_drop, read_mark, shadow_name


class RestoreStopped(Exception):  # noqa: N818
    """The way back could not be gone to its end; the message says what stands where."""


class NoEmbedder(Embedder):
    """Stands where an embedder is expected on a way on which nothing is embedded."""

    def __init__(self) -> None:
        """Needs nothing."""

    def embed(self, texts: Iterable[str], *, past: Cached = "none") -> dict[str, Vector | TextFailure]:
        """Refuse each text."""
        return {text: TextFailure("a rollback embeds nothing") for text in texts}


class RestoreByRecreating:
    """Recreates a collection with its old dimensions and old vectors.

    Args:
        workshop: the tools of the run.
        way: which collection, and what it goes back to.
        vectors: of the backup.
        collection: as the application embeds it; None where it is not described.
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
        open_backup: Callable[[], BackupWriter] | None,
    ) -> None:
        self._workshop = workshop
        self._way = way
        self._vectors = vectors
        self._collection = collection or _described_by(way)
        self._open_backup = open_backup
        self.outcome = Outcome(complete=False)

    def run(self, total: int) -> Outcome:
        """From wherever it stands to the end.

        Raises:
            RestoreStopped: it could not be finished; run again.
        """
        if self._way.is_being_restored or (self._way.schema is None and self._way.shadow is None):
            return self._create_anew()
        plan = way_plan(self._way, self._collection, total)
        backup = self._open_backup() if self._open_backup is not None and self._way.schema is not None else None
        recreate = Recreate(way_context(self._workshop, self._way), plan, backup, self._vectors)
        self.outcome = recreate.outcome
        try:
            recreate.run(total)
        except (CannotCopy, CutOverStopped) as error:
            self.outcome.complete = False
            raise RestoreStopped(str(error)) from error
        finally:
            self.outcome.success = max(0, self.outcome.success - len(self.outcome.failures))
        return self.outcome

    def _create_anew(self) -> Outcome:
        """The collection is gone: from the backup alone, its documents, synonyms and overrides included.

        Documents are created, never overwritten: what the application writes meanwhile is newer.
        """
        server, way, backup = self._workshop.server, self._way, self._way.backup
        if not way.is_being_restored:
            own = own_metadata(backup.schema) or {}
            mark = {MARK: {"role": "restored", "run": self._workshop.run.name}}
            server.create_collection({**creatable(backup.schema), "name": way.name, "metadata": {**own, **mark}})
        for synonym in backup.synonyms:
            server.put_synonym(way.name, synonym)
        for override in backup.overrides:
            server.put_override(way.name, override)
        newest = _newest_of_repeated(backup)
        restored: set[str] = set()
        for page in backup.records():
            lines = {id_: newest.get(id_, line) for id_, line in page if id_ not in restored}
            failed = import_documents(server, way.name, lines, "create").failed
            failed = {id_: why for id_, why in failed.items() if "already exists" not in why}
            restored.update(lines.keys() - failed.keys())
            self.outcome.failures.update({id_: Failure("import", why) for id_, why in failed.items()})
        self.outcome.success = len(restored)
        self.outcome.missing = max(0, int(backup.schema.get("num_documents", 0)) - len(restored))
        if self.outcome.missing and not backup.manifest.complete:
            self.outcome.notes.append(
                f"the backup is not complete: {len(restored)} documents are in it, of the "
                f"{backup.schema.get('num_documents')} that the collection had when it was begun"
            )
        else:
            self.outcome.missing = 0
        try:
            self.outcome.notes += renew_references_to(server, way.name, but=shadow_name(way.name))
        except WrongJoins as error:
            raise RestoreStopped(str(error)) from error
        server.set_metadata(way.name, own_metadata(server.collection(way.name) or {}) or {})
        self.outcome.complete = True
        return self.outcome


def _newest_of_repeated(backup: Backup) -> dict[str, bytes]:
    """Of documents that changed while they were backed up, the newest content."""
    seen: set[str] = set()
    repeated: dict[str, bytes] = {}
    for page in backup.records(first_wins=False):
        for id_, line in page:
            if id_ in seen:
                repeated[id_] = line
            seen.add(id_)
    return repeated


def settle(workshop: Workshop, way: Way, collection: EmbeddedCollection | None) -> Way:
    """Finish or remove what a dead run left beside the collection, unless it is this very way's; the way then.

    Raises:
        RestoreStopped: another run holds it, or it cannot be finished.
    """
    if way.shadow is None:
        return way
    mark, server = read_mark(way.shadow), workshop.server
    if mark is not None and mark.held_elsewhere:
        raise RestoreStopped(mark.holder)
    described = collection or _described_by(way)
    context = way_context(workshop, way)
    is_ours = mark is not None and mark.fingerprint == fingerprint(context.embedding, described.template)
    if is_ours and (way.dimensions != way.old_dimensions or past_the_drop(mark, way.schema)):
        return way
    if is_foreign(way.shadow, way.schema):
        raise RestoreStopped(
            f"a collection {way.shadow['name']!r} is there that this tool did not make; rename or delete it first"
        )
    try:
        if past_the_drop(mark, way.schema):
            Recreate(context, way_plan(way, described, 0)).run(0)
        else:
            remove_shadow(workshop, way.name)
    except (CannotCopy, CutOverStopped) as error:
        raise RestoreStopped(str(error)) from error
    return replace(way, schema=server.collection(way.name), shadow=None)


def way_plan(way: Way, collection: EmbeddedCollection, total: int) -> CollectionPlan:
    """The way back as a plan of a recreate."""
    return CollectionPlan(
        collection,
        way.name,
        way.schema or way.shadow or way.backup.schema,
        "recreate",
        way.dimensions,
        way.old_dimensions or 0,
        total,
        total,
        leftover=read_mark(way.shadow) if way.shadow else None,
    )


def way_context(workshop: Workshop, way: Way) -> Context:
    """What a recreate works with on the way back: a target without a name, whose vectors the backup has."""
    dimensions, source = way.old_dimensions or 0, f"before {way.backup.manifest.run}"
    model = workshop.ledger.register_model(
        family="unknown", model=source, dimensions=dimensions, fingerprint=_space_of(way.name, source)
    )
    shared = {each.name: getattr(workshop, each.name) for each in fields(Workshop)}
    return Context(
        **shared,
        embedding=EmbeddingSettings("backup", source, dimensions),
        embedder=NoEmbedder(),
        model=model,
        meter=Meter(),
    )


def _space_of(name: str, source: str) -> str:
    """The vectors that one run replaced in one collection, as a space of their own, by a hash of both names whole."""
    return f"before-{hashlib.sha256(orjson.dumps([name, source])).hexdigest()[:32]}"


def _described_by(way: Way) -> EmbeddedCollection:
    """Enough of a description, where the application's is not known."""
    return EmbeddedCollection(way.name, way.backup.manifest.embedding_field, UNDESCRIBED)
