"""Google's `POST /v1beta/models/{model}:batchEmbedContents` of the Gemini API."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, ClassVar

import orjson

from tests.providers.http import Request
from tests.providers.standin import Asked, ErrorAnswer, FloatArray, StandIn
from tests.providers.vectors import vector_for

_PATH = re.compile(r"/v1beta/models/([^:?]+):batchEmbedContents")
_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


class GoogleStandIn(StandIn):
    """Google with its own limits: 100 texts a request; a text above 2,048 tokens is cut without a word.

    The rate limit counts texts. The time to wait stands in the body, not in a header.
    """

    family = "google"
    default_models: ClassVar = {"gemini-embedding-001": 3072, "gemini-embedding-2": 3072}

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"max_texts": 100, "max_text_tokens": 2048, **options})

    @property
    def api_base(self) -> str:
        return self.root

    def is_embedding_request(self, request: Request) -> bool:
        return request.method == "POST" and _PATH.fullmatch(request.path) is not None

    def read(self, request: Request, body: dict[str, Any]) -> Asked:
        if request.headers.get("x-goog-api-key") != self.key:
            message = "API key not valid. Please pass a valid API key."
            raise ErrorAnswer(400, message, reason="API_KEY_INVALID")
        path = _PATH.fullmatch(request.path)
        assert path is not None
        entries = body["requests"]
        texts = ["".join(part["text"] for part in entry["content"]["parts"]) for entry in entries]
        first = entries[0] if entries else {}
        return Asked(path[1], texts, first.get("outputDimensionality"), first.get("taskType"))

    def weight(self, asked: Asked) -> float:
        return float(len(asked.texts))

    def embed(self, asked: Asked) -> Iterator[FloatArray]:
        if asked.model not in self.models:
            where = "is not found for API version v1beta, or is not supported for embedContent"
            raise ErrorAnswer(404, f"models/{asked.model} {where}.")
        longest = self.models[asked.model]
        dimensions = asked.dimensions or longest
        if not 128 <= dimensions <= longest:
            raise ErrorAnswer(400, f"Invalid output_dimensionality {dimensions}: must be 128 to {longest}.")
        if not all(asked.texts):
            raise ErrorAnswer(400, "* EmbedContentRequest.content: contents is not specified")
        for text in asked.texts:
            whole = self.tokens_of(text) <= self.max_text_tokens
            read = text if whole else " ".join(text.split()[: int(self.max_text_tokens)])
            yield vector_for(read, model=asked.model, dimensions=dimensions, task_type=asked.task_type)

    def write(self, asked: Asked, vectors: list[FloatArray]) -> bytes:
        answer = {"embeddings": [{"values": vector} for vector in vectors]}
        return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)

    def write_error(self, error: ErrorAnswer) -> bytes:
        details: list[dict[str, Any]] = []
        if "reason" in error.details:
            kind = "type.googleapis.com/google.rpc.ErrorInfo"
            details.append({"@type": kind, "reason": error.details["reason"], "domain": "googleapis.com"})
        after = error.details.get("retry_after")
        if isinstance(after, float | int):
            kind = "type.googleapis.com/google.rpc.RetryInfo"
            details.append({"@type": kind, "retryDelay": f"{after:.3f}s"})
        status = _STATUS.get(error.status, "UNKNOWN")
        body = {"code": error.status, "message": error.message, "status": status, "details": details}
        return orjson.dumps({"error": body})

    def error_headers(self, error: ErrorAnswer) -> dict[str, str]:
        return {}
