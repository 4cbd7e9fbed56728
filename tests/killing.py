"""Run a migration, watch its requests to Typesense, and kill it at a chosen one.

What is to be killed, or spoilt, is a forked child that ends itself with SIGKILL. A fork of the warmed-up test process
costs milliseconds where a fresh interpreter costs seconds, so that a run can be killed at every one of its requests,
one after the other. The child shares nothing with its parent but what it was born with: it makes its own clients and
threads, and what it prints goes to a file. A run that comes to its end by itself is one of this process.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import httpx
import tenacity
from tqdm import tqdm

from migration.__main__ import cli
from migration.cli.run import run as migrate
from migration.strategies.context import MigrationOptions
from tests.hurry import hurried
from tests.inside import run_inside

Moment = Literal["before", "after"]
"""Of a request: before it is sent, or after the server acted upon it and before the answer is seen."""
MOMENTS: tuple[Moment, ...] = ("before", "after")


def impatient() -> contextlib.AbstractContextManager[object]:
    """Within this context, a run whose requests get into trouble waits a moment before repeating one, not seconds."""
    return patch.object(tenacity.nap, "sleep_using_event", lambda _: lambda seconds: time.sleep(min(seconds, 0.01)))


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended.

    Attributes:
        status: exit status; None if it was killed.
        requests: method and path of each request that it sent to Typesense, or was about to send.
        text: everything that it printed.
    """

    status: int | None
    requests: list[str]
    text: str

    @property
    def killed(self) -> bool:
        """Whether it was killed."""
        return self.status is None


def run_watched(
    options: MigrationOptions,
    environment: Mapping[str, str],
    folder: Path,
    *,
    kill_at: int = 0,
    moment: Moment = "before",
    uncounted: str = "",
    at_request: Callable[[int, str], object] | None = None,
    in_child: Callable[[], object] | None = None,
    apart: bool = False,
) -> Ended:
    """Run `migrate(options)` to its end, or in a child to the SIGKILL at its `kill_at`-th request.

    Args:
        options: of the run.
        environment: the child's whole environment.
        folder: working folder of the run, created if missing.
        kill_at: number of the request, from 1; 0 never kills.
        moment: on which side of the request.
        uncounted: request that has no number of its own, as it is repeated until something shows: how often depends
            on the machine.
        at_request: called in the child before each request with its number and name; it must make its own client.
        in_child: called in the child before the run.
        apart: whether it is a child in any case, that nothing which this process does holds up.
    """
    import tests.warm  # noqa: F401 - once, here, rather than in each child

    folder.mkdir(parents=True, exist_ok=True)
    output, journal = folder / "output.txt", folder / "requests.txt"
    journal.write_text("")
    port = environment["TYPESENSE_PORT"]
    if not (kill_at or at_request or in_child or apart):
        with hurried(), _watched_requests(port, journal, 0, moment, uncounted, None):
            status, text, _ = run_inside(lambda: migrate(options), environment, folder, as_one=True)
        return Ended(status, journal.read_text().splitlines(), text)
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        status = 70
        try:
            _become_child(environment, folder, output)
            with _watched_requests(port, journal, kill_at, moment, uncounted, at_request):
                if in_child is not None:
                    in_child()
                status = migrate(options)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    _, waited = os.waitpid(child, 0)
    if os.WIFSIGNALED(waited) and os.WTERMSIG(waited) != signal.SIGKILL:
        raise RuntimeError(f"the child died of signal {os.WTERMSIG(waited)}: {output.read_text()}")
    ended = None if os.WIFSIGNALED(waited) else os.WEXITSTATUS(waited)
    return Ended(ended, journal.read_text().splitlines(), output.read_text())


def run_command_watched(arguments: Sequence[str], environment: Mapping[str, str], folder: Path, **how: Any) -> Ended:
    """The same for `kai-migrate` with these arguments."""

    def command(_: MigrationOptions) -> int:
        try:
            cli.main(list(arguments))
        except SystemExit as ending:
            return int(ending.code or 0)
        return 0

    with patch("tests.killing.migrate", command):
        return run_watched(MigrationOptions(), environment, folder, **how)


def _become_child(environment: Mapping[str, str], folder: Path, output: Path) -> None:
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    hurried()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    gc.freeze()  # What the test process has is nothing that the child's collector need look through.
    # The usual lock is one with the parent's, which would wait forever for a child that is killed while it holds it.
    tqdm.set_lock(threading.RLock())
    faulthandler.disable()
    faulthandler.dump_traceback_later(60, exit=True, file=2)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)


@contextlib.contextmanager
def _watched_requests(
    port: str,
    journal: Path,
    kill_at: int,
    moment: Moment,
    uncounted: str,
    at_request: Callable[[int, str], object] | None,
) -> Iterator[None]:
    """Count the requests to this port at the transport of every httpx client, and kill at the wanted one."""
    send = httpx.HTTPTransport.handle_request
    lock = threading.Lock()
    within = threading.local()
    descriptor = os.open(journal, os.O_WRONLY | os.O_APPEND)
    count = 0

    def watched(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        nonlocal count
        if str(request.url.port) != port or getattr(within, "callback", False):
            return send(transport, request)
        with lock:
            name = f"{request.method} {request.url.raw_path.decode()[:120]}"
            counts = name != uncounted
            count += counts
            number = count
            os.write(descriptor, f"{name}\n".encode())
            if counts and number == kill_at and moment == "before":
                os.kill(os.getpid(), signal.SIGKILL)
        if at_request is not None:
            within.callback = True
            at_request(number, name)
            within.callback = False
        response = send(transport, request)
        if counts and number == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return response

    try:
        with patch.object(httpx.HTTPTransport, "handle_request", watched):
            yield
    finally:
        os.close(descriptor)
