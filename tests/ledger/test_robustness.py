"""The ledger among threads, other processes, kill -9, full disks and wrong settings."""

import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import OperationalError

from migration.ledger import Ledger, LedgerError, ModelRecord, RunRecord
from migration.ledger.database import _explain, connect, log_ahead, resolve
from tests.ledger.conftest import document
from tests.ledger.postgresql import free_port

WRITER = """
import hashlib, sys
from pathlib import Path
from migration.ledger import DocumentRecord, Ledger

home, first = Path(sys.argv[1]), int(sys.argv[2])
with Ledger.open(None, home) as ledger:
    for page in range(first, first + 100_000):
        digest = hashlib.sha256(str(page).encode()).digest()
        ledger.record_documents(
            "host:1", "c", [DocumentRecord(f"{page}-{row}", digest, digest) for row in range(50)]
        )
        print(page, flush=True)
"""


def test_threads_write_and_read_at_once(ledger: Ledger, model: ModelRecord, run: RunRecord) -> None:
    def work(thread: int) -> None:
        for page in range(5):
            rows = [document(f"{row}", model_id=model.id) for row in range(20)]  # the same ones in all threads
            own = [document(f"{thread}-{page}-{row}", run_id=run.id) for row in range(20)]
            ledger.record_documents("host:1", "c", [*reversed(rows), *own] if thread % 2 else [*own, *rows])
            ledger.register_model(family="local", model="w", dimensions=256, fingerprint=f"shared {page}")
            ledger.start_run("same name", "migrate")
            assert len(ledger.documents("host:1", "c", [row.document_id for row in own])) == 20

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert ledger.count_documents("host:1", "c") == 20 + 8 * 5 * 20
    assert len(ledger.models()) == 1 + 5
    assert len({entry.name for entry in ledger.runs()}) == 1 + 40
    assert sorted(entry.number for entry in ledger.runs()) == list(range(1, 42))


def test_processes_open_a_new_ledger_at_once(ledger_url: str, tmp_path: Path) -> None:
    ledgers: list[Ledger] = []
    with ThreadPoolExecutor(4) as pool:
        ledgers.extend(pool.map(lambda _: Ledger.open(ledger_url, tmp_path), range(4)))
    for number, ledger in enumerate(ledgers):
        ledger.start_run(f"run {number}", "migrate")
        ledger.close()
    with Ledger.open(ledger_url, tmp_path) as ledger:
        assert len(ledger.runs()) == 4


class Refusing:
    """A connection to a new file that others prepare at the same moment: refused so often, and without waiting."""

    def __init__(self, times: int) -> None:
        self.left = times

    def execute(self, _statement: str) -> None:
        self.left -= 1
        if self.left >= 0:
            raise sqlite3.OperationalError("database is locked")


def test_a_new_file_that_others_prepare_at_once_is_waited_for_as_long_as_patience_lasts() -> None:
    log_ahead(cast(sqlite3.Connection, Refusing(5)), 20)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        log_ahead(cast(sqlite3.Connection, Refusing(10**6)), 0.05)


def test_a_ledger_locked_by_another_process_is_waited_for(ledger_url: str, tmp_path: Path) -> None:
    Ledger.open(ledger_url, tmp_path).close()
    with Ledger.open(ledger_url, tmp_path, patience=20) as ledger, _locked(ledger_url) as release:
        released = threading.Event()

        def let_go() -> None:
            released.set()
            release()

        threading.Timer(0.5, let_go).start()
        ledger.start_run("patient", "migrate")
        assert released.is_set()


def test_a_ledger_that_stays_locked_is_an_error_that_says_so(ledger_url: str, tmp_path: Path) -> None:
    Ledger.open(ledger_url, tmp_path).close()
    with Ledger.open(ledger_url, tmp_path, patience=0.3) as ledger:
        with _locked(ledger_url):
            with pytest.raises(LedgerError, match=r"is locked by another process.*MIGRATION_LEDGER_URL"):
                ledger.start_run("patient", "migrate")
            assert ledger.runs() == []  # reading goes on
        ledger.start_run("later", "migrate")


class _locked:  # noqa: N801 - used like a function
    """Another connection that holds the table of runs."""

    def __init__(self, url: str) -> None:
        self._engine = connect(resolve(url, Path()))
        self._connection = self._engine.connect().execution_options(ledger_writes=True)

    def __enter__(self) -> "_locked":
        self._connection.begin()
        if self._engine.dialect.name == "postgresql":
            self._connection.execute(text("LOCK TABLE runs IN SHARE ROW EXCLUSIVE MODE"))
        return self

    def __call__(self) -> None:
        self._connection.rollback()

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._engine.dispose()


def test_a_killed_writer_leaves_every_page_that_it_reported(tmp_path: Path) -> None:
    chance = random.Random(7)  # noqa: S311
    reported: set[int] = set()
    for attempt in range(5):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(attempt * 1_000_000)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        reported.add(int(writer.stdout.readline()))
        time.sleep(chance.uniform(0, 0.25))
        writer.send_signal(signal.SIGKILL)
        reported.update(int(line) for line in writer.stdout.read().splitlines() if line)
        writer.wait()
        with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        with Ledger.open(None, tmp_path) as ledger:
            rows: dict[int, int] = {}
            for row in ledger.iterate_documents("host:1", "c"):
                page = int(row.document_id.partition("-")[0])
                rows[page] = rows.get(page, 0) + 1
        assert reported <= rows.keys()
        assert set(rows.values()) == {50}  # no page is half there
    assert len(reported) >= 5


def test_only_the_owner_may_read_the_ledger(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    old = os.umask(0)
    try:
        with Ledger.open(None, home) as ledger:
            ledger.start_run("run", "migrate")
            for path in home.iterdir():
                assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
            assert {path.name for path in home.iterdir()} == {
                "ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm",
            }  # fmt: skip
    finally:
        os.umask(old)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE(home.parent.stat().st_mode) == 0o700


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with Ledger.open(None, tmp_path) as ledger:
        with ledger._writing() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}")
        with pytest.raises(LedgerError, match=r"disk is full; free some space.*MIGRATION_HOME"):
            for page in range(100):
                ledger.record_documents("h:1", "c", [document(f"{page}-{row}") for row in range(50)])
        assert ledger.count_documents("h:1", "c") % 50 == 0


def test_a_file_that_is_no_database_is_refused_and_left(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite"
    file.write_text("shopping list: " + "milk " * 1000)
    with pytest.raises(LedgerError, match=r"is damaged or no SQLite file.*MIGRATION_HOME"):
        Ledger.open(None, tmp_path)
    assert file.read_text().startswith("shopping list")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match=r"cannot open the ledger: .*MIGRATION_HOME or MIGRATION_LEDGER_URL"):
        Ledger.open(None, tmp_path / "file" / "home")
    (tmp_path / "ledger.sqlite").mkdir()
    with pytest.raises(LedgerError, match="cannot be opened"):
        Ledger.open(None, tmp_path)


def test_a_server_that_does_not_answer_is_named_without_the_password(tmp_path: Path) -> None:
    port = free_port()
    with pytest.raises(LedgerError) as refused:
        Ledger.open(f"postgresql://me:s3cret@127.0.0.1:{port}/kai?password=s3cret", tmp_path)
    assert f"PostgreSQL 127.0.0.1:{port}/kai" in str(refused.value)
    assert "MIGRATION_LEDGER_URL" in str(refused.value)
    _says_nothing_of("s3cret", refused.value)


def test_a_wrong_password_or_database_is_not_repeated(postgresql_url: str, tmp_path: Path) -> None:
    wrong = make_url(postgresql_url).set(password="s3cret", database="nowhere")
    with pytest.raises(LedgerError, match="nowhere") as refused:
        Ledger.open(wrong.render_as_string(hide_password=False), tmp_path)
    _says_nothing_of("s3cret", refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:s3cret:x@host/kai",
        "postgresql://me:s3@cret@host/kai",
        "postgresql://me:1/s3cret@host/kai",
        "postgresql://me:s3cret@host:port/kai",
        "postgresql://me:12/s3cret@host:5432/kai",
        "s3cret",
        "mysql://me:s3cret@host/kai",
        "mongodb+srv://me:s3cret@host/kai",
        "postgresql+nosuchdriver://me:s3cret@host/kai",
        "sqlite://",
        "sqlite:///:memory:",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_quoting_it(url: str, tmp_path: Path) -> None:
    with pytest.raises(LedgerError) as refused:
        Ledger.open(url, tmp_path)
    assert "MIGRATION_LEDGER_URL" in str(refused.value)
    assert "\n" not in str(refused.value)
    _says_nothing_of("s3cret", refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_driver_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(LedgerError, match=r"pip install 'kai-embedding-migration\[postgresql\]'"):
        Ledger.open("postgresql://me:s3cret@host/kai", tmp_path)


def test_errors_quote_no_entry(ledger: Ledger, run: RunRecord) -> None:
    with pytest.raises(LedgerError) as refused:
        ledger.start_collection("00000000-0000-0000-0000-000000000000", "private name", "in place")
    _says_nothing_of("private name", refused.value)


def _says_nothing_of(secret: str, error: BaseException) -> None:
    assert secret not in "".join(
        line
        for shown in traceback.TracebackException.from_exception(error).format()
        for line in shown.splitlines(keepends=True)
        if not line.startswith("    ")  # lines of code, which hold the test's own text
    )


def test_an_sqlite_that_cannot_drop_columns_is_refused_before_there_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    with pytest.raises(LedgerError, match=r"needs SQLite 3\.35 or newer.*PostgreSQL by MIGRATION_LEDGER_URL"):
        Ledger.open(None, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_opening_a_current_ledger_does_not_import_alembic(tmp_path: Path) -> None:
    Ledger.open(None, tmp_path).close()
    code = (
        "import sys\nfrom pathlib import Path\nfrom migration.ledger import Ledger\n"
        "Ledger.open(None, Path(sys.argv[1])).close()\n"
        "assert 'sqlalchemy' in sys.modules and 'alembic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ('connection failed: FATAL:  database "nowhere" does not exist', "has no database of this name"),
        ('connection failed: FATAL:  role "nobody" does not exist', "has no role (user) of this name"),
        ('relation "runs" does not exist', "lacks a table or column"),
    ],
)
def test_what_a_postgresql_server_does_not_have_is_told_apart(message: str, told: str) -> None:
    error = OperationalError("SELECT 1", {}, Exception(message))
    explained = _explain(error, make_url("postgresql://me@host/nowhere"))
    assert told in explained
    assert "MIGRATION_LEDGER_URL" in explained
