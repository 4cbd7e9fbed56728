"""Google's models, by the Gemini API or by Vertex AI: one class of LangChain, two ways in."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from google.genai.types import EmbedContentConfig, HttpOptions
from langchain_google_genai import GoogleGenerativeAIEmbeddings
from pydantic import SecretStr

from kai.embeddings import CredentialsError, TextTooLongError
from kai.models import find_model, surely_over_token_limit
from kai.providers.answers import ArrayBased, stack
from kai.vectors import Vector

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from kai.settings import Settings

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)


def gemini(settings: Settings, timeout: float) -> Embeddings:
    """The Gemini API. It cuts a text that is too long; one that certainly is fails here."""
    langchain = GoogleGenerativeAIEmbeddings(
        model=settings.embedding.model, api_key=SecretStr(settings.key), base_url=settings.base, vertexai=False
    )
    known = find_model("google", settings.embedding.model)
    token_limit = known.token_limit if known else None
    config = _config(settings, timeout)

    def embed_array(texts: list[str]) -> Vector:
        if token_limit is not None and any(surely_over_token_limit(text, token_limit) for text in texts):
            raise TextTooLongError(f"the text has more than the {token_limit} tokens that {langchain.model} reads")
        return _request(langchain, texts, config)

    return ArrayBased(embed_array)


def vertex(settings: Settings, timeout: float) -> Embeddings:
    """Vertex AI, which is told not to cut a text. Its Gemini models but one take a single text a request, by the SDK.

    Who asks is found as Google's libraries find it, unless GOOGLE_APPLICATION_CREDENTIALS names a file.
    """
    langchain = GoogleGenerativeAIEmbeddings(
        model=settings.embedding.model,
        api_key=None,
        base_url=settings.base,
        vertexai=True,
        project=settings.value("GOOGLE_CLOUD_PROJECT"),
        location=settings.value("GOOGLE_CLOUD_LOCATION"),
        credentials=_credentials(settings.value("GOOGLE_APPLICATION_CREDENTIALS")),
    )
    config = _config(settings, timeout, auto_truncate=False)
    alone = "gemini" in settings.embedding.model or "maas" in settings.embedding.model

    def embed_array(texts: list[str]) -> Vector:
        if alone:
            return np.concatenate([_request(langchain, [text], config) for text in texts])
        return _request(langchain, texts, config)

    return ArrayBased(embed_array)


def _config(settings: Settings, timeout: float, auto_truncate: bool | None = None) -> EmbedContentConfig:
    """One task type for stored texts and questions, as KAI embeds both."""
    return EmbedContentConfig(
        task_type=settings.embedding.task_type,
        output_dimensionality=settings.embedding.dimensions,
        auto_truncate=auto_truncate,
        http_options=HttpOptions(timeout=max(1, round(timeout * 1000))),
    )


def _request(langchain: GoogleGenerativeAIEmbeddings, texts: list[str], config: EmbedContentConfig) -> Vector:
    """Ask for all texts in one request, exactly as LangChain's `embed_query` asks for one. The SDK retries nothing.

    Its `embed_documents` estimates tokens in its own way and may split a batch into several requests, knows no
    time-out, and omits the role that `embed_query` sends.
    """
    answer = langchain.client.models.embed_content(
        model=langchain.model,
        contents=[{"role": "user", "parts": [{"text": text}]} for text in texts],
        config=config,
    )
    return stack([embedding.values for embedding in answer.embeddings or ()])


def _credentials(file: str) -> Any:
    """The credentials in a file, of whatever kind; None to let Google's libraries look for some."""
    if not file:
        return None
    from google.auth import load_credentials_from_file
    from google.auth.exceptions import GoogleAuthError

    with warnings.catch_warnings():  # It warns of files from somebody else; this one the user has named.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            credentials, _project = load_credentials_from_file(file, scopes=_SCOPES)  # type: ignore[no-untyped-call]
        except (GoogleAuthError, OSError, ValueError) as error:
            raise CredentialsError(f"{file} cannot be used: {error}") from error
    return credentials
