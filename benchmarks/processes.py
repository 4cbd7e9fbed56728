"""The processes of a benchmark: server, provider, and what is measured. None outlives its `with` block."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parent.parent
SANDBOX_KEY: Final = "benchmark-key"
PROVIDER_KEY: Final = "benchmark-provider-key"
_END_SECONDS: Final = 15.0


class BenchmarkError(Exception):
    """The benchmark cannot be done; the message says why."""


@dataclass(frozen=True, slots=True)
class Server:
    """A Typesense server."""

    url: str
    key: str = SANDBOX_KEY


@dataclass(frozen=True, slots=True)
class Measured:
    """What a process used, itself and the children that it waited for.

    Attributes:
        seconds: from its start to its end.
        cpu_seconds: user and system time.
        peak_bytes: most resident memory at any time.
        output: standard output.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    output: str


@dataclass(slots=True)
class Provider:
    """A provider's stand-in. `requests` and `texts` are known once it has ended."""

    base: str = ""
    requests: int = 0
    texts: int = 0

    def environment(self, dimensions: int) -> dict[str, str]:
        """The variables that choose it."""
        return {
            "EMBEDDING_FAMILY": "openai",
            "EMBEDDING_MODEL": "text-embedding-3-small",
            "EMBEDDING_DIMENSIONS": str(dimensions),
            "OPENAI_API_KEY": PROVIDER_KEY,
            "OPENAI_API_BASE": self.base,
        }


@contextlib.contextmanager
def sandbox(data: Path, *, speed: float | None = None) -> Iterator[Server]:
    """The sandbox server on a free port, its data in this folder; with `speed`, so many times as fast as a real one."""
    command = [
        "-m",
        "benchmarks.paced" if speed else "kai.sandbox",
        "--port",
        "0",
        "--api-key",
        SANDBOX_KEY,
        "--data-dir",
        str(data),
        *(["--speed", str(speed)] if speed else []),
    ]
    with _running(command) as process:
        yield Server(_first_line(process, "the sandbox").rsplit(" ", 1)[-1])


@contextlib.contextmanager
def provider(latency: float) -> Iterator[Provider]:
    """An OpenAI stand-in that takes so many seconds a request, with nothing remembered from before."""
    command = ["-m", "tests.providers", "openai", "--key", PROVIDER_KEY, "--latency", str(latency)]
    running = Provider()
    with _running(command) as process:
        running.base = _first_line(process, "the provider's stand-in")
        yield running
        output, _ = process.communicate(timeout=_END_SECONDS)  # closes its standard input, which ends it
        counted = json.loads(output)
        running.requests, running.texts = counted["requests"], counted["texts"]


def measure(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str], statuses: Collection[int] = (0,)
) -> Measured:
    """Run Python with these arguments to a good end, in this working folder.

    Raises:
        BenchmarkError: it ended with another status than one of these.
    """
    result = folder / "measured.json"
    result.unlink(missing_ok=True)
    launcher = [str(REPOSITORY / "benchmarks" / "launch.py"), str(result), sys.executable, *arguments]
    with _running(launcher, folder, environment) as process:
        output, errors = process.communicate()
    if not result.exists():
        raise BenchmarkError(f"{' '.join(arguments)} could not be measured: {errors[-2000:]}")
    facts = json.loads(result.read_text(encoding="utf-8"))
    if facts["status"] not in statuses:
        raise BenchmarkError(f"{' '.join(arguments)} ended with {facts['status']}:\n{output[-2000:]}{errors[-2000:]}")
    return Measured(facts["seconds"], facts["cpu_seconds"], facts["peak_bytes"], output)


@contextlib.contextmanager
def _running(
    arguments: Sequence[str], folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder or REPOSITORY,
        env={
            "PATH": os.environ.get("PATH", ""),
            "HOME": os.environ.get("HOME", "/"),
            "PYTHONPATH": str(REPOSITORY),
            **(environment or {}),
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if environment is not None else subprocess.DEVNULL,
        text=True,
        # Ctrl-C is for the benchmark, which ends the others in order.
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.communicate(timeout=_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        except ValueError:
            pass  # Its pipes were read to their end before.


def _first_line(process: subprocess.Popen[str], what: str) -> str:
    line = process.stdout.readline().strip() if process.stdout else ""
    if "http" not in line:
        raise BenchmarkError(f"{what} does not start (are the extras 'local' and 'sandbox' installed?)")
    return line
