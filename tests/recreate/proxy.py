"""A reverse proxy between the tool and its server that loses, refuses and cuts off what passes, as it is told."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Self

import httpx

from tests.providers.http import HTTPServer, Reply, Request

Trouble = Literal["503", "reset", "lost", "half"]
"""Refused with 503; the connection broken before the server sees the request, or after it acted upon it; half
of the answer and then a broken connection."""
TROUBLES: tuple[Trouble, ...] = ("503", "reset", "lost", "half")

Script = Callable[[int, str], Trouble | None]
"""From the number of a request, from 1, and its kind to what happens to it."""


def kind_of(request: Request) -> str:
    """What kind of call it is: method and path without ids, and what its parameters change about it."""
    path, _, query = request.path.partition("?")
    path = re.sub(r"/(synonyms|overrides|documents)/(?!import|export|search)[^/]+$", r"/\1/:id", path)
    parameters = sorted(part.split("=")[0] for part in query.split("&") if part)
    return f"{request.method} {path} {','.join(parameters)}".strip()


def once_for_every_kind(trouble: Trouble, but: tuple[str, ...] = ("GET /health",)) -> Script:
    """The first call of each kind gets into trouble."""
    met: set[str] = set(but)

    def script(_: int, kind: str) -> Trouble | None:
        if kind in met:
            return None
        met.add(kind)
        return trouble

    return script


def at_random(seed: int, share: float, but: tuple[str, ...] = ("GET /health",)) -> Script:
    """This share of all calls gets into some trouble."""
    pick = random.Random(seed)  # noqa: S311
    return lambda _, kind: pick.choice(TROUBLES) if kind not in but and pick.random() < share else None


class Proxy:
    """On a port of its own, before the server at `target`; a context manager.

    Args:
        target: base address of the server.
        script: what happens to each request.
        after: called after the server answered, before the answer is passed on or lost, with the request's
            number and kind.
        before: called before the request is passed on.

    Attributes:
        kinds: the kind of each request so far.
        troubles: how many of them got into trouble.
    """

    def __init__(
        self,
        target: str,
        script: Script,
        *,
        before: Callable[[int, str], object] | None = None,
        after: Callable[[int, str], object] | None = None,
    ) -> None:
        self._target = target
        self._script = script
        self._before, self._after = before, after
        self._server = HTTPServer(self._handle)
        self._client: httpx.AsyncClient | None = None
        self.kinds: list[str] = []
        self.troubles = 0

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.port

    async def _handle(self, request: Request) -> Reply:
        kind = kind_of(request)
        self.kinds.append(kind)
        number = len(self.kinds)
        trouble = self._script(number, kind)
        self.troubles += trouble is not None
        if trouble == "503":
            return Reply(503, b'{"message": "Not Ready or Lagging"}')
        if trouble == "reset":
            return Reply(broken="before")
        if self._before is not None:
            self._before(number, kind)
        if self._client is None:
            self._client = httpx.AsyncClient(base_url=self._target, timeout=60)
        passed = {k: v for k, v in request.headers.items() if k in ("x-typesense-api-key", "content-type")}
        try:
            answer = await self._client.request(request.method, request.path, content=request.body, headers=passed)
        except httpx.HTTPError:
            return Reply(broken="before")
        if self._after is not None:
            self._after(number, kind)
        broken: dict[Trouble | None, Literal["before", "in_body"]] = {"lost": "before", "half": "in_body"}
        content_type = answer.headers.get("content-type", "application/json")
        return Reply(answer.status_code, answer.content, {}, content_type, broken.get(trouble))
