"""What tests do to a cluster: calls on a port of its own that are no part of Typesense's API.

    POST /sandbox/nodes/{number}/kill
    POST /sandbox/nodes/{number}/start
    POST /sandbox/kill-leader?after_writes=3&moment=answered

A number is a node's place among the addresses printed at the start, from 0. `after_writes` is the number of the
write from now on at which the leader is killed (default 0: at once), `moment` one of `received`, `applied` and
`answered` (default).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import get_args

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kai.sandbox.cluster.cluster import Cluster, Moment, Node, Trap


def control_app(cluster: Cluster) -> Starlette:
    """The application that controls `cluster`; its answers come when what was asked for is done."""

    def on_node(change: Callable[[Node], Awaitable[None]], done: str) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            number: int = request.path_params["number"]
            if number >= len(cluster.nodes):
                return Response(status_code=404)
            await change(cluster.nodes[number])
            return JSONResponse({done: number})

        return handle

    async def kill_leader(request: Request) -> Response:
        after_writes = request.query_params.get("after_writes", "0")
        moment = next((m for m in get_args(Moment) if m == request.query_params.get("moment", "answered")), None)
        if not after_writes.isdigit() or moment is None:
            return Response(status_code=400)
        if int(after_writes):
            cluster.kill_leader_later(Trap(int(after_writes), moment))
            return JSONResponse({"killed": None})
        killed = await cluster.kill_leader()
        return JSONResponse({"killed": None if killed is None else cluster.nodes.index(killed)})

    return Starlette(
        routes=[
            Route("/sandbox/nodes/{number:int}/kill", on_node(cluster.kill, "killed"), methods=["POST"]),
            Route("/sandbox/nodes/{number:int}/start", on_node(cluster.start, "started"), methods=["POST"]),
            Route("/sandbox/kill-leader", kill_leader, methods=["POST"]),
        ]
    )
