"""KAI's newer collections: migrated where they are there and asked for, and let be otherwise."""

from __future__ import annotations

import numpy as np

from tests.providers import OpenAIStandIn
from tests.world import Document, World, field, made_up, openai

VECTORS = {"skills": "skill_embedding", "kai_memories": "memory_embedding"}
FIELDS = {
    "skills": [field("name"), field("description"), field("content"), field("is_active", "bool")],
    "kai_memories": [field("key"), field("content_text")],
}
DOCUMENTS: dict[str, Document] = {
    "skills": {"id": "1", "name": "report", "description": "Sums up a month.", "content": "long", "is_active": False},
    "kai_memories": {"id": "1", "key": "likes", "content_text": "The user likes boats."},
}
TEXTS = {"skills": "report: Sums up a month.", "kai_memories": "The user likes boats."}


def test_they_are_migrated_when_they_are_named_and_not_with_all(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=4, instructions=4), 8)
    for name, embedding in VECTORS.items():
        fields = [*FIELDS[name], field(embedding, "float[]", num_dim=8, optional=True)]
        world.http.post("/collections", json={"name": name, "fields": fields}).raise_for_status()
        world.import_(name, [{**DOCUMENTS[name], embedding: [0.5] * 8}])
    before = world.state(VECTORS)
    assert world.run(**openai(provider, 8)).status == 0
    assert world.state(VECTORS) == before
    done = world.run("--collections", "skills", "kai_memories", **openai(provider, 8))
    assert done.status == 0, done.text
    assert "the template '{content_text}' is taken from KAI's schema of 'kai_memories'" in done.err
    for name, embedding in VECTORS.items():
        stored = world.documents(name)["1"]
        wanted = provider.vector_for(TEXTS[name], dimensions=8)
        assert np.array_equal(np.asarray(stored.pop(embedding), np.float32), np.asarray(wanted, np.float32))
        assert stored == DOCUMENTS[name]
