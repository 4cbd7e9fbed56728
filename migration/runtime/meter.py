"""What a run has done so far, in numbers. Threads add, anybody reads."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

_SAMPLE = 4096
"""Latencies kept for the percentiles: a uniform sample, so that memory does not grow with the run."""


@dataclass(slots=True)
class Meter:
    """Counts of one run.

    Attributes:
        requests: embedding requests sent, failed ones too.
        retries: embedding requests repeated.
        request_failures: embedding requests that failed.
        texts: texts embedded by the provider.
        tokens: estimated tokens of those texts.
        cached: texts whose vector was already paid for.
        bytes_sent: bytes of import bodies.
        imports: import requests that were answered.
        import_seconds: seconds spent waiting for their answers.
        embedding_seconds: seconds spent waiting for the provider, all requests added up.
        last_success: `time.monotonic()` of the provider's last good answer; 0 if there was none.
    """

    requests: int = 0
    retries: int = 0
    request_failures: int = 0
    texts: int = 0
    tokens: int = 0
    cached: int = 0
    bytes_sent: int = 0
    imports: int = 0
    import_seconds: float = 0.0
    embedding_seconds: float = 0.0
    last_success: float = 0.0
    started: float = field(default_factory=time.monotonic)
    _part: Meter | None = None
    _latencies: list[float] = field(default_factory=list)
    _seen: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _random: Callable[[int], int] = field(default_factory=lambda: random.Random(7).randrange)  # noqa: S311

    def request(self, seconds: float, *, texts: int, tokens: int, failed: bool) -> None:
        """Count one embedding request."""
        if self._part is not None:
            self._part.request(seconds, texts=texts, tokens=tokens, failed=failed)
        with self._lock:
            self.requests += 1
            self.embedding_seconds += seconds
            if failed:
                self.request_failures += 1
                return
            self.texts += texts
            self.tokens += tokens
            self.last_success = time.monotonic()
            self._seen += 1
            if len(self._latencies) < _SAMPLE:
                self._latencies.append(seconds)
            elif (place := self._random(self._seen)) < _SAMPLE:
                self._latencies[place] = seconds

    def restart(self) -> None:
        """Begin anew: what came before, the probe, is not the run's."""
        with self._lock:
            self.requests = self.retries = self.request_failures = self.texts = self.tokens = 0
            self.embedding_seconds = 0.0
            self._latencies.clear()
            self._seen = 0
            self.started = time.monotonic()

    def part(self) -> Meter:
        """A meter of its own for what is counted here from now on, until the next part begins."""
        self._part = Meter()
        return self._part

    def retry(self) -> None:
        """Count one repetition."""
        if self._part is not None:
            self._part.retry()
        with self._lock:
            self.retries += 1

    def hit(self, texts: int) -> None:
        """Count texts that the cache had."""
        if self._part is not None:
            self._part.hit(texts)
        with self._lock:
            self.cached += texts

    def imported(self, size: int, seconds: float) -> None:
        """Count one import request: the bytes of its body, and how long its answer took."""
        if self._part is not None:
            self._part.imported(size, seconds)
        with self._lock:
            self.bytes_sent += size
            self.imports += 1
            self.import_seconds += seconds

    def counts(self) -> dict[str, float]:
        """What a timeline notes of it."""
        with self._lock:
            return {
                "requests": self.requests,
                "embedding_seconds": round(self.embedding_seconds, 4),
                "tokens": self.tokens,
                "imports": self.imports,
                "import_seconds": round(self.import_seconds, 4),
            }

    def latency(self, share: float) -> float | None:
        """Latency in seconds that this share of the good requests did not exceed; None without any."""
        with self._lock:
            ordered = sorted(self._latencies)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.started
