"""Watching a run by its status, and by the ledger where that is all there is."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from kai.settings import Settings
from migration.ledger import Ledger
from migration.ledger.records import RunState
from migration.operations.watch import Update, watch
from migration.runtime.status import Status, status_file
from migration.strategies.refusals import Refused

ELSEWHERE = "another-machine"


def settings(home: Path) -> Settings:
    return cast(Settings, SimpleNamespace(home=home, ledger_url=None))


def steps(*actions: Callable[[], object]) -> Callable[[float], object]:
    """Lets no time pass, and does the next of these at each wait; there must be no more waits than these."""
    left = list(actions)
    return lambda _seconds: left.pop(0)()


def watched(home: Path, run: str | None, *actions: Callable[[], object]) -> list[Update]:
    """Every update up to the last."""
    updates: list[Update] = []
    last = watch(run, told=updates.append, settings=settings(home), wait=steps(*actions))
    assert updates[-1] == last
    return updates


def begin(home: Path, name: str, host: str | None = None) -> str:
    """A run in the ledger, of this machine or another; its id."""
    home.mkdir(exist_ok=True)
    with Ledger.open(None, home) as ledger, pytest.MonkeyPatch.context() as patch:
        if host is not None:
            patch.setattr(socket, "gethostname", lambda: host)
        return ledger.start_run(name, "migrate", source={"server": "s", "collections": ["notes"]}).id


def finish(home: Path, identity: str, state: RunState) -> None:
    with Ledger.open(None, home) as ledger:
        ledger.finish_run(identity, state)


def test_a_run_is_watched_by_its_status_until_it_ends_with_its_exit_status(tmp_path: Path) -> None:
    status = Status(status_file(tmp_path, "a-run"))
    status.phase("migrating", collection="notes", total=10)

    def go_on() -> None:
        status.add(done=4)
        status.phase("verifying", collection="notes")

    updates = watched(
        tmp_path, None, go_on, lambda: status.end("done, some failed", done=9, failed=1, seconds=1.0, exit_status=1)
    )
    assert [(update.origin, update.phase) for update in updates] == [
        ("status", "migrating"),
        ("status", "verifying"),
        ("status", "done, some failed"),
    ]
    assert updates[0].facts["total"] == 10
    assert updates[-1].exit_status == 1


def test_a_run_whose_process_is_gone_ends_the_watching_with_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Status(status_file(tmp_path, "a-run")).phase("migrating", collection="notes", total=10)

    def no_process(_pid: int, _signal: int) -> None:
        raise ProcessLookupError

    monkeypatch.setattr(os, "kill", no_process)
    (update,) = watched(tmp_path, "a-run", lambda: None)
    assert (update.phase, update.has_ended, update.exit_status) == ("died", True, 3)
    assert update.facts["total"] == 10


def test_a_run_that_slept_with_its_machine_is_not_taken_for_dead(tmp_path: Path) -> None:
    status = Status(status_file(tmp_path, "a-run"))
    status.phase("migrating")
    os.utime(status_file(tmp_path, "a-run"), (1.0, 1.0))
    updates = watched(
        tmp_path,
        "a-run",
        lambda: status.phase("verifying"),
        lambda: status.end("done", done=1, failed=0, seconds=1.0, exit_status=0),
    )
    assert [update.phase for update in updates] == ["verifying", "done"]


@pytest.mark.parametrize(
    ("state", "exit_status"),
    [("completed", 0), ("waiting", 0), ("rehearsed", 0), ("partial", 1), ("stopped", 3), ("interrupted", 130)],
)
def test_of_a_run_on_another_machine_the_ledger_tells_what_it_knows(
    tmp_path: Path, state: RunState, exit_status: int
) -> None:
    identity = begin(tmp_path, "far", ELSEWHERE)
    first, last = watched(tmp_path, "far", lambda: finish(tmp_path, identity, state))
    assert (first.origin, first.phase, first.has_ended) == ("ledger", "running", False)
    assert first.facts["host"] == ELSEWHERE
    assert (last.phase, last.exit_status) == (state, exit_status)


def test_without_a_name_it_is_the_run_under_way_or_else_the_latest(tmp_path: Path) -> None:
    finish(tmp_path, begin(tmp_path, "the-latest"), "completed")
    (update,) = watched(tmp_path, None)
    assert (update.run, update.exit_status) == ("the-latest", 0)
    for name in ("b-run", "a-run"):
        Status(status_file(tmp_path, name)).phase("migrating")
    with pytest.raises(Refused, match="several runs are under way, name one of them: a-run, b-run"):
        watched(tmp_path, None)


def test_a_run_that_is_taken_up_again_does_not_show_its_earlier_end(tmp_path: Path) -> None:
    file = status_file(tmp_path, "a-run")
    Status(file).end("stopped", done=1, failed=0, seconds=1.0, exit_status=3)
    with Status(file).kept():
        updates: list[Update] = []

        def told(update: Update) -> None:
            updates.append(update)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            watch("a-run", told=told, settings=settings(tmp_path))
    assert [update.phase for update in updates] == ["starting"]


def test_where_there_is_nothing_that_is_told(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="RUN: there is no ledger and no run in"):
        watched(tmp_path, None)
    begin(tmp_path, "a-run")
    with pytest.raises(Refused, match="no run 'nonsense'; `kai-migrate history` lists them"):
        watched(tmp_path, "nonsense")
    assert list(tmp_path.glob("runs/*")) == []
