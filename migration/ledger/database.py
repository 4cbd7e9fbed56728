"""Reaching the ledger's database: its URL, its engine, and its errors in words that help.

SQLite runs in WAL mode, so that reading never waits for writing, with foreign keys on. Its file is readable
by its owner only. A commit survives a killed process; the last ones before a power cut may be lost, which
costs looking at those documents again and nothing more (`synchronous=NORMAL`).
"""

import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson
import tenacity
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, OperationalError, SQLAlchemyError

from migration.ledger.errors import LedgerError

PATIENCE: Final = 30.0
"""Seconds to wait for a lock that another process holds."""
_OLDEST_SQLITE: Final = (3, 35)
"""It can drop columns, as the schema's revisions do."""
_DRIVERS: Final = frozenset({"sqlite", "sqlite+pysqlite", "postgres", "postgresql", "postgresql+psycopg"})
WRITES: Final = "ledger_writes"
"""Execution option of connections that mean to write."""

_URL_HELP = (
    "MIGRATION_LEDGER_URL cannot be understood; write sqlite:////path/to/ledger.sqlite or "
    "postgresql://user:password@host:5432/database, with special characters of the password percent-encoded"
)


def resolve(url: str | None, home: Path) -> URL:
    """Turn the setting into a complete URL; None or empty means `ledger.sqlite` in `home`.

    Raises LedgerError for anything but a SQLite file or PostgreSQL.
    """
    if not url:
        return URL.create("sqlite", database=str(home.absolute() / "ledger.sqlite"))
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # The message may quote a piece of the password, so it must not even be chained.
        raise LedgerError(_URL_HELP) from None
    if parsed.drivername not in _DRIVERS:
        raise LedgerError(
            f"MIGRATION_LEDGER_URL names {parsed.drivername!r}; the ledger knows sqlite and postgresql, the latter by "
            "its driver psycopg: postgresql://user:password@host/database"
        )
    if parsed.get_backend_name() == "sqlite":
        if parsed.database in (None, "", ":memory:") or "mode=memory" in str(parsed.database):
            raise LedgerError("MIGRATION_LEDGER_URL names SQLite in memory, which forgets; name a file")
        return parsed
    if "@" in f"{parsed.host}{parsed.database}":  # an unescaped @ or / in the password ends up there
        raise LedgerError(_URL_HELP)
    return parsed.set(drivername="postgresql+psycopg")


def place(url: URL) -> str:
    """Where the ledger is, for messages: a file, or host, port and database; never user or password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return f"PostgreSQL {url.host or 'local'}:{url.port or 5432}/{url.database or ''}"


def sqlite_file(url: URL) -> Path | None:
    """The file of a SQLite URL; None for PostgreSQL."""
    if url.get_backend_name() != "sqlite" or not url.database:
        return None
    return Path(url.database.removeprefix("file:").partition("?")[0])


def create_private_file(path: Path) -> None:
    """Create an empty file with mode 0600, and missing folders with mode 0700. An existing one stays.

    SQLite gives its `-wal` and `-shm` files the mode of the database.
    """
    missing = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def connect(url: URL, patience: float = PATIENCE) -> Engine:
    """An engine for the URL, with its file created if it is SQLite. Connects when first used.

    Raises LedgerError when the folder cannot be written, the driver is missing or SQLite too old.
    """
    file = sqlite_file(url)
    with explained(url):
        if file is not None:
            _refuse_old_sqlite()
            create_private_file(file)
        try:
            engine = create_engine(
                url,
                hide_parameters=True,
                json_serializer=_to_json,
                json_deserializer=orjson.loads,
                pool_pre_ping=file is None,
                max_overflow=-1,  # pipeline threads must not wait for each other's reading
                connect_args={"timeout": patience, "check_same_thread": False} if file else {"connect_timeout": 10},
            )
        except ModuleNotFoundError as error:
            raise LedgerError(
                "MIGRATION_LEDGER_URL names PostgreSQL, whose driver is not installed: "
                "pip install 'kai-embedding-migration[postgresql]'"
            ) from error
    if file is not None:
        event.listen(engine, "connect", partial(_prepare_sqlite, patience))
        event.listen(engine, "begin", _begin_sqlite)
    else:
        event.listen(engine, "connect", partial(_prepare_postgresql, patience))
    return engine


def _refuse_old_sqlite() -> None:
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        oldest = ".".join(map(str, _OLDEST_SQLITE))
        raise LedgerError(
            f"the ledger needs SQLite {oldest} or newer, and this Python has {sqlite3.sqlite_version}; use one with a "
            "newer one, or PostgreSQL by MIGRATION_LEDGER_URL"
        )


def log_ahead(connection: sqlite3.Connection, patience: float) -> None:
    """Have an SQLite file log ahead of writing, so that it can be read meanwhile; once and for all, who does it first.

    Where several processes do it to a new file at once, SQLite refuses some of them without waiting, whatever its
    timeout: so it is waited for here, for `patience` seconds.
    """
    for attempt in tenacity.Retrying(
        retry=tenacity.retry_if_exception_message(match="database is locked"),
        wait=tenacity.wait_random(0.005, 0.02),
        stop=tenacity.stop_after_delay(patience),
        reraise=True,
    ):
        with attempt:
            connection.execute("PRAGMA journal_mode=WAL")


def _prepare_sqlite(patience: float, connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # transactions begin where `_begin_sqlite` says, DDL included
    connection.execute("PRAGMA foreign_keys=ON")
    log_ahead(connection, patience)
    connection.execute("PRAGMA synchronous=NORMAL")
    # Documents land on random pages of the indexes. With a longer log (32 MB) a page that is written again
    # and again is copied into the file once.
    connection.execute("PRAGMA wal_autocheckpoint=8000")


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and then wants to write fails at once when another has written in
    # between, without waiting; one that asks for the lock at its start waits its turn.
    writes = connection.get_execution_options().get(WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _prepare_postgresql(patience: float, connection: Any, _: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = {int(patience * 1000)}")
    connection.commit()


def _to_json(value: object) -> str:
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


@contextmanager
def explained(url: URL) -> Iterator[None]:
    """Turn what goes wrong inside into a LedgerError that names the cause, the setting and the remedy."""
    try:
        yield
    except OSError as error:
        reason = f"{error.filename or place(url)}: {error.strerror or type(error).__name__}"
        remedy = f"set {_setting(url)} to a place that can be written"
        raise LedgerError(f"cannot open the ledger: {reason} ({remedy})") from error
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise LedgerError(_explain(error, url)) from error
    except (ValueError, TypeError) as error:
        raise LedgerError(f"cannot open the ledger {place(url)}: {error} (see {_setting(url)})") from error


def _setting(url: URL) -> str:
    return "MIGRATION_HOME or MIGRATION_LEDGER_URL" if sqlite_file(url) else "MIGRATION_LEDGER_URL"


def _explain(error: SQLAlchemyError | sqlite3.Error, url: URL) -> str:
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    message = _without_password(str(original), url)
    where = f"the ledger {place(url)}"
    for pattern, remedy in _REMEDIES:
        if re.search(pattern, message, re.IGNORECASE):
            return f"{where} {remedy} (see {_setting(url)})"
    if isinstance(error, IntegrityError | DataError):
        return f"{where} refuses the entry: {message}"
    if isinstance(error, OperationalError) and sqlite_file(url) is None:
        return f"cannot use {where}: {message} (check MIGRATION_LEDGER_URL and that the server runs)"
    return f"cannot use {where}: {message} (check {_setting(url)})"


_REMEDIES = (
    (
        r"database (table )?is locked|lock timeout|locknotavailable",
        "is locked by another process; wait until that one has finished, or end it, then start again",
    ),
    (
        r"disk is full|No space left|could not extend file",
        "cannot grow because its disk is full; free some space, then start again",
    ),
    (r"disk I/O error", "cannot be written (disk I/O error); see whether its disk is full or failing"),
    (r"unable to open database file", "cannot be opened; see whether its folder exists and can be written"),
    (r"readonly database", "cannot be written: it is read-only for this user"),
    (
        r"file is not a database|malformed|unsupported file format",
        "is damaged or no SQLite file; move it away to begin a new one, or put a copy back in its place",
    ),
    (
        r'already exists|DuplicateTable|relation "\w+" already',
        "shares its database with tables of the same names; give it a database or schema of its own",
    ),
    (r'database "[^"]*" does not exist', "does not exist: the server has no database of this name; create it"),
    (r'role "[^"]*" does not exist', "cannot be opened: the server has no role (user) of this name"),
    (r"no such table|UndefinedTable|does not exist", "lacks a table or column; was it changed by hand?"),
    (r"FOREIGN KEY", "does not hold the model or run that this entry names; was it deleted meanwhile?"),
)


def _without_password(message: str, url: URL) -> str:
    """The first lines of a driver's message as one, without the password in any spelling."""
    line = " ".join(message.split())[:300]
    secrets = [url.password, *(value for key, value in url.query.items() if "password" in key.lower())]
    for secret in filter(None, secrets):
        line = line.replace(str(secret), "***")
    return line
