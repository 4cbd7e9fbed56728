"""A Ray cluster and a pool of its actors: the user's own, or one of this machine's processors for the run alone.

Everything that is Ray's stands here, and no more is taken of it than an ordinary installation has. Nothing of this
machine is sent to the cluster but texts and the model's name: its nodes have this package and the model themselves.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from kai.models import EmbeddingSettings
from kai.vectors import Vector
from migration.embedding.ahead.actors import PATIENCE, Answer, Worker
from migration.embedding.ahead.via import Texts
from migration.embedding.provider import ProviderStopped
from migration.embedding.throttle import Stopped

if TYPE_CHECKING:
    from types import ModuleType

USES_GPU: Final[Mapping[str, bool]] = {"local": False, "sentence-transformers": True}
"""The families whose models run in this very process, and whether one takes a GPU where there is one."""

_CONNECT_TIMEOUT: Final = 5.0
_HEALTH_TIMEOUT: Final = 30.0
_LOOKS_EVERY: Final = 0.25
_OBJECT_STORE: Final = 256 * 2**20
"""Bytes. A page of vectors has about one million, and few are under way; by itself Ray takes a third of the memory."""
_ALWAYS: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Of what happens on other nodes it prints lines to standard output, but for those that match.
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",
}
"""Settings that Ray takes from the environment only; one that is there already counts."""
_LOCAL: Final = {
    # Its name is odd, but this is what makes a cluster of this machine listen on 127.0.0.1 and nowhere else.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
}


class NoCluster(Exception):  # noqa: N818
    """There is no cluster to work on; the message names the setting and the remedy."""


@contextlib.contextmanager
def ray_pool(
    embedding: EmbeddingSettings,
    expected: Vector,
    *,
    address: str | None = None,
    actors: int | None = None,
    stopped: threading.Event | None = None,
    patience: float = PATIENCE,
    announce: Callable[[str], object] = lambda _: None,
) -> Iterator[RayPool]:
    """Workers on a cluster, of which one at least has loaded the model; they end with this.

    Args:
        embedding: the model.
        expected: the vector of `PROBE_TEXT`, which every worker must make as well.
        address: `auto`, `ray://host:port` or `host:port`; None for a cluster of this machine's own, which ends too.
        actors: how many workers; None for as many as the cluster has GPUs, if the family uses any, else CPUs.
        stopped: ends waiting.
        patience: seconds to wait for the first worker.
        announce: told what the cluster is.

    Raises:
        NoCluster: there is none, or it cannot do this.
        Stopped: somebody asked to stop.
    """
    check_usable(embedding)
    with _connected(address) as ray:
        count, needs = size_of(ray.cluster_resources(), embedding.family, actors)
        announce(f"Ray {ray.__version__}: {count} workers, {' and '.join(_words(needs))} each")
        kind = ray.remote(max_restarts=-1, max_task_retries=-1, **needs)(Worker)
        workers = [kind.remote(_on_disk(embedding), expected) for _ in range(count)]
        _wait_for_one(ray, workers, stopped or threading.Event(), patience)
        pool = RayPool(workers)
        del workers  # A worker that the pool lets go ends when nobody else has it.
        yield pool


def check_usable(embedding: EmbeddingSettings) -> None:
    """Refuse what no cluster could do.

    Raises:
        NoCluster: the model does not run in a process of ours, or ray is not installed.
    """
    if embedding.family not in USES_GPU:
        raise NoCluster(
            f"--via ray: it is for models that run in the process itself ({', '.join(USES_GPU)}), and family "
            f"{embedding.family} asks a server; take --via direct"
        )
    if find_spec("ray") is None:
        raise NoCluster("--via ray needs ray: pip install 'kai-embedding-migration[ray]'")


def size_of(resources: Mapping[str, float], family: str, asked: int | None) -> tuple[int, dict[str, int]]:
    """How many workers to start, and what each takes of the cluster.

    Args:
        resources: `GPU` and `CPU`: of the whole cluster.
        family: of `USES_GPU`.
        asked: by --actors; more than there is room for wait for nodes that may come.
    """
    gpus = int(resources.get("GPU", 0)) if USES_GPU[family] else 0
    needs = {"num_cpus": 1, "num_gpus": 1} if gpus else {"num_cpus": 1}
    # Where nodes come when they are wanted, there may be none yet.
    return asked or gpus or int(resources.get("CPU", 0)) or 1, needs


class RayPool:
    """See `Pool`.

    Args:
        workers: handles of actors of `Worker`.
    """

    def __init__(self, workers: list[Any]) -> None:
        from ray.util import ActorPool

        self.size = len(workers)
        self._pool = ActorPool(workers)

    def submit(self, page: int, texts: Texts) -> None:
        """See `Pool`."""
        self._pool.submit(lambda worker, asked: worker.embed.remote(*asked), (page, texts))

    def next(self, seconds: float) -> Answer | None:
        """See `Pool`."""
        from ray.exceptions import RayError

        try:
            answer: Answer = self._pool.get_next_unordered(timeout=seconds)
        except TimeoutError:
            return None
        except RayError as error:  # Not a lost worker: its page is done again as long as that takes.
            raise ProviderStopped(_cause(error)) from None
        return answer

    def let_go(self) -> None:
        """See `Pool`."""
        while self._pool.pop_idle() is not None:
            pass


# -- the cluster -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[ModuleType]:
    """Ray, connected to the cluster; the local one ends with this, and so does everything of ours on any other."""
    for name, value in _ALWAYS.items():
        os.environ.setdefault(name, value)
    with contextlib.ExitStack() as stack:
        options: dict[str, Any] = {"address": address}
        if address is None:
            os.environ.update(_LOCAL)
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else it writes one to the home folder
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="kai-ray-", ignore_cleanup_errors=True))
            options = {
                "address": "local",
                "include_dashboard": False,
                "object_store_memory": _OBJECT_STORE,
                # One below, because Ray opens its own folder to everybody, and texts may be spilled to it.
                "_temp_dir": str(Path(folder, "ray")),
            }
        else:
            _check_reachable(address)
            _check_health(address)
        import ray  # Only now: it reads its environment while it is imported.

        with _own_signals():
            try:
                ray.init(**options, logging_level=logging.ERROR, log_to_driver=False)
            except Exception as error:  # It says in many ways what is wrong.
                ray.shutdown()
                raise NoCluster(_not_connected(address, error)) from error
        stack.callback(ray.shutdown)
        yield ray


def _check_reachable(address: str) -> None:
    """Whether it is an address, and anybody is there."""
    if address == "auto":
        return
    try:
        where = urlsplit(address if "://" in address else f"ray-node://{address}")
        host, port = where.hostname, where.port
    except ValueError:
        host = port = None
    if not host or not port or where.scheme not in ("ray", "ray-node"):
        raise NoCluster(f"--ray-address: {address!r} is none; write auto, ray://HOST:PORT or HOST:PORT")
    try:
        socket.create_connection((host, port), timeout=_CONNECT_TIMEOUT).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise NoCluster(f"--ray-address: nobody answers at {address} ({reason}); is the cluster up?") from error


def _check_health(address: str) -> None:
    """Whether it is a cluster that answers there: Ray itself would wait for one for ever.

    By its own command, as there is no other way that Ray promises.
    """
    if address.startswith("ray://"):  # There it gives up after half a minute.
        return
    where = [] if address == "auto" else ["--address", address]
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", *where]
    try:
        seen = subprocess.run(command, capture_output=True, text=True, timeout=_HEALTH_TIMEOUT, check=False)  # noqa: S603
        is_there = seen.returncode == 0
    except subprocess.TimeoutExpired:
        is_there = False
    if not is_there:
        hint = "`ray start` makes a node of this machine" if address == "auto" else "is that the port of its head node?"
        raise NoCluster(f"--ray-address: no Ray cluster answers at {address}; {hint}")


def _not_connected(address: str | None, error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [""]
    reason = " ".join(line.strip() for line in lines[:6]).rstrip(".")
    if address is None:
        return f"--via ray: no Ray cluster can be started on this machine: {reason}"
    hint = "" if address.startswith("ray://") else "; from a machine that is no node of it, take ray://HOST:10001"
    return f"--ray-address: {address}: {reason}{hint}"


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself when it starts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# -- the workers -----------------------------------------------------------------------------------------


def _wait_for_one(ray: ModuleType, workers: list[Any], stopped: threading.Event, patience: float) -> None:
    """Return when one has loaded the model."""
    until = time.monotonic() + patience
    asked = [worker.ready.remote() for worker in workers]
    while not (done := ray.wait(asked, num_returns=1, timeout=_LOOKS_EVERY)[0]):
        if stopped.is_set():
            raise Stopped
        if time.monotonic() >= until:
            raise NoCluster(
                f"--via ray: the cluster has started no worker for {patience:.0f} s; `ray status` shows what it lacks"
            )
    try:
        ray.get(done[0])
    except ray.exceptions.RayError as error:
        raise NoCluster(f"--via ray: {_cause(error)}") from None


def _on_disk(embedding: EmbeddingSettings) -> EmbeddingSettings:
    """The model by its whole path, if it is a path: a worker has another working folder."""
    path = Path(embedding.model)
    if embedding.family == "local" or not path.is_dir():
        return embedding
    return replace(embedding, model=str(path.resolve()))


def _words(needs: Mapping[str, int]) -> Iterator[str]:
    for name, amount in needs.items():
        yield f"{amount} {name.removeprefix('num_').removesuffix('s').upper()}"


def _cause(error: Exception) -> str:
    """What went wrong with a worker, in a line: Ray's own words have the worker's stack, its last line says it."""
    cause = getattr(error, "cause", None)
    lines = [line.strip() for line in str(cause if isinstance(cause, Exception) else error).splitlines()]
    said = [line for line in lines if line]
    hint = ""
    if any("ModuleNotFoundError" in line or "No module named" in line for line in said):
        hint = "; every node needs this package and its extra, in the same version"
    return f"{said[-1] if said else type(error).__name__}{hint}"
