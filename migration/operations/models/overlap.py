"""How much two models agree: the nearest neighbours of the same documents by the vectors of either.

A vector of the one model cannot be compared with one of the other. What can be compared is who stands near
whom. The search is exact (cosine over every document), and memory is bounded: of a large collection a sample
stands in for the whole, chosen by a hash of the ids, so that it is the same for both models and every time.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from kai.typesense import Typesense, TypesenseError
from kai.vectors import Vector, as_float32
from migration.assessment.evaluation.ranking import ordered, unit
from migration.backup import Backup, BackupError
from migration.documents.fetch import PAGE_SIZE, Selection, fetch_documents
from migration.ledger import Ledger, ModelRecord, RunRecord
from migration.operations.runs.writers import UNDOABLE, names_of

NEIGHBOURS: Final = 10
MOST_DOCUMENTS: Final = 20_000
"""Documents among which neighbours are looked for: at 3,072 dimensions 250 MB for each model."""
SAMPLE: Final = 100
SEED: Final = 0


class NotAvailable(Exception):  # noqa: N818 - the vectors of a run are not to be had, nothing is broken
    """Why a run's vectors of a collection cannot be had."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """How far two sets of vectors agree on who is near whom.

    Attributes:
        corpus: documents among which neighbours were looked for.
        sample: documents whose neighbours were compared.
        neighbours: how many of each.
        mean: mean share of neighbours in common, from 0 to 1.
        least: the smallest such share in the sample.
        same_nearest: share of the sample with the same nearest neighbour.
        by_chance: what `mean` would be for two models that have nothing to do with each other.
    """

    corpus: int
    sample: int
    neighbours: int
    mean: float
    least: float
    same_nearest: float
    by_chance: float


@dataclass(frozen=True, slots=True)
class CollectionNeighbours:
    """The comparison over one collection.

    Attributes:
        overlap: None where it cannot be made; then `reason` says why.
        origins: where the vectors of the first and of the second run came from.
        sampled: whether the corpus is a sample of the collection, because that has more than 20,000 documents.
    """

    collection: str
    overlap: Overlap | None
    reason: str | None = None
    origins: tuple[str, str] | None = None
    sampled: bool = False


@dataclass(frozen=True, slots=True)
class RunVectors:
    """Vectors of one run: by document, where from, and whether they are only a sample of all."""

    by_id: Mapping[str, Vector]
    origin: str
    sampled: bool


# -- arithmetic ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kept:
    """How far a document's neighbours by one model are those by another.

    Attributes:
        share: of its nearest neighbours that both have, from 0 to 1.
        same_nearest: whether the nearest of them is the same.
    """

    document_id: str
    share: float
    same_nearest: bool


def overlap(
    one: Mapping[str, Vector],
    other: Mapping[str, Vector],
    *,
    sample: int = SAMPLE,
    seed: int = SEED,
    neighbours: int = NEIGHBOURS,
) -> Overlap | None:
    """Compare the nearest neighbours of a sample of the documents that both have.

    Looks at no more neighbours than half of the other documents: of all of them any two models have the same.
    None if there are less than three documents.
    """
    found = overlap_of_each(one, other, sample=sample, seed=seed, neighbours=neighbours)
    return found[0] if found is not None else None


def overlap_of_each(
    one: Mapping[str, Vector],
    other: Mapping[str, Vector],
    *,
    sample: int = SAMPLE,
    seed: int = SEED,
    neighbours: int = NEIGHBOURS,
) -> tuple[Overlap, tuple[Kept, ...]] | None:
    """The same, and each document of the sample."""
    ids = sorted(one.keys() & other.keys())
    if len(ids) < 3:
        return None
    count = min(neighbours, (len(ids) - 1) // 2)
    chosen = np.sort(np.random.default_rng(seed).choice(len(ids), min(sample, len(ids)), replace=False))
    first = nearest(np.stack([one[id_] for id_ in ids]), chosen, count)
    second = nearest(np.stack([other[id_] for id_ in ids]), chosen, count)
    each = tuple(
        Kept(ids[row], np.intersect1d(a, b).size / count, bool(a[0] == b[0]))
        for row, a, b in zip(chosen, first, second, strict=True)
    )
    shared = [kept.share for kept in each]
    whole = Overlap(
        corpus=len(ids),
        sample=len(chosen),
        neighbours=count,
        mean=float(np.mean(shared)),
        least=float(min(shared)),
        same_nearest=float(np.mean(first[:, 0] == second[:, 0])),
        by_chance=count / (len(ids) - 1),
    )
    return whole, each


def nearest(vectors: Vector, rows: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """For each of these rows the numbers of its nearest rows by cosine, itself left out, the nearest first.

    Rows equally near come in the order of their numbers: documents of one text must not count as a difference.
    """
    scaled = unit(vectors)
    likeness = scaled[rows] @ scaled.T
    likeness[np.arange(len(rows)), rows] = -np.inf
    return ordered(likeness, count)


# -- the sample that stands in for a collection ----------------------------------------------------------


class HashSample:
    """Keeps at most so many ids, whichever order they come in: the ones with the smallest hashes.

    Attributes:
        limit: how many.
        allowed: the only ids that may be drawn; None for any.
        vectors: those drawn, each with its vector where that was at hand.
        truncated: whether there were more.
    """

    def __init__(self, limit: int = MOST_DOCUMENTS, allowed: Iterable[str] | None = None) -> None:
        self.limit = limit
        self.allowed = None if allowed is None else frozenset(allowed)
        self._heap: list[tuple[int, str]] = []
        self.vectors: dict[str, Vector | None] = {}
        self.truncated = False

    def draw(self, id_: str, vector: Vector | None = None) -> None:
        """Consider an id, with its vector where that is at hand; what was drawn before stays as it is."""
        if id_ in self.vectors or (self.allowed is not None and id_ not in self.allowed):
            return
        entry = (-int.from_bytes(hashlib.sha256(id_.encode("utf-8", "surrogatepass")).digest()[:8]), id_)
        self.vectors[id_] = vector
        if len(self._heap) < self.limit:
            heapq.heappush(self._heap, entry)
        else:
            self.truncated = True
            del self.vectors[heapq.heappushpop(self._heap, entry)[1]]


# -- where the vectors of a run are ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VectorOrigins:
    """Where vectors may be found.

    Attributes:
        ledger: what was done.
        home: MIGRATION_HOME, to which a backup's path may be relative.
        server: where the documents are; None where it cannot be used, and `why_no_server` says why.
        fields: embedding field by collection, for runs of a version that did not note it.
    """

    ledger: Ledger
    home: Path
    server: Typesense | None
    fields: Mapping[str, str]
    why_no_server: str = ""

    def field_of(self, run: RunRecord, collection: str) -> str:
        """The embedding field that the run wrote; empty where neither ledger nor description names it."""
        return self.ledger.field_written(run.id, collection) or self.fields.get(collection, "")


def compare_neighbours(
    places: VectorOrigins,
    one: RunRecord,
    other: RunRecord,
    *,
    sample: int = SAMPLE,
    seed: int = SEED,
    limit: int = MOST_DOCUMENTS,
) -> list[CollectionNeighbours]:
    """Compare the neighbours in every collection that both runs did."""
    ledger = places.ledger
    first, second = ({c.collection: names_of(r, c) for c in ledger.collection_runs(r.id)} for r in (one, other))
    results: list[CollectionNeighbours] = []
    for collection, theirs in ((a, b) for a in first for b in second if first[a] & second[b]):
        try:
            a = vectors_of_run(places, one, collection, limit=limit)
            if one.model_id == other.model_id:
                raise NotAvailable("both runs used the same model")
            b = vectors_of_run(places, other, theirs, limit=limit, allowed=a.by_id)
            found = overlap(a.by_id, b.by_id, sample=sample, seed=seed)
            if found is None:
                raise NotAvailable("the two runs have less than three documents in common")
        except NotAvailable as reason:
            results.append(CollectionNeighbours(collection, None, str(reason)))
        else:
            origins = (a.origin, b.origin)
            results.append(CollectionNeighbours(collection, found, None, origins, a.sampled or b.sampled))
    return results


def vectors_of_run(
    places: VectorOrigins,
    run: RunRecord,
    collection: str,
    *,
    limit: int = MOST_DOCUMENTS,
    allowed: Iterable[str] | None = None,
) -> RunVectors:
    """The vectors that a run gave a collection's documents: those that stand there still, and those in backups.

    Raises:
        NotAvailable: neither the server nor a backup has any.
    """
    model = places.ledger.find_model(run.model_id) if run.model_id else None
    if model is None:
        raise NotAvailable(f"not available: the ledger does not know which model {run.name} used")
    drawn = HashSample(limit, allowed)
    source, field = str(run.source.get("server", "")), places.field_of(run, collection)
    standing = places.ledger.count_documents(source, collection, model.id, field=field)
    trouble: list[str] = []
    origins: list[str] = []
    if standing:
        try:
            _draw_standing(places, source, collection, field, model, drawn)
        except (NotAvailable, TypesenseError) as error:
            trouble.append(str(error))
    if drawn.vectors:
        origins.append("server")
    if not drawn.vectors or standing < places.ledger.count_documents(source, collection, field=field):
        origins += _draw_from_backups(places, run, collection, field, model, drawn, trouble)
    by_id = {id_: vector for id_, vector in drawn.vectors.items() if vector is not None}
    if not by_id:
        reasons = "; ".join([f"no backup holds the vectors of {run.name}", *trouble])
        raise NotAvailable(f"not available: {reasons}")
    return RunVectors(by_id, " and ".join(origins), drawn.truncated)


def _draw_standing(
    places: VectorOrigins, source: str, collection: str, field: str, model: ModelRecord, drawn: HashSample
) -> None:
    """The vectors on the server which the ledger says are the model's, and which nobody has overwritten since."""
    server = places.server
    if server is None:
        raise NotAvailable(places.why_no_server)
    if server.address != source:
        raise NotAvailable(f"its vectors stand on {source}, and the server that is configured is {server.address}")
    if not field:
        raise NotAvailable(f"the embedding field of {collection!r} is not known; give --collections-file")
    ids = HashSample(drawn.limit, drawn.allowed)
    for record in places.ledger.iterate_documents(source, collection, field=field):
        if record.model_id == model.id:
            ids.draw(record.document_id)
    drawn.truncated |= ids.truncated
    selection = Selection(field, fields=())
    there = iter(ids.vectors)
    while some := list(islice(there, PAGE_SIZE)):
        known = places.ledger.documents(source, collection, some, field=field)
        for document in fetch_documents(server, collection, selection, some):
            stored = document.vector_bytes()
            if stored and known[document.id].has_vector(stored):
                drawn.draw(document.id, np.frombuffer(stored, np.float32))


def _draw_from_backups(
    places: VectorOrigins,
    run: RunRecord,
    collection: str,
    field: str,
    model: ModelRecord,
    drawn: HashSample,
    trouble: list[str],
) -> list[str]:
    """What later runs put aside before they overwrote it; returns where from."""
    failed = {failure.document_id for failure in places.ledger.failures(run.id, collection)}
    origins: list[str] = []
    later = [known for known in places.ledger.runs() if known.number > run.number]
    for follower in reversed(later):
        if follower.source.get("server") != run.source.get("server") or follower.model_id == run.model_id:
            continue
        rows = places.ledger.collection_runs(follower.id)
        records = [item for item in rows if collection in names_of(follower, item)]
        is_replaced = any(item.embedding_field in (None, field) for item in records)
        # A run that was resumed may name one folder several times.
        for folder in dict.fromkeys(places.home / item.backup_path for item in records if item.backup_path):
            before = len(drawn.vectors)
            try:
                backup = Backup.load(folder)
                if field and backup.manifest.embedding_field != field:
                    continue
                is_replaced = True
                for id_, vector in chain.from_iterable(backup.vectors()):
                    if vector is not None and len(vector) == model.dimensions and id_ not in failed:
                        drawn.draw(id_, as_float32(vector))
            except (BackupError, OSError) as error:
                trouble.append(str(error))
            if len(drawn.vectors) > before:
                origins.append(f"backup of {follower.name}")
        if is_replaced and follower.kind in UNDOABLE:
            break  # What runs after this one put aside are not this model's vectors any more.
    return origins
