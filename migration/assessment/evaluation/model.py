"""One model's vectors of the questions and the documents, and what they took: what was bought is in the cache."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from kai.models import EmbeddingSettings, estimate_cost, fingerprint
from kai.vectors import Vector
from migration.embedding.cache import VectorCache
from migration.embedding.embed import CacheUse, Embedder, TextFailure, text_hash
from migration.runtime.meter import Meter

_TIMED: Final = 50
"""Questions that are embedded one by one, as an application does, at most."""
_AT_ONCE: Final = 1000
"""Texts between two looks at how far it is."""


@dataclass(slots=True)
class Model:
    """A model under evaluation.

    Attributes:
        embedding: which one.
        embedder: asks it, and keeps in `cache` what it gives.
        cache: where that is kept.
        meter: of what was asked since the probe.
        latencies: seconds that one question took, for each that was embedded by itself.
        tokens_a_second: how fast texts are embedded, one request after the other; None where none was.
        failures: why a text has no vector, by text.
    """

    embedding: EmbeddingSettings
    embedder: Embedder
    cache: VectorCache
    meter: Meter
    latencies: list[float] = field(default_factory=list)
    tokens_a_second: float | None = None
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Family, model and dimensions: `openai/text-embedding-3-small/768`."""
        return self.embedding.name

    def latency_ms(self, share: float) -> float | None:
        """What this share of the questions did not exceed, in milliseconds; None where none was embedded by itself."""
        return 1000 * float(np.quantile(self.latencies, share)) if self.latencies else None

    def vectors(self, texts: Sequence[str], advance: Callable[[int], object] = lambda _: None) -> Vector:
        """The vector of each text, in rows; one that the provider does not take is not a number, and in `failures`.

        Raises:
            ProviderStopped: the provider cannot go on.
            Stopped: somebody asked to stop.
        """
        tokens, seconds = self.meter.tokens, self.meter.embedding_seconds
        rows = np.full((len(texts), self.embedding.dimensions), np.nan, np.float32)
        for start in range(0, len(texts), _AT_ONCE):
            some = texts[start : start + _AT_ONCE]
            found = self.embedder.embed(some)
            for row, text in enumerate(some, start):
                vector = found[text]
                if isinstance(vector, TextFailure):
                    self.failures[text] = vector.reason
                else:
                    rows[row] = vector
            advance(len(some))
        if (waited := self.meter.embedding_seconds - seconds) and (bought := self.meter.tokens - tokens):
            self.tokens_a_second = bought / waited
        return rows

    def questions(self, texts: Sequence[str]) -> Vector:
        """The same for questions, some of them one by one, for their latency.

        Those that the cache has tell none; they are embedded again for it only where that costs nothing.
        """
        known = self.cache.get_many(fingerprint(self.embedding, ""), [text_hash(text) for text in texts])
        unknown = [text for text in texts if text_hash(text) not in known]
        self._time(unknown[:_TIMED], "use")
        if not self.latencies and estimate_cost(self.embedding.model, 1) == 0:
            self._time(texts[:_TIMED], "bypass")
        pace = self.tokens_a_second
        rows = self.vectors(texts)
        self.tokens_a_second = pace  # Of questions, which are short, it would be another.
        return rows

    def _time(self, texts: Sequence[str], cache: CacheUse) -> None:
        for text in texts:
            began = time.perf_counter()
            vector = self.embedder.embed([text], cache=cache)[text]
            if not isinstance(vector, TextFailure):
                self.latencies.append(time.perf_counter() - began)
