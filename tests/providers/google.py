"""Google's `POST /v1beta/models/{model}:batchEmbedContents` of the Gemini API."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import orjson

from tests.providers.http import Reply, Request
from tests.providers.standin import Asked, ErrorAnswer, FloatArray, StandIn
from tests.providers.vectors import vector_for

_PATH = re.compile(r"/v1beta/models/([^:?]+):batchEmbedContents")
_VERTEX_PATH = re.compile(
    r"/v1beta1/projects/our-project/locations/europe-west1/publishers/google/models/([^:?]+):(predict|embedContent)"
)
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


class VertexStandIn(GoogleStandIn):
    """Vertex AI: a token instead of a key, `predict` for the older models, and a text that is too long is refused.

    Attributes:
        token: what it gives to whoever shows the file of `credentials`.
    """

    family = "vertex"
    default_models: ClassVar = {"text-embedding-005": 768, "gemini-embedding-001": 3072, "gemini-embedding-2": 3072}
    more: ClassVar = {"GOOGLE_CLOUD_PROJECT": "our-project", "GOOGLE_CLOUD_LOCATION": "europe-west1"}

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"max_texts": 250, **options})
        self.token = self.key

    def credentials(self, folder: Path) -> Path:
        """A file with the credentials of a service account."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        private = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file = folder / "credentials.json"
        account = {
            "type": "service_account",
            "client_email": "migration@our-project.example",
            "private_key": private.decode(),
            "token_uri": f"{self.root}/token",
        }
        file.write_bytes(orjson.dumps(account))
        return file

    async def _handle(self, request: Request) -> Reply:
        if request.path == "/token":
            return Reply(body=orjson.dumps({"access_token": self.token, "token_type": "Bearer", "expires_in": 3600}))
        return await super()._handle(request)

    def is_embedding_request(self, request: Request) -> bool:
        return request.method == "POST" and _VERTEX_PATH.fullmatch(request.path) is not None

    def read(self, request: Request, body: dict[str, Any]) -> Asked:
        if request.headers.get("authorization") != f"Bearer {self.key}":
            raise ErrorAnswer(401, "Request had invalid authentication credentials.")
        path = _VERTEX_PATH.fullmatch(request.path)
        assert path is not None
        if path[2] == "embedContent":
            options = body.get("embedContentConfig", body)
            texts = ["".join(part["text"] for part in body["content"]["parts"])]
            asked = Asked(path[1], texts, options.get("outputDimensionality"), options.get("taskType"))
        else:
            options, entries = body["parameters"], body["instances"]
            texts = [entry["content"] for entry in entries]
            asked = Asked(path[1], texts, options.get("outputDimensionality"), entries[0].get("task_type"))
        if options.get("autoTruncate") is False and any(self.tokens_of(t) > self.max_text_tokens for t in texts):
            raise ErrorAnswer(400, "The input is longer than the model reads.")
        return asked

    def write(self, asked: Asked, vectors: list[FloatArray]) -> bytes:
        answer: dict[str, Any] = {"predictions": [{"embeddings": {"values": vector}} for vector in vectors]}
        if asked.model == "gemini-embedding-2":
            answer = {"embedding": {"values": vectors[0]}}
        return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
