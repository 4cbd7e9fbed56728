"""The schema's way up and down: Alembic, driven by the program instead of by an ini file.

A SQLite file is copied beside itself before anything changes, as `ledger.sqlite.before-0002` when it stood at
revision 0002. Every change happens in one transaction, and one process at a time. Where there is no ledger yet, the
tables are created as they are today, which is Alembic's own advice and takes a fifth of the time of all revisions.
"""

import io
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import (
    URL,
    Column,
    Connection,
    Engine,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    event,
    insert,
    inspect,
    select,
    text,
)

from migration.ledger.database import (
    WRITES,
    connect,
    create_private_file,
    explained,
    place,
    resolve,
    sqlite_file,
)
from migration.ledger.errors import LedgerError
from migration.ledger.schema import REVISIONS, VERSION_TABLE, metadata

Dialect = Literal["sqlite", "postgresql"]
Direction = Literal["upgrade", "downgrade"]

_POSITIONS = ("base", *REVISIONS)
_VERSIONS = Table(
    VERSION_TABLE,
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name=f"{VERSION_TABLE}_pkc"),
)
"""As Alembic makes it."""
_UPGRADE_LOCK = 0x6B61696C  # any fixed number: PostgreSQL's advisory locks are named by numbers


def head() -> str:
    """The newest revision that this program knows."""
    return REVISIONS[-1]


def current(url: str | URL) -> str | None:
    """The revision at which a ledger stands; None where there is none yet. Creates nothing.

    Raises LedgerError when the database cannot be reached.
    """
    target = _resolved(url)
    file = sqlite_file(target)
    if file is not None and not file.exists():
        return None
    engine = connect(target)
    try:
        with explained(target), engine.connect() as connection:
            return revision_of(connection)
    finally:
        engine.dispose()


def upgrade(url: str | URL, revision: str = "head") -> None:
    """Bring a ledger up to `revision`, creating it if there is none. Nothing to do is no error.

    Raises LedgerError when the ledger is newer than this program, or cannot be reached, locked or copied.
    """
    _change(_resolved(url), revision, "upgrade")


def downgrade(url: str | URL, revision: str) -> None:
    """Take a ledger back to `revision`, or to nothing with `base`. What only newer revisions hold is lost.

    Raises LedgerError as `upgrade` does.
    """
    _change(_resolved(url), revision, "downgrade")


def upgrade_if_older(engine: Engine, url: URL) -> None:
    """Upgrade a ledger that this program opens; a current one costs one query and does not load Alembic."""
    with explained(url), engine.connect() as connection:
        standing = revision_of(connection)
    if standing != head():
        refuse_newer(standing, url)
        _change(url, "head", "upgrade")


def sql(dialect: Dialect, from_: str | None = None, to: str = "head") -> str:
    """The statements that lead from one revision to another, for a database administrator to execute.

    `from_` None or `base` is an empty database. Goes down where `to` lies before `from_`.
    """
    start, end = _position(from_ or "base"), _position(to)
    if start == end:
        return ""
    output = io.StringIO()
    direction: Direction = "upgrade" if end > start else "downgrade"
    _go(direction, f"{_POSITIONS[start]}:{_POSITIONS[end]}", output=output, dialect_name=dialect)
    return output.getvalue()


def revision_of(connection: Connection) -> str | None:
    """The revision in the version table; None without one."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(select(_VERSIONS.c.version_num)).scalar()


def refuse_newer(standing: str | None, url: URL) -> None:
    """Raise LedgerError if a newer program has written this ledger."""
    if standing is not None and standing not in REVISIONS:
        raise LedgerError(
            f"the ledger {place(url)} has schema {standing}, newer than this program, "
            f"which knows up to {head()}; install the newer program, "
            "or name another ledger by MIGRATION_LEDGER_URL or MIGRATION_HOME"
        )


def _resolved(url: str | URL) -> URL:
    # An empty string would mean the default place, and the place is unknown here.
    return url if isinstance(url, URL) else resolve(url or "sqlite://", Path())


def _position(revision: str) -> int:
    if revision == "head":
        return len(REVISIONS)
    if revision not in _POSITIONS:
        raise LedgerError(f"there is no ledger revision {revision!r}; known: {', '.join(_POSITIONS)}, head")
    return _POSITIONS.index(revision)


def _change(url: URL, revision: str, direction: Direction) -> None:
    end = _position(revision)
    engine = connect(url)
    if sqlite_file(url) is not None:
        # A table that is built anew is dropped first, which would set every reference to it to NULL.
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys=OFF"))
    try:
        with explained(url), engine.execution_options(**{WRITES: True}).begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
            standing = revision_of(connection)  # again, under the lock: another process may have been faster
            refuse_newer(standing, url)
            start = _position(standing or "base")
            if start == end or (end > start) != (direction == "upgrade"):
                return
            file = sqlite_file(url)
            if file is not None and standing is not None:
                _copy(file, file.with_name(f"{file.name}.before-{standing}"))
            if standing is None and _POSITIONS[end] == head():
                _create(connection)
            else:
                _go(direction, _POSITIONS[end], connection=connection)
    finally:
        engine.dispose()


def _create(connection: Connection) -> None:
    """All tables, which must not be there, and the note of where they stand, as Alembic would leave it."""
    metadata.create_all(connection, checkfirst=False)
    _VERSIONS.create(connection, checkfirst=True)  # A ledger that was taken back to nothing has it still.
    connection.execute(insert(_VERSIONS).values(version_num=head()))


def _go(direction: Direction, revisions: str, *, output: io.StringIO | None = None, **configured: Any) -> None:
    """Have Alembic go to a revision by what is `configured` for `env.py`; with `output` only write the statements."""
    # Here alone, since few commands change a schema and none should wait for Alembic otherwise.
    from alembic import command
    from alembic.config import Config

    config = Config(output_buffer=output, attributes=configured)
    # Config interpolates percent signs, and folders may have them in their names.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    step = command.upgrade if direction == "upgrade" else command.downgrade
    step(config, revisions, sql=output is not None)


def _copy(file: Path, copy: Path) -> None:
    """Copy a live database, what is still in its write-ahead log included; an older copy is replaced."""
    unfinished = copy.with_name(f"{copy.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    create_private_file(unfinished)
    try:
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(unfinished)) as target:
            source.backup(target)
        with unfinished.open("rb+") as handle:
            os.fsync(handle.fileno())
        unfinished.replace(copy)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
