"""Ollama's `POST /api/embed`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import orjson

from tests.providers.http import Reply, Request
from tests.providers.standin import Asked, ErrorAnswer, FloatArray, StandIn
from tests.providers.vectors import vector_for


class OllamaStandIn(StandIn):
    """Ollama: no key, vectors of the model's own length, 2,048 tokens of context.

    A text above that is cut, or refused with 400 if the request says `truncate: false`.

    Attributes:
        digests: what `GET /api/tags` tells, by name with its tag; empty for a server that answers 404 there.
    """

    family = "ollama"
    default_models: ClassVar = {"nomic-embed-text": 768, "all-minilm": 384}

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"max_text_tokens": 2048, **options})
        self.digests: dict[str, str] = {}

    async def _handle(self, request: Request) -> Reply:
        if self.digests and (request.method, request.path) == ("GET", "/api/tags"):
            models = [{"name": name, "model": name, "digest": digest} for name, digest in self.digests.items()]
            return Reply(body=orjson.dumps({"models": models}))
        return await super()._handle(request)

    @property
    def api_base(self) -> str:
        return self.root

    def is_embedding_request(self, request: Request) -> bool:
        return request.method == "POST" and request.path == "/api/embed"

    def read(self, request: Request, body: dict[str, Any]) -> Asked:
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        if body.get("truncate") is False and any(self._is_too_long(text) for text in texts):
            raise ErrorAnswer(400, "the input length exceeds the context length")
        return Asked(body["model"], texts, body.get("dimensions"))

    def _is_too_long(self, text: str) -> bool:
        return self.tokens_of(text) > self.max_text_tokens

    def embed(self, asked: Asked) -> Iterator[FloatArray]:
        name = asked.model.removesuffix(":latest")
        if name not in self.models:
            raise ErrorAnswer(404, f'model "{asked.model}" not found, try pulling it first')
        dimensions = asked.dimensions or self.models[name]
        for text in asked.texts:
            read = " ".join(text.split()[: int(self.max_text_tokens)]) if self._is_too_long(text) else text
            yield vector_for(read, model=name, dimensions=dimensions)

    def write(self, asked: Asked, vectors: list[FloatArray]) -> bytes:
        if not all(np.isfinite(vector).all() for vector in vectors):
            raise ErrorAnswer(500, "failed to encode response: json: unsupported value: NaN")
        answer = {"model": asked.model, "embeddings": vectors, "total_duration": 1, "load_duration": 1}
        return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)

    def write_error(self, error: ErrorAnswer) -> bytes:
        return orjson.dumps({"error": error.message})
