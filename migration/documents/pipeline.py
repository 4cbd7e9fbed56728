"""Pages through three steps at once: several are prepared, one is written, one is recorded.

Writes go out one at a time, because the server applies them one at a time anyway, and in the order of the
pages, because that becomes the order of the documents in a new collection. While the server applies one
page, the next is ready. A bounded number of pages is under way, so memory does not grow with the collection.
How many are prepared at once may change meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Final, TypeVar

P = TypeVar("P")
Q = TypeVar("Q")
R = TypeVar("R")

_MOST_WORKERS: Final = 64
_LOOKS_EVERY: Final = 0.25
"""Seconds after which somebody who waits for a place looks whether there are more of them now."""
_READY_AHEAD: Final = 1
"""Pages beyond the ones being prepared: the one being written. Where the server is slow, the prepared ones wait for
it, each with megabytes of vectors, so more would only take memory (20 MB less with 1 than with 2 at 1536 dimensions,
at the same speed)."""


class _Places:
    """As many places as there are at the moment; a context manager holds one."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count
        self._taken = 0
        self._changed = threading.Condition()

    def take(self) -> None:
        """Wait for a place."""
        with self._changed:
            while self._taken >= self._count():
                self._changed.wait(_LOOKS_EVERY)
            self._taken += 1

    def give_back(self) -> None:
        """It is free again."""
        with self._changed:
            self._taken -= 1
            self._changed.notify()

    def __enter__(self) -> None:
        self.take()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_back()


def run_pages(
    pages: Iterable[P],
    prepare: Callable[[P], Q],
    write: Callable[[Q], R],
    record: Callable[[R], object] = lambda _: None,
    *,
    workers: int | Callable[[], int] = 1,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Take every page through `prepare`, `write` and `record`.

    When `stopped` says so, no further page is begun and the ones under way are finished. When a step raises,
    the same happens, except that nothing is written any more once a write has failed; then the first
    exception is raised.

    Args:
        pages: read one at a time, in this thread.
        prepare: called in up to `workers` threads at once.
        write: called in one thread, one page at a time, in the order of the pages.
        record: called in one thread, one page at a time, in the order of the pages; nothing is, by default.
        workers: pages prepared at once; a function where that may change, up to 64.
        stopped: asked before each page; never, by default.
    """
    errors: list[BaseException] = []
    broken, unwritable = threading.Event(), threading.Event()
    count = workers if callable(workers) else lambda: workers
    room, preparing_places = _Places(lambda: count() + _READY_AHEAD), _Places(count)

    def do_prepare(page: P) -> Q:
        with preparing_places:
            return prepare(page)

    def fail(error: BaseException) -> None:
        errors.append(error)
        broken.set()
        room.give_back()

    with (
        ThreadPoolExecutor(1, "record") as recorder,
        ThreadPoolExecutor(1, "write") as writer,
        ThreadPoolExecutor(_MOST_WORKERS + _READY_AHEAD, "prepare") as preparers,
    ):

        def do_write(preparing: Future[Q]) -> None:
            try:
                prepared = preparing.result()
            except BaseException as error:
                fail(error)
                return
            if unwritable.is_set():
                room.give_back()
                return
            try:
                written = write(prepared)
            except BaseException as error:
                unwritable.set()
                fail(error)
            else:
                recorder.submit(do_record, written)

        def do_record(written: R) -> None:
            try:
                record(written)
            except BaseException as error:
                unwritable.set()
                fail(error)
            else:
                room.give_back()

        try:
            for page in pages:
                if stopped() or broken.is_set():
                    break
                room.take()
                if broken.is_set():
                    break
                writer.submit(do_write, preparers.submit(do_prepare, page))
        finally:
            # In this order: a page still hands itself on to the next step.
            preparers.shutdown(wait=True)
            writer.shutdown(wait=True)
            recorder.shutdown(wait=True)
    if errors:
        raise errors[0]
