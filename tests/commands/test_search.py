"""`search` over a real run: what stands next to a text, and whose vectors these are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.commands.conftest import Answer, Invoke, migrated_world
from tests.providers import OpenAIStandIn
from tests.sandbox.server import RunningSandbox
from tests.world import World, openai

SMALL, LARGE = "text-embedding-3-small", "text-embedding-3-large"
NAME = "context_stores"


@pytest.fixture(scope="module")
def provider() -> Iterator[OpenAIStandIn]:
    """One provider for the run and for the questions."""
    with OpenAIStandIn() as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def migrated(
    shared_sandbox: RunningSandbox, provider: OpenAIStandIn, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """A server whose documents were embedded by the small model."""
    with migrated_world(shared_sandbox, tmp_path_factory.mktemp("runs"), provider, questions=40) as world:
        yield world


@pytest.fixture
def ask(invoke: Invoke, migrated: World, provider: OpenAIStandIn) -> Invoke:
    """Call `kai-migrate search` with the model of the run, or the one that is given."""

    def call(*arguments: str, **variables: str) -> Answer:
        return invoke("search", *arguments, **migrated.environment(**openai(provider)) | variables)

    return call


def test_the_nearest_documents_are_found_by_the_vector_that_the_application_would_ask_with(
    ask: Invoke, migrated: World, provider: OpenAIStandIn
) -> None:
    question = "how many bicycles were sold?"
    vector = provider.vector_for(question, dimensions=64)
    documents = migrated.documents(NAME)
    distances = {id_: 1 - float(np.dot(vector, d["prompt_embedding"])) for id_, d in documents.items()}
    found = ask(NAME, question, "--json").json
    assert (found["collection"], found["text"], found["model"]) == (NAME, question, f"openai/{SMALL}/64")
    assert (found["is_same_model"], found["notes"]) == (True, [])
    assert len(found["hits"]) == 10
    assert {hit["document_id"] for hit in found["hits"]} <= set(sorted(distances, key=distances.__getitem__)[:11])
    for hit in found["hits"]:
        assert hit["distance"] == pytest.approx(distances[hit["document_id"]], abs=1e-5)
        assert hit["text"] == documents[hit["document_id"]]["prompt_text"]
        assert hit["model"] == f"openai/{SMALL}/64"
    assert provider.batches[-1] == [question]


def test_a_documents_own_text_is_found_at_its_place_and_a_filter_and_k_narrow_it(ask: Invoke, migrated: World) -> None:
    text = migrated.documents(NAME)["q3"]["prompt_text"]
    answer = ask(NAME, text, "--k", "3")
    assert answer.status == 0
    title, first, *others = answer.text.splitlines()
    assert title.split() == ["DISTANCE", "DOCUMENT", "MODEL", "TEXT"]
    assert first.split()[:3] == ["0.0000", "q3", f"openai/{SMALL}/64"]
    assert first.endswith(text)
    assert len(others) == 2
    hits = ask(NAME, text, "--filter", "db_connection_id:=db1", "--json").json["hits"]
    assert {migrated.documents(NAME)[hit["document_id"]]["db_connection_id"] for hit in hits} == {"db1"}
    assert "has no document next to this text" in ask(NAME, text, "--filter", "db_connection_id:=nowhere").text


def test_vectors_of_another_model_are_told_by_the_metadata_and_by_the_ledger(ask: Invoke, migrated: World) -> None:
    answer = ask(NAME, "bicycles", EMBEDDING_MODEL=LARGE)
    assert answer.status == 0
    ours, theirs = f"openai/{LARGE}/64", f"openai/{SMALL}/64"
    assert f"! by its metadata '{NAME}' has vectors of {theirs}, and {ours} embedded the text" in answer.text
    assert f"! by the ledger 10 of 10 hits have vectors of {theirs}" in answer.text
    assert ask(NAME, "bicycles", "--json", EMBEDDING_MODEL=LARGE).json["is_same_model"] is False


def test_of_a_vector_that_somebody_else_wrote_no_model_is_named(ask: Invoke, migrated: World) -> None:
    document = migrated.documents(NAME)["q5"]
    migrated.import_(NAME, [{"id": "q5", "prompt_embedding": [0.5] * 64}], "update")
    try:
        hits = ask(NAME, document["prompt_text"], "--k", "40", "--json").json["hits"]
    finally:
        migrated.import_(NAME, [{"id": "q5", "prompt_embedding": document["prompt_embedding"]}], "update")
    assert [hit["document_id"] for hit in hits if hit["model"] is None] == ["q5"]


def test_without_ledger_and_metadata_nobody_says_whose_vectors_they_are(
    ask: Invoke, migrated: World, tmp_path: Path
) -> None:
    metadata = migrated.schema(NAME)["metadata"]
    migrated.http.patch(f"/collections/{NAME}", json={"metadata": {"other": 1}}).raise_for_status()
    home = tmp_path / "nothing"
    try:
        found = ask(NAME, "bicycles", "--json", MIGRATION_HOME=str(home)).json
    finally:
        migrated.http.patch(f"/collections/{NAME}", json={"metadata": metadata}).raise_for_status()
    assert (found["is_same_model"], {hit["model"] for hit in found["hits"]}) == (None, {None})
    assert not home.exists()  # Looking makes no ledger.


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        (("nowhere", "x"), {}, "COLLECTION: unknown collection 'nowhere'; known: context_stores"),
        (("table_descriptions", "x"), {}, "COLLECTION: 'table_descriptions' does not exist on"),
        ((NAME, "  "), {}, "TEXT: it is empty"),
        ((NAME, "x", "--filter", "nonsense:=1"), {}, "--filter: Typesense refuses the search:"),
        ((NAME, "x"), {"EMBEDDING_DIMENSIONS": "32"}, "EMBEDDING_DIMENSIONS: the vectors in 'prompt_embedding'"),
        ((NAME, "x"), {"OPENAI_API_KEY": "wrong-key-0123456789"}, "OPENAI_API_KEY: the provider refuses the key"),
        ((NAME, "x"), {"EMBEDDING_MODEL": ""}, "EMBEDDING_MODEL"),
        ((NAME, "word " * 9000), {}, "the provider refuses the text"),
    ],
)
def test_what_cannot_be_searched_for_is_refused(
    ask: Invoke, arguments: tuple[str, ...], variables: dict[str, str], words: str
) -> None:
    answer = ask(*arguments, **variables)
    assert answer.status == 2
    assert words in answer.text
