"""A canary writes as many documents of each collection as it is told to, and never says more than is true."""

from __future__ import annotations

from tests.providers import OpenAIStandIn
from tests.providers.vectors import vector_for
from tests.world import World, as_float32, eligible, made_up, openai, text_of

MODEL = "text-embedding-3-small"


def newest(world: World, number: int) -> list[tuple[str, str]]:
    """Id and text of the documents that a search finds first."""
    found = world.http.get(
        "/collections/context_stores/documents/search", params={"q": "*", "per_page": number, "include_fields": "id"}
    )
    documents = world.documents("context_stores")
    ids = [hit["document"]["id"] for hit in found.json()["hits"]]
    return [(id_, text_of("context_stores", documents[id_])) for id_ in ids]


def test_a_limit_counts_for_each_collection(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=30, instructions=12), 64)
    done = world.run("--limit", "5", **openai(provider, 64))
    assert done.status == 3, done.text
    assert done.summary("context_stores")["success"] == 5
    assert done.summary("instructions")["success"] == 5


def test_documents_that_fail_do_not_use_up_the_limit(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=30), 64)
    refused = [text for _, text in newest(world, 2)]
    provider.refuse_texts = set(refused)
    done = world.run("--collections", "context_stores", "--limit", "3", **openai(provider, 64))
    assert done.status == 3, done.text
    summary = done.summary("context_stores")
    assert (summary["status"], summary["success"]) == ("stopped", 3)
    assert summary["failed"] >= 1


def test_documents_that_the_application_has_embedded_do_not_use_up_the_limit(
    world: World, provider: OpenAIStandIn
) -> None:
    world.fill(made_up(questions=30), 64)
    own = [
        {"id": id_, "prompt_embedding": [float(x) for x in vector_for(text, model=MODEL, dimensions=64)]}
        for id_, text in newest(world, 3)
    ]
    world.import_("context_stores", own, "update")
    done = world.run("--collections", "context_stores", "--limit", "3", **openai(provider, 64))
    assert done.status == 3, done.text
    carrying = [
        id_
        for id_, d in eligible("context_stores", world.documents("context_stores"))
        if as_float32(d["prompt_embedding"])
        == vector_for(text_of("context_stores", d), model=MODEL, dimensions=64).tobytes()
    ]
    assert len(carrying) == 6


def test_a_limit_that_leaves_nothing_out_is_none(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=30), 64)
    for limit in (["--limit", "30"], ["--until", "100%"]):
        done = world.run("--collections", "context_stores", "--force", *limit, **openai(provider, 64))
        assert done.status == 0, done.text
        assert "limit" not in done.err.replace(str(world.home), "")
