"""Ahead, on a Ray cluster: a model that runs in this very process, in many of them, on many machines.

Ray places the workers, hands them pages and gives a page of a worker that is lost to another: each worker is an actor
that is started anew somewhere else, and its calls are repeated there. A cluster that is full has no place for it while
the others work, so workers are let go as soon as there are no more pages: then it gets one of theirs.

A worker has the model, and nothing else: no key, no cache, no ledger. What it makes comes back here, is checked, and is
in the cache before it is told of; so whatever dies, a later start goes on with what is missing there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, cast

import numpy as np

from kai.embedding_interface import ArrayEmbeddings
from kai.embeddings import make_embeddings
from kai.models import EmbeddingSettings, estimate_tokens
from kai.settings import Settings, TypesenseSettings
from kai.vectors import Vector, WrongVectors, check_vectors, same_vector
from migration.embedding.ahead.via import Texts, Told
from migration.embedding.cache import VectorCache
from migration.embedding.embed import Embedder, TextFailure
from migration.embedding.provider import Provider, ProviderStopped
from migration.embedding.throttle import Stopped, Throttle
from migration.runtime.control import Control
from migration.runtime.meter import Meter

PATIENCE: Final = 600.0
"""Seconds without any page coming back after which nobody waits any longer. The first may download a model."""
_TELL_AFTER: Final = 60.0
_LEAVE_AFTER: Final = 10.0
"""The same, once somebody has asked to stop."""
_LOOKS_EVERY: Final = 0.25
_IN_HAND: Final = 2
"""Pages for each worker: the one it works on, and one that waits here."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker made of a page.

    Attributes:
        page: its number.
        digests: of the texts that have a vector.
        vectors: theirs, shape (number of digests, dimensions).
        failures: why the others have none, by their hashes.
        tokens: estimated, of the page.
        seconds: that it took.
    """

    page: int
    digests: tuple[bytes, ...]
    vectors: Vector
    failures: Mapping[bytes, str]
    tokens: int
    seconds: float


class Pool(Protocol):
    """Workers to which pages go."""

    size: int

    def submit(self, page: int, texts: Texts) -> None:
        """Hand a page to the next worker that is free."""

    def next(self, seconds: float) -> Answer | None:
        """What came of any page; None if nothing does within so many seconds.

        Raises:
            ProviderStopped: a worker cannot work.
        """

    def let_go(self) -> None:
        """End the workers that have nothing to do."""


class Worker:
    """What runs on the cluster: the model, loaded once.

    Args:
        embedding: the model; loaded from this machine's own disk or download.
        expected: the vector of `PROBE_TEXT` as the process that asks makes it.

    Raises:
        WrongVectors: the model of this name is another one here.
    """

    def __init__(self, embedding: EmbeddingSettings, expected: Vector) -> None:
        settings = Settings(embedding, TypesenseSettings())
        provider = Provider(
            cast(ArrayEmbeddings, make_embeddings(settings)),
            embedding.dimensions,
            throttle=Throttle(1),
            meter=Meter(),
        )
        if not same_vector(provider.probe(), expected):
            raise WrongVectors("the model of this name gives other vectors there than here; install the same one")
        self._embedder = Embedder(provider, limits=settings.request_limits, space="", cache=None, meter=Meter())

    def ready(self) -> bool:
        """Whether the model is loaded."""
        return True

    def embed(self, page: int, texts: Texts) -> Answer:
        """The vectors of a page of texts."""
        begun = time.monotonic()
        found = self._embedder.embed(texts.values())
        vectors: dict[bytes, Vector] = {}
        failures: dict[bytes, str] = {}
        for digest, text in texts.items():
            match found[text]:
                case TextFailure(reason):
                    failures[digest] = reason
                case vector:
                    vectors[digest] = vector
        rows = np.stack(list(vectors.values())) if vectors else np.empty((0, 0), np.float32)
        tokens = sum(map(estimate_tokens, texts.values()))
        return Answer(page, tuple(vectors), rows, failures, tokens, time.monotonic() - begun)


class OnActors:
    """Sends pages to a pool of workers and keeps what comes back.

    Args:
        pool: the workers.
        cache: where vectors go.
        space: fingerprint of the model: the cache's first key.
        dimensions: length of every vector.
        control: stop and pause.
        meter: where pages are counted.
        announce: told what a person should know, a line each.
        patience: seconds to wait without any page coming back.
        clock: seconds that only go up.
    """

    def __init__(
        self,
        pool: Pool,
        cache: VectorCache,
        *,
        space: str,
        dimensions: int,
        control: Control,
        meter: Meter,
        announce: Callable[[str], object] = lambda _: None,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool, self._cache, self._space, self._dimensions = pool, cache, space, dimensions
        self._control, self._meter, self._announce = control, meter, announce
        self._patience, self._clock = patience, clock
        self._in_hand: dict[int, frozenset[bytes]] = {}
        """Hashes of the texts of pages that have not come back, by the page's number."""
        self._quiet_since = 0.0
        self._is_told = False

    def embed(self, pages: Callable[[], Iterable[Texts]], told: Told) -> None:
        """See `Via`."""
        self._heard()
        try:
            for number, texts in enumerate(pages()):
                while len(self._in_hand) >= _IN_HAND * self._pool.size:
                    self._take(told)
                self._control.wait_while_paused()
                if self._control.stopped.is_set():
                    break
                self._in_hand[number] = frozenset(texts)
                self._pool.submit(number, texts)
                self._heard()  # Reading took its time, or a pause; from here on somebody is waited for.
        except Stopped:
            pass  # What is in hand is kept first.
        while self._in_hand:
            self._pool.let_go()
            self._take(told)
        if self._control.stopped.is_set():
            raise Stopped

    def _take(self, told: Told) -> None:
        """Wait a moment for a page, and keep what comes."""
        answer = self._pool.next(_LOOKS_EVERY)
        if answer is None:
            self._wait_on()
        else:
            self._heard()
            self._keep(answer, told)

    def _keep(self, answer: Answer, told: Told) -> None:
        wanted = self._in_hand[answer.page]
        if frozenset(answer.digests) | answer.failures.keys() != wanted:
            raise ProviderStopped("a worker answered for other texts than its page has; is its version another one?")
        if answer.digests:
            try:
                check_vectors(answer.vectors, [digest.hex() for digest in answer.digests], self._dimensions)
            except WrongVectors as error:
                raise ProviderStopped(f"a worker: {error}") from error
            self._cache.put_many(self._space, zip(answer.digests, answer.vectors, strict=True))
        self._meter.request(answer.seconds, texts=len(wanted), tokens=answer.tokens, failed=False)
        del self._in_hand[answer.page]
        told(len(answer.digests), answer.failures)

    def _heard(self) -> None:
        self._quiet_since = self._clock()
        self._is_told = False

    def _wait_on(self) -> None:
        """Nothing came; give up where that has lasted too long."""
        quiet = self._clock() - self._quiet_since
        if self._control.stopped.is_set() and quiet >= _LEAVE_AFTER:
            raise Stopped
        if quiet >= self._patience:
            raise ProviderStopped(
                f"no page has come back from the Ray cluster for {quiet:.0f} s: it has no place for a worker "
                "(see `ray status`), or a text brings every worker down"
            )
        if quiet >= _TELL_AFTER and not self._is_told:
            self._is_told = True
            self._announce(f"No page has come back from the Ray cluster for {quiet:.0f} s; waiting for it.")
