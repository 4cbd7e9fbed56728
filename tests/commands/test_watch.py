"""`watch` on the command line: lines for a person, lines for a program, and the run's exit status."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from migration.cli import watch as shown
from migration.operations.watch import Update
from migration.runtime.console import Console
from migration.runtime.status import Status, status_file
from tests.commands.conftest import Invoke
from tests.providers import OpenAIStandIn
from tests.world import World, made_up, openai


def test_a_run_in_another_process_is_watched_to_its_end(invoke: Invoke, world: World, provider: OpenAIStandIn) -> None:
    provider.latency = 0.1
    world.fill(made_up(questions=1500, instructions=4), 16)
    process = world.start("--collections", "context_stores", "--concurrency", "1", **openai(provider, 16))
    deadline = time.monotonic() + 60
    while not list(world.home.glob("runs/*/status.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    answer = invoke("watch", "--json", "--interval", "0.2", **world.environment())
    assert process.wait(60) == 0
    first, *_, last = [json.loads(line) for line in answer.text.splitlines()]
    assert (first["origin"], first["ended"]) == ("status", False)
    assert (last["phase"], last["ended"], last["exit_status"], last["done"]) == ("done", True, 0, 1500)
    assert answer.status == 0
    assert provider.key not in answer.text


def test_a_run_that_has_ended_is_told_in_a_line(invoke: Invoke, tmp_path: Path) -> None:
    status = Status(status_file(tmp_path / "home", "a-run"), lambda: {"spent_usd": 0.25})
    status.end("done, some failed", done=1200, failed=34, seconds=10.0, exit_status=1)
    answer = invoke("watch", "a-run")
    assert answer.status == 1
    words = "a-run: done, some failed, 1,200 of 1,234 (97.2 %) documents, 34 failed, $0.25, exit status 1\n"
    assert answer.text == words


def test_a_name_that_nobody_has_is_refused(invoke: Invoke) -> None:
    answer = invoke("watch", "nonsense")
    assert answer.status == 2
    assert "RUN: there is no ledger and no run in" in answer.text


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (
            {"phase": "migrating", "collection": "notes", "total": 200, "done": 50, "documents_per_second": 9.9},
            "a-run: migrating 'notes', 50 of 200 (25.0 %) documents, 9.9 a second",
        ),
        ({"phase": "holding", "collection": "notes"}, "a-run: holding 'notes', 0 documents"),
        (
            {"phase": "copying", "done": 5, "paused": True, "seconds_left": 90.0, "waiting_for": "latency is 80"},
            "a-run: copying, 5 documents, 1 min 30 s left, paused, waiting: latency is 80",
        ),
    ],
)
def test_a_line_says_what_there_is_to_say(facts: dict[str, object], words: str) -> None:
    assert shown._line(Update("a-run", "status", {"ended": False, **facts})) == words


def test_at_a_terminal_it_is_a_bar_and_then_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way = {"phase": "migrating", "collection": "notes", "total": 4, "done": 1, "ended": False}
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with shown._shown(Console(), (), as_lines=False) as told:
        told(Update("a-run", "status", under_way))
        told(Update("a-run", "status", {"phase": "done", "total": 4, "done": 4, "ended": True, "exit_status": 0}))
    out, err = capsys.readouterr()
    assert "a-run: migrating 'notes':  25%|" in err
    assert "| 1/4 []" in err
    assert out == "a-run: done, 4 of 4 (100.0 %) documents, exit status 0\n"
