"""A reverse proxy in front of Typesense that lets chosen calls go wrong, as networks and servers do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from kai.sandbox.serving import bound_socket
from tests.faults.script import Fault, Script

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of zero seconds: closing sends RST."""
_LONGEST_SILENCE = 30.0
_HTML = b"<html><body><h1>Bad gateway</h1></body></html>"


@dataclass(frozen=True, slots=True)
class _Message:
    """A request or an answer: its first line, its headers in lower case, its body."""

    start: str
    headers: Mapping[str, str]
    body: bytes

    def encode(self, body: bytes | None = None, length: int | None = None) -> bytes:
        """As it goes over the wire, perhaps with another body, perhaps with a length that is not the body's."""
        content = self.body if body is None else body
        kept = {k: v for k, v in self.headers.items() if k not in ("content-length", "transfer-encoding", "connection")}
        kept["content-length"] = str(len(content) if length is None else length)
        head = self.start + "\r\n" + "".join(f"{name}: {value}\r\n" for name, value in kept.items()) + "\r\n"
        return head.encode("latin-1") + content


class FaultyProxy:
    """Serves on a port of 127.0.0.1 and passes every call on to `upstream`, but for what `script` says.

    Attributes:
        script: what goes wrong; may be replaced between runs.
        port: where it listens.
    """

    def __init__(self, upstream: str, api_key: str) -> None:
        parts = urlsplit(upstream)
        self._upstream = (str(parts.hostname), int(parts.port or 80))
        self._api_key = api_key
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faulty-proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._reopening: asyncio.TimerHandle | None = None
        self.script = Script()
        # Bound for good, so that nobody else gets the port while it is closed.
        self._reserved = bound_socket(0)
        self.port: int = self._reserved.getsockname()[1]

    @property
    def url(self) -> str:
        """Its base address."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._close(abort=True))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()
        self._reserved.close()

    def open(self) -> None:
        """Listen (again)."""
        self._run(self._open())

    def reset(self, script: Script) -> None:
        """Break every connection, listen, and go by another script from now on."""

        async def renew() -> None:
            await self._close(abort=True)
            self.script = script
            await self._open()

        self._run(renew())

    # -- connections -----------------------------------------------------------------------------------

    def _run(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=20)  # type: ignore[arg-type]

    async def _open(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._connected, sock=bound_socket(self.port))

    async def _close(self, *, abort: bool) -> None:
        if self._reopening is not None:
            self._reopening.cancel()
            self._reopening = None
        if self._server is not None:
            self._server.close()
            self._server = None
        if abort:
            for writer in self._connections.values():
                _reset(writer)
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    def _refuse(self, seconds: float | None) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._connections.values():
            _reset(writer)
        if seconds is not None:
            self._reopening = self._loop.call_later(seconds, lambda: self._loop.create_task(self._open()))

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = writer
        upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                upstream = await asyncio.open_connection(*self._upstream, limit=1 << 24)
                while await self._exchange(reader, writer, upstream):
                    pass
        finally:
            self._connections.pop(task, None)
            writer.transport.abort()
            if upstream is not None:
                upstream[1].transport.abort()

    # -- one call --------------------------------------------------------------------------------------

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> bool:
        """Pass one call on, or let it go wrong; False when the connection is at its end."""
        request = await _read(reader)
        method, path, _ = request.start.split(" ", 2)
        fault = self.script.next_fault(method, path)
        match fault.name if fault else "":
            case "refused":
                assert fault is not None
                self._refuse(fault.seconds)
                return False
            case "reset_before":
                _reset(writer)
                return False
            case "time_out_before":
                await _stay_silent(reader)
                return False
            case "not_json":
                answer = _Message("HTTP/1.1 200 OK", {"content-type": "text/html"}, _HTML)
            case "empty":
                answer = _Message("HTTP/1.1 200 OK", {"content-type": "application/json"}, b"")
            case "status":
                assert fault is not None
                if fault.acted:
                    await _ask(upstream, request)
                answer = _error(fault)
            case "lines":
                assert fault is not None
                answer = await self._some_lines(fault, request, upstream)
            case "collection_dropped":
                await self._drop(path.split("/")[2].partition("?")[0])
                answer = await _ask(upstream, request)
            case _:
                answer = await _ask(upstream, request)
        return await self._reply(fault, answer, reader, writer)

    async def _reply(
        self, fault: Fault | None, answer: _Message, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        half = answer.body[: len(answer.body) // 2]
        match fault.name if fault else "":
            case "reset_after":
                _reset(writer)
                return False
            case "time_out_after":
                await _stay_silent(reader)
                return False
            case "truncated":
                writer.write(answer.encode(half))
            case "garbled_line":
                first, _, others = answer.body.partition(b"\n")
                writer.write(answer.encode(first[:-2] + b"\n" + others))
            case "broken_off":
                writer.write(answer.encode(half, length=len(answer.body) + 1))
                await writer.drain()
                writer.close()  # unlike aborting, lets the first half arrive
                await asyncio.sleep(0.005)
                return False
            case _:
                writer.write(answer.encode())
        await writer.drain()
        return True

    async def _some_lines(
        self, fault: Fault, request: _Message, upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter]
    ) -> _Message:
        """The lines that fail are not sent on; the others are, and the answer has all of them in order."""
        lines = request.body.split(b"\n")
        failing = [
            json.loads(line)["id"] in fault.ids if fault.ids else place % 2 == 0 for place, line in enumerate(lines)
        ]
        others = [line for line, fails in zip(lines, failing, strict=True) if not fails]
        sent = _Message(request.start, request.headers, b"\n".join(others))
        answer = await _ask(upstream, sent) if others else _Message("HTTP/1.1 200 OK", {}, b"")
        good = iter(answer.body.split(b"\n"))
        bad = json.dumps({"code": fault.status, "error": fault.message, "success": False}).encode()
        return _Message(answer.start, answer.headers, b"\n".join(bad if fails else next(good) for fails in failing))

    async def _drop(self, collection: str) -> None:
        connection = await asyncio.open_connection(*self._upstream)
        headers = {"x-typesense-api-key": self._api_key, "host": "127.0.0.1"}
        await _ask(connection, _Message(f"DELETE /collections/{collection} HTTP/1.1", headers, b""))
        connection[1].transport.abort()


def _error(fault: Fault) -> _Message:
    headers = {"content-type": "application/json"}
    if fault.retry_after is not None:
        headers["retry-after"] = fault.retry_after
    return _Message(f"HTTP/1.1 {fault.status} Fault", headers, json.dumps({"message": fault.message}).encode())


async def _stay_silent(reader: asyncio.StreamReader) -> None:
    """Until the other side hangs up."""
    with contextlib.suppress(TimeoutError, ConnectionError):
        await asyncio.wait_for(reader.read(), _LONGEST_SILENCE)


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


async def _ask(upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter], request: _Message) -> _Message:
    reader, writer = upstream
    writer.write(request.encode())
    await writer.drain()
    return await _read(reader)


async def _read(reader: asyncio.StreamReader) -> _Message:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.split(":", 1) for line in head[1:] if ":" in line)
    headers = {name.strip().lower(): value.strip() for name, value in pairs}
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return _Message(head[0], headers, await _chunks(reader))
    return _Message(head[0], headers, await reader.readexactly(int(headers.get("content-length", "0"))))


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
    return body
