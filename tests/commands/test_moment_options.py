"""How the moments and the pace of a run are asked for on the command line."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from migration.cli import run as run_module
from migration.strategies.context import MigrationOptions
from tests.commands.conftest import Invoke


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[MigrationOptions]:
    """What the runs were asked for, which are not carried out."""
    found: list[MigrationOptions] = []

    def run(options: MigrationOptions, _log_format: str | None) -> int:
        found.append(options)
        return 0

    monkeypatch.setattr(run_module, "run", run)
    return found


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ([], None),
        (["--hold"], math.inf),
        (["--hold", "--dry-run"], math.inf),
        (["--collections", "notes", "links", "--hold", "8h"], 28_800.0),
        (["--hold", "1h30m", "--collections", "notes"], 5_400.0),
        (["--hold=0.5s"], 0.5),
    ],
)
def test_a_run_holds_for_as_long_as_it_takes_or_for_a_time(
    invoke: Invoke, asked: list[MigrationOptions], arguments: list[str], wanted: float | None
) -> None:
    assert invoke("run", *arguments).status == 0
    assert asked[0].hold == wanted


def test_the_rest_is_passed_on(invoke: Invoke, asked: list[MigrationOptions]) -> None:
    arguments = ["--rehearse", "--hooks", "there", "--hook-timeout", "5", "--max-load", "search_latency_ms=50"]
    assert invoke("run", *arguments).status == 0
    (options,) = asked
    assert (options.rehearse, options.hooks, options.hook_timeout) == (True, Path("there"), 5.0)
    assert options.pace.max_load == {"search_latency_ms": 50.0}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--hold", "8"], "is no duration such as 8h"),
        (["--hold", "0s"], "is no duration such as 8h"),
        (["--max-load", "latency=5"], "is no figure of the server"),
        (["--hook-timeout", "0"], "--hook-timeout"),
    ],
)
def test_what_is_none_is_a_wrong_use(
    invoke: Invoke, asked: list[MigrationOptions], arguments: list[str], why: str
) -> None:
    answer = invoke("run", *arguments)
    assert (answer.status, asked) == (2, [])
    assert why in answer.text


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["release"], "no run holds in"),
        (["release", "nowhere"], "no run at all"),
        (["tune", "latest", "nice=0.5"], "no run at all"),
        (["tune", "latest", "speed=3"], "'speed=3' is nothing that can be tuned"),
        (["tune", "latest", "nice=1"], "nice=1: a number from 0 to 0.95 is needed"),
    ],
)
def test_what_is_not_under_way_can_be_told_nothing(invoke: Invoke, arguments: list[str], why: str) -> None:
    answer: Any = invoke(*arguments)
    assert answer.status == 2, answer.text
    assert why in answer.text
