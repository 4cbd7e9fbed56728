"""Serving an application of the sandbox on 127.0.0.1, until it is told to stop."""

from __future__ import annotations

import socket
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from kai.sandbox.store import Store

HOST = "127.0.0.1"
SHUTDOWN_SECONDS = 2


class _SandboxServer(uvicorn.Server):
    """Says where it listens, once it does, and ends without an error when it is told to stop."""

    def __init__(self, config: uvicorn.Config, store: Store) -> None:
        super().__init__(config)
        self.store = store

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        port = sockets[0].getsockname()[1] if sockets else 0
        print(f"Sandbox listening on http://{HOST}:{port}", flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # A slow schema change would otherwise hold up the end until its time is over.
        self.store.stopping.set()
        self.should_exit = True


def bound_socket(port: int) -> socket.socket:
    """A socket bound to `port` of this machine, 0 for a free one; OSError if it is taken."""
    # The protocol is named because asyncio disables Nagle's algorithm only where it is; without that, every
    # answer waits 40 ms for the client's delayed acknowledgement.
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    # So that a killed server can come back on the same port at once.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((HOST, port))
    except OSError:
        bound.close()
        raise
    return bound


def serve(app: ASGIApp, store: Store, port: int) -> None:
    """Serve `app`, whose data is `store`, until SIGTERM or SIGINT; port 0 takes a free one.

    OSError if the port is taken.
    """
    listener = bound_socket(port)
    config = uvicorn.Config(app, log_level="warning", lifespan="on", timeout_graceful_shutdown=SHUTDOWN_SECONDS)
    _SandboxServer(config, store).run(sockets=[listener])
