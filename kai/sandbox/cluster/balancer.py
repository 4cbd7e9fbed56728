"""A load balancer before the nodes, behind which nobody can choose one."""

from __future__ import annotations

from itertools import cycle

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from kai.sandbox.cluster.cluster import Node


class _Gone(Exception):  # noqa: N818
    """The node that was to answer has been killed."""


class Balancer:
    """Sends each request to the next living node in turn; one that has just been started counts as living."""

    def __init__(self, nodes: list[Node]) -> None:
        self._nodes = nodes
        self._turn = cycle(nodes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the node does; 502 without a body if it is killed before, and there is no other try."""
        node = self._next()
        has_begun = False

        async def pass_on(message: Message) -> None:
            nonlocal has_begun
            if node is None or node.replica is None:
                raise _Gone
            has_begun = True
            await send(message)

        try:
            if node is None:
                raise _Gone
            await node(scope, receive, pass_on)
            if not has_begun:
                raise _Gone
        except _Gone:
            if has_begun:
                # The server breaks the connection off.
                raise
            await Response(status_code=502)(scope, receive, send)

    def _next(self) -> Node | None:
        in_turn = (node for _, node in zip(self._nodes, self._turn, strict=False))
        return next((node for node in in_turn if node.replica is not None), None)
