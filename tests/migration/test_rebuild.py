"""The vector field taken out and put back: same dimensions (rebuild) and other ones (alter)."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.migration.test_in_place import check
from tests.migration.test_recreate import check_recreated
from tests.providers import OpenAIStandIn
from tests.sandbox.server import RunningSandbox
from tests.world import World, made_up, openai


def test_a_rebuild_ends_like_a_migration_in_place(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(), 64)
    before = world.state()
    done = world.run("--strategy", "rebuild", **openai(provider, 64))
    assert done.status == 0, done.text
    for schema, _ in before.values():  # a field that was away comes back at the end
        schema["fields"].sort(key=lambda field: field["name"])
    after = world.state()
    for name, (schema, _) in after.items():
        assert sorted(schema["fields"], key=lambda field: field["name"]) == before[name][0]["fields"]
        before[name] = (schema, before[name][1])
    check(before, world, provider, 64)
    assert "kai_migration" not in str(after)
    assert done.summary("context_stores") == {"status": "completed", "count": 300, "success": 300, "failed": 0}


def test_an_alter_changes_the_dimensions_without_recreating(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(), 64)
    # A default instruction has a vector all the same: of the old length, it would keep the field from coming back.
    world.import_("instructions", [{"id": "i3", "instruction_embedding": [0.5] * 64}], "update")
    before = world.state()
    created = {name: schema["created_at"] for name, (schema, _) in before.items()}
    done = world.run("--strategy", "alter", **openai(provider, 128))
    assert done.status == 0, done.text
    assert {name: world.schema(name)["created_at"] for name in created} == created
    check_recreated(before, world, provider, 128)


def test_everything_is_embedded_before_the_search_pauses(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=600), 64)
    searchable_at: list[int] = []

    def watch(number: int, _texts: list[str]) -> None:
        with httpx.Client(base_url=world.url, headers={"X-TYPESENSE-API-KEY": world.key}) as client:
            fields = client.get("/collections/context_stores").json()["fields"]
        if any(field["name"] == "prompt_embedding" for field in fields):
            searchable_at.append(number)

    provider.faults = watch
    done = world.run("--strategy", "rebuild", "--collections", "context_stores", **openai(provider, 64))
    assert done.status == 0, done.text
    assert searchable_at == list(range(1, provider.requests + 1))


def kill_points() -> list[tuple[str, str]]:
    """Phases of status.json in which the process is killed, and the strategy."""
    phases = ("embedding", "emptying", "indexing", "filling")
    return [(phase, strategy) for strategy in ("rebuild", "alter") for phase in phases]


@pytest.mark.parametrize(("phase", "strategy"), kill_points())
def test_killed_in_any_phase_a_new_start_finishes(
    tmp_path: Path, provider: OpenAIStandIn, phase: str, strategy: str
) -> None:
    with RunningSandbox(tmp_path / "data", "--alter-seconds", "1") as sandbox:
        world = World(sandbox.url, sandbox.api_key, tmp_path / "work" / "home")
        world.fill(made_up(questions=300, instructions=4), 64)
        before = world.state()
        dimensions = 64 if strategy == "rebuild" else 128
        provider.latency = 0.3 if phase == "embedding" else 0.0
        process = world.start("--strategy", strategy, "--collections", "context_stores", **openai(provider, dimensions))
        try:
            _wait_for_phase(world, phase)
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        provider.latency = 0.0
        # Without the option, too, a start finishes what was begun; before the drop there is nothing to finish.
        arguments = ("--strategy", strategy) if phase == "embedding" else ()
        done = world.run("--collections", "context_stores", *arguments, **openai(provider, dimensions))
        assert done.status == 0, done.text
        before.pop("instructions")
        check_recreated(before, world, provider, dimensions)
        assert "kai_migration" not in str(world.schema("context_stores"))
        world.close()


def _wait_for_phase(world: World, phase: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if any(f'"phase": "{phase}"' in path.read_text() for path in world.home.glob("runs/*/status.json")):
            return
        time.sleep(0.02)
    pytest.fail(f"the run never came to {phase}")


def test_vectors_of_the_old_length_written_meanwhile_do_not_keep_the_field_away(
    tmp_path: Path, provider: OpenAIStandIn
) -> None:
    with RunningSandbox(tmp_path / "data", "--alter-seconds", "0.5") as sandbox:
        world = World(sandbox.url, sandbox.api_key, tmp_path / "work" / "home")
        world.fill(made_up(questions=300, instructions=4), 64)
        ended = threading.Event()
        added: list[str] = []

        def write() -> None:
            numbers = np.random.default_rng(3)
            with httpx.Client(base_url=world.url, headers={"X-TYPESENSE-API-KEY": world.key}, timeout=30) as client:
                while not ended.wait(0.05):
                    number = len(added)
                    answer = client.post(
                        "/collections/context_stores/documents",
                        json={
                            "id": f"new{number}",
                            "db_connection_id": "db1",
                            "prompt_text": f"a new question {number}",
                            "prompt_text_ner": "x",
                            "entities": [],
                            "labels": [],
                            "sql": "SELECT 1",
                            "created_at": "2026-01-01",
                            "prompt_embedding": [float(x) for x in numbers.normal(size=64)],
                        },
                    )
                    if answer.status_code == 201:
                        added.append(f"new{number}")

        writer = threading.Thread(target=write)
        writer.start()
        try:
            done = world.run("--strategy", "alter", "--collections", "context_stores", **openai(provider, 128))
        finally:
            ended.set()
            writer.join()
        assert done.status == 0, done.text
        documents = world.documents("context_stores")
        assert len(documents) == 300 + len(added)
        for id_ in added:
            vector = documents[id_].get("prompt_embedding")
            assert vector is None or len(vector) == 128
        world.close()


def test_a_canary_stops_at_its_limit_and_the_next_run_goes_on(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=600), 64)
    before = world.state()
    done = world.run("--collections", "context_stores", "--limit", "40", **openai(provider, 64))
    assert done.status == 3, done.text
    assert done.summary("context_stores")["success"] == 40
    assert "limit of 40 documents" in done.err
    now = world.documents("context_stores")
    changed = [id_ for id_, d in now.items() if d != before["context_stores"][1][id_]]
    assert len(changed) == 40
    done = world.run("--collections", "context_stores", "--until", "10%", **openai(provider, 64))
    assert done.status == 3, done.text
    assert world.run(**openai(provider, 64)).status == 0
    check(before, world, provider, 64)


def test_the_bound_on_cost_stops_the_run(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=600), 64)
    done = world.run("--max-cost", "0.0001", **openai(provider, 64))
    assert done.status == 3, done.text
    assert "--max-cost" in done.err
    assert world.run(**openai(provider, 64)).status == 0


def test_limits_that_cannot_be_are_refused(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=20), 64)
    for arguments in (["--until", "5"], ["--until", "x%"], ["--limit", "0"], ["--max-cost", "0"]):
        assert world.run(*arguments, **openai(provider, 64)).status == 2
    done = world.run("--limit", "5", **openai(provider, 128))
    assert done.status == 2
    assert "--limit" in done.err


def test_the_dry_run_compares_both_ways(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=20), 64)
    done = world.run("--dry-run", **openai(provider, 64))
    assert "with --strategy rebuild" in done.out
    done = world.run("--dry-run", "--strategy", "alter", **openai(provider, 128))
    assert "Strategy: alter" in done.out
