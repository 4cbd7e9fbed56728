"""The part of the ledger about documents: which vector each carries and where it came from.

Its table has one row a document, so these are the statements that must be fast: a page of 250 is read by one
statement and written by one, both compiled once.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import cache
from itertools import islice
from operator import itemgetter
from typing import Any, Final, Literal, TypeVar

from sqlalchemy import Connection, Select, Table, bindparam, delete, func, select, update

from migration.ledger.errors import LedgerError
from migration.ledger.records import DocumentRecord
from migration.ledger.schema import (
    AnyText,
    document_collections,
    document_embeddings,
    embedding_models,
    runs,
)
from migration.ledger.store import Store, insert, now, upsert

T = TypeVar("T")

_PAGE = 1000
"""Ids in one statement at most; SQLite takes 32766, PostgreSQL 65535."""

_columns = document_embeddings.c
# In the order of DocumentRecord's fields, so that a row becomes a record without naming them.
_fields = (
    _columns.document_id,
    _columns.text_hash,
    _columns.vector_hash,
    _columns.model_number,
    _columns.run_number,
    _columns.tenant,
    _columns.content_hash,
    _columns.embedded_at,
    _columns.cut_from,
)


class Documents(Store):
    """Documents of the servers, by `source` (a server's canonical address, see `kai.address`), collection and id.

    Every call takes the embedding `field` that it is about; empty means the one by which the collection was known
    first. What an older program noted is of whichever field is asked for, until something is recorded of one.
    """

    def documents(
        self, source: str, collection: str, ids: Iterable[str], *, field: str = ""
    ) -> dict[str, DocumentRecord]:
        """What is known of these documents, by id; unknown ones are absent."""
        found: dict[str, DocumentRecord] = {}
        with self._reading() as connection:
            collection_id = _collection_id(connection, source, collection, field)
            if collection_id is None:
                return found
            for some in _pages(ids):
                rows = connection.execute(_BY_IDS, {"collection_id": collection_id, "ids": some}).all()
                found.update((record.document_id, record) for record in _records(connection, rows))
        return found

    def record_documents(
        self, source: str, collection: str, rows: Sequence[DocumentRecord], *, field: str = ""
    ) -> None:
        """Remember what these documents carry now, replacing what was known of them. All or none.

        Raises LedgerError if the ledger does not hold a model or a run that they name.
        """
        if not rows:
            return
        with self._writing() as connection:
            collection_id = _made_collection_id(connection, source, collection, field)
            models = _looked_up(connection, embedding_models, "id", {row.model_id for row in rows})
            run_numbers = _looked_up(connection, runs, "id", {row.run_id for row in rows})
            moment, stored_moment = now(), _moments(connection)
            try:
                values = [  # in the order of the table's columns
                    (
                        collection_id,
                        AnyText.escape(row.document_id),
                        AnyText.escape(row.tenant) if row.tenant is not None else None,
                        row.text_hash,
                        row.vector_hash,
                        models[row.model_id],
                        run_numbers[row.run_id],
                        stored_moment(row.embedded_at or moment),
                        row.content_hash,
                        row.cut_from,
                    )
                    for row in rows
                ]
            except KeyError as error:
                raise LedgerError(
                    f"the ledger {self.place} holds no model or run {error}; was it deleted meanwhile?"
                ) from None
            # Every process writes its rows in one order, so that no two of them on PostgreSQL each wait for
            # a row that the other one holds.
            values.sort(key=itemgetter(1))
            dialect: Any = type(connection.dialect)
            connection.exec_driver_sql(_upsert(dialect), values)

    def forget_documents(self, source: str, collection: str, ids: Iterable[str], *, field: str = "") -> int:
        """Forget these documents, because the server has them no more; how many were known."""
        forgotten = 0
        with self._writing() as connection:
            collection_id = _collection_id(connection, source, collection, field)
            gone = delete(document_embeddings).where(_columns.collection_id == collection_id)
            for some in _pages(ids):
                forgotten += connection.execute(gone.where(_columns.document_id.in_(some))).rowcount
        return forgotten

    def forget_collection(self, source: str, collection: str, *, field: str = "") -> None:
        """Forget every document of the collection, and the field itself."""
        with self._writing() as connection:
            collection_id = _collection_id(connection, source, collection, field)
            connection.execute(delete(document_embeddings).where(_columns.collection_id == collection_id))
            connection.execute(delete(document_collections).where(document_collections.c.id == collection_id))

    def name_field(self, source: str, collection: str, field: str) -> None:
        """What an older program has noted of the collection is of this field: to be called before another is filled."""
        with self._writing() as connection:
            _made_collection_id(connection, source, collection, field)

    def move_documents(self, source: str, collection: str, to: str, *, field: str = "") -> None:
        """What is known of one collection's documents is from now on known of another's, in its place."""
        with self._writing() as connection:
            old = _collection_id(connection, source, collection, field)
            new = _made_collection_id(connection, source, to, field)
            connection.execute(delete(document_embeddings).where(_columns.collection_id == new))
            connection.execute(
                update(document_embeddings).where(_columns.collection_id == old).values(collection_id=new)
            )

    def count_documents(self, source: str, collection: str, model_id: str | None = None, *, field: str = "") -> int:
        """How many documents of the collection are known; with `model_id`, those with its vectors."""
        with self._reading() as connection:
            place = _collection_id(connection, source, collection, field)
            query = select(func.count()).where(_columns.collection_id == place)
            if model_id is not None:
                numbers = _looked_up(connection, embedding_models, "id", {model_id})
                query = query.where(_columns.model_number == numbers.get(model_id))
            return connection.execute(query).scalar_one()

    def sample_documents(
        self, source: str, collection: str, model_id: str, most: int, *, field: str = ""
    ) -> list[DocumentRecord]:
        """Some documents of the collection with the model's vectors, picked at random."""
        with self._reading() as connection:
            numbers = _looked_up(connection, embedding_models, "id", {model_id})
            if model_id not in numbers:
                return []
            query = (
                select(*_fields)
                .where(_columns.collection_id == _collection_id(connection, source, collection, field))
                .where(_columns.model_number == numbers[model_id])
                .order_by(func.random())
                .limit(most)
            )
            return _records(connection, connection.execute(query).all())

    def disown_documents(self, source: str, collection: str, model_id: str) -> None:
        """The vectors of this model, in any field of the collection, are another's after all: whose is not known."""
        with self._writing() as connection:
            number = _looked_up(connection, embedding_models, "id", {model_id}).get(model_id)
            places = select(document_collections.c.id).where(
                document_collections.c.source == source, document_collections.c.collection == collection
            )
            theirs = (_columns.collection_id.in_(places), _columns.model_number == number)
            connection.execute(update(document_embeddings).where(*theirs).values(model_number=None))

    def iterate_documents(
        self, source: str, collection: str, page: int = _PAGE, *, field: str = ""
    ) -> Iterator[DocumentRecord]:
        """All known documents of the collection in the order of their ids, read in pages of `page`.

        Nothing is held between pages, neither rows nor a transaction, so documents may be recorded and
        forgotten meanwhile.
        """
        last: str | None = None
        while True:
            with self._reading() as connection:
                query = (
                    select(*_fields)
                    .where(_columns.collection_id == _collection_id(connection, source, collection, field))
                    .order_by(_columns.document_id)
                    .limit(page)
                )
                if last is not None:
                    query = query.where(_columns.document_id > last)
                records = _records(connection, connection.execute(query).all())
            yield from records
            if len(records) < page:
                return
            last = records[-1].document_id


def _pages(values: Iterable[T]) -> Iterator[list[T]]:
    remaining = iter(values)
    while some := list(islice(remaining, _PAGE)):
        yield some


# What follows is built once: SQLAlchemy finds a compiled statement again by its structure, and building that
# structure anew for every page costs more than SQLite needs to answer.


_BY_IDS: Final = select(*_fields).where(
    _columns.collection_id == bindparam("collection_id"), _columns.document_id.in_(bindparam("ids", expanding=True))
)
_BY_NAME: Final = (
    select(document_collections.c.id, document_collections.c.field)
    .where(
        document_collections.c.source == bindparam("source"),
        document_collections.c.collection == bindparam("collection"),
    )
    .order_by(document_collections.c.id)
)


def _place(connection: Connection, source: str, collection: str, field: str) -> tuple[int, str] | None:
    """Number and field of what stands for the collection's field; noted by an older program, it may be any field."""
    found = connection.execute(_BY_NAME, {"source": source, "collection": collection}).all()
    wanted = (row for name in (field, "") for row in found if row.field == name or not field)
    return next(((row.id, row.field) for row in wanted), None)


def _collection_id(connection: Connection, source: str, collection: str, field: str) -> int | None:
    place = _place(connection, source, collection, field)
    return place[0] if place is not None else None


def _made_collection_id(connection: Connection, source: str, collection: str, field: str) -> int | None:
    place = _place(connection, source, collection, field)
    if place is None:
        statement = insert(connection.dialect, document_collections).on_conflict_do_nothing()  # another was faster
        connection.execute(statement, {"source": source, "collection": collection, "field": field})
        return _collection_id(connection, source, collection, field)
    identity, known_as = place
    if field and not known_as:
        named = update(document_collections).where(document_collections.c.id == identity)
        connection.execute(named.values(field=field))
    return identity


@cache
def _by(table: Table, key: str, wanted: str) -> Select[Any]:
    return select(table.c[key], table.c[wanted]).where(table.c[key].in_(bindparam("keys", expanding=True)))


def _looked_up(
    connection: Connection, table: Table, key: Literal["id", "number"], values: Collection[Any]
) -> dict[Any, Any]:
    """By the ids of models or runs the small numbers by which documents refer to them, or the ids by the numbers."""
    # Looked up in every transaction rather than kept: another process may have deleted a model, and its
    # number may be another one's now.
    found: dict[Any, Any] = {None: None}
    if keys := [value for value in values if value]:
        query = _by(table, key, "number" if key == "id" else "id")
        found.update((row[0], row[1]) for row in connection.execute(query, {"keys": keys}))
    return found


def _records(connection: Connection, rows: Sequence[Any]) -> list[DocumentRecord]:
    models = _looked_up(connection, embedding_models, "number", {row[3] for row in rows})
    run_ids = _looked_up(connection, runs, "number", {row[4] for row in rows})
    return [
        DocumentRecord(
            document_id, text_hash, vector_hash, models.get(model), run_ids.get(run), tenant, content_hash, at, cut
        )
        for document_id, text_hash, vector_hash, model, run, tenant, content_hash, at, cut in rows
    ]


def _moments(connection: Connection) -> Callable[[Any], Any]:
    """How a time is written for this driver; a page has few distinct ones."""
    dialect = connection.dialect
    process = _columns.embedded_at.type.dialect_impl(dialect).bind_processor(dialect)
    return cache(process) if process is not None else lambda value: value


@cache
def _upsert(dialect: Any) -> str:
    """The statement in the words of a dialect's driver, with its values by position.

    Passing 250 rows through SQLAlchemy's processing of values, which is made for any type of column, takes
    as long as the database needs to write them.
    """
    statement = upsert(dialect, document_embeddings, ("collection_id", "document_id"))
    style = "format" if dialect.name == "postgresql" else "qmark"
    return str(statement.compile(dialect=dialect(paramstyle=style)))
