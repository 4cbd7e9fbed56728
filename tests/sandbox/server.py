"""A sandbox server in a process of its own, for any test that needs something to talk to."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

LISTENING = "Sandbox listening on "
STOP_SECONDS = 10.0


class RunningSandbox:
    """`python -m kai.sandbox` on 127.0.0.1, alive inside the `with` block.

        with RunningSandbox(tmp_path / "data", "--alter-seconds", "2") as sandbox:
            httpx.get(f"{sandbox.url}/health")

    Attributes:
        url: base address, e.g. `http://127.0.0.1:40123`.
        host, port: the same in parts; the port is chosen by the system at the first start.
        api_key: the admin key.
        process: the running subprocess.
    """

    def __init__(self, data_dir: Path, *arguments: str, api_key: str = "sandbox-key", port: int = 0) -> None:
        """Prepare a server over `data_dir` (created if missing); `arguments` go to its command line."""
        self.data_dir = data_dir
        self.arguments = arguments
        self.api_key = api_key
        self.host = "127.0.0.1"
        self.port = port
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """Base address without a trailing slash."""
        return f"http://{self.host}:{self.port}"

    @property
    def process(self) -> subprocess.Popen[str]:
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
        command = [sys.executable, "-m", "kai.sandbox", "--port", str(self.port)]
        command += ["--api-key", self.api_key, "--data-dir", str(self.data_dir), *self.arguments]
        # A file, not a pipe: nobody reads it, and a full pipe would stop the server.
        with tempfile.TemporaryFile("w+") as errors:
            self._process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=Path(__file__).resolve().parents[2],
            )
            assert self._process.stdout is not None
            line = self._process.stdout.readline()
            if not line.startswith(LISTENING):
                self.kill()
                errors.seek(0)
                raise RuntimeError(f"the sandbox did not start: {line}{errors.read()}")
        self.port = int(line.rsplit(":", 1)[1])

    def kill(self) -> None:
        """SIGKILL, as a crash would: nothing is flushed or closed."""
        if self.process.poll() is None:
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
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
