"""A way back or a backup that fails half-way is stopped, says why, and is gone on with."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from kai.collections import EmbeddedCollection
from migration.backup import Backup, BackupError, BackupWriter, vector_line
from migration.backup.lookup import OldVectors
from migration.ledger import Ledger, LedgerError
from migration.strategies.sources import UNDESCRIBED, PutBack
from tests.killing import Ended, run_command_watched
from tests.providers import OpenAIStandIn
from tests.world import World, made_up, openai

NAME = "context_stores"
ONLY = ("--collections", NAME)


def spoil(target: Any, name: str, error: Exception, *, after: int = 0) -> Callable[[], None]:
    """For a child: the method raises this error, from its call number `after` + 1 on."""

    def in_child() -> None:
        work, calls = getattr(target, name), []

        def spoilt(*arguments: Any, **options: Any) -> Any:
            calls.append(1)
            if len(calls) > after:
                raise error
            return work(*arguments, **options)

        patch.object(target, name, spoilt).start()

    return in_child


def small_scratch() -> None:
    """For a child: SQLite finds the disk full when the old vectors are laid out."""
    connect = sqlite3.connect

    def limited(database: Any, *arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(database, *arguments, **options)
        if str(database).endswith(".vectors"):
            connection.execute("PRAGMA max_page_count=4")
        return connection

    patch("sqlite3.connect", limited).start()


def no_space() -> None:
    """For a child: the disk has almost no room left."""
    usage = namedtuple("usage", "total used free")
    patch.object(shutil, "disk_usage", lambda _: usage(10**12, 10**12, 5000)).start()


def ran(world: World, folder: Path, in_child: Callable[[], None], *arguments: str) -> Ended:
    done = run_command_watched(arguments, world.environment(), folder, in_child=in_child)
    assert "Traceback" not in done.text, done.text
    return done


def states(world: World) -> dict[str, str]:
    with Ledger.open(None, world.home) as ledger:
        return {run.kind: run.state for run in ledger.runs()}


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (spoil(Ledger, "record_documents", LedgerError("the ledger is locked"), after=1), "the ledger is locked"),
        (spoil(Ledger, "update_collection", LedgerError("the ledger is locked")), "the ledger is locked"),
        (spoil(BackupWriter, "add_vectors", BackupError("no room for it")), "no room for it"),
        (
            spoil(BackupWriter, "add_vectors", OSError(errno.EIO, "I/O error", "somewhere"), after=1),
            "somewhere: I/O error",
        ),
        (small_scratch, "free some space"),
        (no_space, "the backup needs"),
    ],
    ids=["ledger", "ledger at the backup", "backup", "disk", "scratch file", "space"],
)
def test_a_way_back_that_fails_is_stopped_and_the_next_one_finishes_it(
    world: World, provider: OpenAIStandIn, tmp_path: Path, trouble: Callable[[], None], words: str
) -> None:
    world.fill(made_up(questions=600), 64)
    before = world.documents(NAME)
    assert world.run(*ONLY, **openai(provider, 64)).status == 0
    done = ran(world, tmp_path / "work", trouble, "rollback", "--yes")
    assert done.status == 3, done.text
    assert words in done.text
    assert "nothing was changed" not in done.text
    assert "Run the same command again" in done.text
    assert states(world)["rollback"] == "stopped"
    assert not list(world.home.glob("runs/*/*.vectors"))
    assert world.run("rollback", "--yes", module="migration").status == 0
    assert world.documents(NAME) == before


def test_a_way_back_whose_end_cannot_be_noted_is_stopped(world: World, provider: OpenAIStandIn, tmp_path: Path) -> None:
    world.fill(made_up(questions=60), 64)
    assert world.run(*ONLY, **openai(provider, 64)).status == 0
    trouble = spoil(Ledger, "finish_run", LedgerError("the ledger is locked"))
    done = ran(world, tmp_path / "work", trouble, "rollback", "--yes")
    assert done.status == 3, done.text
    assert "cannot be noted: the ledger is locked" in done.text


def test_a_cache_that_cannot_be_read_stops_no_way_back(world: World, provider: OpenAIStandIn, tmp_path: Path) -> None:
    from migration.embedding.cache import CacheError, VectorCache

    world.fill(made_up(questions=60), 64)
    before = world.documents(NAME)
    assert world.run(*ONLY, **openai(provider, 64)).status == 0
    done = ran(
        world, tmp_path / "work", spoil(VectorCache, "get_many", CacheError("it is locked")), "rollback", "--yes"
    )
    assert done.status == 0, done.text
    assert world.documents(NAME) == before


def test_what_stopped_the_way_back_is_told_rather_than_that_its_backup_could_not_be_closed(
    world: World, provider: OpenAIStandIn, tmp_path: Path
) -> None:
    world.fill(made_up(questions=60), 64)
    for dimensions in (64, 128):
        assert world.run(*ONLY, **openai(provider, dimensions)).status == 0

        def both() -> None:
            spoil(BackupWriter, "close", BackupError("it cannot be closed"))()
            spoil(Ledger, "record_documents", LedgerError("the ledger is locked"))()

        done = ran(world, tmp_path / "work", both, "rollback", "--yes")
        assert done.status == 3, done.text
        assert "the ledger is locked" in done.text
        assert "cannot be closed" not in done.text
        assert world.run("rollback", "--yes", module="migration").status == 0


def test_old_vectors_leave_no_scratch_file_where_they_cannot_be_laid_out(tmp_path: Path) -> None:
    with BackupWriter.open(
        tmp_path, "run", "notes", kind="vectors", embedding_field="v", server="here:1", schema={"name": "notes"}
    ) as writer:
        writer.add([vector_line(f"n{n}", "v", [1.0] * 64) for n in range(250)])
        writer.close(complete=True)
    connect, file = sqlite3.connect, tmp_path / "notes.vectors"

    def limited(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.execute("PRAGMA max_page_count=4")
        return connection

    with patch("sqlite3.connect", limited), pytest.raises(BackupError, match="free some space"):
        OldVectors(Backup.load(writer.folder), file)
    assert not file.exists()


def test_a_document_that_failed_at_first_and_then_came_back_is_no_failure(
    world: World, provider: OpenAIStandIn, tmp_path: Path
) -> None:
    from migration.documents.update import Written, import_documents
    from migration.strategies import passes

    world.fill(made_up(questions=60), 64)
    assert world.run(*ONLY, **openai(provider, 64)).status == 0

    def first_refused() -> None:
        work, calls = import_documents, []

        def refusing(server: Any, name: str, lines: dict[str, bytes]) -> Written:
            calls.append(1)
            if len(calls) > 1:
                return work(server, name, lines)
            written = work(server, name, {id_: line for id_, line in lines.items() if id_ != "q7"})
            written.failed["q7"] = "not now"
            return written

        patch.object(passes, "import_documents", refusing).start()

    done = ran(world, tmp_path / "work", first_refused, "rollback", "--yes")
    assert done.status == 0, done.text
    assert "'success': 60, 'failed': 0" in done.text


def test_the_states_before_two_runs_are_two_spaces_however_long_their_names_are() -> None:
    def space(run: str) -> str:
        nothing: Any = None
        plan: Any = SimpleNamespace(
            name="n" * 80, new_dimensions=4, collection=EmbeddedCollection("n" * 80, "vector", UNDESCRIBED)
        )
        return PutBack(nothing, plan, run, nothing, nothing).fingerprint

    name = "n" * 80
    found = {space(f"{name}-{run}") for run in ("one", "two")}
    assert len(found) == 2
    assert all(len(each) <= 64 for each in found)


@pytest.mark.parametrize("error", [BackupError("no room for it"), OSError(errno.EIO, os.strerror(errno.EIO))])
def test_a_backup_by_hand_that_fails_is_stopped_and_not_running_for_ever(
    world: World, tmp_path: Path, error: Exception
) -> None:
    world.fill(made_up(questions=600), 64)
    done = ran(world, tmp_path / "work", spoil(BackupWriter, "add", error, after=1), "backup", *ONLY)
    assert done.status == 3, done.text
    assert "Stopped" in done.text
    assert "nothing was changed" not in done.text
    assert states(world) == {"backup": "stopped"}
    (folder,) = world.home.glob(f"backups/*/{NAME}")
    assert not Backup.load(folder).manifest.complete
