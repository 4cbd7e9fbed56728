"""What a batch embeds is what KAI's `embed_query` gives, over HTTP, for every family."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import pytest
import responses

from kai.embedding_interface import ArrayEmbeddings
from kai.embeddings import make_embeddings
from kai.models import request_limits
from tests.families.applications import application
from tests.providers import OllamaStandIn, OpenAIStandIn, StandIn

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

TEXTS = [
    "Which courses can undergraduates take?",
    "SELECT name\nFROM course\tWHERE number = 550;",
    "  blanks at both ends  ",
    "Größe, 日本語のテキスト, 한국어, العربية, 🎉👩‍👩‍👧",
    'quotes " and \\ backslashes',
    "<|endoftext|> is a word here",
    "a",
]


def as_array(embeddings: Embeddings, texts: list[str]) -> npt.NDArray[np.float32]:
    return cast(ArrayEmbeddings, embeddings).embed_array(texts)


def test_a_batch_gives_every_text_the_vector_of_the_applications_embed_query(provider: StandIn) -> None:
    embeddings = make_embeddings(provider.settings())
    kai = application(provider, provider.model, 768)
    vectors = as_array(embeddings, TEXTS)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TEXTS), 768)
    for text, vector in zip(TEXTS, vectors, strict=True):
        assert np.array_equal(vector, np.asarray(kai.embed_query(text), dtype=np.float32))
        assert np.array_equal(vector, provider.vector_for(text))


def test_a_document_and_a_query_get_the_same_vector(provider: StandIn) -> None:
    embeddings = make_embeddings(provider.settings())
    for text in TEXTS:
        assert embeddings.embed_documents([text])[0] == embeddings.embed_query(text)


def test_arrays_and_lists_are_the_same_numbers(provider: StandIn) -> None:
    embeddings = make_embeddings(provider.settings())
    assert as_array(embeddings, TEXTS).tolist() == embeddings.embed_documents(TEXTS)


def test_a_batch_asks_for_each_text_exactly_as_the_application_asks_for_one(provider: StandIn) -> None:
    make_embeddings(provider.settings()).embed_documents(["one text"])
    application(provider, provider.model, 768).embed_query("one text")
    ours, kais = provider.bodies
    if provider.family == "ollama":
        assert ours.pop("truncate") is False
    ours.pop("encoding_format", None)
    kais.pop("encoding_format", None)
    if isinstance(ours.get("input"), str):
        ours["input"] = [ours["input"]]
    assert ours == kais


def test_the_largest_batch_within_the_limits_is_one_request(provider: StandIn) -> None:
    limits = request_limits(provider.family)
    texts = [f"a b c d e f g {number}" for number in range(limits.texts)]
    vectors = as_array(make_embeddings(provider.settings()), texts)
    assert vectors.shape == (limits.texts, 768)
    assert provider.requests == 1
    assert provider.batches == [texts]


@pytest.mark.parametrize(("model", "dimensions"), [("text-embedding-3-large", 3072), ("text-embedding-3-large", 1)])
def test_openai_gives_the_dimensions_that_were_asked_for(model: str, dimensions: int) -> None:
    with OpenAIStandIn() as provider:
        embeddings = make_embeddings(provider.settings(model=model, dimensions=dimensions))
        assert len(embeddings.embed_query("text")) == dimensions
        assert provider.bodies[0]["dimensions"] == dimensions


def test_dimensions_are_not_named_to_ada_002_which_refuses_them() -> None:
    with OpenAIStandIn() as provider:
        settings = provider.settings(model="text-embedding-ada-002", dimensions=1536)
        vector = make_embeddings(settings).embed_query("text")
        kai = application(provider, "text-embedding-ada-002", 1536)
        assert vector == kai.embed_query("text")
        assert "dimensions" not in provider.bodies[0]


def test_a_server_that_refuses_dimensions_is_asked_without_them_from_then_on() -> None:
    with OpenAIStandIn(models={"bge-m3": 1024}, refuses_dimensions=True) as provider:
        embeddings = make_embeddings(provider.settings(model="bge-m3", dimensions=1024))
        first = embeddings.embed_query("text")
        assert (len(first), provider.requests) == (1024, 2)
        assert embeddings.embed_query("text") == first
        assert provider.requests == 3


def test_a_server_that_refuses_dimensions_is_not_believed_if_its_vectors_have_another_length() -> None:
    with OpenAIStandIn(models={"bge-m3": 1024}, refuses_dimensions=True) as provider:
        embeddings = make_embeddings(provider.settings(model="bge-m3", dimensions=512))
        with pytest.raises(Exception, match="does not support specifying dimensions"):
            embeddings.embed_query("text")


def test_vectors_that_come_out_of_order_are_put_in_the_order_of_their_texts() -> None:
    with OpenAIStandIn(shuffled=True) as provider:
        vectors = as_array(make_embeddings(provider.settings()), TEXTS)
        assert np.array_equal(vectors, [provider.vector_for(text) for text in TEXTS])


def test_strings_are_sent_and_never_token_ids() -> None:
    with OpenAIStandIn() as provider:
        make_embeddings(provider.settings()).embed_documents(TEXTS)
        assert provider.bodies[0]["input"] == TEXTS
        assert provider.bodies[0]["encoding_format"] == "base64"


def test_nothing_is_downloaded(provider: StandIn, downloads: responses.RequestsMock) -> None:
    make_embeddings(provider.settings()).embed_documents(TEXTS)
    assert len(downloads.calls) == 0


def test_a_download_would_be_noticed(downloads: responses.RequestsMock) -> None:
    from langchain_openai import OpenAIEmbeddings
    from pydantic import SecretStr

    with OpenAIStandIn() as provider:
        asks_for_token_ids = OpenAIEmbeddings(
            model="text-embedding-3-small", api_key=SecretStr(provider.key), base_url=provider.api_base
        )
        with pytest.raises(OSError, match="Connection refused by Responses"):
            asks_for_token_ids.embed_query("text")


def test_several_threads_may_share_an_object(provider: StandIn) -> None:
    embeddings = make_embeddings(provider.settings())
    batches = [[f"text {number} of {batch}" for number in range(5)] for batch in range(24)]
    with ThreadPoolExecutor(max_workers=8) as pool:
        answers = list(pool.map(lambda texts: as_array(embeddings, texts), batches))
    for texts, vectors in zip(batches, answers, strict=True):
        assert np.array_equal(vectors, [provider.vector_for(text) for text in texts])


def test_ollama_is_asked_for_the_model_by_any_of_its_names() -> None:
    with OllamaStandIn() as provider:
        settings = provider.settings(model="nomic-embed-text:latest")
        vector = make_embeddings(settings).embed_query("text")
        assert np.array_equal(vector, provider.vector_for("text"))
