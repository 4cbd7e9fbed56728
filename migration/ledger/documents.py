"""The part of the ledger about documents: which vector each carries and where it came from.

Its table has one row a document, so these are the statements that must be fast. A page of 250 takes one
statement to read and one to write.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Select, bindparam, delete, func, select

from migration.ledger.models import Models
from migration.ledger.records import DocumentRecord, StandingVector
from migration.ledger.schema import document_embeddings
from migration.ledger.store import now, upsert

T = TypeVar("T")

_PAGE = 1000
"""Ids or hashes in one statement at most: SQLite's limit lies at 32766, older ones at 999 and a few."""

_columns = document_embeddings.c
# In the order of DocumentRecord's fields, so that a row becomes a record without naming them.
_fields = (
    _columns.document_id,
    _columns.text_hash,
    _columns.vector_hash,
    _columns.model_id,
    _columns.run_id,
    _columns.tenant,
    _columns.content_hash,
    _columns.embedded_at,
)


class Documents(Models):
    """Documents of the servers, by `source` (`host:port`), collection and id."""

    def documents(self, source: str, collection: str, ids: Sequence[str]) -> dict[str, DocumentRecord]:
        """What is known of these documents, by id; unknown ones are absent."""
        found: dict[str, DocumentRecord] = {}
        with self._reading() as connection:
            for some in _pages(ids):
                rows = connection.execute(
                    _by_ids(), {"source": source, "collection": collection, "ids": some}
                )
                found.update((row[0], DocumentRecord(*row)) for row in rows)
        return found

    def record_documents(self, source: str, collection: str, rows: Sequence[DocumentRecord]) -> None:
        """Remember what these documents carry now, replacing what was known of them. All or none."""
        if not rows:
            return
        moment = now()
        values = [
            {
                "source": source,
                "collection": collection,
                "document_id": row.document_id,
                "text_hash": row.text_hash,
                "vector_hash": row.vector_hash,
                "model_id": row.model_id,
                "run_id": row.run_id,
                "tenant": row.tenant,
                "content_hash": row.content_hash,
                "embedded_at": row.embedded_at or moment,
            }
            for row in rows
        ]
        # Every process writes its rows in one order, so that two of them on PostgreSQL cannot each wait for
        # a row that the other one holds.
        values.sort(key=_by_document_id)
        with self._writing() as connection:
            connection.execute(_upsert(connection.dialect.name, connection), values)

    def forget_documents(self, source: str, collection: str, ids: Iterable[str]) -> int:
        """Forget these documents, because the server has them no more; how many were known."""
        forgotten = 0
        with self._writing() as connection:
            for some in _pages(ids):
                forgotten += connection.execute(
                    delete(document_embeddings).where(
                        _columns.source == source,
                        _columns.collection == collection,
                        _columns.document_id.in_(some),
                    )
                ).rowcount
        return forgotten

    def count_documents(self, source: str, collection: str, model_id: str | None = None) -> int:
        """How many documents of the collection are known; with `model_id`, those with its vectors."""
        query = select(func.count()).where(_columns.source == source, _columns.collection == collection)
        if model_id is not None:
            query = query.where(_columns.model_id == model_id)
        with self._reading() as connection:
            return connection.execute(query).scalar_one()

    def iterate_documents(self, source: str, collection: str, page: int = _PAGE) -> Iterator[DocumentRecord]:
        """All known documents of the collection in the order of their ids, read in pages of `page`.

        Nothing is held between pages, neither rows nor a transaction, so documents may be recorded and
        forgotten meanwhile.
        """
        query = (
            select(*_fields)
            .where(_columns.source == source, _columns.collection == collection)
            .order_by(_columns.document_id)
            .limit(page)
        )
        last: str | None = None
        while True:
            following = query if last is None else query.where(_columns.document_id > last)
            with self._reading() as connection:
                rows = [DocumentRecord(*row) for row in connection.execute(following)]
            yield from rows
            if len(rows) < page:
                return
            last = rows[-1].document_id

    def find_vectors_by_text(
        self, source: str, text_hashes: Iterable[bytes], model_id: str
    ) -> dict[bytes, StandingVector]:
        """Where in the server a vector of this model for these texts stands, by hash; one place for each."""
        found: dict[bytes, StandingVector] = {}
        with self._reading() as connection:
            for some in _pages(text_hashes):
                rows = connection.execute(
                    _standing(), {"source": source, "model_id": model_id, "hashes": some}
                )
                found.update((row[0], StandingVector(*row[1:])) for row in rows)
        return found


def _by_document_id(values: dict[str, Any]) -> str:
    document_id: str = values["document_id"]
    return document_id


def _pages(values: Iterable[T]) -> Iterator[list[T]]:
    remaining = iter(values)
    while some := list(islice(remaining, _PAGE)):
        yield some


# Built once: SQLAlchemy finds the compiled statement again by its structure, and building that structure
# anew for every page costs more than SQLite needs to answer.
@cache
def _by_ids() -> Select[Any]:
    return select(*_fields).where(
        _columns.source == bindparam("source"),
        _columns.collection == bindparam("collection"),
        _columns.document_id.in_(bindparam("ids", expanding=True)),
    )


@cache
def _standing() -> Select[Any]:
    # A boilerplate text may stand in thousands of documents, of which one is wanted.
    place = func.row_number().over(partition_by=_columns.text_hash).label("place")
    candidates = (
        select(_columns.text_hash, _columns.collection, _columns.document_id, _columns.vector_hash, place)
        .where(
            _columns.text_hash.in_(bindparam("hashes", expanding=True)),
            _columns.model_id == bindparam("model_id"),
            _columns.source == bindparam("source"),
        )
        .subquery()
    )
    columns = candidates.c
    return select(columns.text_hash, columns.collection, columns.document_id, columns.vector_hash).where(
        columns.place == 1
    )


_upserts: dict[str, Any] = {}


def _upsert(dialect: str, connection: Any) -> Any:
    if dialect not in _upserts:
        _upserts[dialect] = upsert(connection, document_embeddings, ("source", "collection", "document_id"))
    return _upserts[dialect]
