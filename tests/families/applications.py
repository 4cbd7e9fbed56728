"""KAI's own embeddings, built as KAI builds them and without any help of this product.

A family's SDK is loaded when its embeddings are made, so that a worker that only collects loads none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.providers import StandIn

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings


def application(provider: StandIn, model: str, dimensions: int) -> Embeddings:
    """The object whose `embed_query` decides which vector is right."""
    from pydantic import SecretStr

    match provider.family:
        case "openai":
            from langchain_openai import OpenAIEmbeddings

            return OpenAIEmbeddings(
                model=model,
                dimensions=None if model.endswith("ada-002") else dimensions,
                api_key=SecretStr(provider.key),
                base_url=provider.api_base,
                check_embedding_ctx_length=False,
            )
        case "google":
            from langchain_google_genai import GoogleGenerativeAIEmbeddings

            return GoogleGenerativeAIEmbeddings(
                model=model,
                task_type="RETRIEVAL_QUERY",
                output_dimensionality=dimensions,
                api_key=SecretStr(provider.key),
                base_url=provider.api_base,
            )
        case _:
            from langchain_ollama import OllamaEmbeddings

            return OllamaEmbeddings(model=model, base_url=provider.api_base)
