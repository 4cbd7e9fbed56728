"""Nodes of a cluster that a test makes up: a local HTTP server each, of which one may lead."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from kai.settings import TypesenseSettings

LEADER, FOLLOWER = 1, 4
Answer = tuple[int, bytes]


class Node:
    """Answers `/debug` with its state, and everything else as `answer` says.

    Attributes:
        state: what it is; None answers with 503.
        states: what it says before that, once each, as a load balancer does with nodes behind it.
        answer: method, path and body of a request to status and body of the answer.
        asked: method and path of every request but those to `/debug`.
        connections: how many there were.
    """

    def __init__(self, state: int | None = LEADER) -> None:
        self.state = state
        self.states: list[int] = []
        self.answer: Callable[[str, str, bytes], Answer] = lambda _method, _path, _body: (200, b"[]")
        self.asked: list[str] = []
        self.connections = 0
        node = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                node.connections += 1

            def do(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.path == "/debug":
                    state = node.states.pop(0) if node.states else node.state
                    status, content = (503, b"{}") if state is None else (200, json.dumps({"state": state}).encode())
                else:
                    node.asked.append(f"{self.command} {self.path.partition('?')[0]}")
                    status, content = node.answer(self.command, self.path, body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PATCH = do_DELETE = do  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def cluster(*states: int | None) -> Iterator[list[Node]]:
    """Nodes of these states."""
    with ExitStack() as stack:
        yield [stack.enter_context(Node(state)) for state in states]


def settings_of(*nodes: Node) -> TypesenseSettings:
    """How a client reaches them; one node by host and port alone."""
    urls = tuple(node.url for node in nodes) if len(nodes) > 1 else ()
    return TypesenseSettings("127.0.0.1", nodes[0].port, api_key="key", nodes=urls)
