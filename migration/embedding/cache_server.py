"""The vector cache on a PostgreSQL server, where several machines share it."""

# psycopg instead of SQLAlchemy, for the reason that `cache_file` gives.

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from migration.embedding.cache_errors import CacheError
from migration.ledger.database import place

if TYPE_CHECKING:
    import psycopg

T = TypeVar("T")

_SETTING: Final = "MIGRATION_CACHE_URL"
_TRIES: Final = 4
"""A connection may have broken while it was idle; and whoever is chosen to end a deadlock only has to try again."""
_ONE_AT_A_TIME: Final = 7_352_914
"""Of the lock under which tables are made."""
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS kai_vectors (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    space TEXT NOT NULL,
    text_hash BYTEA NOT NULL,
    dimensions INTEGER NOT NULL,
    vector BYTEA NOT NULL,
    cut_from INTEGER,
    added_at BIGINT NOT NULL,
    UNIQUE (space, text_hash)
);
ALTER TABLE kai_vectors ALTER COLUMN vector SET STORAGE EXTERNAL;
CREATE TABLE IF NOT EXISTS kai_vector_spaces (
    space TEXT PRIMARY KEY,
    family TEXT NOT NULL,
    model TEXT NOT NULL,
    dimensions INTEGER NOT NULL,
    task_type TEXT,
    has_cut INTEGER NOT NULL DEFAULT 0,
    hits BIGINT NOT NULL DEFAULT 0
)
"""
"""EXTERNAL: the numbers of a vector cannot be compressed, and trying costs time."""
_THERE: Final = "SELECT to_regclass('kai_vectors') IS NOT NULL AND to_regclass('kai_vector_spaces') IS NOT NULL"


class CacheServer:
    """Two tables on a PostgreSQL server, and one connection to it; made by whoever comes first.

    Args:
        url: SQLAlchemy URL.
        patience: seconds to wait for a lock of another machine.

    Raises:
        CacheError: the URL cannot be used, or the driver is missing.
    """

    parameter: Final = "%s"
    vectors: Final = "kai_vectors"
    spaces: Final = "kai_vector_spaces"
    is_useless: Final = False

    def __init__(self, url: str, patience: float) -> None:
        self._url = _parsed(url)
        self._patience = patience
        self._connection: psycopg.Connection[Any] | None = None
        self._is_made = False
        try:
            import psycopg as driver
        except ImportError as error:
            raise CacheError(
                f"{_SETTING} names PostgreSQL, whose driver is not installed: "
                "pip install 'kai-embedding-migration[postgresql]'"
            ) from error
        self._driver = driver

    @property
    def place(self) -> str:
        """Where it is, without user and password."""
        return place(self._url)

    def bytes(self, cursor: Any) -> int:
        """What its tables take on the server's disk."""
        query = "SELECT pg_total_relation_size('kai_vectors') + pg_total_relation_size('kai_vector_spaces')"
        return int(cursor.execute(query).fetchone()[0])

    def is_there(self) -> bool:
        """Whether its tables are there already. Makes none."""
        return self._tried(lambda cursor: bool(cursor.execute(_THERE).fetchone()[0]))

    def attempt(self, work: Callable[[Any], T], otherwise: T, *, writes: bool = False) -> T:
        """Do some work with a cursor, as one transaction; again, where it was broken off through no fault of its own.

        Args:
            work: what is to be done.
            otherwise: what a cache answers that keeps nothing, which this one never is.
            writes: whether the work writes.

        Raises:
            CacheError: the server cannot be reached, or refuses it.
        """
        del otherwise, writes
        if not self._is_made:
            self._tried(_make_tables)
            self._is_made = True
        return self._tried(work)

    def shrink(self) -> bool:
        """Left to the server, which uses the room again by itself."""
        return False

    def close(self) -> None:
        """Close the connection. Used again, it connects again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(self._driver.Error):
                connection.close()

    def _tried(self, work: Callable[[Any], T]) -> T:
        driver = self._driver
        for attempt in range(1, _TRIES + 1):
            try:
                connection = self._connected()
                with connection.transaction(), connection.cursor(binary=True) as cursor:
                    return work(cursor)
            except driver.errors.LockNotAvailable as error:
                raise CacheError(f"{self._where} is locked by another process; wait until that has finished") from error
            except driver.OperationalError as error:
                never_connected = self._connection is None
                self.close()
                if never_connected or attempt == _TRIES:
                    raise CacheError(self._explain(error)) from error
            except driver.Error as error:
                raise CacheError(self._explain(error)) from error
        raise AssertionError

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            conninfo = self._url.render_as_string(hide_password=False)
            timeout = {} if "connect_timeout" in self._url.query else {"connect_timeout": 10}
            connection = self._driver.connect(conninfo, autocommit=True, **timeout)  # type: ignore[arg-type]
            try:
                connection.execute(f"SET lock_timeout = {int(self._patience * 1000)}")
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    @property
    def _where(self) -> str:
        return f"the vector cache {self.place}"

    def _explain(self, error: Exception) -> str:
        message = " ".join(str(error).split())[:300]
        for secret in filter(None, (self._url.password, str(self._url.query.get("password", "")))):
            message = message.replace(str(secret), "***")
        return f"{self._where} cannot be used: {message} (check {_SETTING}, and that the server runs)"


def _make_tables(cursor: Any) -> None:
    # Who may not make tables may use those that are there.
    if cursor.execute(_THERE).fetchone()[0]:
        return
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_ONE_AT_A_TIME])
    for statement in _SCHEMA.split(";"):
        cursor.execute(statement)


def _parsed(url: str) -> URL:
    """The URL, for psycopg.

    Raises:
        CacheError: it is none, or of another database.
    """
    remedy = (
        "write postgresql://user:password@host:5432/database, with special characters of the password percent-encoded"
    )
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # The message may quote a piece of the password, so it must not even be chained.
        raise CacheError(f"{_SETTING} cannot be understood; {remedy}") from None
    if parsed.drivername not in ("postgres", "postgresql", "postgresql+psycopg"):
        raise CacheError(f"{_SETTING} names {parsed.drivername!r}; the cache knows PostgreSQL: {remedy}")
    if "@" in f"{parsed.host}{parsed.database}":  # an unescaped @ or / in the password ends up there
        raise CacheError(f"{_SETTING} cannot be understood; {remedy}")
    return parsed.set(drivername="postgresql")
