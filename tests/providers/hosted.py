"""Cohere's `POST /v1/embed`, and the `POST /embeddings` of Voyage and Mistral."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import orjson

from tests.providers.http import Request
from tests.providers.openai import OpenAIStandIn
from tests.providers.standin import Asked, ErrorAnswer, FloatArray, StandIn
from tests.providers.vectors import vector_for


class CohereStandIn(StandIn):
    """Cohere: 96 texts a request, and an `input_type` without which it embeds nothing."""

    family = "cohere"
    default_models: ClassVar = {"embed-english-v3.0": 1024, "embed-v4.0": 1536}
    dimensions = 1024

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"max_texts": 96, "max_text_tokens": 512, **options})

    @property
    def api_base(self) -> str:
        return self.root

    def is_embedding_request(self, request: Request) -> bool:
        return (request.method, request.path) == ("POST", "/v1/embed")

    def read(self, request: Request, body: dict[str, Any]) -> Asked:
        if request.headers.get("authorization") != f"Bearer {self.key}":
            raise ErrorAnswer(401, "invalid api token")
        if "input_type" not in body:
            raise ErrorAnswer(400, "valid input_type must be provided with the provided model")
        if body.get("truncate") == "NONE" and any(self.tokens_of(t) > self.max_text_tokens for t in body["texts"]):
            raise ErrorAnswer(400, "invalid request: total number of tokens is too long")
        return Asked(body["model"], body["texts"], None, body["input_type"])

    def embed(self, asked: Asked) -> Iterator[FloatArray]:
        if asked.model not in self.models:
            raise ErrorAnswer(404, f"model '{asked.model}' not found, make sure the correct model ID was used")
        for text in asked.texts:
            yield vector_for(text, model=asked.model, dimensions=self.models[asked.model], task_type=asked.task_type)

    def write(self, asked: Asked, vectors: list[FloatArray]) -> bytes:
        answer = {
            "id": "1",
            "texts": asked.texts,
            "embeddings": {"float": vectors},
            "response_type": "embeddings_by_type",
        }
        return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)

    def write_error(self, error: ErrorAnswer) -> bytes:
        return orjson.dumps({"message": error.message})


class VoyageStandIn(OpenAIStandIn):
    """Voyage: 1,000 texts a request, and types `query`, `document` and none."""

    family = "voyage"
    default_models: ClassVar = {"voyage-3.5": 1024, "voyage-law-2": 1024}
    dimensions = 512

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"max_texts": 1000, "max_tokens": 320_000, "max_text_tokens": 32_000, **options})

    def read(self, request: Request, body: dict[str, Any]) -> Asked:
        if request.headers.get("authorization") != f"Bearer {self.key}":
            raise ErrorAnswer(401, "Provided API key is invalid.")
        if body["model"] not in self.models:
            raise ErrorAnswer(400, f"Model {body['model']} is not supported.")
        if body["truncation"] is False and any(self.tokens_of(t) > self.max_text_tokens for t in body["input"]):
            raise ErrorAnswer(400, "The text is longer than the context length of the model.")
        return Asked(
            body["model"],
            body["input"],
            body.get("output_dimension"),
            body.get("input_type"),
            body.get("encoding_format") != "base64",
        )

    def embed(self, asked: Asked) -> Iterator[FloatArray]:
        for text in asked.texts:
            yield vector_for(
                text,
                model=asked.model,
                dimensions=asked.dimensions or self.models[asked.model],
                task_type=asked.task_type,
            )

    def write_error(self, error: ErrorAnswer) -> bytes:
        return orjson.dumps({"detail": error.message})


class MistralStandIn(OpenAIStandIn):
    """Mistral: OpenAI's answer, in numbers, of models with one length each."""

    family = "mistral"
    default_models: ClassVar = {"mistral-embed": 1024}
    dimensions = 1024

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"max_texts": 512, "max_tokens": 16_000, "max_text_tokens": 8192, **options})

    def read(self, request: Request, body: dict[str, Any]) -> Asked:
        if request.headers.get("authorization") != f"Bearer {self.key}":
            raise ErrorAnswer(401, "Unauthorized")
        if body["model"] not in self.models:
            raise ErrorAnswer(400, f"Invalid model: {body['model']}", type="invalid_model")
        return Asked(body["model"], body["input"])

    def write_error(self, error: ErrorAnswer) -> bytes:
        kind = error.details.get("type", "invalid_request_error")
        return orjson.dumps({"object": "error", "message": error.message, "type": kind, "code": None})
