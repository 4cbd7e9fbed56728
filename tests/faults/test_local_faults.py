"""Each fault of the tool's own machine alone: full disks, locks held by others, a clock that jumps."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from typing import Literal

import pytest

from tests.faults.bench import IMPATIENT, Bench
from tests.faults.invariants import check_done, check_everything
from tests.faults.local import FILES, HeldLock, Store, full_disk, jumping_clock
from tests.faults.script import Planned, Script, from_place

NAMES = ("context_stores",)
BOTH = ("context_stores", "instructions")
LOCKER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("room", [0, 1, 2, 4])
@pytest.mark.parametrize("store", ["ledger", "cache"])
def test_a_database_on_a_full_disk_stops_the_run_and_a_later_one_finishes(
    bench: Bench, store: Store, room: int
) -> None:
    with full_disk(bench.home, store, room):
        ended = bench.run(collections=BOTH)
    check_everything(bench, ended, BOTH)
    assert ended.status in ((2, 3) if room < 2 else (0, 2, 3)), ended.text
    if ended.status:
        assert re.search(r"disk is full|cannot grow|disk I/O", ended.err), ended.text
    check_done(bench, bench.run(collections=BOTH), BOTH)


@pytest.mark.parametrize("room", [0, 500, 2000, 5000])
def test_a_backup_on_a_full_disk_stops_the_run_before_anything_is_overwritten(bench: Bench, room: int) -> None:
    with full_disk(bench.home, "backup", room):
        ended = bench.run()
    right = check_everything(bench, ended, NAMES)
    assert ended.status == 3, ended.text
    assert not any(right.values())
    assert re.search(r"No space left.*free some space", ended.err), ended.text
    check_done(bench, bench.run(), NAMES)


def test_a_ledger_on_a_full_disk_stops_the_run_before_more_is_overwritten(bench: Bench) -> None:
    with full_disk(bench.home, "ledger", 0):
        ended = bench.run(collections=BOTH)
    right = check_everything(bench, ended, BOTH)
    assert ended.status in (2, 3), ended.text
    assert not right["instructions"], "the second collection was begun"
    check_done(bench, bench.run(collections=BOTH), BOTH)


@pytest.mark.parametrize("store", ["ledger", "cache"])
def test_a_lock_that_another_holds_for_a_moment_is_waited_for(bench: Bench, store: Literal["ledger", "cache"]) -> None:
    for place in (6, 8, 10, 12, 14):
        bench.fresh()
        with HeldLock(bench.home, store, 0.05) as lock:
            ended = bench.run(script=Script(before_call=from_place(place, lock.take)))
            assert lock.taken
        check_done(bench, ended, NAMES)


@pytest.mark.parametrize("place", [1, 6, 9, 11, 13])
def test_a_ledger_that_another_process_keeps_locked_stops_the_run(bench: Bench, place: int) -> None:
    bench.run(dry_run=True)
    with HeldLock(bench.home, "ledger") as lock:
        ended = bench.run(script=Script(before_call=from_place(place, lock.take)), patience=IMPATIENT)
        taken = lock.taken
    check_everything(bench, ended, NAMES)
    if taken:
        assert ended.status in (2, 3), ended.text
        assert "locked by another process" in ended.err
    check_done(bench, bench.run(), NAMES)


@pytest.mark.parametrize("store", ["ledger", "cache"])
def test_a_store_that_another_process_has_locked_from_the_start_refuses_the_run(bench: Bench, store: str) -> None:
    check_done(bench, bench.run(), NAMES)
    other = subprocess.Popen(
        [sys.executable, "-c", LOCKER, str(bench.home / FILES[store])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    try:
        document = {"id": "q1", "prompt_text": "something else entirely"}
        bench.world.import_("context_stores", [document], "update")
        ended = bench.run(patience=IMPATIENT)
        assert ended.status in (2, 3), ended.text
        assert "locked by another process" in ended.err
        assert "Traceback" not in ended.text
    finally:
        other.communicate("")
    assert bench.run().status == 0


@pytest.mark.parametrize("seed", range(4))
def test_a_clock_that_jumps_back_and_forth_changes_nothing(bench: Bench, seed: int) -> None:
    with jumping_clock(seed):
        check_done(bench, bench.run(collections=BOTH), BOTH)
        sent = len(bench.provider.embedded)
        check_done(bench, bench.run(collections=BOTH, verify_sample=0), BOTH)
    assert bench.provider.embedded[sent:] == ["probe"]


def test_a_place_for_locks_that_cannot_be_used_refuses_the_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = bench.folder / "nowhere"
    monkeypatch.setattr("migration.runtime.lock.tempfile.gettempdir", lambda: str(nowhere))
    ended = bench.run()
    check_everything(bench, ended, NAMES)
    assert ended.status == 2, ended.text
    assert "No such file or directory" in ended.err


def test_a_home_that_cannot_be_used_refuses_the_run(bench: Bench) -> None:
    shutil.rmtree(bench.home)
    bench.home.write_text("a file")
    ended = bench.run()
    assert ended.status == 2, ended.text
    assert "MIGRATION_HOME" in ended.err
    assert "Traceback" not in ended.text


def test_what_stopped_the_run_is_told_although_the_backup_cannot_be_closed_either(bench: Bench) -> None:
    from tests.faults.faults import FINAL

    with full_disk(bench.home, "backup", 7000):
        ended = bench.run([Planned("import", FINAL["a 401"].fault)])
    check_everything(bench, ended, NAMES)
    assert ended.status == 3, ended.text
    assert re.search(r"HTTP 401|No space left", ended.err)
    check_done(bench, bench.run(), NAMES)
