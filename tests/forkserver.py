"""Run a module as `python -m` would, in a process that has the packages loaded already.

A fresh interpreter takes one to two seconds to load them. A fork of the test process has them, but a child is born
with every lock that another thread holds in that moment, and waits for it forever: a stand-in that answers or a
writer that opens its TLS store is enough. So the forks are those of a server that loads the packages and has no
thread beside.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import multiprocessing
import os
import runpy
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from tests.hurry import hurried
from tests.shortcuts import collect_garbage_seldom, leave_certificates_unread, leave_the_collector_alone

_HANGS_AFTER = 200.0
"""Seconds after which a run that does not end says where it is, and is ended."""

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.warm", __name__])


class Running:
    """A module that runs, with as much of `subprocess.Popen` as the tests use; what it prints is in two files."""

    def __init__(self, process: ForkServerProcess, out: Path, err: Path) -> None:
        self._process = process
        self._out, self._err = out, err

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit status, or None while it runs; negative is the number of the signal that ended it."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended; any thread may."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def first_lines(self, count: int) -> list[str]:
        """So many lines of its standard output, as soon as it printed them; fewer if it ends before."""
        while True:
            ended = self.poll() is not None
            lines = self._out.read_text().splitlines(keepends=True) if self._out.exists() else []
            whole = [line.rstrip("\n") for line in lines if line.endswith("\n")]
            if ended or len(whole) >= count:
                return whole[:count]
            time.sleep(0.005)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status once it has ended.

        Raises:
            TimeoutError: It has not, after so many seconds.
        """
        self._process.join(timeout)
        if self.returncode is None:
            raise TimeoutError(f"process {self.pid} runs on after {timeout} seconds")
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end, and what it printed: standard output, standard error."""
        self.wait(timeout)
        return self._out.read_text(), self._err.read_text()


def start_module(
    module: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    out: Path,
    err: Path,
    *,
    hurry: bool = True,
    ends: bool = True,
) -> Running:
    """Start it.

    Args:
        module: name of a module that can be run.
        arguments: of its command line.
        environment: its whole environment.
        folder: its working folder.
        out, err: files for what it prints.
        hurry: whether it waits no longer than the tests need.
        ends: whether it comes to its end by itself; if not, it is ended with this process at the latest.
    """
    for path in (out, err):
        path.unlink(missing_ok=True)
    hangs_after = _HANGS_AFTER if ends else None
    how = (module, arguments, dict(environment), folder, out, err, hurry, hangs_after)
    child = _CONTEXT.Process(target=_become, args=how, daemon=True)
    child.start()
    return Running(child, out, err)


def _become(
    module: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    out: Path,
    err: Path,
    hurry: bool,
    hangs_after: float | None,
) -> None:
    """In the child: be `python -m module arguments`, and end."""
    status = 70
    gc.freeze()  # What the server has is nothing that the child's collector need look through.
    try:
        for descriptor, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
        if hangs_after is not None:
            faulthandler.dump_traceback_later(hangs_after, exit=True, file=2)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        sys.argv = [module, *arguments]
        patch = pytest.MonkeyPatch()
        leave_certificates_unread(patch)
        leave_the_collector_alone(patch)
        collect_garbage_seldom()
        if hurry:
            hurried()
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
            status = 0
        except SystemExit as ending:
            status = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
