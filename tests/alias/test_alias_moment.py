"""The swap waits for the operator, and can be rehearsed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from migration.operations.unfinished import list_unfinished
from tests.alias.corner import ALIAS, NEW, OLD, OTHER_ALIAS, Corner
from tests.killing import run_command_watched, run_watched

TARGET = 32
pytestmark = pytest.mark.usefixtures("warm")


def at_hold(home: Path, act: str) -> object:
    """At the second catch-up of a run that holds: it is released, or killed."""

    def at_request(_: int, _name: str) -> None:
        for file in home.glob("runs/*/status.json"):
            status = json.loads(file.read_text())
            holds = (status["phase"], status["pid"]) == ("holding", os.getpid())
            if not holds or status["hold"]["changed"] is None or not (file.parent / "hold").exists():
                continue
            if act == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            print("LISTED", *[(item.collection, item.state, item.remedy) for item in list_unfinished().items])
            (file.parent / "hold").unlink()

    return at_request


@pytest.mark.parametrize("act", ["release", "kill"])
def test_no_alias_is_moved_before_the_run_is_released(corner: Corner, tmp_path: Path, act: str) -> None:
    home = tmp_path / "home"
    environment = corner.environment(TARGET, home)
    options = corner.options(hold=float("inf"))
    ended = run_watched(options, environment, tmp_path, at_request=at_hold(home, act))  # type: ignore[arg-type]
    if act == "kill":
        assert ended.killed
        assert corner.aliases() == {ALIAS: OLD, OTHER_ALIAS: OLD}
        ended = run_watched(corner.options(), environment, tmp_path)
    assert ended.status == 0, ended.text
    assert act == "kill" or f"LISTED ('{NEW}', 'holding', 'kai-migrate release " in ended.text
    corner.check_swapped(TARGET)


def test_a_swap_that_is_rehearsed_moves_no_alias_and_is_gone_on_with(corner: Corner, tmp_path: Path) -> None:
    environment = corner.environment(TARGET, tmp_path / "home")
    ended = run_watched(corner.options(rehearse=True), environment, tmp_path)
    assert ended.status == 0, ended.text
    assert "'status': 'rehearsed'" in ended.text
    assert corner.aliases() == {ALIAS: OLD, OTHER_ALIAS: OLD}
    assert corner.world.schema(NEW)["num_documents"] == len(corner.expected)
    shown = run_command_watched(["show", "latest", "--json"], environment, tmp_path)
    assert json.loads(shown.text)["run"]["state"] == "rehearsed"
    embedded = len(corner.provider.embedded)
    assert run_watched(corner.options(), environment, tmp_path).status == 0
    assert len(corner.provider.embedded) <= embedded + 1 + 10, "nothing but the probe and the sample again"
    corner.check_swapped(TARGET)
