"""Ollama."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import ollama as sdk
from langchain_ollama import OllamaEmbeddings

from kai.providers.answers import ArrayBased, stack
from kai.vectors import Vector

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from kai.settings import Settings


class _Ollama(ArrayBased):
    """Asked as KAI asks it (no `dimensions`, no options), but for `truncate: false`.

    KAI would get the vector of the first part of a text that is longer than the model's context. That is a
    vector of another text, so here the server refuses it with 400 and the text fails by name.
    """

    def __init__(self, langchain: OllamaEmbeddings) -> None:
        client = langchain._client
        assert client is not None  # noqa: S101 - made by the class's own validator
        self._model, self._client, self._langchain = langchain.model, client, langchain
        super().__init__(self._request)

    def _request(self, texts: list[str]) -> Vector:
        options, alive = self._langchain._default_params, self._langchain.keep_alive
        return stack(
            self._client.embed(self._model, texts, truncate=False, options=options, keep_alive=alive).embeddings
        )

    def digest_of_model(self) -> str | None:
        try:
            models = self._client.list().models
        except (sdk.ResponseError, httpx.HTTPError, OSError, ValueError):
            return None  # A proxy may pass on nothing but what embeds.
        tagged = self._model if ":" in self._model.rpartition("/")[2] else f"{self._model}:latest"
        return next((each.digest for each in models if each.model == tagged), None)


def ollama(settings: Settings, timeout: float) -> Embeddings:
    """Ollama, by the client of LangChain's class."""
    return _Ollama(
        OllamaEmbeddings(
            model=settings.embedding.model,
            base_url=settings.base or settings.value("OLLAMA_API_BASE"),
            client_kwargs={"timeout": timeout},
        )
    )
