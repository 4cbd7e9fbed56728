"""How far a run kept who stands near whom: by the vectors that it replaced, and by those that it wrote.

Two models never agree wholly. A share far below what they agree on elsewhere, or near what chance would give, says that
one of the two was wrong. Looked at among documents that stand in for all, and so quick at the end of any run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np
import orjson

from kai.typesense import Typesense, TypesenseError
from kai.vectors import Vector, as_float32
from migration.backup import Backup, BackupError
from migration.documents.fetch import PAGE_SIZE, Selection, fetch_documents
from migration.ledger import CollectionRunRecord, LedgerError, RunRecord
from migration.operations.models.overlap import (
    Kept,
    NotAvailable,
    Overlap,
    VectorOrigins,
    overlap_of_each,
    vectors_of_run,
)
from migration.operations.runs.writers import names_of
from migration.strategies.second_field.mark import next_of

MOST_DOCUMENTS: Final = 1_000
"""Among which neighbours are looked for: at 3,072 dimensions 12 MB for each model."""


@dataclass(frozen=True, slots=True)
class KeptNeighbours:
    """The neighbours of one collection's documents before and after a run.

    Attributes:
        overlap: None where they cannot be compared; then `reason` says why.
        documents: of the sample, each with the share of its neighbours that it kept.
    """

    collection: str
    overlap: Overlap | None
    reason: str | None = None
    documents: tuple[Kept, ...] = ()


def kept_neighbours(
    places: VectorOrigins, run: RunRecord, rows: Collection[CollectionRunRecord]
) -> Iterator[KeptNeighbours]:
    """The neighbours of every collection that a migration did.

    Args:
        places: where vectors may be found.
        run: the migration.
        rows: its collections, as the run left them.
    """
    for row in rows:
        if row.strategy == "skipped":
            continue
        try:
            before = _before(places, run, row)
            after = vectors_of_run(places, run, row.collection, limit=MOST_DOCUMENTS).by_id
            found = overlap_of_each(before(after.keys()), after)
            if found is None:
                raise NotAvailable("the run replaced the vectors of less than three documents")
        except NotAvailable as reason:
            yield KeptNeighbours(row.collection, None, str(reason).removeprefix("not available: "))
        except (BackupError, TypesenseError, LedgerError, OSError) as error:
            yield KeptNeighbours(row.collection, None, str(error))
        else:
            yield KeptNeighbours(row.collection, found[0], None, found[1])


def _before(
    places: VectorOrigins, run: RunRecord, row: CollectionRunRecord
) -> Callable[[Collection[str]], Mapping[str, Vector]]:
    """What gives the vectors that the run replaced, or is to replace, of documents by their ids.

    Raises:
        NotAvailable: nothing has them.
    """
    if row.backup_path and (folder := places.home / row.backup_path).is_dir():
        return lambda ids: _in_backup(Backup.load(folder), ids)
    server = places.server
    if row.strategy in ("into", "alias"):
        if server is None or server.address != run.source.get("server"):
            raise NotAvailable(places.why_no_server or "its vectors stand on another server than the one configured")
        schema = server.collection(row.collection)
        mark = next_of(schema) if schema else None
        if row.strategy == "into" and mark is not None and mark.field == row.embedding_field:
            return lambda ids: _on_server(server, row.collection, mark.of, ids)
        for name in names_of(run, row) - {row.collection}:
            if server.collection(name) is not None:
                return lambda ids: _on_server(server, name, places.field_of(run, row.collection), ids)
        raise NotAvailable("what the run replaced is not there any more")
    raise NotAvailable("there is no backup of vectors that the run replaced")


def _in_backup(backup: Backup, ids: Collection[str]) -> dict[str, Vector]:
    field = backup.manifest.embedding_field
    found: dict[str, Vector] = {}
    for page in backup.records():
        for id_, line in page:
            if id_ in ids and (vector := orjson.loads(line).get(field)):
                found[id_] = as_float32(vector)
    return found


def _on_server(server: Typesense, collection: str, field: str, ids: Collection[str]) -> dict[str, Vector]:
    wanted, found = iter(ids), dict[str, Vector]()
    while some := list(islice(wanted, PAGE_SIZE)):
        for document in fetch_documents(server, collection, Selection(field, fields=()), some):
            if stored := document.vector_bytes():
                found[document.id] = np.frombuffer(stored, np.float32)
    return found
