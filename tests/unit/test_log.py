"""What is told as JSON: an object a line, with what it is about, and never a secret."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migration.runtime.console import Console
from migration.runtime.log import Log


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The objects on standard error."""
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_what_is_told_is_an_object_a_line_and_says_what_it_is_about(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(log_format="json")
    console.about(run="a-run", collection="notes")
    console.warn("  ! 3 documents are left")
    console.tell("Going on.")
    console.event("phase", phase="migrating", total=3)
    warned, told, phase = lines(capsys)
    assert list(warned) == ["time", "level", "run", "collection", "event", "message"]
    assert {**warned, "time": ""} == {
        "time": "",
        "level": "warning",
        "run": "a-run",
        "collection": "notes",
        "event": "message",
        "message": "3 documents are left",
    }
    assert (told["level"], told["message"]) == ("info", "Going on.")
    assert (phase["event"], phase["phase"], phase["total"], "message" in phase) == ("phase", "migrating", 3, False)


def test_standard_output_and_what_is_told_to_a_person_stay_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    Console(log_format="text").line("  Found 3 documents")
    Console(log_format="json").line("  Found 3 documents")
    Console().event("phase", phase="migrating")
    Console().about(run="a-run")
    assert capsys.readouterr() == ("  Found 3 documents\n" * 2, "")


def test_details_are_told_only_if_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    Console(log_format="json").detail("much")
    Console(log_format="json", verbose=True).detail("more")
    assert [(line["level"], line["message"]) for line in lines(capsys)] == [("debug", "more")]


def test_progress_is_told_now_and_then_and_at_its_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("migration.runtime.log.time.monotonic", lambda: now)
    with Console(log_format="json").progress("  Migrating notes", 100) as progress:
        for _ in range(20):  # two seconds each
            progress.update(5)
            now += 2.0
    told = lines(capsys)
    assert [line["done"] for line in told] == [20, 35, 50, 65, 80, 95, 100]
    assert {(line["event"], line["message"], line["total"]) for line in told} == {("progress", "Migrating notes", 100)}
    assert (told[0]["documents_per_second"], told[0]["seconds_left"]) == (3.33, 24.0)


@given(st.text(alphabet='abc"\\\n{}: é\ud800', max_size=40))
def test_whatever_is_told_stays_one_line_of_json_without_the_key(text: str) -> None:
    written: list[str] = []
    Log(written.append, ["secret-key-0123"]).line(
        "info", "message", f"{text}secret-key-0123{text}", key="secret-key-0123"
    )
    (line,) = written
    assert "\n" not in line
    assert "secret-key-0123" not in line
    assert json.loads(line)["key"] == "***"


def test_without_a_reader_nothing_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", open("/dev/full", "w", encoding="utf-8"))  # noqa: SIM115, PTH123
    Console(log_format="json").warn("nobody reads this")
