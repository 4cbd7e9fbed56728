"""How fast a run may go, told while it is under way, and what it waits for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kai.typesense import TypesenseError
from migration.documents.pipeline import run_pages
from migration.embedding.throttle import Throttle
from migration.runtime import control as control_module
from migration.runtime.control import Control
from migration.runtime.load import FIGURES, LoadWatch, parse_bounds
from migration.runtime.pace import Pace, WrongPace, followed, parse_changes, read_changes, tune_file, write_changes


def soon(is_so: Callable[[], bool]) -> bool:
    """Whether it becomes so, in a time that no machine needs."""
    until = time.monotonic() + 20
    while not is_so() and time.monotonic() < until:
        time.sleep(0.005)
    return is_so()


# -- what can be told ------------------------------------------------------------------------------------


def test_every_value_that_can_be_tuned_comes_back_as_it_is_given() -> None:
    words = {
        "nice": "0.5", "concurrency": "2", "rpm": "60", "tpm": "none",
        "max-load": "search_latency_ms=50,pending_write_batches=20",
    }  # fmt: skip
    pace = Pace(tpm=7).changed(parse_changes(f"{name}={value}" for name, value in words.items()))
    assert pace == Pace(
        nice=0.5, concurrency=2, rpm=60, max_load={"search_latency_ms": 50.0, "pending_write_batches": 20.0}
    )
    assert pace.words() == words
    assert Pace(**pace.facts()) == pace
    assert pace.changed({"max-load": "none"}).max_load == {}


@pytest.mark.parametrize(
    "word",
    [
        "nice", "nice=", "nice=1", "nice=-0.1", "nice=nan", "nice=fast", "concurrency=0", "concurrency=65",
        "concurrency=2.5", "concurrency=none", "rpm=0", "rpm=-1", "tpm=many", "speed=3", "=3", "",
        "max-load=", "max-load=search_latency_ms", "max-load=search_latency_ms=x", "max-load=search_latency_ms=-1",
        "max-load=search_latency_ms=inf", "max-load=latency=3",
    ],
)  # fmt: skip
def test_a_value_that_is_none_is_refused_by_its_name(word: str) -> None:
    with pytest.raises(WrongPace, match=word.partition("=")[0].strip() or "nothing that can be tuned"):
        parse_changes([word])


def test_an_unknown_figure_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'latency' is no figure of the server") as refused:
        parse_bounds("latency=3")
    assert all(name in str(refused.value) for name in FIGURES)


# -- told while it is under way --------------------------------------------------------------------------


def test_changes_are_taken_up_and_add_to_each_other_and_those_for_an_earlier_process_are_not(tmp_path: Path) -> None:
    file = tune_file(tmp_path, "a-run")
    file.parent.mkdir(parents=True)
    write_changes(file, {"nice": "0.9"})
    told: list[Pace] = []
    with followed(file, Pace(concurrency=8), told.append):
        write_changes(file, {"nice": "0.5"})
        assert soon(lambda: bool(told))
        file.write_text("not JSON")
        assert soon(lambda: len(told) == 2)
        write_changes(file, {"nice": "0.5"})
        write_changes(file, {"concurrency": "2"})
        assert soon(lambda: told[-1].concurrency == 2)
    assert (told[0], told[1], told[-1]) == (
        Pace(nice=0.5, concurrency=8), Pace(concurrency=8), Pace(nice=0.5, concurrency=2),
    )  # fmt: skip
    assert read_changes(file) == {"nice": "0.5", "concurrency": "2"}


def test_a_run_says_what_was_changed_and_from_what_and_passes_it_on() -> None:
    said: list[str] = []
    passed_on: list[Pace] = []
    control = Control(pace=Pace(concurrency=4), announce=said.append)
    control.follow(passed_on.append)
    control.set_pace(Pace(concurrency=2, rpm=60))
    assert said == ["Tuned: concurrency=2 (was 4); rpm=60 (was none)."]
    assert passed_on == [control.pace]
    assert control.facts()["pace"]["concurrency"] == 2


def most_at_once(throttle: Throttle, callers: int, change: Callable[[], object]) -> tuple[int, int]:
    """How many of these callers are let through at once, and how many after the change."""
    lock = threading.Lock()
    inside = 0
    ended = threading.Event()

    def call() -> None:
        nonlocal inside
        with throttle.slot(1):
            with lock:
                inside += 1
            ended.wait(20)

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    assert soon(lambda: inside >= int(throttle.limit))
    time.sleep(0.05)
    before = inside
    change()
    soon(lambda: inside >= min(callers, int(throttle.limit)))
    time.sleep(0.05)
    after = inside
    ended.set()
    for thread in threads:
        thread.join()
    return before, after


def test_a_throttle_lets_more_through_once_it_may_and_no_more_than_that() -> None:
    throttle = Throttle(2)

    def change() -> None:
        throttle.change(4)
        for _ in range(10):
            throttle.succeeded(0.1)

    assert most_at_once(throttle, 8, change) == (1, 4)


def test_a_throttle_lets_fewer_through_at_once_when_it_must() -> None:
    throttle = Throttle(8)
    for _ in range(10):
        throttle.succeeded(0.1)
    throttle.change(3)
    throttle.succeeded(0.1)
    assert throttle.limit == 3
    assert most_at_once(throttle, 6, lambda: throttle.change(5)) == (3, 3), "risen to with good answers only"


def test_a_bound_on_requests_a_minute_that_comes_counts_those_of_the_minute_before() -> None:
    throttle = Throttle(4)
    for _ in range(3):
        with throttle.slot(10):
            pass
    throttle.change(4, max_rpm=3)
    assert throttle._wait_for(10, time.monotonic()) > 30
    throttle.change(4, max_tpm=45)
    assert throttle._wait_for(10, time.monotonic()) == 0
    assert throttle._wait_for(20, time.monotonic()) > 30


def test_pages_are_prepared_by_as_many_at_once_as_may_be_at_the_moment() -> None:
    may, inside = 2, 0
    most: dict[int, int] = {}
    lock = threading.Lock()

    def prepare(page: int) -> int:
        nonlocal inside, may
        with lock:
            inside += 1
            may = {0: 2, 30: 6, 60: 1}.get(page, may)
            # What was begun before a change is finished after it, and threads may overtake one another.
            if 15 <= page % 30 < 25:
                most[page // 30] = max(most.get(page // 30, 0), inside)
        time.sleep(0.01)
        with lock:
            inside -= 1
        return page

    done: list[int] = []
    run_pages(range(90), prepare, lambda page: page, done.append, workers=lambda: may)
    assert done == list(range(90))
    assert most[0] <= 2 < most[1] <= 6
    assert most[2] == 1


# -- the server's load -----------------------------------------------------------------------------------


class Server:
    """Gives one figure, or none."""

    def __init__(self) -> None:
        self.figure: Any = 0
        self.asked = 0

    def ask(self) -> dict[str, Any]:
        self.asked += 1
        if isinstance(self.figure, Exception):
            raise self.figure
        return {"search_latency_ms": self.figure}


BOUNDS = {"search_latency_ms": 50.0}


def test_the_server_is_asked_only_where_there_is_a_bound_and_once_a_second_at_most() -> None:
    server = Server()
    watch = LoadWatch(server.ask, lambda _: None)
    assert watch.excess({}) == ""
    assert server.asked == 0
    server.figure = 51
    assert watch.excess(BOUNDS) == "search_latency_ms is 51, above 50"
    assert watch.excess({"search_latency_ms": 51}) == ""
    assert watch.excess({"pending_write_batches": 0}) == "", "a figure that it does not give"
    assert server.asked == 1


def test_a_server_that_does_not_say_is_told_of_once_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("migration.runtime.load._EVERY", 0.0)
    server, told = Server(), list[str]()
    watch = LoadWatch(server.ask, told.append)
    server.figure = TypesenseError("Forbidden", status=401)
    assert [watch.excess(BOUNDS) for _ in range(3)] == ["", "", ""]
    assert len(told) == 1
    assert "--max-load cannot be kept to: Forbidden" in told[0]
    server.figure = "much"
    assert watch.excess(BOUNDS) == ""


def test_a_run_waits_while_the_server_has_too_much_to_do_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_module, "_BETWEEN_LOOKS", 0.001)
    said: list[str] = []
    control = Control(pace=Pace(max_load=BOUNDS), announce=said.append)
    answers = iter(["", "it is 60", "it is 70", "", ""])
    seen: list[Any] = []

    def excess(bounds: Any) -> str:
        assert bounds == BOUNDS
        seen.append(control.facts()["waiting_for"])
        return next(answers)

    control.excess = excess
    control.wait_while_paused()
    assert said == []
    control.wait_for_load()
    assert said == ["Waiting: it is 60 (--max-load).", "Going on."]
    assert seen == [None, None, "it is 60", "it is 70"]


def test_a_run_that_waits_for_long_says_so_again_and_ends_when_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_module, "_BETWEEN_LOOKS", 0.001)
    monkeypatch.setattr(control_module, "_TELL_AGAIN", 0.0)
    said: list[str] = []
    control = Control(pace=Pace(max_load=BOUNDS), announce=said.append)

    def excess(_: Any) -> str:
        if len(said) == 3:
            control.stop()
        return "it is 60"

    control.excess = excess
    control.wait_for_load()
    assert said[1:3] == ["Still waiting after 0 min: it is 60 (--max-load)."] * 2
