"""The connections to Typesense, and the only layer that repeats a request.

The official client and the calls that it has not share one pool of connections. The client's own repetition is
switched off: tenacity here repeats, so that a request is repeated knowingly.

Of a cluster the leader is asked, for reads too. After trouble that may mean its death, the next request first looks
for the leader, and where that is another one makes sure that it shows what was written through the one before.
"""

from __future__ import annotations

import contextlib
import math
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote, unquote
from urllib.request import getproxies, proxy_bypass

import httpx
import tenacity
import typesense

from kai.address import canonical_url
from kai.settings import TypesenseSettings
from kai.typesense_answers import T, TypesenseError, raise_for_status, read_json, translated
from kai.typesense_nodes import Nodes, NodeSeen

MINIMUM_READ_TIMEOUT = 60.0
"""Seconds. KAI's own .env gives 2, which suits a search; an import of 250 vectors may take longer."""

_FULL_WAITS = 60.0
"""Seconds of patience from which on the waits between repetitions have their full length."""

_ASSUMED_LAG: Final = 0.5
"""Seconds by which a follower lags, even in an idle cluster (three nodes of 29.0)."""
_LONGEST_LAG: Final = 5.0
"""Seconds. What hides for longer is not there."""
_NO_DOCUMENT: Final = b'{"id": "kai-migration-is-this-applied"}'
"""The line of an update that finds no document to change."""
_OBJECTING: Final = 10.0
"""Seconds to wait for the answer to a request that is only to be refused."""
_APPLYING: Final = 10.0
"""Seconds to wait for a new leader to apply what came before such an update; an alter takes longer."""


class Connection:
    """The connections to a Typesense server, and how long a request is repeated on them.

    Args:
        settings: where it is, and the key.
        patience: seconds for which a request is repeated while the server is unreachable, overloaded or
            replaying its log, before it counts as failed. A server that replays its log after a crash
            answers 503 for as long as that takes (40 s was seen).
        on_wait: called with the error and the seconds to wait before each repetition.
        stopped: set by whoever wants waiting to end early; `unstoppable` disregards it for a while.

    Attributes:
        address: by which ledger, locks and backups know this server; of a cluster the same whichever node leads.
        url: for people, and for the commands that they are given.
    """

    def __init__(
        self,
        settings: TypesenseSettings,
        *,
        patience: float = 120.0,
        on_wait: Callable[[TypesenseError, float], None] | None = None,
        stopped: threading.Event | None = None,
    ) -> None:
        self.address = settings.address
        self.url = settings.url
        self.patience = patience
        self._on_wait = on_wait
        self._stopped = stopped or threading.Event()
        self._timeout = max(settings.timeout, MINIMUM_READ_TIMEOUT)
        self.http = _Client(
            base_url=self.url,
            headers={"X-TYPESENSE-API-KEY": settings.api_key},
            timeout=httpx.Timeout(self._timeout, connect=max(settings.timeout, 5.0)),
            verify=_trusted(settings.ca_file),
            event_hooks={
                "request": [lambda request: self._nodes.route(request), self._note],
                "response": [lambda response: self._note(response.request), raise_for_status],
            },
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
        self._nodes = Nodes(self.http, settings.nodes or (self.url,))
        self._choosing = threading.Lock()
        self._in_doubt = True
        """Whether the node that is asked may not be the leader (any more)."""
        self._is_behind = False
        """Whether the node that is asked may not show yet what was written through another."""
        self._written: set[str] = set()
        self._last_write = -math.inf
        self._lag = _ASSUMED_LAG

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
        return retrying(lambda: self.once(request))

    def once(self, request: Callable[[], T]) -> T:
        """Make the request once, of the leader where it can be found."""
        with self.watched():
            if self._in_doubt:
                self._find_leader()
            return request()

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Whatever goes wrong inside is a `TypesenseError`; one that may come of the leader's death has it looked for.

        That is done before the next request.
        """
        try:
            with translated():
                yield
        except TypesenseError as error:
            if error.status in (None, 500, 502, 503, 504):
                self._in_doubt = True
                self._last_write = time.monotonic()  # Whatever was sent may have been done up to now.
            raise

    def nodes(self) -> list[NodeSeen]:
        """Each node as it is now; the one address where no others are known."""
        return self._nodes.look()

    def objection(self, method: str, path: str, body: bytes | None = None, **params: str) -> TypesenseError | None:
        """What the server has against one request, made once; None if it did what was asked for."""
        try:
            self.once(lambda: self.http.request(method, path, content=body, params=params, timeout=_OBJECTING))
        except TypesenseError as error:
            return error
        return None

    @property
    def proxy(self) -> str:
        """The proxy that requests go through, as the environment has it, without its login; empty for none."""
        url = httpx.URL(self.url)
        proxies = getproxies()
        proxy = proxies.get(url.scheme) or proxies.get("all")
        if not proxy or proxy_bypass(url.host):
            return ""
        return canonical_url(proxy if "://" in proxy else f"http://{proxy}")

    @property
    def lags(self) -> bool:
        """Whether reads may not show yet what was written: a follower, or a load balancer before several nodes."""
        if self._in_doubt:
            self.repeat(lambda: None)
        return self._nodes.lags

    @property
    def lag(self) -> float:
        """Seconds by which reads may be behind, to be on the safe side twice what was seen; 0 at a leader."""
        return 2 * self._lag if self._nodes.lags else 0.0

    @property
    def is_settled(self) -> bool:
        """Whether every node can be expected to show what was written so far."""
        return time.monotonic() - self._last_write >= self.lag

    def settle(self) -> None:
        """Return when every node can be expected to show what was written so far; at a leader at once.

        For every point at which a new step begins to read, and decides by what it reads.

        Raises:
            TypesenseError: no leader was found within the server's patience.
        """
        if self._in_doubt or self._nodes.are_several:
            self._in_doubt = True  # A leader may step down without a word.
            self.repeat(lambda: None)
        if not self.is_settled:
            time.sleep(max(0.0, self._last_write + self.lag - time.monotonic()))

    def saw_lag(self, seconds: float) -> None:
        """Something written showed only after this time."""
        self._lag = min(max(self._lag, seconds), _LONGEST_LAG)

    def _note(self, request: httpx.Request) -> None:
        """Remember what is written to, and when."""
        if request.method == "GET" or request.url.path == "/multi_search":
            return
        self._last_write = time.monotonic()
        _, kind, *name = request.url.raw_path.decode("ascii").partition("?")[0].split("/")
        if kind == "collections" and name:
            self._written.add(unquote(name[0]))

    def _find_leader(self) -> None:
        with self._choosing:
            if not self._in_doubt:
                return  # Another thread was faster.
            self._is_behind = self._nodes.choose() or self._is_behind
            if self._is_behind:
                for name in sorted(self._written):
                    self._await_applied(name)
                    self._written.discard(name)
                self._is_behind = False
            self._in_doubt = False

    def _await_applied(self, name: str) -> None:
        """Return when the leader has applied what was written to a collection, by writing nothing behind it.

        A leader answers a write when it has applied everything before it. An alter keeps an import waiting for as
        long as it takes; that it has begun says the same.
        """
        url = f"/collections/{quote(name, safe='')}/documents/import"
        try:
            self.http.post(
                url,
                params={"action": "update"},
                content=_NO_DOCUMENT,
                headers={"Content-Type": "text/plain"},
                timeout=_APPLYING,
            )
        except httpx.ReadTimeout:
            changes = read_json(self.http.get("/operations/schema_changes"))
            if not any(change.get("collection") == name for change in changes or ()):
                raise
        except TypesenseError as error:
            if error.transient:
                raise

    def open_stream(self, url: str, params: dict[str, str]) -> contextlib.AbstractContextManager[httpx.Response]:
        """The answer to a GET, to be read as it arrives; its headers are there when this returns."""
        stack = contextlib.ExitStack()
        response = stack.enter_context(self.http.stream("GET", url, params=params))

        @contextlib.contextmanager
        def opened() -> Iterator[httpx.Response]:
            with stack:
                yield response

        return opened()


class _Client(httpx.Client):
    """Lets go of an answer, and of its request, with the last one who has it: either may be megabytes of vectors.

    An answer and its stream name each other, so that it would stay until the garbage collector looks, which is seldom.
    """

    def send(self, request: httpx.Request, **how: Any) -> httpx.Response:
        """As `httpx.Client.send`."""
        response = super().send(request, **how)
        if response.is_closed:
            response.stream = httpx.ByteStream(b"")  # It was read to its end.
        return response


def _trusted(ca_file: Path | None) -> ssl.SSLContext | bool:
    """The usual authorities, those of SSL_CERT_FILE or SSL_CERT_DIR where they are set, and those of a file."""
    if ca_file is None:
        return True
    context = httpx.create_ssl_context()
    context.load_verify_locations(cafile=ca_file)
    return context
