"""Ways that a collection's schema does not allow: refused with exit status 2 before anything is changed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.providers import OpenAIStandIn
from tests.world import World, field, made_up, openai

STORES = "context_stores"


def create(world: World, *more: dict[str, Any], dimensions: int = 64, **vector: Any) -> None:
    """Questions with old vectors, in a collection with `more` fields and a vector field of these attributes."""
    attributes = {"num_dim": dimensions, "optional": True, **vector}
    fields = [field("prompt_text"), field("prompt_embedding", "float[]", **attributes), *more]
    world.http.post("/collections", json={"name": STORES, "fields": fields}).raise_for_status()
    documents = [
        {"id": document["id"], "prompt_text": document["prompt_text"], "prompt_embedding": [0.5] * dimensions}
        for document in made_up(questions=20)[STORES]
    ]
    world.import_(STORES, documents)


@pytest.mark.parametrize(
    "detecting",
    [field(".*", "auto"), field("prompt_.*", "auto"), field(".*_embedding", "float[]"), field(".*", "string*")],
    ids=str,
)
@pytest.mark.parametrize(("strategy", "dimensions"), [("rebuild", 64), ("alter", 128)])
def test_a_field_that_the_server_would_find_by_itself_is_not_taken_out(
    world: World, provider: OpenAIStandIn, detecting: dict[str, Any], strategy: str, dimensions: int
) -> None:
    create(world, detecting)
    before = world.state((STORES,))
    done = world.run("--strategy", strategy, "--collections", STORES, **openai(provider, dimensions))
    assert done.status == 2, done.text
    assert detecting["name"] in done.err
    assert "leave --strategy out" in done.err
    assert world.state((STORES,)) == before
    assert world.run("--collections", STORES, **openai(provider, dimensions)).status == 0


def test_a_pattern_for_other_names_is_no_hindrance(world: World, provider: OpenAIStandIn) -> None:
    create(world, field("extra_.*", "auto"))
    done = world.run("--strategy", "rebuild", "--collections", STORES, **openai(provider, 64))
    assert done.status == 0, done.text
    found = {known["name"]: known for known in world.schema(STORES)["fields"]}
    assert found["prompt_embedding"]["num_dim"] == 64


@pytest.mark.parametrize("more", [(), (field(".*", "auto"),)], ids=["plain", "pattern"])
@pytest.mark.parametrize("phase", ["dropping", "adding"])
def test_a_field_that_the_server_found_meanwhile_does_not_count_as_put_back(
    world: World, provider: OpenAIStandIn, more: tuple[dict[str, Any], ...], phase: str
) -> None:
    create(world, *more, dimensions=64, hnsw_params={"M": 8, "ef_construction": 100})
    wanted = next(known for known in world.schema(STORES)["fields"] if known["name"] == "prompt_embedding")
    changes = [{"name": "prompt_embedding", "drop": True}, field("prompt_embedding", "float[]", optional=True)]
    world.http.patch(f"/collections/{STORES}", json={"fields": changes}).raise_for_status()
    mark = {
        "role": "rebuilding",
        "phase": phase,
        "field": {key: wanted[key] for key in ("name", "type", "num_dim", "optional", "hnsw_params")},
        "run": "a-dead-run",
        "old_dimensions": 64,
        "dropped_at": 1.0,
    }
    world.http.patch(f"/collections/{STORES}", json={"metadata": {"kai_migration": mark}}).raise_for_status()
    done = world.run("--collections", STORES, **openai(provider, 64))
    assert done.status == 0, done.text
    found = next(known for known in world.schema(STORES)["fields"] if known["name"] == "prompt_embedding")
    assert found == wanted
    assert "kai_migration" not in str(world.schema(STORES))


@pytest.mark.parametrize(("strategy", "dimensions"), [("auto", 128), ("rebuild", 64), ("alter", 128)])
def test_a_field_with_the_server_s_own_model_is_not_taken_out(
    world: World, provider: OpenAIStandIn, strategy: str, dimensions: int
) -> None:
    config = {"model_name": "openai/text-embedding-3-small", "api_key": "sk-abcdefghij"}
    create(world, embed={"from": ["prompt_text"], "model_config": config})
    before = world.state((STORES,))
    done = world.run("--strategy", strategy, "--collections", STORES, **openai(provider, dimensions))
    assert done.status == 2, done.text
    assert "`embed` setting" in done.err
    assert world.state((STORES,)) == before
