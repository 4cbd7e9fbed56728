"""The course of a run: bounded, whatever its length, and whole after any crash."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kai.typesense import TypesenseError
from migration.runtime import timeline
from migration.runtime.status import Status
from migration.runtime.timeline import Sample, Timeline, read_timeline, thinned


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1_700_000_000 + self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(timeline, "time", clock)
    yield clock


def _run(clock: Clock, path: Path, seconds: int, look: Any = None) -> Timeline:
    """A run of so many seconds, each of which the thread would have woken in."""
    found = Timeline(path, lambda: {"phase": "migrating", "documents": int(clock.now)}, look)
    for _ in range(seconds):
        clock.now += 1
        found.tick()
    return found


def test_a_young_run_is_noted_every_second(tmp_path: Path, clock: Clock) -> None:
    _run(clock, tmp_path / "t", 30)
    samples = read_timeline(tmp_path / "t")
    assert [sample.seconds for sample in samples] == list(range(1, 31))
    assert [sample.documents for sample in samples] == list(range(1001, 1031))
    assert {(sample.phase, sample.leg) for sample in samples} == {("migrating", 1)}


def test_a_run_of_a_day_has_a_bounded_number_of_lines(tmp_path: Path, clock: Clock) -> None:
    _run(clock, tmp_path / "t", 86_400)
    samples = read_timeline(tmp_path / "t")
    assert 1_000 < len(samples) < 1_600
    steps = [after.seconds - before.seconds for before, after in itertools.pairwise(samples)]
    assert max(steps) <= 86_400 / 200 + 1, "no stretch of it is left without"


def test_phases_that_change_all_the_time_do_not_fill_the_disk(tmp_path: Path, clock: Clock) -> None:
    status = Status(None)
    found = Timeline(tmp_path / "t", status.counts)
    for _ in range(7_000):
        clock.now += 0.5
        found.note()
    assert len(read_timeline(tmp_path / "t")) <= 2_000
    assert (tmp_path / "t").stat().st_size < 400_000


def test_a_resumed_run_goes_on_after_a_line_that_was_cut_off(tmp_path: Path, clock: Clock) -> None:
    _run(clock, tmp_path / "t", 5)
    whole = (tmp_path / "t").read_bytes()
    (tmp_path / "t").write_bytes(whole[:-20])
    clock.now += 3600
    _run(clock, tmp_path / "t", 3)
    samples = read_timeline(tmp_path / "t")
    assert [(sample.leg, sample.seconds) for sample in samples] == [
        *((1, float(second)) for second in range(1, 5)),
        *((2, float(second)) for second in range(5, 8)),
    ]
    assert samples[4].at - samples[3].at > 3600


@given(cut=st.integers(0, 910))
def test_a_file_cut_off_anywhere_loses_at_most_the_line_that_was_being_written(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "t"
    found = Timeline(path, dict)
    for _ in range(6):
        found.note()
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    whole_lines = whole[:cut].count(b"}")  # One is whole without its end of line, too.
    assert read_timeline(path) == [Sample(**each) for each in _read_lines(whole)][:whole_lines]
    Timeline(path, dict).note()
    assert read_timeline(path)[-1].leg == (2 if whole_lines else 1)


def _read_lines(content: bytes) -> list[dict[str, Any]]:
    import orjson

    return [orjson.loads(line) for line in content.splitlines()]


@given(
    seconds=st.lists(st.floats(0, 1e6), max_size=60).map(sorted),
    stretches=st.integers(1, 20),
    searched=st.sets(st.integers(0, 59)),
)
def test_what_is_thinned_is_bounded_in_order_and_keeps_both_ends(
    seconds: list[float], stretches: int, searched: set[int]
) -> None:
    samples = [
        Sample(leg=1, at=0.0, seconds=each, search_ms=1.0 if i in searched else None) for i, each in enumerate(seconds)
    ]
    kept = thinned(samples, stretches)
    assert len(kept) <= 2 * (stretches + 1)
    assert [each.seconds for each in kept] == sorted(each.seconds for each in kept)
    assert not samples or (kept[0].seconds, kept[-1].seconds) == (samples[0].seconds, samples[-1].seconds)
    assert thinned(kept, stretches) == kept


def test_a_phase_is_noted_when_it_ends_and_when_the_next_begins(tmp_path: Path) -> None:
    noted: list[tuple[str, int]] = []
    status = Status(None, changing=lambda: noted.append((status.counts()["phase"], status.counts()["documents"])))
    status.phase("copying", total=10)
    status.add(10)
    status.phase("cut-over")
    assert noted == [("starting", 0), ("copying", 0), ("copying", 10), ("cut-over", 10)]


def test_the_servers_own_figures_are_asked_for_every_ten_seconds(tmp_path: Path, clock: Clock) -> None:
    asked: list[float] = []

    def look() -> dict[str, float]:
        asked.append(clock.now - 1000)
        return {"search_requests_per_second": 5.0 if len(asked) != 2 else 0.0, "search_latency_ms": 7.5}

    _run(clock, tmp_path / "t", 35, look)
    assert asked == [10, 20, 30]
    searched = [sample for sample in read_timeline(tmp_path / "t") if sample.search_ms is not None]
    assert [(sample.seconds, sample.search_ms, sample.searches_per_second) for sample in searched] == [
        (10.0, 7.5, 5.0),
        (30.0, 7.5, 5.0),
    ], "a latency of no searches is none"


@pytest.mark.parametrize(
    ("error", "times"),
    [
        (TypesenseError("not allowed", status=401), 1),
        (TypesenseError("busy", status=503, transient=True), 3),
        (RuntimeError("Cannot send a request, as the client has been closed."), 1),
    ],
)
def test_a_server_that_does_not_give_its_figures_is_not_asked_again(
    tmp_path: Path, clock: Clock, error: Exception, times: int
) -> None:
    asked: list[float] = []

    def look() -> dict[str, float]:
        asked.append(clock.now)
        raise error

    _run(clock, tmp_path / "t", 35, look)
    assert len(asked) == times
    assert len(read_timeline(tmp_path / "t")) == 35


def test_a_folder_that_takes_no_file_is_no_reason_to_end_a_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = Timeline(tmp_path / "file" / "t", dict)
    with found.kept():
        found.note()
    assert read_timeline(tmp_path / "file" / "t") == []


def test_the_end_of_a_run_is_noted(tmp_path: Path) -> None:
    status = Status(None)
    with Timeline(tmp_path / "t", status.counts).kept():
        status.phase("copying")
        status.add(3)
    assert [(sample.phase, sample.documents) for sample in read_timeline(tmp_path / "t")] == [("copying", 3)]
