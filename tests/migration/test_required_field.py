"""A vector field that must have a value in every document, out of the schema while the application writes."""

from __future__ import annotations

import os
from typing import Any
from unittest.mock import patch

import pytest

from migration.cli.run import run as migrate
from migration.strategies.context import MigrationOptions, StrategyStopped
from migration.strategies.refill import Refill
from tests.providers import OpenAIStandIn
from tests.world import Document, World, field, made_up, openai

STORES = "context_stores"


@pytest.mark.parametrize(("strategy", "dimensions"), [("rebuild", 64), ("alter", 128)])
@pytest.mark.parametrize(
    "written",
    [
        [{"id": "n1", "prompt_text": "a new one", "prompt_embedding": [0.5] * 32}],
        [{"id": "n1", "prompt_text": "a new one"}],
        [{"id": "n1", "prompt_text": "one"}, {"id": "n2", "prompt_text": "two", "prompt_embedding": [0.5] * 32}],
    ],
    ids=["of another length", "missing", "both"],
)
def test_what_is_written_meanwhile_does_not_keep_a_required_field_away(
    world: World, provider: OpenAIStandIn, written: list[Document], strategy: Any, dimensions: int
) -> None:
    fields = [field("prompt_text"), field("prompt_embedding", "float[]", num_dim=64)]
    world.http.post("/collections", json={"name": STORES, "fields": fields}).raise_for_status()
    documents = made_up(questions=20)[STORES]
    world.import_(
        STORES,
        [{"id": d["id"], "prompt_text": d["prompt_text"], "prompt_embedding": [0.5] * 64} for d in documents],
    )
    mark = Refill._mark

    def write_before_the_field_comes_back(self: Refill, **values: Any) -> dict[str, Any]:
        if values.get("phase") == "adding":
            world.import_(STORES, written)
        return mark(self, **values)

    world.home.parent.mkdir(parents=True, exist_ok=True)
    with (
        patch.dict(os.environ, world.environment(**openai(provider, dimensions)), clear=True),
        patch.object(Refill, "_mark", write_before_the_field_comes_back),
    ):
        assert migrate(MigrationOptions(collections=(STORES,), strategy=strategy, patience=5)) == 0
    found = {known["name"]: known for known in world.schema(STORES)["fields"]}
    assert found["prompt_embedding"]["num_dim"] == dimensions
    now = world.documents(STORES)
    assert len(now) == 20 + len(written)
    assert all(len(document["prompt_embedding"]) == dimensions for document in now.values())


def test_a_dead_runs_length_is_not_the_one_that_a_later_target_is_to_have(
    world: World, provider: OpenAIStandIn
) -> None:
    fields = [field("prompt_text"), field("prompt_embedding", "float[]", num_dim=64)]
    world.http.post("/collections", json={"name": STORES, "fields": fields}).raise_for_status()
    documents = made_up(questions=20)[STORES]
    world.import_(
        STORES,
        [{"id": d["id"], "prompt_text": d["prompt_text"], "prompt_embedding": [0.5] * 64} for d in documents],
    )
    options = MigrationOptions(collections=(STORES,), strategy="alter", patience=5)
    world.home.parent.mkdir(parents=True, exist_ok=True)
    with (
        patch.dict(os.environ, world.environment(**openai(provider, 128)), clear=True),
        patch.object(Refill, "_fill", side_effect=StrategyStopped("dead")),
    ):
        assert migrate(options) == 3
    with patch.dict(os.environ, world.environment(**openai(provider, 256)), clear=True):
        assert migrate(options) == 0
    found = {known["name"]: known for known in world.schema(STORES)["fields"]}
    assert (found["prompt_embedding"]["num_dim"], found["prompt_embedding"]["optional"]) == (256, False)
