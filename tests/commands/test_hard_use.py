"""Readers who go away, odd terminals, names that do not exist, keys that are not there, runs in several legs."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from migration.runtime.console import Console
from tests.providers import OpenAIStandIn
from tests.providers.faults import Fault
from tests.world import MODULE, Finished, World, field, made_up, openai

NAME = "context_stores"
ONLY = ("--collections", NAME)
LOCAL = {"EMBEDDING_FAMILY": "local", "EMBEDDING_MODEL": "l2_supercat", "EMBEDDING_DIMENSIONS": "128"}
"""The family whose packages a fresh interpreter loads soonest."""


def kai_migrate(world: World, *arguments: str, status: int = 0, variables: dict[str, str] | None = None) -> Finished:
    done = world.run(*arguments, module="migration", **(variables or {}))
    assert done.status == status, done.text
    assert "Traceback" not in done.text
    return done


def metrics(world: World) -> dict[str, Any]:
    (line,) = json.loads(kai_migrate(world, "history", "--json").out)["runs"]
    return dict(line)


@pytest.mark.parametrize("reader", ["gone", "full for both", "none"])
def test_a_reader_who_goes_away_ends_the_printing_and_nothing_else(world: World, reader: str) -> None:
    world.fill(made_up(questions=60), 64)
    world.home.parent.mkdir(parents=True, exist_ok=True)
    environment = world.environment(**LOCAL)
    command = f'"{sys.executable}" -m {MODULE} --collections {NAME}'
    redirected = {
        "gone": "| head -n 1",
        "full for both": "> /dev/full 2>&1",
        "none": ">&-",
    }[reader]
    script = f"exec 3>&2; ({command}; echo exit $? >&3) {redirected}"
    ended = subprocess.run(  # noqa: S602 - our own words
        script,
        check=False,
        shell=True,
        env=environment,
        cwd=world.home.parent,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "exit 0" in ended.stderr, ended.stderr
    assert "nothing was changed" not in ended.stderr
    assert "Traceback" not in ended.stderr
    assert all(len(d["prompt_embedding"]) == 128 for d in world.documents(NAME).values())


@pytest.mark.parametrize("taken", ["gone", "full"])
def test_a_progress_bar_outlives_its_reader(monkeypatch: pytest.MonkeyPatch, taken: str) -> None:
    if taken == "gone":
        reading, writing = os.pipe()
        os.close(reading)
    else:
        writing = os.open("/dev/full", os.O_WRONLY)
    stream = io.TextIOWrapper(io.FileIO(writing, "w"), write_through=True)
    monkeypatch.setattr(sys, "stderr", stream)
    done = 0
    with Console().bar("Migrating", 3) as bar:
        for _ in range(3):
            done += 1
            bar.update()
            bar.refresh()
    assert done == 3


def test_letters_that_a_terminal_cannot_show_stop_nothing(world: World) -> None:
    world.fill(made_up(questions=60), 64)
    variables = {"PYTHONIOENCODING": "ascii", **LOCAL}
    done = world.fresh_interpreter(*ONLY, "--alias", "münchen", **variables)
    assert done.status == 0, done.text
    told = world.fresh_interpreter("history", module="migration", **variables)
    assert told.status == 0, told.text
    assert "m?nchen" in told.out


def test_the_last_status_has_the_totals(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=60), 64)
    world.import_(NAME, [{"id": "q7", "prompt_text": ""}], "update")
    ended = world.run(**openai(provider))
    assert ended.status == 1
    summaries = [ended.summary(name) for name in (NAME, "instructions")]
    status = orjson.loads(next(world.home.glob("runs/*/status.json")).read_bytes())
    assert status["phase"] == "done, some failed"
    assert (status["done"], status["failed"]) == (sum(each["success"] for each in summaries), 1)
    assert status["total"] == sum(each["count"] for each in summaries)
    assert status["documents_per_second"] > 0


def test_a_run_in_two_legs_is_measured_as_one(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=600), 64)
    assert world.run(*ONLY, "--limit", "500", **openai(provider)).status == 3
    first = metrics(world)
    assert world.run(*ONLY, **openai(provider)).status == 0
    both = metrics(world)
    assert both["documents"] == 600
    assert both["cost_usd"] > first["cost_usd"] > 0
    assert both["seconds"] > first["seconds"]


def test_the_bound_on_cost_holds_for_all_legs_of_a_run(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=2000), 64)
    for _ in range(3):
        done = world.run(*ONLY, "--max-cost", "0.0003", **openai(provider))
        assert done.status == 3, done.text
        assert "run again with a higher one" in done.err
    assert metrics(world)["cost_usd"] <= 0.0003
    for value in ("nan", "inf"):
        assert world.run("--max-cost", value, **openai(provider)).status == 2


def test_an_interruption_while_the_probe_waits_is_130(world: World) -> None:
    world.fill(made_up(questions=60), 64)
    with OpenAIStandIn(faults=lambda _n, _texts: Fault("status", 429, 30.0, "slow down")) as provider:
        child = world.start(*ONLY, **openai(provider))
        while not provider.requests:
            time.sleep(0.02)
        time.sleep(0.3)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=30)
        assert child.returncode == 130, err
        assert "Refused" not in err
        assert provider.requests == 1


def test_verify_needs_no_key_and_says_what_it_left_out(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=60), 64)
    variables = openai(provider)
    assert world.run(*ONLY, **variables).status == 0
    done = kai_migrate(world, "verify", variables=variables | {"OPENAI_API_KEY": ""})
    assert "No sample is embedded again: OPENAI_API_KEY" in done.err
    assert f"{NAME}: PASS" in done.out
    done = kai_migrate(world, "verify", status=1, variables=variables | {"OPENAI_API_KEY": "wrong-key-0123456789"})
    assert f"{NAME}: NOT CHECKED" in done.out
    assert "? sample embedded again: 0 of 0 (not done: Incorrect API key" in done.out


def test_a_collection_that_is_described_by_its_alias_is_verified_and_undone(
    world: World, provider: OpenAIStandIn, tmp_path: Path
) -> None:
    file = tmp_path / "notes.toml"
    file.write_text("[current]\nembedding_field = 'vector'\ntemplate = '{title}'\n")
    fields = [field("title"), field("vector", "float[]", num_dim=64)]
    world.http.post("/collections", json={"name": "notes_v1", "fields": fields}).raise_for_status()
    world.import_("notes_v1", [{"id": f"n{n}", "title": f"t {n}", "vector": [1.0] * 64} for n in range(6)])
    world.http.put("/aliases/current", json={"collection_name": "notes_v1"}).raise_for_status()
    described = ("--collections-file", str(file))
    assert world.run(*described, **openai(provider)).status == 0
    assert "notes_v1: PASS" in kai_migrate(world, "verify", *described, variables=openai(provider)).out
    kai_migrate(world, "rollback", "--collections", "current", "--yes", *described)
    assert {tuple(document["vector"]) for document in world.documents("notes_v1").values()} == {(1.0,) * 64}


def test_names_that_do_not_exist_are_refused_before_anything_is_done(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=60), 64)
    assert world.run("--collections", "", **openai(provider)).status == 2
    assert world.run("--alias", "a1", **openai(provider)).status == 0
    before = world.state()
    done = kai_migrate(world, "rollback", "--collections", "context_storez", "instructions", "--yes", status=2)
    assert "has no backup of 'context_storez'; there are: context_stores, instructions" in done.err
    assert world.state() == before
    done = kai_migrate(world, "backups", "--prune", "--run", "nope", status=2)
    assert "there is no backup of a run 'nope'" in done.err
    assert "Removed 2 backups" in kai_migrate(world, "backups", "--prune", "--run", "a1").out


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"ALL_PROXY": "socks5://127.0.0.1:1"}, "ALL_PROXY"),
        ({"SSL_CERT_FILE": "/nonexistent"}, "SSL_CERT_FILE"),
        ({"MIGRATION_LEDGER_URL": "sqlite+aiosqlite:///x.db"}, "MIGRATION_LEDGER_URL names 'sqlite+aiosqlite'"),
        ({"MIGRATION_LEDGER_URL": "sqlite:///x.db?timeout=abc"}, "MIGRATION_LEDGER_URL"),
    ],
)
def test_a_wrong_environment_is_refused_by_the_name_of_its_variable(
    world: World, provider: OpenAIStandIn, variables: dict[str, str], said: str
) -> None:
    world.fill(made_up(questions=60), 64)
    done = world.run(*ONLY, **(openai(provider) | variables))
    assert done.status == 2, done.text
    assert said in done.err
    assert "Traceback" not in done.err


def test_an_address_without_its_path_is_told_from_a_model_that_is_missing(
    world: World, provider: OpenAIStandIn
) -> None:
    world.fill(made_up(questions=60), 64)
    variables = openai(provider)
    done = world.run(*ONLY, **(variables | {"OPENAI_API_BASE": variables["OPENAI_API_BASE"].removesuffix("/v1")}))
    assert done.status == 2
    assert "OPENAI_API_BASE: the provider does not answer as it should" in done.err
    assert "usually ends in /v1" in done.err
