"""The vector field taken out and put back: same dimensions (rebuild) and other ones (alter)."""

from __future__ import annotations

import json

import httpx

from tests.migration.test_in_place import check
from tests.migration.test_recreate import check_recreated
from tests.providers import OpenAIStandIn
from tests.world import World, made_up, openai


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
    (collection,) = json.loads(world.run("show", "latest", "--json", module="migration").out)["collections"]
    assert f"paused for {collection['downtime_seconds']:.2f} s" in done.text
    assert f"a part of the documents for {collection['incomplete_seconds']:.2f} s" in done.text


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
    world.fill(made_up(questions=1_000), 64)
    done = world.run("--dry-run", "--collections", "context_stores", **openai(provider, 64))
    assert "Strategy: in place" in done.out
    assert "With --strategy rebuild instead" in done.out
    done = world.run("--dry-run", "--strategy", "alter", **openai(provider, 128))
    assert "Strategy: alter" in done.out
    assert "Recreate instead" in done.out
