"""Pages through three steps at once: several are prepared, one is written, one is recorded.

Writes go out one at a time, because the server applies them one at a time anyway, and in the order of the
pages, because that becomes the order of the documents in a new collection. While the server applies one
page, the next is ready. A bounded number of pages is under way, so memory does not grow with the collection.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

P = TypeVar("P")
Q = TypeVar("Q")
R = TypeVar("R")

_READY_AHEAD = 1
"""Pages beyond the ones being prepared: the one being written. Where the server is slow, the prepared ones wait for
it, each with megabytes of vectors, so more would only take memory (20 MB less with 1 than with 2 at 1536 dimensions,
at the same speed)."""


def run_pages(
    pages: Iterable[P],
    prepare: Callable[[P], Q],
    write: Callable[[Q], R],
    record: Callable[[R], object] = lambda _: None,
    *,
    workers: int = 1,
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
        workers: pages prepared at once.
        stopped: asked before each page; never, by default.
    """
    errors: list[BaseException] = []
    broken, unwritable = threading.Event(), threading.Event()
    room = threading.Semaphore(workers + _READY_AHEAD)

    def fail(error: BaseException) -> None:
        errors.append(error)
        broken.set()
        room.release()

    with (
        ThreadPoolExecutor(1, "record") as recorder,
        ThreadPoolExecutor(1, "write") as writer,
        ThreadPoolExecutor(workers, "prepare") as preparers,
    ):

        def do_write(preparing: Future[Q]) -> None:
            try:
                prepared = preparing.result()
            except BaseException as error:
                fail(error)
                return
            if unwritable.is_set():
                room.release()
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
                room.release()

        try:
            for page in pages:
                if stopped() or broken.is_set():
                    break
                room.acquire()
                if broken.is_set():
                    break
                writer.submit(do_write, preparers.submit(prepare, page))
        finally:
            # In this order: a page still hands itself on to the next step.
            preparers.shutdown(wait=True)
            writer.shutdown(wait=True)
            recorder.shutdown(wait=True)
    if errors:
        raise errors[0]
