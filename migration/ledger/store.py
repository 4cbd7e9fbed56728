"""An open ledger: its connections, for reading and for writing, shared by threads."""

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar
from uuid import uuid4

from sqlalchemy import URL, Connection, Dialect, Engine, Insert, Row, ScalarSelect, Select, Table, func, select, text
from sqlalchemy.dialects import postgresql, sqlite

from migration.ledger.database import PATIENCE, WRITES, connect, explained, place, resolve
from migration.ledger.upgrade import upgrade_if_older

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Record = TypeVar("Record", bound="DataclassInstance")

_SECRET_NAME: Final = re.compile(
    r"api[_-]?key|(^|[_-])(key|token)$|password|passwd|secret|authorization|credential|bearer", re.IGNORECASE
)
_URL_LOGIN: Final = re.compile(r"(?<=://)[^/@\s]+@")


class Store:
    """The database behind a ledger. Every method may be called from any thread.

    Reads and writes each take one transaction. Errors are LedgerErrors.
    """

    def __init__(self, engine: Engine, url: URL) -> None:
        self._engine = engine
        self._writer = engine.execution_options(**{WRITES: True})
        self._url = url
        # SQLite has one writer at a time. Threads that queue here are served in turn, where SQLite would let
        # them poll and sleep.
        self._turn = threading.Lock() if engine.dialect.name == "sqlite" else nullcontext()

    @classmethod
    def open(cls, url: str | None, home: Path, *, patience: float = PATIENCE) -> Self:
        """Open the ledger at `url`, an SQLAlchemy URL; None means `ledger.sqlite` in the folder `home`.

        Creates what is missing, readable by its owner only, and upgrades an older schema after copying a
        SQLite file beside itself. `patience` is how many seconds to wait for a lock of another process.

        Raises LedgerError when the URL cannot be understood, the database cannot be reached, written or
        locked, its driver is missing, or its schema is newer than this program.
        """
        target = resolve(url, home)
        engine = connect(target, patience)
        try:
            upgrade_if_older(engine, target)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine, target)

    def close(self) -> None:
        """Close all connections. A closed ledger that is used again connects again."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def place(self) -> str:
        """Where the ledger is: a file, or PostgreSQL with host, port and database. Never user or password."""
        return place(self._url)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with explained(self._url), self._engine.connect() as connection:
            yield connection

    def _read(self, kind: type[Record], query: Select[Any]) -> list[Record]:
        with self._reading() as connection:
            return records(connection, kind, query)

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._turn, explained(self._url), self._writer.begin() as connection:
            yield connection


def record_of(kind: type[Record], row: Row[Any]) -> Record:
    """A row as a record; columns that are no field of it are left out."""
    return kind(**{field.name: row._mapping[field.name] for field in fields(kind)})


def records(connection: Connection, kind: type[Record], query: Select[Any]) -> list[Record]:
    """What a query finds, as records."""
    return [record_of(kind, row) for row in connection.execute(query)]


def records_by_run(connection: Connection, kind: type[Record], query: Select[Any]) -> dict[str, list[Record]]:
    """What a query finds, as records, by run."""
    found: dict[str, list[Record]] = {}
    for row in connection.execute(query):
        found.setdefault(row.run_id, []).append(record_of(kind, row))
    return found


def insert(dialect: Dialect | type[Dialect], table: Table) -> "sqlite.Insert | postgresql.Insert":
    """The dialect's own INSERT, which knows ON CONFLICT; both spell it alike."""
    return postgresql.insert(table) if dialect.name == "postgresql" else sqlite.insert(table)


def upsert(dialect: Dialect | type[Dialect], table: Table, key: tuple[str, ...]) -> Insert:
    """An INSERT over all columns that replaces everything but `key` and the id where the key is taken."""
    statement = insert(dialect, table)
    kept = {*key, "id"}
    changes = {name: value for name, value in statement.excluded.items() if name not in kept}
    return statement.on_conflict_do_update(index_elements=list(key), set_=changes)


def alone(connection: Connection, table: Table) -> None:
    """Keep others from writing to a table until this transaction ends; reading goes on.

    SQLite has only one writer anyway.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"LOCK TABLE {table.name} IN SHARE ROW EXCLUSIVE MODE"))


def next_number(table: Table) -> ScalarSelect[int]:
    """The number after the greatest in the table's column `number`; only `alone` with the table."""
    return select(func.coalesce(func.max(table.c.number), 0) + 1).scalar_subquery()


def new_id() -> str:
    """A fresh UUID."""
    return str(uuid4())


def now() -> datetime:
    """The present moment in UTC."""
    return datetime.now(UTC)


def without_secrets(value: Any) -> Any:
    """A copy of a JSON value in which nothing that looks like a key or a login is left.

    Callers pass none. Should one do so by mistake, it still must not reach the disk.
    """
    if isinstance(value, Mapping):
        return {
            str(name): "***" if entry and _SECRET_NAME.search(str(name)) else without_secrets(entry)
            for name, entry in value.items()
        }
    if isinstance(value, list | tuple):
        return [without_secrets(entry) for entry in value]
    return _URL_LOGIN.sub("***@", value) if isinstance(value, str) else value


def plain_text(value: str, longest: int = 1000) -> str:
    """Text that both databases take: no U+0000, no half characters, and no longer than `longest`."""
    return value[:longest].replace("\0", "\ufffd").encode("utf-8", "replace").decode()
