"""When a collection has stood still for long enough to be dropped, and when nobody waits for that any more."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, cast

import pytest

from migration.strategies.context import Outcome
from migration.strategies.plan import CollectionPlan
from migration.strategies.shadow import cutover
from migration.strategies.shadow.cutover import CutOver, KeepsWriting
from migration.strategies.task import Task


class Live:
    """What the builder sees of a live collection, where the application writes at some of its looks.

    Args:
        writes: at how many looks, the first ones, something has changed.
        rested: seconds for which it stood still before.
    """

    shadow = "notes__shadow"

    def __init__(self, writes: int = 0, rested: float = 0.0) -> None:
        self.quiet_since = time.monotonic() - rested
        self.saw_changes = False
        self.catch_ups = self.looks = 0
        self._writes = writes

    def catch_up(self, *, embed: bool = True) -> int:
        """Everything compared; nothing has changed."""
        self.catch_ups += 1
        return 0

    def is_abreast(self) -> bool:
        """The newest compared."""
        self.looks += 1
        if self.looks <= self._writes:
            self.quiet_since, self.saw_changes = time.monotonic(), True
            return False
        return True


def cut_over(live: Live, *, lag: float = 0.0) -> tuple[CutOver, threading.Event]:
    """The cut-over of that collection on a server that lags so much, and what stops its run."""
    stopped = threading.Event()
    context: Any = SimpleNamespace(
        server=SimpleNamespace(lag=lag),
        control=SimpleNamespace(stopped=stopped),
        options=SimpleNamespace(keep_old=False, strategy="auto"),
        run=SimpleNamespace(name="a run"),
    )
    plan = cast("CollectionPlan", SimpleNamespace(name="notes"))
    task = Task(context, plan, cast("Any", None), Outcome(), "", ExitStack())
    return CutOver(task, cast("Any", live)), stopped


@pytest.mark.parametrize(
    ("rested", "saw_changes", "lag", "is_enough"),
    [
        (0.0, False, 0.0, False),
        (0.6, False, 0.0, True),
        (0.6, True, 0.0, False),
        (3.1, True, 0.0, True),
        (0.6, False, 5.0, False),
        (3.1, True, 5.0, False),
        (9.0, True, 5.0, True),
    ],
)
def test_it_must_rest_longer_where_somebody_wrote_and_where_nodes_lag(
    rested: float, lag: float, *, saw_changes: bool, is_enough: bool
) -> None:
    live = Live(rested=rested)
    live.saw_changes = saw_changes
    assert cut_over(live, lag=lag)[0]._has_rested == is_enough


def test_a_collection_at_rest_is_read_once_and_not_waited_for() -> None:
    live = Live(rested=60)
    cut_over(live)[0]._await_rest()
    assert (live.catch_ups, live.looks) == (1, 0)


def test_after_a_change_it_is_read_again_and_looked_at_until_it_has_rested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutover, "_QUIET_AFTER_CHANGES", 0.2)
    live = Live(writes=2)
    cut_over(live)[0]._await_rest()
    assert live.catch_ups == 3
    assert live.looks > 2


def test_an_application_that_is_never_quiet_is_not_waited_for_without_end() -> None:
    live = Live(writes=10**6)
    with pytest.raises(KeepsWriting, match="keeps writing to 'notes'"):
        cut_over(live)[0]._await_rest()
    assert live.catch_ups == cutover._LAST_CATCH_UPS


def test_whoever_stops_the_run_ends_the_waiting() -> None:
    live = Live()
    waiting, stopped = cut_over(live, lag=10**6)
    stopped.set()
    waiting._await_rest()
    assert live.looks == 0
