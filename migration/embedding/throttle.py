"""How many embedding requests may be under way: additive increase, multiplicative decrease.

It starts at half the allowed concurrency, rises by one with every round of good answers while the latency
holds, and is halved by 429, 5xx and time-outs. A Retry-After holds back everybody, not only the request
that got it. `max_rpm` and `max_tpm` bound requests and tokens in any 60 seconds. All of them may be changed while
requests are under way.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

_MINUTE: Final = 60.0
_SLOWER: Final = 2.0
"""An answer this many times slower than the usual one is a sign of load: the concurrency rests."""


class Stopped(Exception):  # noqa: N818 - not an error: somebody asked the run to stop
    """The run was asked to stop while something waited."""


class Throttle:
    """Gate in front of the provider. Thread-safe.

    Args:
        concurrency: most requests under way at once.
        max_rpm: most requests begun in any 60 seconds; None for no bound.
        max_tpm: most estimated tokens sent in any 60 seconds; None for no bound.
        stopped: ends all waiting.
    """

    def __init__(
        self,
        concurrency: int,
        *,
        max_rpm: int | None = None,
        max_tpm: int | None = None,
        stopped: threading.Event | None = None,
    ) -> None:
        self.concurrency = concurrency
        self.limit = float(max(1, (concurrency + 1) // 2))
        self._max_rpm, self._max_tpm = max_rpm, max_tpm
        self._stopped = stopped or threading.Event()
        self._begun: deque[tuple[float, int]] = deque()
        self._tokens = 0
        self._under_way = 0
        self._held_until = 0.0
        self._lowered = 0.0
        self._usual = 0.0
        self._over: Callable[[], Exception] | None = None
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def slot(self, tokens: int) -> Iterator[None]:
        """Wait for a place, and keep it for one request.

        Raises:
            Stopped: the run was asked to stop.
            Exception: what `give_up` was given, instead of waiting.
        """
        with self._changed:
            while (wait := self._wait_for(tokens, time.monotonic())) > 0:
                if self._stopped.is_set():
                    raise Stopped
                if self._over is not None:
                    raise self._over()
                self._changed.wait(min(wait, 0.25))
            self._under_way += 1
            # Also where nothing is bounded yet: a bound that comes counts what was sent in the minute before it.
            self._begun.append((time.monotonic(), tokens))
            self._tokens += tokens
        try:
            yield
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def succeeded(self, seconds: float) -> None:
        """A good answer came after so many seconds."""
        with self._changed:
            self._usual = seconds if not self._usual else 0.8 * self._usual + 0.2 * seconds
            if seconds <= _SLOWER * self._usual:
                self.limit = min(float(self.concurrency), self.limit + 1.0)
            self._changed.notify_all()

    def overloaded(self, retry_after: float | None = None) -> None:
        """The provider showed that it has too much to do, and perhaps for how long it wants to be left alone."""
        with self._changed:
            now = time.monotonic()
            if now - self._lowered > max(self._usual, 0.5):  # one decrease for one wave of refusals
                self.limit = max(1.0, self.limit / 2)
                self._lowered = now
            if retry_after:
                self._held_until = max(self._held_until, now + retry_after)

    def sleep(self, seconds: float) -> None:
        """Wait before a repetition, unless the run is to stop or the provider has been given up."""
        until = time.monotonic() + seconds
        with self._changed:
            while (left := until - time.monotonic()) > 0 and not self._stopped.is_set() and self._over is None:
                self._changed.wait(min(left, 0.25))

    def change(self, concurrency: int, *, max_rpm: int | None = None, max_tpm: int | None = None) -> None:
        """Other bounds from here on. No request under way is recalled; a higher concurrency is risen to as always."""
        with self._changed:
            self.concurrency = concurrency
            self.limit = min(self.limit, float(concurrency))
            self._max_rpm, self._max_tpm = max_rpm, max_tpm
            self._changed.notify_all()

    def give_up(self, why: Callable[[], Exception]) -> None:
        """The provider cannot go on: nobody waits for it any more, each gets an exception made by `why`."""
        with self._changed:
            self._over = why
            self._changed.notify_all()

    def _wait_for(self, tokens: int, now: float) -> float:
        """Seconds to wait at least before the next request may begin; 0 if it may."""
        while self._begun and now - self._begun[0][0] >= _MINUTE:
            self._tokens -= self._begun.popleft()[1]
        if now < self._held_until:
            return self._held_until - now
        if self._under_way >= int(self.limit):
            return _MINUTE
        too_many = self._max_rpm is not None and len(self._begun) >= self._max_rpm
        too_long = self._max_tpm is not None and bool(self._begun) and self._tokens + tokens > self._max_tpm
        return self._begun[0][0] + _MINUTE - now if too_many or too_long else 0.0
