"""Kill -9 in mid-run; a second start ends as if nothing had been."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kai.settings import ChosenStrategy
from migration.strategies.context import MigrationOptions
from tests.killing import run_watched
from tests.real.corner import NEW, OLD, Corner

IMPORT = r"POST /collections/{notes}/documents/import\?action=update"
ALTER = r"PATCH /collections/{notes}$"
MOMENTS: dict[str, tuple[ChosenStrategy, int, str, int]] = {
    "in place, 1st import": ("auto", OLD, IMPORT, 1),
    "rebuild, 1st import": ("rebuild", OLD, IMPORT, 1),
    "alter, 1st change of the schema": ("alter", NEW, ALTER, 1),
    "alter, 2nd import": ("alter", NEW, IMPORT, 2),
    "alter, 3rd change of the schema": ("alter", NEW, ALTER, 3),
    "recreate, drop": ("auto", NEW, r"DELETE /collections/{notes}$", 1),
}
"""Strategy, dimensions, and the request (its pattern, and which of them, from 1) in which the run is killed."""
UNDER_WAY = 0.05
"""Seconds after which a request that is under way has been taken up by the server, and few are answered."""


def in_request(pattern: str, which: int) -> Callable[[int, str], None]:
    """Kill this process while such a request is under way, at the latest before the next one."""
    met = 0

    def at_request(_: int, name: str) -> None:
        nonlocal met
        if met == which:
            _kill()
        met += re.match(pattern, name) is not None
        if met == which:
            threading.Timer(UNDER_WAY, _kill).start()

    return at_request


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_in_any_phase_a_second_start_comes_to_the_same_end(corner: Corner, tmp_path: Path, moment: str) -> None:
    strategy, dimensions, pattern, which = MOMENTS[moment]
    killed = run_watched(
        MigrationOptions(collections=(corner.notes,), collections_file=corner.file, strategy=strategy),
        corner.environment(dimensions),
        tmp_path / "killed",
        at_request=in_request(pattern.format(notes=corner.notes), which),
    )
    assert killed.killed, killed.text
    again = corner.run(*(("--strategy", strategy) if strategy != "auto" else ()), dimensions=dimensions)
    assert again.status == 0, again.text
    corner.check_migrated(dimensions)
