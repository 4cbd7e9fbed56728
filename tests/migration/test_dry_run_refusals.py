"""A preview refuses what the run would refuse."""

from __future__ import annotations

import pytest

from tests.providers import OpenAIStandIn
from tests.world import World, field, made_up, openai


def refused_twice(world: World, *arguments: str, **variables: str) -> str:
    """What a preview says, which the run must say too."""
    before = world.state()
    preview = world.run("--dry-run", *arguments, **variables)
    run = world.run(*arguments, **variables)
    assert (preview.status, run.status) == (2, 2), preview.text + run.text
    assert world.state() == before
    assert preview.err == run.err
    return preview.err


@pytest.mark.parametrize("bound", [("--limit", "5"), ("--until", "5%")])
@pytest.mark.parametrize(
    ("strategy", "dimensions", "said"),
    [("rebuild", 64, "(rebuild)"), ("alter", 128, "(alter)"), ("auto", 128, "(recreate)")],
)
def test_a_limit_on_what_is_migrated_as_a_whole(
    world: World, provider: OpenAIStandIn, bound: tuple[str, str], strategy: str, dimensions: int, said: str
) -> None:
    world.fill(made_up(questions=20), 64)
    told = refused_twice(world, *bound, "--strategy", strategy, **openai(provider, dimensions))
    assert f"context_stores {said}, instructions {said}" in told


def test_each_collection_that_a_limit_excludes_is_named_with_its_own_strategy(
    world: World, provider: OpenAIStandIn
) -> None:
    world.fill(made_up(questions=20), 64)
    vector = field("instruction_embedding", "float[]", num_dim=32, optional=True)
    changes = {"fields": [{"name": "instruction_embedding", "drop": True}]}
    documents = [{"id": id_, "instruction_embedding": None} for id_ in world.documents("instructions")]
    world.import_("instructions", documents, "update")
    world.http.patch("/collections/instructions", json=changes).raise_for_status()
    world.http.patch("/collections/instructions", json={"fields": [vector]}).raise_for_status()
    told = refused_twice(world, "--limit", "5", **openai(provider, 64))
    assert "instructions (recreate) can" in told
    assert "context_stores" not in told


def test_an_alter_embeds_documents_outside_the_filter_too_where_the_field_is_required(
    world: World, provider: OpenAIStandIn
) -> None:
    world.fill(made_up(questions=5), 64)
    world.http.delete("/collections/instructions").raise_for_status()
    names = [field(name) for name in ("condition", "rules")]
    fields = [*names, field("is_default", "bool"), field("instruction_embedding", "float[]", num_dim=64)]
    world.http.post("/collections", json={"name": "instructions", "fields": fields}).raise_for_status()
    documents = made_up()["instructions"]
    for document in documents:
        document["instruction_embedding"] = [0.5] * 64
    world.import_("instructions", documents)
    options = ("--strategy", "alter", "--collections", "instructions")
    preview = world.run("--dry-run", *options, **openai(provider, 128))
    assert preview.status == 0, preview.text
    assert "must have a value in every document, so documents outside the filter are embedded too" in preview.out
    assert "vector search pauses a second time" in preview.out
    done = world.run(*options, **openai(provider, 128))
    assert done.status == 0, done.text
    assert all(len(document["instruction_embedding"]) == 128 for document in world.documents("instructions").values())
    found = {known["name"]: known for known in world.schema("instructions")["fields"]}["instruction_embedding"]
    assert (found["num_dim"], found["optional"]) == (128, False)


def test_a_bound_on_a_cost_that_is_not_known(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=5), 64)
    told = refused_twice(world, "--max-cost", "1", **openai(provider, 64, "some-other-model"))
    assert "--max-cost" in told


def test_an_alias_that_is_taken(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=5), 64)
    assert world.run("--dry-run", "--alias", "spring", **openai(provider, 64)).status == 0
    assert not (world.home / "ledger.sqlite").exists()
    assert world.run("--alias", "spring", **openai(provider, 64)).status == 0
    preview = world.run("--dry-run", "--alias", "spring", **openai(provider, 64))
    assert preview.status == 2, preview.text
    assert "the alias 'spring' belongs to run" in preview.err
    assert world.run("--dry-run", "--alias", "summer", **openai(provider, 64)).status == 0
    assert world.run("--dry-run", "--alias", "latest", **openai(provider, 64)).status == 2


def test_the_alias_of_a_run_that_is_gone_on_with_is_not_taken(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=20), 64)
    assert world.run("--alias", "spring", "--limit", "5", **openai(provider, 64)).status == 3
    assert world.run("--dry-run", "--alias", "spring", **openai(provider, 64)).status == 0
    assert world.run("--alias", "spring", **openai(provider, 64)).status == 0
