"""OpenAI's `POST /v1/embeddings`, and the compatible servers that differ from it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import orjson

from tests.providers.http import Request
from tests.providers.standin import Asked, ErrorAnswer, FloatArray, StandIn
from tests.providers.vectors import vector_for

_AZURE_PATH = re.compile(r"/openai/deployments/([^/]+)/embeddings\?api-version=2024-10-21")


class OpenAIStandIn(StandIn):
    """OpenAI with its own limits: 2,048 texts and 300,000 tokens a request, 8,192 tokens a text.

    Args:
        ignores_base64: Send numbers whatever `encoding_format` says, as many compatible servers do.
        refuses_dimensions: Refuse every request that names `dimensions`, as some compatible servers do.
        shuffled: Send the vectors out of order, with their true `index`.
        options: As `StandIn`.
    """

    family = "openai"
    default_models: ClassVar = {
        "text-embedding-3-small": 1536,
        "text-embedding-3-large": 3072,
        "text-embedding-ada-002": 1536,
    }

    def __init__(
        self,
        *,
        ignores_base64: bool = False,
        refuses_dimensions: bool = False,
        shuffled: bool = False,
        **options: Any,
    ) -> None:
        limits = {"max_texts": 2048, "max_tokens": 300_000, "max_text_tokens": 8192}
        super().__init__(**{**limits, **options})
        self.ignores_base64 = ignores_base64
        self.refuses_dimensions = refuses_dimensions
        self.shuffled = shuffled

    @property
    def api_base(self) -> str:
        return f"{self.root}/v1"

    def is_embedding_request(self, request: Request) -> bool:
        return request.method == "POST" and request.path == "/v1/embeddings"

    def read(self, request: Request, body: dict[str, Any]) -> Asked:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if given != self.key:
            shown = f"{given[:8]}{'*' * 8}{given[-4:]}"
            message = f"Incorrect API key provided: {shown}. You can find your API key in your settings."
            raise ErrorAnswer(401, message, code="invalid_api_key")
        texts = _texts(body)
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ErrorAnswer(400, "'$.input' is invalid: this server takes strings, not token ids.", param="input")
        numbers = self.ignores_base64 or body.get("encoding_format", "float") != "base64"
        return Asked(body["model"], texts, body.get("dimensions"), None, numbers)

    def embed(self, asked: Asked) -> Iterator[FloatArray]:
        if asked.model not in self.models:
            message = f"The model `{asked.model}` does not exist or you do not have access to it."
            raise ErrorAnswer(404, message, code="model_not_found")
        longest = self.models[asked.model]
        if asked.dimensions is not None and (self.refuses_dimensions or asked.model.endswith("ada-002")):
            raise ErrorAnswer(400, "This model does not support specifying dimensions.", param="dimensions")
        if asked.dimensions is not None and not 1 <= asked.dimensions <= longest:
            message = f"Invalid value for 'dimensions' = {asked.dimensions}. Must be at most {longest}."
            raise ErrorAnswer(400, message, param="dimensions")
        if not asked.texts or not all(asked.texts):
            raise ErrorAnswer(400, "'$.input' is invalid. Please check the API reference.", param="input")
        most = max(self.tokens_of(text) for text in asked.texts)
        if most > self.max_text_tokens:
            limit = f"This model's maximum context length is {self.max_text_tokens} tokens"
            raise ErrorAnswer(400, f"{limit}, however you requested {most} tokens.")
        for text in asked.texts:
            yield vector_for(text, model=asked.model, dimensions=asked.dimensions or longest)

    def write(self, asked: Asked, vectors: list[FloatArray]) -> bytes:
        entries = [
            {"object": "embedding", "index": index, "embedding": vector if asked.numbers else _base64(vector)}
            for index, vector in enumerate(vectors)
        ]
        tokens = sum(self.tokens_of(text) for text in asked.texts)
        answer = {
            "object": "list",
            "data": entries[::-1] if self.shuffled else entries,
            "model": asked.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
        return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)

    def write_error(self, error: ErrorAnswer) -> bytes:
        return orjson.dumps(
            {
                "error": {
                    "message": error.message,
                    "type": "server_error" if error.status >= 500 else "invalid_request_error",
                    "param": error.details.get("param"),
                    "code": error.details.get("code"),
                }
            }
        )


class AzureStandIn(OpenAIStandIn):
    """Azure OpenAI: a deployment has the model, its name stands in the path, and the key in a header of its own.

    Attributes:
        deployments: the model of each, by its name.
    """

    family = "azure"
    default_models: ClassVar = {"text-embedding-3-small": 1536}
    more: ClassVar = {"AZURE_OPENAI_DEPLOYMENT": "ours"}
    deployments: ClassVar = {"ours": "text-embedding-3-small"}

    @property
    def api_base(self) -> str:
        return self.root

    def is_embedding_request(self, request: Request) -> bool:
        return request.method == "POST" and _AZURE_PATH.fullmatch(request.path) is not None

    def read(self, request: Request, body: dict[str, Any]) -> Asked:
        if request.headers.get("api-key") != self.key:
            raise ErrorAnswer(401, "Access denied due to invalid subscription key or wrong API endpoint.", code="401")
        path = _AZURE_PATH.fullmatch(request.path)
        assert path is not None
        if path[1] not in self.deployments:
            message = "The API deployment for this resource does not exist."
            raise ErrorAnswer(404, message, code="DeploymentNotFound")
        numbers = body.get("encoding_format", "float") != "base64"
        return Asked(self.deployments[path[1]], _texts(body), body.get("dimensions"), None, numbers)


class TEIStandIn(OpenAIStandIn):
    """Hugging Face text-embeddings-inference: one model, 32 texts a request, numbers only, a key only if it has one."""

    family = "tei"
    default_models: ClassVar = {"BAAI/bge-m3": 1024}
    dimensions = 1024

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"max_texts": 32, "key": "", "ignores_base64": True, **options})

    def read(self, request: Request, body: dict[str, Any]) -> Asked:
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            raise ErrorAnswer(401, "unauthorized")
        return Asked(self.model, _texts(body), body.get("dimensions"))

    def write_error(self, error: ErrorAnswer) -> bytes:
        return orjson.dumps({"error": error.message, "error_type": "Validation"})


def _texts(body: dict[str, Any]) -> list[str]:
    return [body["input"]] if isinstance(body["input"], str) else body["input"]


def _base64(vector: FloatArray) -> str:
    return _base64_of_bytes(np.ascontiguousarray(vector, dtype="<f4").tobytes())


@lru_cache(maxsize=20_000)
def _base64_of_bytes(numbers: bytes) -> str:
    return base64.b64encode(numbers).decode("ascii")
