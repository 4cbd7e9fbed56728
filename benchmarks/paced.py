"""The sandbox, as slow as a real server: `python -m benchmarks.paced --help`.

The sandbox only stores a vector. A real server takes it out of its index and puts the new one in, goes through every
document for a schema change, and reads an export from its disk; that is what a migration waits for, and in that time
others write. This holds answers back by what `benchmarks.rates` says a real server takes, the writes to a collection
one after another.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.types import Message, Receive, Scope, Send

from benchmarks import rates
from kai.sandbox.app import create_app
from kai.sandbox.collection import Collection
from kai.sandbox.schema import Field
from kai.sandbox.serving import serve
from kai.sandbox.store import VERSIONS, Store

_DEFAULT_PER_PAGE: Final = 10


class Paced:
    """A sandbox's application that answers nothing before a real server would have.

    `speed` is how many times as fast as a real server it is to be, `sleep` what it waits with (seconds). Schema
    changes are not held back here: they take their time inside the sandbox, see `paced_app`.
    """

    def __init__(
        self, app: Starlette, speed: float = 1.0, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self.app = app
        self.store: Store = app.state.store
        self.speed = speed
        self._sleep = sleep
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and its answer when it is time."""
        path = scope["path"].strip("/").split("/") if scope["type"] == "http" else []
        is_change = scope.get("method") == "PATCH" and len(path) == 2
        if path[:1] != ["collections"] or is_change:
            await self.app(scope, receive, send)
        elif scope["method"] == "GET":
            await self._read(path, scope, receive, send)
        else:
            await self._write(path, scope, receive, send)

    async def _write(self, path: list[str], scope: Scope, receive: Receive, send: Send) -> None:
        body = await _whole(receive)
        async with self._turns[path[1] if len(path) > 1 else ""]:
            began = time.monotonic()
            seconds = await run_in_threadpool(self._write_seconds, path, scope, body)

            async def held_back(message: Message) -> None:
                if message["type"] == "http.response.start":
                    await self._until(began, seconds)
                await send(message)

            await self.app(scope, _again(body, receive), held_back)

    def _write_seconds(self, path: list[str], scope: Scope, body: bytes) -> float:
        params = _params(scope)
        if len(path) == 1 and "copy_documents" in params and self.store.has_sets:
            return self._of(params.get("src_name", ""), rates.copy_seconds)
        if path[2:3] != ["documents"] or scope["method"] == "DELETE":
            return 0.0
        document_id = "/".join(path[3:]) if scope["method"] == "PATCH" else ""
        return self._of(path[1], lambda collection: rates.write_seconds(collection, body, document_id=document_id))

    def _of(self, name: str, seconds: Callable[[Collection], float]) -> float:
        collection = self.store.find(name)
        return seconds(collection) if collection is not None else 0.0

    async def _read(self, path: list[str], scope: Scope, receive: Receive, send: Send) -> None:
        began = time.monotonic()
        seconds = 0.0
        if path[3:] == ["search"]:
            params = _params(scope)
            page, per_page = params.get("page", "1"), params.get("per_page", str(_DEFAULT_PER_PAGE))
            if page.isdigit() and per_page.isdigit():
                seconds = rates.page_seconds(int(page), int(per_page))
        is_export = path[3:] == ["export"]

        async def held_back(message: Message) -> None:
            nonlocal seconds
            if is_export:
                seconds += rates.export_seconds(message.get("body", b""))
            await self._until(began, seconds)
            await send(message)

        await self.app(scope, receive, held_back)

    async def _until(self, began: float, seconds: float) -> None:
        left = seconds / self.speed - (time.monotonic() - began)
        if left > 0:
            await self._sleep(left)


def paced_app(data_dir: Path, api_key: str, *, version: int = VERSIONS[-1], speed: float = 1.0) -> Paced:
    """The sandbox's application over a folder, `speed` times as fast as a real server, schema changes included."""

    def alter_seconds(collection: Collection, added: Sequence[Field]) -> float:
        return rates.change_seconds(collection, added) / speed

    return Paced(create_app(data_dir, api_key, alter_seconds=alter_seconds, version=version), speed)


async def _whole(receive: Receive) -> bytes:
    pieces: list[bytes] = []
    while True:
        message = await receive()
        pieces.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(pieces)


def _again(body: bytes, receive: Receive) -> Receive:
    """A body that was read, to be received once more, and then whatever comes after it."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return pending.pop() if pending else await receive()

    return receive_again


def _params(scope: Scope) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(scope["query_string"].decode(), True).items()}


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paced", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--api-key", required=True)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--typesense-version", type=int, choices=VERSIONS, default=VERSIONS[-1])
    parser.add_argument("--speed", type=float, default=1.0, help="times as fast as a real server; default: 1")
    options = parser.parse_args()
    paced = paced_app(options.data_dir, options.api_key, version=options.typesense_version, speed=options.speed)
    serve(paced, paced.store, options.port)


if __name__ == "__main__":
    main()
