"""OpenAI's protocol: OpenAI itself, the servers that speak it, Azure OpenAI, and Hugging Face TEI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from langchain_openai import AzureOpenAIEmbeddings, OpenAIEmbeddings
from openai import APIStatusError
from pydantic import SecretStr

from kai.models import find_model
from kai.providers.answers import ArrayBased, openai_vectors, read_json
from kai.vectors import Vector

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from kai.settings import Settings

_DIMENSIONS_REFUSED: Final = (400, 422)
_NO_KEY: Final = "no-key"


def openai(settings: Settings, timeout: float) -> Embeddings:
    """OpenAI, and any server that speaks its protocol."""
    return _ours(
        settings,
        OpenAIEmbeddings(
            model=settings.embedding.model,
            api_key=SecretStr(settings.key or _NO_KEY),
            base_url=settings.base,
            # Else OPENAI_API_TYPE=azure in the environment stops the class with a traceback.
            openai_api_type=None,
            check_embedding_ctx_length=False,
            max_retries=0,
            timeout=timeout,
        ),
    )


tei = openai
"""Hugging Face text-embeddings-inference, which speaks it, too: what differs stands in the row of its family."""


def azure(settings: Settings, timeout: float) -> Embeddings:
    """Azure OpenAI: the same protocol at the address of a deployment, which may be called otherwise than its model."""
    return _ours(
        settings,
        AzureOpenAIEmbeddings(
            model=settings.embedding.model,
            azure_endpoint=settings.base,
            azure_deployment=settings.value("AZURE_OPENAI_DEPLOYMENT") or settings.embedding.model,
            api_version=settings.value("OPENAI_API_VERSION"),
            api_key=SecretStr(settings.key),
            # What the environment says for OpenAI, or for a way in that no setting of ours names, is not meant.
            base_url=None,
            azure_ad_token=None,
            openai_api_type="azure",
            check_embedding_ctx_length=False,
            max_retries=0,
            timeout=timeout,
        ),
    )


def _ours(settings: Settings, langchain: OpenAIEmbeddings) -> Embeddings:
    """The client of LangChain's class, asked in the cheap way.

    Strings are sent, not token ids: most compatible servers refuse ids, and counting them would download a
    vocabulary. Vectors are asked for in base64, the cheap way; a server that ignores this and sends numbers
    is understood as well.

    `dimensions` is sent unless the model is known to refuse it (ada-002). Some compatible servers refuse it
    for a model that has the right length anyway; then it is left out from there on, provided that the
    vectors do come in the right length. If they do not, the refusal stands.
    """
    embedding = settings.embedding
    known = find_model(embedding.family, embedding.model)
    names_dimensions = known is None or known.takes_dimensions

    def request(texts: list[str], parameters: dict[str, Any]) -> Vector:
        # The SDK's own way of writing the texts and reading the vectors costs ten times as much as
        # the work itself: the texts go in as extra_body, which it does not walk through, and the
        # answer is taken raw.
        answer = langchain.client.with_raw_response.create(
            input="",
            model=embedding.model,
            encoding_format="base64",
            extra_body={"input": texts},
            **parameters,
        )
        return openai_vectors(read_json(answer.http_response.content))

    def embed_array(texts: list[str]) -> Vector:
        nonlocal names_dimensions
        if not names_dimensions:
            return request(texts, {})
        try:
            return request(texts, {"dimensions": embedding.dimensions})
        except APIStatusError as refusal:
            if refusal.status_code not in _DIMENSIONS_REFUSED or "dimension" not in str(refusal).lower():
                raise
            vectors = request(texts, {})
            if vectors.shape[1] != embedding.dimensions:
                raise
        names_dimensions = False
        return vectors

    return ArrayBased(embed_array)
