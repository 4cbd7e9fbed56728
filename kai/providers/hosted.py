"""Cohere, Voyage and Mistral, each through LangChain's class for it.

Of these classes the client is used, and the request is the one of their `embed_query`, but with many texts:
`embed_documents` embeds as another type, splits batches by tokenizers that it downloads, and repeats requests.
None of them is asked to cut a text that is too long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import SecretStr

from kai.embeddings import ModelNotAvailableError
from kai.models import find_model
from kai.providers.answers import ArrayBased, openai_vectors, read_json, stack, vectors_at
from kai.vectors import Vector

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from kai.settings import Settings


def cohere(settings: Settings, timeout: float) -> Embeddings:
    """Cohere's first embedding call, which LangChain uses. It knows no `dimensions`: a model has its own."""
    from langchain_cohere import CohereEmbeddings

    langchain = CohereEmbeddings(
        client=None,  # The class makes them itself, and declares them as if it did not.
        async_client=None,
        model=settings.embedding.model,
        # Given as a SecretStr, which it says it takes, it would send the asterisks of one.
        cohere_api_key=settings.key,  # type: ignore[arg-type]
        base_url=settings.base,
        request_timeout=timeout,
    )

    # Below the call that makes an object of every number of the answer, which takes longer than the request itself.
    client = langchain.client._client_wrapper.httpx_client

    def embed_array(texts: list[str]) -> Vector:
        asked = {
            "texts": texts,
            "model": langchain.model,
            "input_type": settings.embedding.task_type,
            "truncate": "NONE",
            "embedding_types": ["float"],
        }
        answer = client.request("v1/embed", method="POST", json=asked, request_options={"max_retries": 0})
        answer.raise_for_status()
        return vectors_at(answer.content, "embeddings", "float")

    return ArrayBased(embed_array)


def voyage(settings: Settings, timeout: float) -> Embeddings:
    """Voyage AI. Its models for chunks in context have another call, which embeds a text with its neighbours."""
    from langchain_voyageai import VoyageAIEmbeddings
    from voyageai.client import Client

    model, dimensions = settings.embedding.model, settings.embedding.dimensions
    if "context" in model:
        raise ModelNotAvailableError(f"{model!r} embeds the parts of one document together, not a text by itself")
    known = find_model("voyage", model)
    langchain = VoyageAIEmbeddings(model=model, api_key=SecretStr(settings.key), base_url=settings.base)
    client = Client(langchain.voyage_api_key.get_secret_value(), timeout=timeout, base_url=langchain.base_url)
    # The older models have one length each, and refuse to be told.
    length = dimensions if known and known.takes_dimensions else None

    def embed_array(texts: list[str]) -> Vector:
        answer = client.embed(
            texts,
            model=model,
            input_type=settings.embedding.task_type,
            truncation=False,
            output_dimension=length,
        )
        return stack(answer.embeddings)

    return ArrayBased(embed_array)


def mistral(settings: Settings, timeout: float) -> Embeddings:
    """Mistral. A tokenizer is handed to the class only so that it downloads none; nothing is counted with it."""
    from langchain_mistralai import MistralAIEmbeddings
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    langchain = MistralAIEmbeddings(
        model=settings.embedding.model,
        api_key=SecretStr(settings.key),
        endpoint=settings.base or settings.value("MISTRAL_API_BASE"),
        timeout=max(1, round(timeout)),
        tokenizer=Tokenizer(WordLevel({}, unk_token="")),
    )

    def embed_array(texts: list[str]) -> Vector:
        answer = langchain.client.post("/embeddings", json={"model": langchain.model, "input": texts})
        answer.raise_for_status()
        return openai_vectors(read_json(answer.content))

    return ArrayBased(embed_array)
