"""What the console prints: colours at a terminal, the bare lines anywhere else."""

from __future__ import annotations

import re
import sys

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from migration.runtime.console import Console, coloured

LINES = [
    "notes: PASS",
    "  Verification: FAIL",
    "  ! 3 documents",
    "  Note: kept",
    "Refused; nothing was changed:",
    "plain",
]


@pytest.fixture(autouse=True)
def no_wishes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asks for colours, or for none."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)


def printed(capsys: pytest.CaptureFixture[str], console: Console | None = None) -> str:
    """The lines as they come out."""
    for line in LINES:
        (console or Console()).line(line)
    return capsys.readouterr().out


def test_where_nobody_sits_before_it_the_lines_are_bare(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys).splitlines() == LINES


def test_at_a_terminal_what_needs_attention_stands_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    lines = printed(capsys).splitlines()
    assert lines[0] == f"notes: {click.style('PASS', fg='green')}"
    assert lines[1] == f"  Verification: {click.style('FAIL', fg='red')}"
    assert lines[-1] == "plain"
    assert [click.unstyle(line) for line in lines] == LINES


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colours_can_be_declined(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv(name, value)
    assert printed(capsys).splitlines() == LINES


def test_colours_can_be_insisted_on(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert click.style("PASS", fg="green") in printed(capsys)
    monkeypatch.setenv("NO_COLOR", "1")
    assert printed(capsys).splitlines() == LINES


@given(st.lists(st.sampled_from(["PASS", "FAIL", "NOT CHECKED", "! ", "Failed", " ", "x", "died", "? "])).map("".join))
def test_colours_change_no_letter(text: str) -> None:
    assert re.sub("\x1b\\[\\d+m", "", coloured(text)) == text
