"""The demo tells a true story and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from examples import demo

REPOSITORY = Path(__file__).resolve().parents[2]


def start(folder: Path) -> subprocess.Popen[str]:
    """Begin the demo, with a folder of its own for temporary files, and no key or setting of anybody's."""
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "examples.demo"],
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"], "TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_search_is_right_then_wrong_then_right_for_two_acts_and_right_throughout_the_third(tmp_path: Path) -> None:
    process = start(tmp_path)
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 0, output
    answers = [
        line.strip().split(":")[0] for line in output.splitlines() if line.strip().startswith(("right:", "WRONG:"))
    ]
    questions = len(demo.QUESTIONS)
    states = ("right", "WRONG", "right", "WRONG", "right", "right", "right")
    assert answers == [state for state in states for _ in range(questions)]
    assert output.count("and every answer was right") == 2
    assert "DRY RUN" in output
    assert "Traceback" not in output
    assert list(tmp_path.iterdir()) == []


def test_a_story_that_is_not_true_ends_with_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "QUESTIONS", {"Who works at night?": "Which medicines are out of stock?"})
    keep = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        assert demo.main() == 1
    finally:
        for number, handler in keep.items():
            signal.signal(number, handler)
    assert "This should be so, and is not: 1 of 1 searches are right" in capsys.readouterr().err


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_removes_server_and_files(ending: signal.Signals, tmp_path: Path) -> None:
    process = start(tmp_path)
    assert process.stdout is not None
    for line in process.stdout:
        if "--dry-run" in line:
            break
    (folder,) = tmp_path.iterdir()
    process.send_signal(ending)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert not folder.exists()
    assert not _mentioned(str(folder))


def _mentioned(text: str) -> bool:
    """Whether a running process has this in its command line."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout  # noqa: S607
        if text not in listing:
            return False
        time.sleep(0.1)
    return True
