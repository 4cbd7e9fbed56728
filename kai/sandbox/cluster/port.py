"""A port that is closed as abruptly as that of a killed process, and can be opened again."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from kai.sandbox.serving import HOST, bound_socket


class Port:
    """Serves an application on one port of this machine while it is open."""

    def __init__(self, app: ASGIApp, number: int = 0) -> None:
        """Take the port `number`, 0 for a free one, without opening it; OSError if it is taken."""
        self._app = app
        # Bound for good, so that nobody else gets the port while it is closed.
        self._reserved = bound_socket(number)
        self.number: int = self._reserved.getsockname()[1]
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Base address without a trailing slash."""
        return f"http://{HOST}:{self.number}"

    async def open(self) -> None:
        """Accept connections from here on."""
        self._server = _Server(self._app)
        self._serving = asyncio.create_task(self._server.serve([bound_socket(self.number)]))
        await self._server.listening.wait()

    def cut(self) -> None:
        """Refuse new connections and break off those that there are, whatever is under way on them."""
        if self._server is not None:
            self._server.cut()

    async def closed(self) -> None:
        """Wait until nothing is left of a port that was cut."""
        if self._serving is not None:
            await self._serving
        self._reserved.close()


class _Server(uvicorn.Server):
    """A server among several, which leaves the signals to their process."""

    def __init__(self, app: ASGIApp) -> None:
        # Of a broken connection the client is told by the connection, nobody else need be.
        super().__init__(uvicorn.Config(self._answer, interface="asgi3", log_level="critical", lifespan="off"))
        self.listening = asyncio.Event()
        self._app = app

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.should_exit:
            # Of a connection that was about to be accepted at the cut.
            self.cut()
            return
        await self._app(scope, receive, send)

    def cut(self) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        self.should_exit = self.force_exit = True
