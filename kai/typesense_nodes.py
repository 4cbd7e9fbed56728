"""The nodes behind an address, and which of them is asked: the leader, where it can be found.

Only the leader of a cluster shows a write at once; a follower passes writes on and shows them about half a second
later (measured on three nodes of 29.0), so that nobody reads there what he has just written. `GET /debug` says which
is which. Where only one address is known, and it is a follower's or a load balancer's, the leader cannot be chosen:
then `lags` says that what is read may be older than what was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx

from kai.typesense_answers import TypesenseError, attempt, read_json

_LEADER: Final = 1
"""What `GET /debug` says as `state` of a leader, and of a server that is alone; a follower says 4."""
_FOLLOWER: Final = 4
_SILENT: Final = 0
"""The node answers and does not say what it is, as where the key may not ask."""
_LOOKS: Final = 5
"""How often a single address is asked at the start: a load balancer sends each connection to another node."""
_SECONDS: Final = 5.0
"""For the answer to `/debug`."""


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """A node, as it was seen in a moment.

    Attributes:
        url: its base URL.
        is_healthy: whether `/health` says so.
        state: `leader`, `follower`, `silent` where it does not say what it is to this key, `gone` where it does not
            answer; another number that it gives for its state as that.
    """

    url: str
    is_healthy: bool
    state: str


_IN_WORDS: Final = {_LEADER: "leader", _FOLLOWER: "follower", _SILENT: "silent", None: "gone"}


class Nodes:
    """The nodes of a server.

    Args:
        http: asks them; its requests go where `route` sends them.
        urls: base URLs; the first is asked until the leader is found.

    Attributes:
        lags: whether reads may come from a node that does not show yet what was written.
    """

    def __init__(self, http: httpx.Client, urls: Sequence[str]) -> None:
        self._http = http
        self._urls = [httpx.URL(url) for url in urls]
        self._chosen = self._urls[0]
        self._is_known = False
        self.lags = False

    @property
    def are_several(self) -> bool:
        """Whether there is a choice."""
        return len(self._urls) > 1

    def route(self, request: httpx.Request) -> None:
        """Send a request, the official client's too, to the chosen node, or to the one that it asks for."""
        if self.are_several:
            node: httpx.URL = request.extensions.get("node", self._chosen)
            request.url = request.url.copy_with(scheme=node.scheme, host=node.host, port=node.port)
            request.headers["Host"] = request.url.netloc.decode("ascii")

    def choose(self) -> bool:
        """Find the node to ask from now on; whether it is another than before.

        Raises:
            TypesenseError: none of several nodes leads at the moment; transient.
        """
        if not self.are_several:
            self._look_behind()
            return False
        before, states = self._chosen, set()
        for url in [before, *(url for url in self._urls if url != before)]:
            state = self._state(url)
            states.add(state)
            if state == _LEADER:
                self._chosen, self.lags = url, False
                return url != before
        if _SILENT in states:
            self.lags = True
            return False
        raise TypesenseError(
            f"none of the nodes {', '.join(map(str, self._urls))} leads the cluster at the moment",
            status=503,
            transient=True,
        )

    def look(self) -> list[NodeSeen]:
        """Ask each of them, once, whether it is healthy and what it is."""
        return [
            NodeSeen(str(url), self._is_healthy(url), _IN_WORDS.get(state := self._state(url), str(state)))
            for url in self._urls
        ]

    def _is_healthy(self, url: httpx.URL) -> bool:
        try:
            answer = attempt(lambda: read_json(self._ask(url, "/health")))
        except TypesenseError:
            return False
        return isinstance(answer, dict) and answer.get("ok") is True

    def _ask(self, url: httpx.URL, path: str) -> httpx.Response:
        headers = {"Connection": "close"}
        return self._http.get(path, headers=headers, extensions={"node": url}, timeout=_SECONDS)

    def _look_behind(self) -> None:
        """Whether a single address is the leader's alone. What was a follower's once is not trusted any more."""
        for _ in range(1 if self._is_known else _LOOKS):
            state = self._state(self._chosen)
            if state in (None, _SILENT):
                return
            if state != _LEADER:
                self.lags = True
                break
        self._is_known = True
        if self.lags:
            # Each look at another node, where a load balancer leaves a connection at the one that it has.
            self._http.headers["Connection"] = "close"

    def _state(self, url: httpx.URL) -> int | None:
        """What the node says that it is, over a connection of its own; None if it does not answer."""
        try:
            answer: Any = attempt(lambda: read_json(self._ask(url, "/debug")))
        except TypesenseError as error:
            return None if error.transient else _SILENT
        state = answer.get("state") if isinstance(answer, dict) else None
        return state if isinstance(state, int) else _SILENT
