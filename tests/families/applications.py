"""KAI's own embeddings, built as KAI builds them and without any help of this product."""

from __future__ import annotations

from langchain_core.embeddings import Embeddings
from langchain_google_genai import GoogleGenerativeAIEmbeddings
from langchain_ollama import OllamaEmbeddings
from langchain_openai import OpenAIEmbeddings
from pydantic import SecretStr

from tests.providers import StandIn


def application(provider: StandIn, model: str, dimensions: int) -> Embeddings:
    """The object whose `embed_query` decides which vector is right."""
    match provider.family:
        case "openai":
            return OpenAIEmbeddings(
                model=model,
                dimensions=None if model.endswith("ada-002") else dimensions,
                api_key=SecretStr(provider.key),
                base_url=provider.api_base,
                check_embedding_ctx_length=False,
            )
        case "google":
            return GoogleGenerativeAIEmbeddings(
                model=model,
                task_type="RETRIEVAL_QUERY",
                output_dimensionality=dimensions,
                api_key=SecretStr(provider.key),
                base_url=provider.api_base,
            )
        case _:
            return OllamaEmbeddings(model=model, base_url=provider.api_base)
