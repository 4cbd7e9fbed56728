"""What a rebuild embeds and backs up before the vector field leaves the schema."""

from __future__ import annotations

import json

import pytest

from tests.providers import Fault, OpenAIStandIn
from tests.world import World, eligible, made_up, openai, text_of

KAI_MIGRATE = "migration"
RULES = "instructions"


def fill(world: World) -> None:
    """Instructions, a quarter of them outside the filter, those with a text that is nobody's business."""
    documents = made_up(questions=5, instructions=40)
    for document in documents[RULES]:
        if document["is_default"]:
            document["rules"] += " by default"
    world.fill(documents, 64)


@pytest.mark.parametrize(("strategy", "dimensions"), [("rebuild", 64), ("alter", 128)])
def test_documents_outside_the_filter_are_not_embedded(
    world: World, provider: OpenAIStandIn, strategy: str, dimensions: int
) -> None:
    fill(world)
    done = world.run("--strategy", strategy, "--collections", RULES, **openai(provider, dimensions))
    assert done.status == 0, done.text
    documents = dict(eligible(RULES, world.documents(RULES)))
    assert 0 < len(documents) < 40
    texts = {text_of(RULES, document) for document in documents.values()}
    assert set(provider.embedded) == texts | {"probe"}


def test_documents_outside_the_filter_are_backed_up(world: World, provider: OpenAIStandIn) -> None:
    fill(world)
    numbers = [round(0.01 * number, 2) for number in range(1, 65)]
    world.import_(RULES, [{"id": "i3", "instruction_embedding": numbers}], "update")
    before = world.documents(RULES)
    assert before["i3"]["is_default"]
    done = world.run("--strategy", "alter", "--collections", RULES, **openai(provider, 128))
    assert done.status == 0, done.text
    assert "instruction_embedding" not in world.documents(RULES)["i3"]
    back = world.run("rollback", "--yes", module=KAI_MIGRATE, **openai(provider, 128))
    assert back.status == 0, back.text
    assert world.documents(RULES) == before


@pytest.mark.parametrize("strategy", ["rebuild", "alter"])
def test_the_backup_of_a_rebuild_that_failed_is_not_complete(
    world: World, provider: OpenAIStandIn, strategy: str
) -> None:
    world.fill(made_up(questions=600), 64)
    before = world.state()
    provider.faults = lambda number, _texts: Fault("status", status=401) if number > 2 else None
    arguments = ("--strategy", strategy, "--collections", "context_stores", "--patience", "1", "--concurrency", "1")
    done = world.run(*arguments, **openai(provider, 64 if strategy == "rebuild" else 128))
    assert done.status == 3, done.text
    manifests = [json.loads(path.read_text()) for path in world.home.glob("backups/*/*/manifest.json")]
    assert [manifest["complete"] for manifest in manifests] == [False]
    assert world.state() == before


def test_a_rebuild_of_what_is_current_takes_nothing_out(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=30), 64)
    before = world.state()
    first = world.run("--strategy", "rebuild", **openai(provider, 64))
    assert first.status == 0, first.text
    state, bought = world.state(), len(provider.embedded)
    again = world.run("--strategy", "rebuild", **openai(provider, 64))
    assert again.status == 0, again.text
    assert "nothing was written" in again.err
    assert "vector search paused" not in again.err
    assert world.state().keys() == state.keys()
    assert {name: documents for name, (_, documents) in world.state().items()} == {
        name: documents for name, (_, documents) in state.items()
    }
    assert len(provider.embedded) <= bought + 30
    back = world.run("rollback", "--yes", module=KAI_MIGRATE, **openai(provider, 64))
    assert back.status == 0, back.text
    for name, (_, documents) in before.items():
        assert world.documents(name) == documents
