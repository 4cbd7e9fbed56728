"""Which runs hold, by the files in their folders, and letting them go."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import orjson
import pytest

from kai.settings import Settings
from migration.operations.under_way import release
from migration.runtime.holding import HOLDING, find_held, held, hold_file
from migration.runtime.status import Status, read_status, status_file
from migration.strategies.refusals import Refused


@pytest.fixture
def held_open() -> Iterator[ExitStack]:
    """Keeps runs holding to the end of a test."""
    with ExitStack() as stack:
        yield stack


def hold(home: Path, run: str, stack: ExitStack) -> Status:
    """A run of this process that holds before `notes`."""
    status = Status(status_file(home, run))
    status.phase(HOLDING, collection="notes")
    stack.enter_context(held(hold_file(home, run), "notes"))
    return status


def settings(home: Path) -> Settings:
    return cast(Settings, SimpleNamespace(home=home))


def test_the_only_run_that_holds_is_released_without_being_named(tmp_path: Path, held_open: ExitStack) -> None:
    hold(tmp_path, "a-run", held_open)
    released = release(settings=settings(tmp_path))
    assert (released.run, released.collection) == ("a-run", "notes")
    assert not hold_file(tmp_path, "a-run").exists()
    with pytest.raises(Refused, match="no run holds"):
        release(settings=settings(tmp_path))


def test_of_several_that_hold_one_must_be_named(tmp_path: Path, held_open: ExitStack) -> None:
    for run in ("a-run", "b-run"):
        hold(tmp_path, run, held_open)
    with pytest.raises(Refused, match="several runs hold, name one of them: a-run, b-run"):
        release(settings=settings(tmp_path))
    assert len(find_held(tmp_path)) == 2


@pytest.mark.parametrize("dead", ["its process is gone", "it wrote nothing for long", "it has ended"])
def test_a_run_that_is_not_under_way_does_not_hold(tmp_path: Path, held_open: ExitStack, dead: str) -> None:
    status = hold(tmp_path, "a-run", held_open)
    file = status_file(tmp_path, "a-run")
    assert read_status(tmp_path, "a-run") is not None
    if dead == "its process is gone":
        file.write_bytes(orjson.dumps({**orjson.loads(file.read_bytes()), "pid": 2**22 + 1}))
    elif dead == "it wrote nothing for long":
        os.utime(file, (1, 1))
    else:
        status.end("stopped", done=0, failed=0, seconds=0.0, exit_status=3)
    assert read_status(tmp_path, "a-run") is None
    with pytest.raises(Refused, match="its process is gone; run the migration again without --hold"):
        release(settings=settings(tmp_path))


def test_what_a_phase_alone_says_is_gone_with_the_phase(tmp_path: Path) -> None:
    status = Status(status_file(tmp_path, "a-run"))
    status.phase(HOLDING, collection="notes")
    status.say(hold={"changed": 3})
    assert status.facts()["hold"] == {"changed": 3}
    status.phase("cut-over", collection="notes")
    assert "hold" not in status.facts()
