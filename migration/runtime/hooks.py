"""`--hooks DIR`: what an operator has carried out at the moments of a run.

Each is an executable of the moment's name. It is told what it needs in variables that begin with `KAI_MIGRATE_`,
beside the environment that this process was started with, and in no other way: nothing of the settings file, no key.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Final, Literal, get_args

HookName = Literal["before-start", "ready", "before-cut-over", "after-cut-over", "succeeded", "failed"]
NAMES: Final[tuple[HookName, ...]] = get_args(HookName)
BINDING: Final[tuple[HookName, ...]] = ("before-start", "before-cut-over")
"""Those that stop the run where they fail."""
PREFIX: Final = "KAI_MIGRATE_"
_LAST_LINES: Final = 20
"""Lines of the output of a hook that failed which are told."""


def find_problems(folder: Path) -> list[str]:
    """What speaks against a folder of hooks; nothing if it can be used."""
    if not folder.is_dir():
        return [f"--hooks: {folder} is no folder"]
    return [
        f"--hooks: {folder / name} is not executable; `chmod +x` it, or remove it"
        for name in BINDING
        if (folder / name).exists() and not _is_executable(folder / name)
    ]


def unknown_names(folder: Path) -> list[str]:
    """Files in a folder of hooks that are none, but for hidden ones."""
    return sorted(each.name for each in folder.iterdir() if each.name not in NAMES and not each.name.startswith("."))


@dataclass(frozen=True, slots=True)
class Hooks:
    """The hooks of a run.

    Attributes:
        folder: where they are; None for none at all.
        timeout: seconds after which one that has not ended is ended, and counts as failed.
        warn: told what failed.
        detail: told what they print.
        facts: variables without their prefix, for each of them.
    """

    folder: Path | None = None
    timeout: float = 600.0
    warn: Callable[[str], object] = lambda _: None
    detail: Callable[[str], object] = lambda _: None
    facts: Mapping[str, str] = field(default_factory=dict)

    def knowing(self, **facts: object) -> Hooks:
        """The same with further facts, by the name of the variable in lower case; None is left out."""
        more = {name.upper(): str(value) for name, value in facts.items() if value is not None}
        return replace(self, facts={**self.facts, **more})

    def call(self, name: HookName, **facts: object) -> str:
        """Carry out the hook of this name, and wait for its end.

        Returns:
            Why it failed, which was told; empty if it did not, or there is none.
        """
        if self.folder is None or not (self.folder / name).exists():
            return ""
        told = self.knowing(hook=name, **facts).facts
        variables = {f"{PREFIX}{variable}": value for variable, value in told.items()}
        status, output = _carry_out(self.folder.absolute() / name, {**os.environ, **variables}, self.timeout)
        lines = output.splitlines()
        for line in lines if status == "" else []:
            self.detail(f"{name}: {line}")
        if status:
            self.warn(f"The hook {name} failed ({status}).")
            for line in lines[-_LAST_LINES:]:
                self.warn(f"  {name}: {line}")
        return status


def _is_executable(file: Path) -> bool:
    return file.is_file() and os.access(file, os.X_OK)


def _carry_out(file: Path, environment: Mapping[str, str], timeout: float) -> tuple[str, str]:
    """How a program failed, empty if it did not, and what it printed.

    What it leaves running in the background is not waited for, though it may hold on to the output.
    """
    with tempfile.TemporaryFile() as output:
        status = _ended(file, environment, timeout, output)
        output.seek(0)
        return status, output.read().decode(errors="replace")


def _ended(file: Path, environment: Mapping[str, str], timeout: float, output: IO[bytes]) -> str:
    try:
        # A group of its own: Ctrl-C is for the run, which waits for a hook, and a time-out is for all that it started.
        process = subprocess.Popen(  # noqa: S603 - it is what the operator has put there
            [file],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        return f"it cannot be started: {error.strerror or error}"
    try:
        status = process.wait(timeout)
    except subprocess.TimeoutExpired:
        _end(process)
        return f"not ended after {timeout:g} s (--hook-timeout)"
    except BaseException:
        _end(process)
        raise
    if status == 0:
        return ""
    return f"signal {-status}" if status < 0 else f"exit status {status}"


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
