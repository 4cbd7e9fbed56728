"""What an operator has carried out at the moments of a run."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from migration.runtime.hooks import Hooks, find_problems, unknown_names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of hooks; none yet."""
    made = tmp_path / "hooks"
    made.mkdir()
    return made


def put(folder: Path, name: str, text: str, mode: int = 0o755) -> None:
    """A hook of this text."""
    (folder / name).write_text(text)
    (folder / name).chmod(mode)


def runs(process: int) -> bool:
    """Whether it does, and is not only waiting to be buried."""
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] not in "ZX"
    except OSError:
        return False


class Told:
    """Hooks, and what was told of them."""

    def __init__(self, folder: Path, timeout: float = 20.0) -> None:
        self.warned: list[str] = []
        self.detailed: list[str] = []
        self.hooks = Hooks(folder, timeout, self.warned.append, self.detailed.append)


def test_a_hook_that_is_not_there_is_no_failure(folder: Path) -> None:
    assert Hooks().call("ready") == ""
    assert Told(folder).hooks.call("ready") == ""


def test_a_hook_is_told_what_it_needs_beside_the_environment_that_was_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, "ready", "#!/bin/sh\nenv\n")
    monkeypatch.setenv("THEIR_OWN", "is kept")
    told = Told(folder)
    assert told.hooks.knowing(run="a-run", nothing=None).call("ready", collection="notes") == ""
    variables = {line.removeprefix("ready: ") for line in told.detailed}
    assert {"KAI_MIGRATE_HOOK=ready", "KAI_MIGRATE_RUN=a-run", "KAI_MIGRATE_COLLECTION=notes"} <= variables
    assert "THEIR_OWN=is kept" in variables
    names = {variable.partition("=")[0] for variable in variables}
    of_the_shell = {"PWD", "OLDPWD", "SHLVL", "_"}
    assert {name for name in names if not name.startswith("KAI_MIGRATE_")} - of_the_shell <= os.environ.keys()
    assert "KAI_MIGRATE_NOTHING" not in names
    assert told.warned == []


def test_a_hook_that_fails_is_told_with_the_end_of_what_it_printed(folder: Path) -> None:
    put(folder, "ready", "#!/bin/sh\nseq 100\necho why >&2\nexit 3\n")
    told = Told(folder)
    assert told.hooks.call("ready") == "exit status 3"
    assert told.warned[0] == "The hook ready failed (exit status 3)."
    assert told.warned[-2:] == ["  ready: 100", "  ready: why"]
    assert len(told.warned) == 21


@pytest.mark.parametrize(
    ("text", "mode", "why"),
    [
        ("#!/bin/sh\n", 0o644, "it cannot be started: Permission denied"),
        ("#!/nowhere/at/all\n", 0o755, "it cannot be started: No such file or directory"),
        ("#!/bin/sh\nkill -9 $$\n", 0o755, "signal 9"),
    ],
)
def test_a_hook_that_cannot_be_carried_out_has_failed(folder: Path, text: str, mode: int, why: str) -> None:
    put(folder, "ready", text, mode)
    assert Told(folder).hooks.call("ready") == why


def test_a_hook_that_does_not_end_is_ended_with_all_that_it_started(folder: Path, tmp_path: Path) -> None:
    put(folder, "ready", f"#!/bin/sh\nsleep 600 &\necho $! > {tmp_path}/child\nwait\n")
    assert "not ended after 1 s (--hook-timeout)" in Told(folder, 1.0).hooks.call("ready")
    child = int((tmp_path / "child").read_text())
    until = time.monotonic() + 20
    while runs(child) and time.monotonic() < until:
        time.sleep(0.005)
    assert not runs(child)


def test_what_a_hook_leaves_running_is_not_waited_for(folder: Path, tmp_path: Path) -> None:
    put(folder, "ready", f"#!/bin/sh\nsleep 600 &\necho $! > {tmp_path}/child\n")
    assert Told(folder).hooks.call("ready") == ""
    child = int((tmp_path / "child").read_text())
    os.kill(child, 15)


def test_a_folder_that_cannot_be_used_is_refused(folder: Path) -> None:
    assert find_problems(folder) == []
    assert find_problems(folder / "nowhere") == [f"--hooks: {folder / 'nowhere'} is no folder"]
    put(folder, "before-cut-over", "", 0o644)
    put(folder, "succeeded", "", 0o644)
    (problem,) = find_problems(folder)
    assert "before-cut-over is not executable" in problem


def test_names_that_no_moment_has_are_found(folder: Path) -> None:
    for name in ("ready", "redy", ".hidden"):
        put(folder, name, "")
    assert unknown_names(folder) == ["redy"]
