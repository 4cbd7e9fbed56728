"""A small HTTP/1.1 server in a thread, which can also break off where a real one would never."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}


@dataclass(frozen=True, slots=True)
class Request:
    """One request. Header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer, and where to break the connection: before it, or after half of its body."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    broken: Literal["before", "in_body"] | None = None


class HTTPServer:
    """Serves on a free port of 127.0.0.1 between `start` and `stop`; answers come from `handle`."""

    def __init__(self, handle: Callable[[Request], Awaitable[Reply]]) -> None:
        self._handle = handle
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stand-in", daemon=True)
        self.port = 0

    def start(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        """Listen on `port`, or on a free one; with `tls`, speak that."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(port, tls), self._loop).result(timeout=10)

    def stop(self) -> None:
        """Close the port and every connection; a second time does nothing."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    async def _listen(self, port: int, tls: ssl.SSLContext | None) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", port, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while await self._exchange(reader, writer):
                    pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; `False` when the connection is to be broken."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _version = head[0].split(" ", 2)
        pairs = (line.split(":", 1) for line in head[1:] if ":" in line)
        headers = {name.strip().lower(): value.strip() for name, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        reply = await self._handle(Request(method, path, headers, body))
        if reply.broken == "before":
            return False
        lines = {"content-type": reply.content_type, "content-length": str(len(reply.body)), **reply.headers}
        status_line = f"HTTP/1.1 {reply.status} {_REASONS.get(reply.status, 'Answer')}\r\n"
        writer.write((status_line + "".join(f"{k}: {v}\r\n" for k, v in lines.items()) + "\r\n").encode("latin-1"))
        sent = reply.body[: len(reply.body) // 2] if reply.broken == "in_body" else reply.body
        writer.write(sent)
        await writer.drain()
        if reply.broken == "in_body":
            # Closing, unlike aborting, lets the first half arrive.
            writer.close()
            await asyncio.sleep(0.01)
            return False
        return True
