"""The nodes, which of them leads, and what becomes of requests when one is killed.

Membership and leadership change in the event loop only, one change at a time; whatever reads or writes the log
runs in a thread.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from kai.sandbox.cluster.port import Port
from kai.sandbox.cluster.replica import Replica, Settings
from kai.sandbox.errors import ApiError
from kai.sandbox.requests import error_response

Moment = Literal["received", "applied", "answered"]
"""Of a write: before it is carried out; after that and before its answer is sent; after its answer."""

READING_METHODS = {"GET", "HEAD", "OPTIONS"}


@dataclass
class Trap:
    """The leader is to be killed at the last of the next `writes`."""

    writes: int
    moment: Moment


class Cluster:
    """Nodes over one log.

    Attributes:
        nodes: all of them, killed ones too; their place is their number.
    """

    def __init__(self, size: int, settings: Settings, *, port: int = 0) -> None:
        """Prepare `size` nodes, the first of which leads and listens on `port` (0: a free one)."""
        self.settings = settings
        self.nodes = [Node(self, 0 if number else port) for number in range(size)]
        self._leader: Replica | None = None
        self._elects_at = 0.0
        self._trap: Trap | None = None
        self._changing = asyncio.Lock()

    async def open(self) -> None:
        """Start every node."""
        for node in self.nodes:
            node.replica = await run_in_threadpool(Replica, self.settings, ready_in=self.settings.lag_seconds)
        await self._elect(self._living()[0])
        for node in self.nodes:
            await node.port.open()

    async def close(self) -> None:
        """Stop every node."""
        for node in self.nodes:
            await self.kill(node)
        await asyncio.gather(*(node.port.closed() for node in self.nodes))

    # ------------------------------------------------------------------ members

    async def kill(self, node: Node) -> None:
        """Have a node end as by SIGKILL, and what it was doing with it; nothing if it is not alive."""
        replica = node.replica
        if replica is None:
            return
        # At once: whoever sees an answer of this moment must find the node gone.
        node.port.cut()
        node.replica = None
        leader = self._leader
        # A leader that has lost the majority is none any more.
        deposed = leader if replica is leader or not self._has_majority() else None
        if deposed is not None:
            self._leader = None
            self._elects_at = time.monotonic() + self.settings.election_seconds
        async with self._changing:
            await run_in_threadpool(replica.close)
            if deposed is not None and deposed is not replica:
                await self._start_over(deposed)

    async def kill_leader(self) -> Node | None:
        """Kill the node that leads; None if there is none."""
        for node in self.nodes:
            if node.replica is not None and node.replica is self._leader:
                await self.kill(node)
                return node
        return None

    def kill_leader_later(self, trap: Trap) -> None:
        """Kill the leader at a write that is yet to come, in the place of what was said before."""
        self._trap = trap

    async def start(self, node: Node) -> None:
        """Start a killed node, which answers 503 at first; nothing if it is alive."""
        async with self._changing:
            if node.replica is not None:
                return
            await run_in_threadpool(self._join, node)
            await node.port.open()
            if self._leader is None and len(self._living()) == self._majority:
                self._elects_at = time.monotonic() + self.settings.election_seconds

    def _join(self, node: Node) -> None:
        with ExitStack() as stack:
            if self._leader is not None:
                # Whatever is logged from here on is received.
                stack.enter_context(self._leader.store.lock)
            node.replica = Replica(self.settings, ready_in=self.settings.rejoin_seconds)

    async def _start_over(self, deposed: Replica) -> None:
        """A leader that is none any more may hold what it did not get logged, and must forget it."""
        await run_in_threadpool(deposed.close)
        follower = await run_in_threadpool(Replica, self.settings)
        for node in self.nodes:
            if node.replica is deposed:
                node.replica = follower

    def _living(self) -> list[Replica]:
        # Looked at once: a thread that logs asks too, while the event loop kills.
        return [replica for node in self.nodes if (replica := node.replica) is not None]

    @property
    def _majority(self) -> int:
        return len(self.nodes) // 2 + 1

    def _has_majority(self) -> bool:
        return len(self._living()) >= self._majority

    # ------------------------------------------------------------------ leadership

    async def settle(self) -> None:
        """Elect a leader if it is time."""
        if self._is_election_due():
            async with self._changing:
                ready = [replica for replica in self._living() if replica.is_ready]
                if ready and self._is_election_due():
                    await self._elect(ready[0])

    def _is_election_due(self) -> bool:
        return self._leader is None and time.monotonic() >= self._elects_at and self._has_majority()

    async def _elect(self, replica: Replica) -> None:
        await run_in_threadpool(replica.lead, self._publish)
        # It may have been killed meanwhile.
        if replica in self._living():
            self._leader = replica

    def _publish(self, lines: list[bytes]) -> None:
        for replica in self._living():
            replica.receive(lines)

    # ------------------------------------------------------------------ writes

    async def write(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have the leader answer a write; 500 without a body if there is none, or no longer."""
        leader = self._leader
        moment = self._kill_at() if leader is not None else None
        if moment == "received":
            await self.kill_leader()
        if leader is None or leader is not self._leader:
            await Response(status_code=500)(scope, receive, send)
            return
        answer: list[Message] = []

        async def keep(message: Message) -> None:
            answer.append(message)

        await leader.app(scope, receive, keep)
        if moment == "applied":
            await self.kill_leader()
        if leader is not self._leader:
            await Response(status_code=500)(scope, receive, send)
            return
        for message in answer:
            await send(message)
        if moment == "answered":
            await self.kill_leader()

    def _kill_at(self) -> Moment | None:
        """Count one write; when to kill the leader, if it is this one's turn."""
        if self._trap is None:
            return None
        self._trap.writes -= 1
        if self._trap.writes > 0:
            return None
        moment = self._trap.moment
        self._trap = None
        return moment


class Node:
    """One address of the cluster: the application that answers there.

    Attributes:
        replica: what it holds; None while it is not alive.
    """

    def __init__(self, cluster: Cluster, port: int) -> None:
        self.port = Port(self, port)
        self.replica: Replica | None = None
        self._cluster = cluster

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a read from what this node holds; pass a write on to the leader."""
        await self._cluster.settle()
        replica = self.replica
        if replica is None:
            return
        if _is_write(scope):
            if replica.is_ready:
                await self._cluster.write(scope, receive, send)
                return
            # Not by its application, which may be ready when the body is there, and would carry the write out.
            await Request(scope, receive).body()
            await error_response(ApiError(503, "Not Ready or Lagging"))(scope, receive, send)
            return
        if replica.is_behind:
            await run_in_threadpool(replica.catch_up)
        await replica.app(scope, receive, send)


def _is_write(scope: Scope) -> bool:
    path = scope["path"].rstrip("/")
    is_own_affair = path == "/multi_search" or path.startswith("/operations/")
    return scope["method"] not in READING_METHODS and not is_own_affair
