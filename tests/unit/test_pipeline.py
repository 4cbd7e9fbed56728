"""Pages go through their three steps in order, and what goes wrong in one of them stops the others in time."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from migration.documents.pipeline import run_pages


class Steps:
    """Three steps that note what they did; a page is a number."""

    def __init__(self, fails: Callable[[str, int], bool] = lambda _step, _page: False) -> None:
        self._fails = fails
        self.prepared: list[int] = []
        self.written: list[int] = []
        self.recorded: list[int] = []
        self.stopped = threading.Event()

    def run(self, pages: int, workers: int = 3) -> None:
        """So many pages."""
        record = self._step("record", self.recorded)
        run_pages(
            range(pages),
            self._step("prepare", self.prepared),
            self._step("write", self.written),
            lambda page: (record(page), None)[1],
            workers=workers,
            stopped=self.stopped.is_set,
        )

    def _step(self, name: str, done: list[int]) -> Callable[[int], int]:
        def step(page: int) -> int:
            if self._fails(name, page):
                raise ValueError(f"{name} of {page}")
            done.append(page)
            return page

        return step


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("pages", [0, 1, 50])
def test_every_page_is_written_and_recorded_once_in_the_order_in_which_it_was_read(pages: int, workers: int) -> None:
    steps = Steps()
    steps.run(pages, workers)
    assert sorted(steps.prepared) == steps.written == steps.recorded == list(range(pages))


@pytest.mark.parametrize("step", ["write", "record"])
def test_nothing_is_written_any_more_once_a_write_or_its_record_has_failed(step: str) -> None:
    steps = Steps(lambda name, page: (name, page) == (step, 3))
    with pytest.raises(ValueError, match=f"{step} of 3"):
        steps.run(50)
    assert steps.recorded == [page for page in steps.written if page != 3], "what is written is recorded"
    # Where it is the record, the pages that were written before it failed are those under way.
    assert len(steps.written) <= (3 if step == "write" else 3 + 1 + 4)


def test_pages_before_one_that_cannot_be_prepared_are_written_and_no_further_ones_are_read() -> None:
    steps = Steps(lambda name, page: (name, page) == ("prepare", 3))
    with pytest.raises(ValueError, match="prepare of 3"):
        steps.run(1000)
    assert steps.written[:3] == [0, 1, 2]
    assert steps.written == steps.recorded
    assert len(steps.prepared) < 20


def test_the_first_failure_is_the_one_that_is_told() -> None:
    steps = Steps(lambda name, page: name == "write" and page >= 2)
    with pytest.raises(ValueError, match="write of 2"):
        steps.run(50)


def test_pages_under_way_are_finished_when_the_run_is_stopped() -> None:
    steps = Steps()

    def stop_at_five(name: str, page: int) -> bool:
        if (name, page) == ("record", 5):
            steps.stopped.set()
        return False

    steps._fails = stop_at_five
    steps.run(1000)
    assert steps.prepared and sorted(steps.prepared) == steps.written == steps.recorded
    assert 6 <= len(steps.recorded) < 20
