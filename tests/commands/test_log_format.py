"""`--log-format json` over whole runs: standard error is JSON, standard output is as ever."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.commands.conftest import Invoke
from tests.providers import OpenAIStandIn
from tests.world import World, made_up, openai


def objects(text: str) -> list[dict[str, Any]]:
    """Each line, which must be an object."""
    return [json.loads(line) for line in text.splitlines()]


def test_a_run_tells_its_phases_and_its_end_in_json_and_prints_what_it_always_prints(
    world: World, provider: OpenAIStandIn
) -> None:
    world.fill(made_up(questions=12, instructions=4), 8)
    done = world.run("--log-format", "json", "-v", **openai(provider, 8))
    assert done.status == 0
    told = objects(done.err)
    assert all(list(line)[:5] == ["time", "level", "run", "collection", "event"] for line in told)
    (run,) = {line["run"] for line in told if line["run"] is not None}
    assert run.startswith("openai-")
    assert {line["collection"] for line in told} == {None, "context_stores", "instructions"}
    assert {"phase", "progress", "ended", "message"} <= {line["event"] for line in told}
    (end,) = [line for line in told if line["event"] == "ended"]
    assert (end["phase"], end["done"], end["failed"], end["exit_status"]) == ("done", 15, 0, 0)
    assert provider.key not in done.text
    assert world.key not in done.text
    assert "Starting migration for 'instructions'..." in done.out
    assert done.summary("instructions") == {"status": "completed", "count": 3, "success": 3, "failed": 0}


@pytest.mark.parametrize("where", ["option", "option before the command", "environment"])
def test_a_refusal_is_an_error_of_its_own(invoke: Invoke, where: str) -> None:
    option = ("--log-format", "json")
    arguments = {"option": ("run", *option), "option before the command": (*option, "history", "--env-file", "none")}
    variables = {"MIGRATION_LOG_FORMAT": "JSON"} if where == "environment" else {}
    answer = invoke(*arguments.get(where, ("history", "--env-file", "none")), **variables)
    assert answer.status == 2
    told = objects(answer.text)
    assert {(line["level"], line["event"]) for line in told} == {("error", "refused")}
    assert told[1]["message"].partition(":")[0] in ("none", "EMBEDDING_FAMILY")


def test_another_format_is_refused(invoke: Invoke) -> None:
    answer = invoke("history", MIGRATION_LOG_FORMAT="xml")
    assert answer.status == 2
    assert "MIGRATION_LOG_FORMAT: 'xml' is no format; write text or json" in answer.text
