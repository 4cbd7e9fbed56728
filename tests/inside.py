"""Run a module as `python -m` would, in this process: a run of a moment is over before a fork has found its pages."""

from __future__ import annotations

import contextlib
import faulthandler
import io
import os
import runpy
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final
from unittest.mock import patch

HANGS_AFTER: Final = 240.0
"""Seconds after which what does not end says where it is, and is ended with the tests."""


def run_module(
    module: str, arguments: Sequence[str], environment: Mapping[str, str], folder: Path
) -> tuple[int, str, str]:
    """Run it to its end.

    Args:
        module: name of a module that can be run.
        arguments: of its command line.
        environment: its whole environment.
        folder: its working folder.

    Returns:
        Its exit status, and what it printed: standard output, standard error.
    """

    def run() -> int:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        return 0

    with patch.object(sys, "argv", [module, *arguments]):
        return run_inside(run, environment, folder)


def run_inside(
    work: Callable[[], int], environment: Mapping[str, str], folder: Path, *, as_one: bool = False
) -> tuple[int, str, str]:
    """The same for a function that returns its exit status, or raises SystemExit; what it prints perhaps `as_one`."""
    out = io.StringIO()
    err = out if as_one else io.StringIO()
    with _as_a_process(environment, folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = work()
        except SystemExit as ending:
            status = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
        except BaseException:
            traceback.print_exc()
            status = 70
    return status, out.getvalue(), "" if as_one else err.getvalue()


@contextlib.contextmanager
def _as_a_process(environment: Mapping[str, str], folder: Path) -> Iterator[None]:
    """Environment, working folder and umask as a process of its own would have them; a hang is shown and ended."""
    folder_before, mask = Path.cwd(), os.umask(0o022)
    faulthandler.dump_traceback_later(HANGS_AFTER, exit=True, file=2)
    try:
        os.chdir(folder)
        with patch.dict(os.environ, environment, clear=True):
            yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        os.chdir(folder_before)
        os.umask(mask)
