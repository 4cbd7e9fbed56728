"""The connections to Typesense, and the only layer that repeats a request.

The official client and the calls that it has not share one pool of connections. The client's own repetition is
switched off: tenacity here repeats, so that a request is repeated knowingly.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Self

import httpx
import tenacity
import typesense

from kai.settings import TypesenseSettings
from kai.typesense_answers import T, TypesenseError, attempt, raise_for_status

MINIMUM_READ_TIMEOUT = 60.0
"""Seconds. KAI's own .env gives 2, which suits a search; an import of 250 vectors may take longer."""

_FULL_WAITS = 60.0
"""Seconds of patience from which on the waits between repetitions have their full length."""


class Connection:
    """The connections to a Typesense server, and how long a request is repeated on them.

    Args:
        settings: where it is, and the key.
        patience: seconds for which a request is repeated while the server is unreachable, overloaded or
            replaying its log, before it counts as failed. A server that replays its log after a crash
            answers 503 for as long as that takes (40 s was seen).
        on_wait: called with the error and the seconds to wait before each repetition.
        stopped: set by whoever wants waiting to end early; `unstoppable` disregards it for a while.
    """

    def __init__(
        self,
        settings: TypesenseSettings,
        *,
        patience: float = 120.0,
        on_wait: Callable[[TypesenseError, float], None] | None = None,
        stopped: threading.Event | None = None,
    ) -> None:
        self.address = f"{settings.host}:{settings.port}"
        self.url = settings.url
        self.patience = patience
        self._on_wait = on_wait
        self._stopped = stopped or threading.Event()
        self._timeout = max(settings.timeout, MINIMUM_READ_TIMEOUT)
        self.http = httpx.Client(
            base_url=self.url,
            headers={"X-TYPESENSE-API-KEY": settings.api_key},
            timeout=httpx.Timeout(self._timeout, connect=max(settings.timeout, 5.0)),
            event_hooks={"response": [raise_for_status]},
        )
        self.client = typesense.Client(
            {
                "api_key": settings.api_key,
                "nodes": [{"host": settings.host, "port": settings.port, "protocol": settings.protocol}],
                "num_retries": 0,
                "connection_timeout_seconds": self._timeout,
                "suppress_deprecation_warnings": True,
            },
            http_client=self.http,
        )

    def close(self) -> None:
        """Close the connections."""
        self.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def unstoppable(self) -> Iterator[None]:
        """Inside, requests are repeated for as long as patience lasts, whoever wants waiting to end."""
        before, self._stopped = self._stopped, threading.Event()
        try:
            yield
        finally:
            self._stopped = before

    def backoff(self) -> tenacity.wait.wait_base:
        """Longer and longer waits between repetitions; with little patience, shorter ones."""
        scale = min(1.0, self.patience / _FULL_WAITS)
        return tenacity.wait_exponential_jitter(initial=0.2 * scale, max=8.0 * scale, jitter=0.5 * scale)

    def pause(self, seconds: float) -> None:
        """Wait before a repetition, unless the run is to end."""
        self._stopped.wait(seconds)

    def repeat(self, request: Callable[[], T]) -> T:
        """Make the request until it succeeds, fails for good, or patience ends."""
        backoff = self.backoff()

        def wait(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            asked = error.retry_after if isinstance(error, TypesenseError) else None
            return asked if asked is not None else backoff(state)

        def announce(state: tenacity.RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            if self._on_wait and isinstance(error, TypesenseError):
                self._on_wait(error, state.upcoming_sleep)

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(
                lambda error: isinstance(error, TypesenseError) and error.transient and not self._stopped.is_set()
            ),
            stop=tenacity.stop_before_delay(self.patience),
            wait=wait,
            sleep=tenacity.nap.sleep_using_event(self._stopped),
            before_sleep=announce,
            reraise=True,
        )
        return retrying(lambda: attempt(request))

    def open_stream(self, url: str, params: dict[str, str]) -> contextlib.AbstractContextManager[httpx.Response]:
        """The answer to a GET, to be read as it arrives; its headers are there when this returns."""
        stack = contextlib.ExitStack()
        response = stack.enter_context(self.http.stream("GET", url, params=params))

        @contextlib.contextmanager
        def opened() -> Iterator[httpx.Response]:
            with stack:
                yield response

        return opened()
