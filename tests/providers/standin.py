"""What the stand-ins have in common: counting, limits, faults, and the way from a request to its vectors."""

from __future__ import annotations

import asyncio
import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from kai.families import family_of
from kai.settings import EmbeddingSettings, Settings, TypesenseSettings
from tests.providers.faults import Fault, Faults, RandomFaults, spoil
from tests.providers.http import HTTPServer, Reply, Request
from tests.providers.vectors import vector_for

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Asked:
    """An embedding request as any protocol means it. `numbers` is whether vectors go out as JSON numbers."""

    model: str
    texts: list[str]
    dimensions: int | None = None
    task_type: str | None = None
    numbers: bool = True


class ErrorAnswer(Exception):  # noqa: N818 - an answer, raised
    """The provider refuses; `details` are what the protocol adds to the message."""

    def __init__(self, status: int, message: str, **details: Any) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.details = details


class RateLimit:
    """A token bucket: full at first, refilled evenly, `per_minute` at most."""

    def __init__(self, per_minute: float) -> None:
        self._per_second = per_minute / 60
        self._capacity = per_minute
        self._level = per_minute
        self._at = time.monotonic()

    def wait(self, amount: float) -> float:
        """Take `amount` and return 0, or take nothing and return the seconds until it will be there."""
        now = time.monotonic()
        self._level = min(self._capacity, self._level + (now - self._at) * self._per_second)
        self._at = now
        if self._level >= amount:
            self._level -= amount
            return 0.0
        return (amount - self._level) / self._per_second


class StandIn(ABC):
    """A provider on 127.0.0.1; a context manager.

    Args:
        key: The key that it accepts; any other is refused as the real one refuses it.
        models: Names of the models that it has, with the length of their vectors (the longest, where a
            request can ask for fewer dimensions).
        latency: Seconds that every embedding request takes.
        max_texts: Texts that a request may have.
        max_tokens: Tokens that a request may have, as `tokens_of` counts.
        max_text_tokens: Tokens that one text may have.
        refuse_texts: A request with one of them is refused as a whole with 400.
        rate_limit_per_minute: Above it, 429 with the time to wait.
        failure_rate: Share of requests answered with 500 or 503.
        drop_rate: Share of requests whose connection breaks before the answer or within it.
        seed: Of `failure_rate` and `drop_rate`.
        faults: A script of faults, asked before the random ones.

    Attributes:
        requests: Embedding requests so far, refused and failed ones included.
        texts: Texts in them.
        bodies: The requests' parsed bodies.
        batches: The requests' texts.
        embedded: Texts of the requests that were answered with vectors.
    """

    family: ClassVar[str]
    default_models: ClassVar[Mapping[str, int]]
    dimensions: ClassVar[int] = 768
    """What it is asked for where a test does not say it."""
    more: ClassVar[Mapping[str, str]] = {}
    """Further variables of the family."""

    def __init__(
        self,
        *,
        key: str = "stand-in-key-0123456789",
        models: Mapping[str, int] | None = None,
        latency: float = 0.0,
        max_texts: int = 1_000_000,
        max_tokens: float = math.inf,
        max_text_tokens: float = math.inf,
        refuse_texts: Collection[str] = (),
        rate_limit_per_minute: float | None = None,
        failure_rate: float = 0.0,
        drop_rate: float = 0.0,
        seed: int = 0,
        faults: Faults | None = None,
    ) -> None:
        self.key = key
        self.models = dict(self.default_models if models is None else models)
        self.latency = latency
        self.max_texts = max_texts
        self.max_tokens = max_tokens
        self.max_text_tokens = max_text_tokens
        self.refuse_texts = set(refuse_texts)
        self.faults = faults
        self.requests = 0
        self.texts = 0
        self.bodies: list[dict[str, Any]] = []
        self.batches: list[list[str]] = []
        self.embedded: list[str] = []
        self._rate_limit = RateLimit(rate_limit_per_minute) if rate_limit_per_minute else None
        self._random_faults = RandomFaults(failure_rate=failure_rate, drop_rate=drop_rate, seed=seed)
        self._server = HTTPServer(self._handle)

    def start(self, port: int = 0) -> Self:
        """Serve on `port`, or on a free one."""
        self._server.start(port)
        return self

    def stop(self) -> None:
        """Close the port and every connection; a second time does nothing."""
        self._server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def root(self) -> str:
        """`http://127.0.0.1:<port>`."""
        return f"http://127.0.0.1:{self._server.port}"

    @property
    @abstractmethod
    def api_base(self) -> str:
        """The base URL to configure, with whatever path the family's variable has."""

    @property
    def model(self) -> str:
        """The first of its models."""
        return next(iter(self.models))

    def vector_for(
        self, text: str, *, model: str | None = None, dimensions: int | None = None, task_type: str | None = None
    ) -> FloatArray:
        """The vector, shape (dimensions,), that it gives for a text."""
        default = next(iter(family_of(self.family).task_types), None)
        return vector_for(
            text,
            model=model or self.model,
            dimensions=dimensions or self.dimensions,
            task_type=task_type or default,
        )

    def access(self, key: str | None = None) -> dict[str, str]:
        """The variables of the family that lead to it."""
        row = family_of(self.family)
        assert row.base is not None
        found = {row.base.name: self.api_base, **self.more}
        return found | ({row.key.name: self.key if key is None else key} if row.key and row.key.kind == "key" else {})

    def environment(self, *, model: str | None = None, dimensions: int | None = None) -> dict[str, str]:
        """The variables that make the product use it."""
        return {
            "EMBEDDING_FAMILY": self.family,
            "EMBEDDING_MODEL": model or self.model,
            "EMBEDDING_DIMENSIONS": str(dimensions or self.dimensions),
            **self.access(),
        }

    def settings(
        self,
        *,
        model: str | None = None,
        dimensions: int | None = None,
        key: str | None = None,
        task_type: str | None = None,
    ) -> Settings:
        """Settings that make the product use it."""
        default = next(iter(family_of(self.family).task_types), None)
        embedding = EmbeddingSettings(
            self.family, model or self.model, dimensions or self.dimensions, task_type or default
        )
        return Settings(embedding, TypesenseSettings(api_key="typesense-key"), provider=self.access(key))

    @staticmethod
    def tokens_of(text: str) -> int:
        """Its tokenizer: four bytes are a token, and a word is at least one."""
        return max(1, len(text.encode("utf-8", "surrogatepass")) // 4, len(text.split()))

    @abstractmethod
    def read(self, request: Request, body: dict[str, Any]) -> Asked:
        """Understand an embedding request, its key included, or raise `ErrorAnswer`."""

    @abstractmethod
    def is_embedding_request(self, request: Request) -> bool:
        """Whether the path is that of the embedding call."""

    @abstractmethod
    def write(self, asked: Asked, vectors: list[FloatArray]) -> bytes:
        """The body of an answer with vectors."""

    @abstractmethod
    def write_error(self, error: ErrorAnswer) -> bytes:
        """The body of an answer without."""

    @abstractmethod
    def embed(self, asked: Asked) -> Iterator[FloatArray]:
        """The vectors, or `ErrorAnswer` for a model, a length or a text that the provider would refuse."""

    def weight(self, asked: Asked) -> float:
        """What the rate limit counts: requests."""
        return 1.0

    async def _handle(self, request: Request) -> Reply:
        if not self.is_embedding_request(request):
            return self._error(ErrorAnswer(404, f"Invalid URL ({request.method} {request.path})"))
        self.requests += 1
        number = self.requests
        try:
            body = json.loads(request.body)
            self.bodies.append(body)
            asked = self.read(request, body)
        except ErrorAnswer as error:
            return self._error(error)
        self.texts += len(asked.texts)
        self.batches.append(asked.texts)
        if self.latency:
            await asyncio.sleep(self.latency)
        wait = self._rate_limit.wait(self.weight(asked)) if self._rate_limit else 0.0
        if wait:
            return self._error(ErrorAnswer(429, "Rate limit reached, slow down.", retry_after=wait))
        fault = self.faults(number, asked.texts) if self.faults else None
        fault = fault or self._random_faults(number, asked.texts)
        return await self._answer(asked, fault)

    async def _answer(self, asked: Asked, fault: Fault | None) -> Reply:
        name = fault.name if fault else ""
        if fault and name == "status":
            return self._error(ErrorAnswer(fault.status, fault.message, retry_after=fault.retry_after))
        if fault and name == "time_out":
            await asyncio.sleep(fault.seconds)
        if name in ("time_out", "drop"):
            return Reply(broken="before")
        if name == "not_json":
            return Reply(body=b"<html><body>Bad gateway</body></html>", content_type="text/html")
        try:
            self._check(asked)
            body = self.write(asked, spoil(list(self.embed(asked)), fault))
        except ErrorAnswer as error:
            return self._error(error)
        if name == "truncated_body":
            return Reply(body=body[: len(body) // 2])
        if name == "drop_in_body":
            return Reply(body=body, broken="in_body")
        self.embedded += asked.texts
        return Reply(body=body)

    def _check(self, asked: Asked) -> None:
        """The limits that all families have in common; the messages are OpenAI's."""
        if len(asked.texts) > self.max_texts:
            message = f"Invalid 'input': array too long. Expected maximum length {self.max_texts}."
            raise ErrorAnswer(400, message)
        tokens = sum(self.tokens_of(text) for text in asked.texts)
        if tokens > self.max_tokens:
            raise ErrorAnswer(400, f"Requested {tokens} tokens, max {self.max_tokens} tokens per request")
        if not self.refuse_texts.isdisjoint(asked.texts):
            raise ErrorAnswer(400, "The request was refused by the content filter.")

    def _error(self, error: ErrorAnswer) -> Reply:
        return Reply(error.status, self.write_error(error), self.error_headers(error))

    def error_headers(self, error: ErrorAnswer) -> dict[str, str]:
        """`Retry-After` in whole seconds, as the HTTP standard has it, and OpenAI's in milliseconds."""
        after = error.details.get("retry_after")
        if after is None:
            return {}
        if isinstance(after, str):
            return {"retry-after": after}
        return {"retry-after": str(math.ceil(after)), "retry-after-ms": str(math.ceil(after * 1000))}
