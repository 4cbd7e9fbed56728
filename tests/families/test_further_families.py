"""The families of the table that KAI does not know itself: the application's vectors, its types, and its errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from kai.embeddings import ArrayEmbeddings, CredentialsError, ModelNotAvailableError, make_embeddings
from kai.families import FAMILIES
from kai.provider_errors import FaultKind, ProviderFault, provider_fault
from kai.settings import Settings
from tests.families.applications import application
from tests.families.test_same_vector_as_the_application import TEXTS
from tests.providers import (
    AzureStandIn,
    CohereStandIn,
    Fault,
    MistralStandIn,
    StandIn,
    TEIStandIn,
    VertexStandIn,
    VoyageStandIn,
)

# Of the SDKs and of LangChain's classes, when they are used as an application uses them.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

STAND_INS = (AzureStandIn, VertexStandIn, CohereStandIn, VoyageStandIn, MistralStandIn, TEIStandIn)
KEY = "sk-0123456789-zyxwvuts"


@pytest.fixture(scope="module", params=STAND_INS, ids=lambda stand_in: stand_in.family)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    with request.param() as stand_in:
        if isinstance(stand_in, VertexStandIn):
            file = stand_in.credentials(tmp_path_factory.mktemp("vertex"))
            stand_in.more = {**stand_in.more, "GOOGLE_APPLICATION_CREDENTIALS": str(file)}  # type: ignore[misc]
        yield stand_in


@pytest.fixture
def provider(shared: StandIn) -> Iterator[StandIn]:
    """The family's stand-in, with nothing of the test before."""
    key = shared.key
    shared.requests = 0
    shared.batches.clear()
    shared.bodies.clear()
    yield shared
    shared.faults, shared.key = None, key
    if isinstance(shared, VertexStandIn):
        shared.token = key


def fault_of(settings: Settings, texts: list[str] = TEXTS) -> ProviderFault:
    embeddings = cast(ArrayEmbeddings, make_embeddings(settings, timeout=10))
    with pytest.raises(Exception) as caught:
        embeddings.embed_array(texts)
    return provider_fault(caught.value, settings.secrets)


def test_a_batch_is_one_request_with_the_vectors_of_the_applications_embed_query(provider: StandIn) -> None:
    embeddings = cast(ArrayEmbeddings, make_embeddings(provider.settings()))
    vectors = embeddings.embed_array(TEXTS)
    assert provider.batches == [TEXTS]
    assert vectors.dtype == np.float32
    kai = application(provider, provider.model, provider.dimensions)
    for text, vector in zip(TEXTS, vectors, strict=True):
        assert np.array_equal(vector, np.asarray(kai.embed_query(text), dtype=np.float32))
        assert np.array_equal(vector, provider.vector_for(text))


def test_documents_and_queries_are_the_same_to_it(provider: StandIn) -> None:
    embeddings = make_embeddings(provider.settings())
    assert embeddings.embed_documents(["one text"])[0] == embeddings.embed_query("one text")


def test_another_task_type_is_another_vector_where_the_family_has_one(provider: StandIn) -> None:
    for task_type in FAMILIES[provider.family].task_types[:3]:
        vector = make_embeddings(provider.settings(task_type=task_type)).embed_query("text")
        assert np.array_equal(np.asarray(vector, np.float32), provider.vector_for("text", task_type=task_type))


def test_the_largest_batch_within_the_limits_is_one_request(provider: StandIn) -> None:
    settings = provider.settings()
    texts = [f"text {number}" for number in range(settings.request_limits.texts)]
    vectors = cast(ArrayEmbeddings, make_embeddings(settings)).embed_array(texts)
    assert vectors.shape == (len(texts), provider.dimensions)
    assert provider.requests == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "refused"),
        (401, "denied"),
        (403, "denied"),
        (404, "not_found"),
        (422, "refused"),
        (429, "rate_limited"),
        (500, "transient"),
        (503, "transient"),
    ],
)
def test_an_error_status_is_one_request_and_has_its_kind(provider: StandIn, status: int, kind: FaultKind) -> None:
    provider.faults = lambda _number, _texts: Fault("status", status, message="so it is", retry_after=3)
    fault = fault_of(provider.settings())
    assert (fault.kind, fault.status) == (kind, status)
    # Voyage's client keeps the provider's words of a 5xx to itself; they are in the body.
    assert fault.message == "so it is"
    assert fault.retry_after == (3 if kind in ("rate_limited", "transient") else None)
    assert provider.requests == 1


@pytest.mark.parametrize("name", ["drop", "truncated_body", "not_json", "too_few"])
def test_a_broken_answer_is_transient_or_shows_as_too_few_vectors(provider: StandIn, name: str) -> None:
    provider.faults = lambda _number, _texts: Fault(name)  # type: ignore[arg-type]
    if name == "too_few":
        embeddings = cast(ArrayEmbeddings, make_embeddings(provider.settings()))
        assert len(embeddings.embed_array(TEXTS)) == len(TEXTS) - 1
    else:
        assert fault_of(provider.settings()).kind == "transient"
    assert provider.requests == 1


def test_a_wrong_key_is_denied_and_not_shown(provider: StandIn) -> None:
    settings = provider.settings(key=KEY)
    if isinstance(provider, VertexStandIn):
        provider.token = KEY
    if isinstance(provider, TEIStandIn):
        provider.key = "a key"
    fault = fault_of(settings)
    assert fault.kind == "denied"
    assert not any(KEY[start : start + 4] in fault.message for start in range(len(KEY) - 3))


def test_a_model_that_does_not_exist_is_told_apart(provider: StandIn) -> None:
    settings = provider.settings(model="no-such-model")
    if provider.family == "azure":
        settings = provider.settings()
        settings = Settings(
            settings.embedding, settings.typesense, {**settings.provider, "AZURE_OPENAI_DEPLOYMENT": "theirs"}
        )
    if provider.family != "tei":  # which has but one, whatever it is called
        # Voyage says it with 400, like any other refusal; the probe asks with nothing else that could be refused.
        assert fault_of(settings).kind == ("refused" if provider.family == "voyage" else "model_missing")


def test_a_text_over_the_models_limit_is_refused_and_never_cut(provider: StandIn) -> None:
    settings = provider.settings()
    provider.embedded.clear()
    assert fault_of(settings, ["short", "word " * 40_000]).kind == "refused"
    assert provider.embedded == []


def test_vertex_ai_asks_its_gemini_models_for_one_text_at_a_time(tmp_path: Path) -> None:
    with VertexStandIn() as provider:
        provider.more = {**provider.more, "GOOGLE_APPLICATION_CREDENTIALS": str(provider.credentials(tmp_path))}  # type: ignore[misc]
        for model in ("gemini-embedding-001", "gemini-embedding-2"):
            settings = provider.settings(model=model)
            assert settings.request_limits.texts == 1
            vectors = cast(ArrayEmbeddings, make_embeddings(settings)).embed_array(["one", "two"])
            kai = application(provider, model, 768)
            assert np.array_equal(vectors, np.asarray([kai.embed_query("one"), kai.embed_query("two")], np.float32))


def test_a_model_that_embeds_a_text_with_its_neighbours_is_not_available() -> None:
    with VoyageStandIn() as provider, pytest.raises(ModelNotAvailableError, match="not a text by itself"):
        make_embeddings(provider.settings(model="voyage-context-3"))


def test_an_older_model_of_voyage_is_not_told_its_length() -> None:
    with VoyageStandIn() as provider:
        settings = provider.settings(model="voyage-law-2", dimensions=1024)
        assert len(make_embeddings(settings).embed_query("text")) == 1024
        assert "output_dimension" not in provider.bodies[0] or provider.bodies[0]["output_dimension"] is None


@pytest.mark.parametrize("content", [None, "no json", "{}", '{"type": "service_account"}'])
def test_credentials_that_cannot_be_used_are_named_with_their_file(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "credentials.json"
    if content is not None:
        file.write_text(content)
    with VertexStandIn() as provider:
        provider.more = {**provider.more, "GOOGLE_APPLICATION_CREDENTIALS": str(file)}  # type: ignore[misc]
        with pytest.raises(CredentialsError, match=r"credentials\.json cannot be used: "):
            make_embeddings(provider.settings())
