"""Every failure of a provider surfaces once, with its own words and without the key."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import cast

import numpy as np
import pytest

from kai.embedding_interface import ArrayEmbeddings
from kai.embeddings import make_embeddings
from kai.provider_errors import FaultKind, ProviderFault, provider_fault
from tests.providers import Fault, GoogleStandIn, OllamaStandIn, OpenAIStandIn, StandIn
from tests.providers.faults import FaultName

TEXTS = ["one", "two", "three"]


def fault_of(provider: StandIn, *, timeout: float = 10.0, key: str | None = None, **target: object) -> ProviderFault:
    settings = provider.settings(key=key, **target)  # type: ignore[arg-type]
    embeddings = cast(ArrayEmbeddings, make_embeddings(settings, timeout=timeout))
    with pytest.raises(Exception) as caught:
        embeddings.embed_array(TEXTS)
    return provider_fault(caught.value, settings.secrets)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "refused"),
        (401, "denied"),
        (403, "denied"),
        (404, "not_found"),
        (408, "transient"),
        (409, "transient"),
        (413, "refused"),
        (422, "refused"),
        (429, "rate_limited"),
        (500, "transient"),
        (502, "transient"),
        (503, "transient"),
    ],
)
def test_an_error_status_is_one_request_and_has_its_kind(
    make_provider: Callable[..., StandIn], status: int, kind: FaultKind
) -> None:
    provider = make_provider(faults=lambda _number, _texts: Fault("status", status, message="so it is"))
    fault = fault_of(provider)
    assert (fault.kind, fault.status, fault.message) == (kind, status, "so it is")
    assert fault.retry_after is None
    assert provider.requests == 1


def test_the_time_to_wait_is_read(make_provider: Callable[..., StandIn]) -> None:
    provider = make_provider(faults=lambda _number, _texts: Fault("status", 429, retry_after=2.5))
    assert fault_of(provider).retry_after == 2.5


@pytest.mark.parametrize("name", ["drop", "drop_in_body", "truncated_body", "not_json"])
def test_a_broken_answer_is_transient_and_one_request(make_provider: Callable[..., StandIn], name: FaultName) -> None:
    provider = make_provider(faults=lambda _number, _texts: Fault(name))
    assert fault_of(provider).kind == "transient"
    assert provider.requests == 1


def test_a_time_out_is_transient_and_one_request(make_provider: Callable[..., StandIn]) -> None:
    provider = make_provider(faults=lambda _number, _texts: Fault("time_out"))
    assert fault_of(provider, timeout=0.2).kind == "transient"
    assert provider.requests == 1


def test_a_server_that_is_not_there_is_transient(provider: StandIn) -> None:
    settings = provider.settings()
    provider.stop()
    with pytest.raises(Exception) as caught:
        make_embeddings(settings, timeout=2).embed_query("text")
    assert provider_fault(caught.value).kind == "transient"


@pytest.mark.parametrize("stand_in", [OpenAIStandIn, GoogleStandIn])
def test_a_wrong_key_is_denied_and_not_shown(stand_in: type[StandIn]) -> None:
    key = "sk-wrong-0123456789-abcdefgh"
    with stand_in() as provider:
        fault = fault_of(provider, key=key)
    assert fault.kind == "denied"
    assert not any(key[start : start + 4] in fault.message for start in range(len(key) - 3))


def test_a_missing_model_is_told_apart(provider: StandIn) -> None:
    fault = fault_of(provider, model="text-embedding-003-small")
    assert (fault.kind, fault.status) == ("model_missing", 404)
    assert "text-embedding-003-small" in fault.message


def test_a_refused_text_is_refused_with_its_whole_request(make_provider: Callable[..., StandIn]) -> None:
    fault = fault_of(make_provider(refuse_texts={"two"}))
    assert (fault.kind, fault.status) == ("refused", 400)


def test_fewer_vectors_than_texts_surface_as_fewer_rows(make_provider: Callable[..., StandIn]) -> None:
    provider = make_provider(faults=lambda _number, _texts: Fault("too_few"))
    embeddings = cast(ArrayEmbeddings, make_embeddings(provider.settings()))
    assert embeddings.embed_array(TEXTS).shape == (2, 768)
    assert embeddings.embed_array(["one"]).shape[0] == 0


def test_vectors_of_different_lengths_are_a_malformed_answer(make_provider: Callable[..., StandIn]) -> None:
    fault = fault_of(make_provider(faults=lambda _number, _texts: Fault("wrong_length")))
    assert fault.kind == "transient"
    assert "differ in length" in fault.message


def test_a_vector_of_a_wrong_length_surfaces_as_it_is(make_provider: Callable[..., StandIn]) -> None:
    provider = make_provider(faults=lambda _number, _texts: Fault("wrong_length"))
    embeddings = cast(ArrayEmbeddings, make_embeddings(provider.settings()))
    assert embeddings.embed_array(["one"]).shape == (1, 769)


@pytest.mark.parametrize("name", ["zeros", "duplicated"])
def test_worthless_vectors_surface_as_they_are(make_provider: Callable[..., StandIn], name: FaultName) -> None:
    provider = make_provider(faults=lambda _number, _texts: Fault(name))
    vectors = cast(ArrayEmbeddings, make_embeddings(provider.settings())).embed_array(TEXTS)
    assert np.array_equal(vectors[-1], np.zeros(768) if name == "zeros" else vectors[0])


@pytest.mark.parametrize("ignores_base64", [False, True])
def test_a_number_that_is_none_surfaces_as_nan(ignores_base64: bool) -> None:
    with OpenAIStandIn(faults=lambda _number, _texts: Fault("nan"), ignores_base64=ignores_base64) as provider:
        vectors = cast(ArrayEmbeddings, make_embeddings(provider.settings())).embed_array(TEXTS)
        assert np.isnan(vectors).sum() == 1


def test_ollamas_refusal_to_write_nan_is_the_fault_of_a_text() -> None:
    with OllamaStandIn(faults=lambda _number, _texts: Fault("nan")) as provider:
        assert fault_of(provider).kind == "refused"


def test_an_exhausted_quota_is_not_a_rate_limit() -> None:
    # The real one has code insufficient_quota; the words are in the body in either case.
    fault = Fault("status", 429, message="insufficient_quota: You exceeded your current quota.")
    with OpenAIStandIn(faults=lambda _number, _texts: fault) as provider:
        assert fault_of(provider).kind == "denied"


@pytest.mark.parametrize("stand_in", [OpenAIStandIn, OllamaStandIn, GoogleStandIn])
def test_a_text_over_the_models_limit_is_refused_and_never_cut(stand_in: type[StandIn]) -> None:
    with stand_in() as provider:
        embeddings = make_embeddings(provider.settings())
        with pytest.raises(Exception) as caught:
            embeddings.embed_documents(["short", "word " * 9000])
        assert provider_fault(caught.value).kind == "refused"
        assert provider.embedded == []


def test_a_request_over_the_rate_limit_succeeds_after_the_time_that_its_answer_names(
    make_provider: Callable[..., StandIn],
) -> None:
    embeddings = make_embeddings(make_provider(rate_limit_per_minute=120).settings())
    with pytest.raises(Exception) as caught:
        for _ in range(200):
            embeddings.embed_query("text")
    fault = provider_fault(caught.value)
    assert fault.kind == "rate_limited"
    # Ollama's own exception has no headers; they are found on the answer behind it.
    assert fault.retry_after is not None
    assert 0 < fault.retry_after <= 0.5
    time.sleep(fault.retry_after)
    embeddings.embed_query("text")
