"""Whole runs with several servers of one model, with a class of the user's own, and with a further family."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.migration.test_same_model import NAME, ONLY, Impostor, standing
from tests.providers import CohereStandIn, Fault, OpenAIStandIn
from tests.providers.vectors import vector_for
from tests.world import World, as_float32, made_up, openai, text_of

LITTLE = {"EMBEDDING_REQUEST_TEXTS": "20"}


@pytest.fixture
def other() -> Iterator[OpenAIStandIn]:
    with OpenAIStandIn() as stand_in:
        yield stand_in


def both(one: OpenAIStandIn, other: OpenAIStandIn) -> dict[str, str]:
    return openai(one) | LITTLE | {"OPENAI_API_BASE": f"{one.api_base}, {other.api_base}/"}


def test_a_server_that_dies_in_mid_run_is_left_out_and_the_run_goes_on(
    world: World, provider: OpenAIStandIn, other: OpenAIStandIn
) -> None:
    world.fill(made_up(questions=300), 64)
    provider.latency = 0.05  # so that the other is preferred until it dies
    other.faults = lambda number, _texts: Fault("drop") if number > 4 else None
    done = world.run(*ONLY, **both(provider, other))
    assert done.status == 0, done.text
    assert standing(world, provider) == 300
    addresses = [stand_in.api_base.replace("127.0.0.1", "localhost") for stand_in in (provider, other)]
    assert f"{addresses[1]} is left out for the time being" in done.err
    assert len(other.embedded) > 20  # the text that is compared, and some of the documents'
    shown = json.loads(world.run("show", "latest", "--json", module="migration").out)
    assert shown["provider_server"] == ",".join(sorted(addresses))


def test_a_server_of_another_model_is_named_before_anything_is_changed(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=20), 64)
    before = world.state()
    with Impostor() as impostor:
        done = world.run(*ONLY, **both(provider, impostor))
    assert done.status == 2, done.text
    assert "OPENAI_API_BASE: the provider does not answer as it should: " in done.err
    assert "gives the same text another vector than" in done.err
    assert "ends in /v1" not in done.err
    assert world.state() == before


def test_a_class_of_the_users_own_embeds_a_collection(world: World) -> None:
    world.fill(made_up(questions=60), 64)
    family = {"EMBEDDING_FAMILY": "custom:tests.families.own:Plain", "EMBEDDING_MODEL": "ours/1"}
    done = world.run(*ONLY, **family, EMBEDDING_DIMENSIONS="64")
    assert done.status == 0, done.text
    documents = world.documents(NAME).values()
    for document in documents:
        expected = vector_for(text_of(NAME, document), model="ours/1", dimensions=64)
        assert as_float32(document["prompt_embedding"]) == expected.tobytes()
    again = world.run(
        *ONLY, **family | {"EMBEDDING_FAMILY": "custom:tests.families.own:Nobody"}, EMBEDDING_DIMENSIONS="64"
    )
    assert again.status == 2
    assert "EMBEDDING_FAMILY: module tests.families.own has no 'Nobody'; it has " in again.err
    assert "Traceback" not in again.text


def test_a_hosted_family_embeds_stored_texts_as_questions_and_names_its_own_key_when_that_is_refused(
    world: World,
) -> None:
    world.fill(made_up(questions=100), 64)
    with CohereStandIn() as cohere:
        done = world.run(*ONLY, **cohere.environment() | {"COHERE_API_KEY": "another-key-0123456789"})
        assert done.status == 2, done.text
        assert "COHERE_API_KEY: the provider refuses the key: invalid api token" in done.err
        done = world.run(*ONLY, **cohere.environment())
        assert done.status == 0, done.text
        for document in world.documents(NAME).values():
            expected = cohere.vector_for(text_of(NAME, document), task_type="search_query")
            assert as_float32(document["prompt_embedding"]) == expected.tobytes()
