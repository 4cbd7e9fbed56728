"""Another model under the name of the one whose vectors stand there is told before anything is changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from migration.ledger import Ledger
from tests.providers import OllamaStandIn, OpenAIStandIn
from tests.providers.faults import Fault
from tests.providers.standin import Asked, FloatArray, StandIn
from tests.providers.vectors import vector_for
from tests.world import World, as_float32, made_up, openai, text_of

NAME = "context_stores"
ONLY = ("--collections", NAME)


class Impostor(OpenAIStandIn):
    """Has another model under each name."""

    def vector_for(self, text: str, *, model: str | None = None, **options: Any) -> FloatArray:
        return vector_for(text, model=f"not {model or self.model}", dimensions=options["dimensions"])

    def embed(self, asked: Asked) -> Iterator[FloatArray]:
        return (self.vector_for(text, model=asked.model, dimensions=asked.dimensions) for text in asked.texts)


@pytest.fixture
def impostor() -> Iterator[Impostor]:
    with Impostor() as stand_in:
        yield stand_in


def standing(world: World, provider: StandIn, dimensions: int = 64) -> int:
    """How many documents have this provider's vector of their text."""
    documents = world.documents(NAME).values()
    return sum(
        as_float32(document["prompt_embedding"])
        == provider.vector_for(text_of(NAME, document), dimensions=dimensions).tobytes()
        for document in documents
    )


def is_a_probe_and_a_sample(batches: list[list[str]]) -> bool:
    """Two requests; some of the ten documents may have the same text."""
    return len(batches) == 2 and batches[0] == ["probe"] and 7 <= len(batches[1]) <= 10


def shown(world: World) -> dict[str, Any]:
    return dict(json.loads(world.run("show", "latest", "--json", module="migration").out))


def test_another_model_of_the_same_name_is_refused_and_force_embeds_everything_with_it(
    world: World, provider: OpenAIStandIn, impostor: Impostor
) -> None:
    world.fill(made_up(questions=60), 64)
    assert world.run(*ONLY, **openai(provider)).status == 0
    before, runs = world.state(), shown(world)["run"]["name"]
    for dry in ((), ("--dry-run",)):
        done = world.run(*ONLY, *dry, **openai(impostor))
        assert done.status == 2, done.text
        assert "another model has the name 'text-embedding-3-small' now" in done.err
        assert "of 10 current texts embedded again, 10 have other vectors" in done.err
        assert f"came from {provider.api_base.replace('127.0.0.1', 'localhost')} before" in done.err
        assert "correct OPENAI_API_BASE or EMBEDDING_MODEL, or give --force" in done.err
    assert world.state() == before
    assert shown(world)["run"]["name"] == runs
    # What was compared is kept nowhere: the old address goes on as if nothing had been.
    assert world.run(*ONLY, **openai(provider)).status == 0
    assert standing(world, provider) == 60

    done = world.run(*ONLY, "--force", **openai(impostor))
    assert done.status == 0, done.text
    assert "! another model has the name" in done.err
    assert standing(world, impostor) == 60
    done = world.run(*ONLY, **openai(impostor))
    assert done.status == 0, done.text
    assert standing(world, impostor) == 60


def test_what_a_forced_run_leaves_behind_is_not_taken_for_the_new_models(
    world: World, provider: OpenAIStandIn, impostor: Impostor
) -> None:
    world.fill(made_up(questions=60), 64)
    assert world.run(*ONLY, **openai(provider)).status == 0
    failing = world.documents(NAME)["q7"]
    impostor.refuse_texts = {failing["prompt_text"]}
    assert world.run(*ONLY, "--force", **openai(impostor)).status == 1
    assert standing(world, impostor) == 59
    impostor.refuse_texts = set()
    assert world.run(*ONLY, **openai(impostor)).status == 0
    assert standing(world, impostor) == 60


def test_an_interrupted_forced_run_is_finished_without_force(
    world: World, provider: OpenAIStandIn, impostor: Impostor
) -> None:
    world.fill(made_up(questions=60), 64)
    assert world.run(*ONLY, **openai(provider)).status == 0
    assert world.run(*ONLY, "--force", "--limit", "20", **openai(impostor)).status == 3
    assert world.run(*ONLY, **openai(impostor)).status == 0
    assert standing(world, impostor) == 60


def test_a_proxy_in_front_of_the_same_model_costs_one_request_and_is_told(
    world: World, provider: OpenAIStandIn
) -> None:
    world.fill(made_up(questions=60), 64)
    assert world.run(*ONLY, **openai(provider)).status == 0
    before, sent = world.state(), len(provider.batches)
    with OpenAIStandIn() as proxy:
        for dry in (("--dry-run",), ()):
            done = world.run(*ONLY, *dry, **openai(proxy))
            assert done.status == 0, done.text
            assert "came from http://localhost:" in done.err
            assert "10 current texts embedded again have the vectors that are there" in done.err
        assert "All 60 were current already" in done.err
        assert is_a_probe_and_a_sample(proxy.batches[:2])
        assert is_a_probe_and_a_sample(proxy.batches[2:])
        done = world.run(*ONLY, **openai(proxy))  # Told once: what is recorded is the new one.
        assert "came from" not in done.err
    assert world.state() == before
    assert len(provider.batches) == sent
    found = shown(world)
    assert found["provider_server"] == proxy.api_base.replace("127.0.0.1", "localhost")
    assert found["run"]["model"]["provider_server"] == found["provider_server"]


def test_a_cache_that_outlived_its_ledger_is_compared_too(
    world: World, provider: OpenAIStandIn, impostor: Impostor
) -> None:
    world.fill(made_up(questions=60), 64)
    assert world.run(*ONLY, **openai(provider)).status == 0
    for file in world.home.glob("ledger.sqlite*"):
        file.unlink()
    before = world.state()
    done = world.run(*ONLY, **openai(impostor))
    assert done.status == 2, done.text
    assert world.state() == before
    assert world.run(*ONLY, "--force", **openai(impostor)).status == 0
    assert standing(world, impostor) == 60


def test_what_the_cache_kept_is_not_written_for_a_provider_that_has_changed(
    world: World, provider: OpenAIStandIn, impostor: Impostor
) -> None:
    world.fill(made_up(questions=60), 64)
    assert world.run(*ONLY, **openai(provider)).status == 0
    assert world.run("rollback", "--yes", module="migration").status == 0
    before = world.state()
    done = world.run(*ONLY, **openai(impostor))  # Nothing is current, and the cache has every text.
    assert done.status == 2, done.text
    assert world.state() == before
    assert world.run(*ONLY, "--force", **openai(impostor)).status == 0
    assert standing(world, impostor) == 60


def test_a_forced_run_that_is_refused_forgets_nothing(
    world: World, provider: OpenAIStandIn, impostor: Impostor
) -> None:
    world.fill(made_up(questions=60), 64)
    assert world.run(*ONLY, "--alias", "spring", **openai(provider)).status == 0
    done = world.run(*ONLY, "--force", "--alias", "spring", **openai(impostor))
    assert done.status == 2, done.text
    sent = len(provider.batches)
    assert world.run(*ONLY, **openai(provider)).status == 0
    assert is_a_probe_and_a_sample(provider.batches[sent:])


def test_nothing_is_compared_where_nothing_is_known_or_no_sample_is_wanted(
    world: World, provider: OpenAIStandIn
) -> None:
    world.fill(made_up(questions=20), 64)
    assert world.run(*ONLY, **openai(provider)).status == 0
    assert [len(batch) for batch in provider.batches] == [1, 18]
    assert world.run(*ONLY, "--sample", "0", **openai(provider)).status == 0
    assert [len(batch) for batch in provider.batches] == [1, 18, 1]


def test_a_provider_that_is_gone_after_the_probe_refuses_the_run_before_anything_is_changed(
    world: World, provider: OpenAIStandIn
) -> None:
    world.fill(made_up(questions=20), 64)
    assert world.run(*ONLY, **openai(provider)).status == 0
    before = world.state()
    provider.faults = lambda _n, texts: None if texts == ["probe"] else Fault("status", 401, None, "revoked")
    done = world.run(*ONLY, **openai(provider))
    assert done.status == 2, done.text
    assert "OPENAI_API_BASE: the embedding provider: revoked" in done.err
    assert world.state() == before


def test_a_tag_of_ollama_that_was_moved_is_told_by_its_digest(world: World) -> None:
    world.fill(made_up(questions=20), 64)
    with OllamaStandIn(models={"nomic-embed-text": 64}) as ollama:
        ollama.digests = {"nomic-embed-text:latest": "a" * 64}
        variables = ollama.environment(dimensions=64)
        assert world.run(*ONLY, **variables).status == 0
        found = shown(world)
        assert (found["model_digest"], found["run"]["model"]["model_digest"]) == ("a" * 64, "a" * 64)
        ollama.digests = {"nomic-embed-text:latest": "b" * 64}
        done = world.run(*ONLY, **variables)
        assert done.status == 0, done.text
        assert f"was {'a' * 19} before, and is {'b' * 19} now; 10 current texts" in done.err
        ollama.digests = {}  # A proxy, say, that does not tell.
        assert "digest" not in world.run(*ONLY, **variables).err
    assert shown(world)["model_digest"] is None
    with Ledger.open(None, world.home) as ledger:
        assert ledger.models()[0].model.model_digest == "b" * 64
