"""A change of dimensions: the collection is recreated under its own name."""

from __future__ import annotations

from typing import Any

import pytest

from tests.providers import OpenAIStandIn
from tests.world import DATA, EMBEDDING_FIELDS, World, as_float32, eligible, made_up, openai, real_text, text_of


def dimensions_of(schema: dict[str, Any], field: str) -> int:
    """The field's num_dim."""
    return int(next(f["num_dim"] for f in schema["fields"] if f["name"] == field))


def check_recreated(before: dict[str, Any], world: World, provider: OpenAIStandIn, dimensions: int) -> None:
    """All documents are there, in order, right, with new vectors; all that belongs to the collections survived."""
    for name, (schema, documents) in before.items():
        now, after = world.documents(name), world.schema(name)
        embedding = EMBEDDING_FIELDS.get(name, "")
        assert list(now) == list(documents)
        if embedding:
            assert dimensions_of(after, embedding) == dimensions
        fields = {
            f["name"]: {k: v for k, v in f.items() if (f["name"], k) != (embedding, "num_dim")} for f in after["fields"]
        }
        assert fields == {
            f["name"]: {k: v for k, v in f.items() if (f["name"], k) != (embedding, "num_dim")}
            for f in schema["fields"]
        }
        for key in ("default_sorting_field", "enable_nested_fields", "symbols_to_index", "token_separators"):
            assert after[key] == schema[key]
        targets = {id_ for id_, _ in eligible(name, documents)} if embedding else set()
        for id_, document in now.items():
            vector = document.pop(embedding, None)
            documents[id_].pop(embedding, None)
            assert document == documents[id_]
            expected = (
                provider.vector_for(text_of(name, document), dimensions=dimensions).tobytes()
                if id_ in targets
                else None
            )
            assert as_float32(vector) == expected, id_
    assert not [c["name"] for c in world.http.get("/collections").json() if "__" in c["name"]]


def test_every_document_comes_along_and_only_the_dimensions_change(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(), 64)
    before = world.state()
    done = world.run(**openai(provider, 128))
    assert done.status == 0, done.text
    check_recreated(before, world, provider, 128)
    assert done.summary("context_stores") == {"status": "completed", "count": 300, "success": 300, "failed": 0}
    again = len(provider.embedded)
    assert world.run("--sample", "0", **openai(provider, 128)).status == 0
    assert provider.embedded[again:] == ["probe"]


@pytest.mark.skipif(not DATA.exists(), reason="the real text is not at hand")
def test_real_text_goes_from_256_to_768_dimensions_and_back(world: World, provider: OpenAIStandIn) -> None:
    documents = real_text()
    world.fill({**documents, "context_stores": documents["context_stores"][:2000]}, 256)
    before = world.state()
    assert world.run(**openai(provider, 768)).status == 0
    check_recreated(before, world, provider, 768)
    before = world.state()
    assert world.run(**openai(provider, 256)).status == 0
    check_recreated(before, world, provider, 256)
