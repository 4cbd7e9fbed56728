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
        case "azure":
            from langchain_openai import AzureOpenAIEmbeddings

            return AzureOpenAIEmbeddings(
                model=model,
                dimensions=dimensions,
                azure_endpoint=provider.api_base,
                azure_deployment=provider.more["AZURE_OPENAI_DEPLOYMENT"],
                api_version="2024-10-21",
                api_key=SecretStr(provider.key),
                check_embedding_ctx_length=False,
            )
        case "tei":
            from langchain_openai import OpenAIEmbeddings

            return OpenAIEmbeddings(
                model=model,
                api_key=SecretStr(provider.key or "none"),
                base_url=provider.api_base,
                check_embedding_ctx_length=False,
            )
        case "vertex":
            from google.auth import load_credentials_from_file
            from langchain_google_genai import GoogleGenerativeAIEmbeddings

            credentials, _ = load_credentials_from_file(  # type: ignore[no-untyped-call]
                provider.more["GOOGLE_APPLICATION_CREDENTIALS"],
                scopes=["https://www.googleapis.com/auth/cloud-platform"],
            )
            return GoogleGenerativeAIEmbeddings(
                model=model,
                output_dimensionality=dimensions,
                vertexai=True,
                project=provider.more["GOOGLE_CLOUD_PROJECT"],
                location=provider.more["GOOGLE_CLOUD_LOCATION"],
                credentials=credentials,
                base_url=provider.api_base,
            )
        case "cohere":
            from langchain_cohere import CohereEmbeddings

            return CohereEmbeddings(
                client=None,
                async_client=None,
                model=model,
                cohere_api_key=provider.key,  # type: ignore[arg-type]
                base_url=provider.api_base,
            )
        case "voyage":
            from langchain_voyageai import VoyageAIEmbeddings

            voyage = VoyageAIEmbeddings(
                model=model,
                output_dimension=dimensions,  # type: ignore[arg-type]
                api_key=SecretStr(provider.key),
                base_url=provider.api_base,
            )
            # It counts tokens to cut its batches, with a tokenizer that it downloads.
            voyage._client.tokenize = lambda texts, model: [text.split() for text in texts]
            return voyage
        case "mistral":
            from langchain_mistralai import MistralAIEmbeddings
            from tokenizers import Tokenizer
            from tokenizers.models import WordLevel

            return MistralAIEmbeddings(
                model=model,
                api_key=SecretStr(provider.key),
                endpoint=provider.api_base,
                # The same: else one is downloaded.
                tokenizer=Tokenizer(WordLevel({"[unk]": 0}, unk_token="[unk]")),
            )
        case _:
            from langchain_ollama import OllamaEmbeddings

            return OllamaEmbeddings(model=model, base_url=provider.api_base)
