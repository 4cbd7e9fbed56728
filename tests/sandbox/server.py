"""A sandbox server, or a cluster, in a process of its own, for any test that needs something to talk to."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import httpx

from tests.forkserver import Running, start_module

REPOSITORY = Path(__file__).resolve().parents[2]
LISTENING = "Sandbox listening on "
STOP_SECONDS = 10.0


class RunningSandbox:
    """`python -m kai.sandbox` on 127.0.0.1, its packages loaded before, alive inside the `with` block.

        with RunningSandbox(tmp_path / "data", "--alter-seconds", "2") as sandbox:
            httpx.get(f"{sandbox.url}/health")

    Attributes:
        url: base address, e.g. `http://127.0.0.1:40123`.
        host, port: the same in parts; the port is chosen by the system at the first start.
        api_key: the admin key.
        process: the running process.
    """

    def __init__(
        self,
        data_dir: Path,
        *arguments: str,
        api_key: str = "sandbox-key",
        port: int = 0,
        version: int = 30,
        speed: float | None = None,
    ) -> None:
        """Prepare a server over `data_dir` (created if missing); `arguments` go to its command line.

        `version` is the version of Typesense to behave as; `speed` makes it that many times as fast as a real
        server (`python -m benchmarks.paced`), and None as fast as it can.
        """
        self.data_dir = data_dir
        self.module = "kai.sandbox" if speed is None else "benchmarks.paced"
        pace = () if speed is None else ("--speed", str(speed))
        self.arguments = ("--typesense-version", str(version), *pace, *arguments)
        self.api_key = api_key
        self.host = "127.0.0.1"
        self.port = port
        self._process: Running | None = None
        self._ports = 1

    @property
    def url(self) -> str:
        """Base address without a trailing slash."""
        return f"http://{self.host}:{self.port}"

    @property
    def process(self) -> Running:
        """The subprocess; a RuntimeError before `start`."""
        if self._process is None:
            raise RuntimeError("the sandbox has not been started")
        return self._process

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the process and return when it listens; a RuntimeError with its stderr if it never does."""
        arguments = ["--port", str(self.port), "--api-key", self.api_key, "--data-dir", str(self.data_dir.absolute())]
        arguments += self.arguments
        with tempfile.TemporaryDirectory() as name:
            out, err = Path(name) / "stdout.txt", Path(name) / "stderr.txt"
            self._process = start_module(
                self.module, arguments, os.environ, REPOSITORY, out, err, hurry=False, ends=False
            )
            lines = self._process.first_lines(self._ports)
            if len(lines) < self._ports or not lines[0].startswith(LISTENING):
                self.kill()
                raise RuntimeError(f"the sandbox did not start: {lines}{err.read_text() if err.exists() else ''}")
        self._take([_port_of(line) for line in lines])

    def _take(self, ports: list[int]) -> None:
        self.port = ports[0]

    def kill(self) -> None:
        """SIGKILL, as a crash would: nothing is flushed or closed."""
        self.process.kill()
        self._wait()

    def stop(self) -> None:
        """SIGTERM and wait; SIGKILL if that takes longer than `STOP_SECONDS`."""
        if self._process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
        self._wait()

    def restart(self) -> None:
        """Stop if still running, then start again on the same folder and the same port."""
        self.stop()
        self.start()

    def _wait(self) -> None:
        try:
            self.process.wait(STOP_SECONDS)
        except TimeoutError:
            self.process.kill()
            self.process.wait()


class RunningCluster(RunningSandbox):
    """`python -m kai.sandbox --nodes …`; `url`, `host` and `port` are those of node 0.

        with RunningCluster(tmp_path / "data", lag=0.2) as cluster:
            cluster.kill_leader(after_writes=3)
            migrate(cluster.balancer)

    A node's number is its place in `nodes`. After a restart the addresses are others, but for that of node 0.

    Attributes:
        nodes: base addresses, those of killed nodes too.
        balancer: base address of the load balancer before them.
        http: a client with the admin key, for any of these addresses.
    """

    def __init__(
        self,
        data_dir: Path,
        *arguments: str,
        size: int = 3,
        lag: float = 0.2,
        election: float = 0.3,
        rejoin: float = 0.3,
        api_key: str = "sandbox-key",
    ) -> None:
        """Prepare a cluster of `size` nodes; times are in seconds, `arguments` go to its command line."""
        times = ["--lag", str(lag), "--election-seconds", str(election), "--rejoin-seconds", str(rejoin)]
        super().__init__(data_dir, "--nodes", str(size), "--balancer", *times, *arguments, api_key=api_key)
        self.size = size
        self._ports = size + 2
        self.nodes: list[str] = []
        self.balancer = ""
        self.http = httpx.Client(headers={"x-typesense-api-key": api_key}, timeout=30)
        self._control = ""

    def _take(self, ports: list[int]) -> None:
        super()._take(ports)
        others = [f"http://{self.host}:{port}" for port in ports[1:]]
        self.nodes = [self.url, *others[:-2]]
        self.balancer, self._control = others[-2:]

    def stop(self) -> None:
        """SIGTERM and wait; SIGKILL if that takes longer than `STOP_SECONDS`."""
        super().stop()
        self.http.close()

    def state(self, number: int) -> int | None:
        """What a node's /debug calls its state, 1 or 4; None if it is killed or not ready."""
        try:
            answer = self.http.get(f"{self.nodes[number]}/debug")
        except httpx.TransportError:
            return None
        return int(answer.json()["state"]) if answer.status_code == 200 else None

    def leader(self) -> int | None:
        """The number of the node that says it is the leader; None while there is none."""
        return next((number for number in range(self.size) if self.state(number) == 1), None)

    def kill_node(self, number: int) -> None:
        """Cut a node off in the middle of whatever it does."""
        self._ask(f"nodes/{number}/kill")

    def start_node(self, number: int) -> None:
        """Start a killed node again; it is not ready at once."""
        self._ask(f"nodes/{number}/start")

    def kill_leader(
        self, *, after_writes: int = 0, moment: Literal["received", "applied", "answered"] = "answered"
    ) -> None:
        """Kill the leader at once, or at a write that is yet to come.

        Args:
            after_writes: which write, counted from now on and from 1; 0 for at once.
            moment: of that write: before it is carried out, before it is answered, or after its answer.
        """
        self._ask(f"kill-leader?after_writes={after_writes}&moment={moment}")

    def _ask(self, what: str) -> None:
        self.http.post(f"{self._control}/sandbox/{what}").raise_for_status()


def _port_of(line: str) -> int:
    return int(line.rsplit(":", 1)[1])
