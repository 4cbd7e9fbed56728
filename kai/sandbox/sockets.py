"""The sockets that the server listens on."""

from __future__ import annotations

import socket

HOST = "127.0.0.1"


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
