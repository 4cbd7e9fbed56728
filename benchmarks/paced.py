"""The sandbox, updating vectors as slowly as a real server does: `python -m benchmarks.paced --help`.

The sandbox only stores a vector. A real server takes it out of its index and puts the new one in, and that
is what a migration in place waits for. This holds back the answer to every update, one at a time, by the
time that Typesense 29.0 was seen to need on two cores. Everything else is as fast as the sandbox.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path
from typing import Final

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kai.sandbox.app import create_app
from kai.sandbox.store import VERSIONS

IMPORTED: Final = 115 * 768
"""Numbers a second by import with action=update: 115 documents of 768 dimensions."""
PATCHED: Final = 41 * 768
"""The same, one document a request."""


class Paced:
    """Answers no update of vectors before a real server would have."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._one_at_a_time = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and its answer when it is time."""
        speed = _speed(scope)
        if not speed:
            await self._app(scope, receive, send)
            return
        numbers = 0

        async def counted() -> Message:
            nonlocal numbers
            message = await receive()
            numbers += message.get("body", b"").count(b",")
            return message

        async def held_back(message: Message) -> None:
            if message["type"] == "http.response.start":
                await asyncio.sleep(max(0.0, numbers / speed - (time.monotonic() - begun)))
            await send(message)

        async with self._one_at_a_time:
            begun = time.monotonic()
            await self._app(scope, counted, held_back)


def _speed(scope: Scope) -> int:
    """Numbers a second for a request that updates vectors; 0 for every other."""
    if scope["type"] != "http" or "/documents/" not in scope["path"]:
        return 0
    if scope["method"] == "PATCH":
        return PATCHED
    importing = scope["method"] == "POST" and scope["path"].endswith("/import")
    return IMPORTED if importing and b"action=update" in scope["query_string"] else 0


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        await super().startup()
        port = self.servers[0].sockets[0].getsockname()[1]
        print(f"Paced sandbox listening on http://127.0.0.1:{port}", flush=True)


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paced", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--api-key", required=True)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--typesense-version", type=int, choices=VERSIONS, default=VERSIONS[-1])
    options = parser.parse_args()
    app = Paced(create_app(options.data_dir, options.api_key, version=options.typesense_version))
    _Server(uvicorn.Config(app, host="127.0.0.1", port=options.port, log_level="warning", lifespan="on")).run()


if __name__ == "__main__":
    main()
