"""A whole cluster in this process."""

from __future__ import annotations

import asyncio
import signal

import anyio.to_thread

from kai.sandbox.app import WORKER_THREADS
from kai.sandbox.cluster.balancer import Balancer
from kai.sandbox.cluster.cluster import Cluster
from kai.sandbox.cluster.control import control_app
from kai.sandbox.cluster.port import Port


async def serve_cluster(cluster: Cluster, *, is_balanced: bool = False) -> None:
    """Serve until SIGTERM or SIGINT, having printed the addresses: nodes, load balancer, control."""
    anyio.to_thread.current_default_thread_limiter().total_tokens = WORKER_THREADS
    told_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told_to_stop.set)
    others = {"Control": Port(control_app(cluster))}
    if is_balanced:
        others = {"Load balancer": Port(Balancer(cluster.nodes))} | others
    await cluster.open()
    for node in cluster.nodes:
        print(f"Sandbox listening on {node.port.url}", flush=True)
    for name, other in others.items():
        await other.open()
        print(f"{name} listening on {other.url}", flush=True)
    await told_to_stop.wait()
    for other in others.values():
        other.cut()
    await asyncio.gather(cluster.close(), *(other.closed() for other in others.values()))
