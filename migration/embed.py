"""Texts to vectors: each distinct text once, in as few requests as the provider's limits allow.

tenacity repeats what is worth repeating, and is the only layer that does. A request that the provider
refuses is halved until the text that it refuses stands alone; that text fails by itself and the others go
on. No vector leaves here unchecked: as many as texts, as long as the target's dimensions, all numbers
finite, not all of them zero.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import tenacity

from kai.embeddings import MalformedAnswerError
from kai.models import RequestLimits, estimate_tokens
from kai.provider_errors import ProviderFault, provider_fault
from migration.meter import Meter
from migration.throttle import Stopped, Throttle

if TYPE_CHECKING:
    from kai.embeddings import ArrayEmbeddings
    from migration.cache import VectorCache

Vector: TypeAlias = npt.NDArray[np.float32]

_WORTH_REPEATING: Final = frozenset({"rate_limited", "transient"})
_MALFORMED_ATTEMPTS: Final = 3
"""How often vectors that cannot be right are asked for again before the batch is taken apart."""
_REFUSED_IN_A_ROW: Final = 50
"""Texts refused one by one, without a good answer between them, after which it is not the texts."""
_PROBE_ATTEMPTS: Final = 5
_FULL_WAITS: Final = 150.0
"""Seconds of patience from which on the waits between repetitions have their full length."""
_MOST_REPEATED: Final = 100
"""Vectors that are remembered because the provider gave them for texts that have nothing in common."""
PROBE_TEXT: Final = "probe"
_REPEATED: Final = "the provider returned one vector for several texts"
MAX_RETRY_AFTER: Final = 900.0
"""Seconds. A provider that asks for longer has a daily quota that is used up: better to stop and resume."""


@dataclass(frozen=True, slots=True)
class TextFailure:
    """This text could not be embedded, and why."""

    reason: str


Promise: TypeAlias = Future[dict[str, Vector | TextFailure]]
"""The outcome of a batch, by text. One for each text would cost as much as reading its vector."""


class ProviderStopped(Exception):  # noqa: N818 - named for what it does to the run
    """The provider cannot go on: key revoked, model gone, out of reach for too long. The run can be resumed."""


class WrongVectors(Exception):  # noqa: N818
    """The provider answered, with vectors that cannot be right."""


def text_hash(text: str) -> bytes:
    """SHA-256 of the text as UTF-8: the name under which its vector is remembered."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def check_vectors(vectors: Vector, texts: Sequence[str], dimensions: int) -> None:
    """Refuse vectors that cannot be right.

    Args:
        vectors: shape (number of vectors, their length).
        texts: the distinct texts that they should belong to.
        dimensions: the length that they should have.

    Raises:
        WrongVectors: naming what is wrong.
    """
    if len(vectors) != len(texts):
        raise WrongVectors(f"the provider returned {len(vectors)} vectors for {len(texts)} texts")
    if vectors.ndim != 2 or vectors.shape[1] != dimensions:
        length = vectors.shape[1] if vectors.ndim == 2 else 0
        raise WrongVectors(f"the provider returned vectors of length {length}, not {dimensions}")
    if not np.isfinite(vectors).all():
        raise WrongVectors("the provider returned a vector with a number that is not finite")
    if not vectors.any(axis=1).all():
        raise WrongVectors("the provider returned a vector of zeros")


class Embedder:
    """Embeds texts for several threads at once.

    Args:
        embeddings: the family's `Embeddings`.
        dimensions: length of every vector.
        limits: what one request may carry.
        space: fingerprint of model, dimensions and task type: the cache's first key.
        cache: where vectors already paid for are kept; None to do without.
        throttle: the gate in front of the provider.
        meter: where requests are counted.
        patience: seconds of failures in a row after which the provider counts as out of reach.
        stopped: ends waiting.
        secrets: what must not show in any reason.
        most_tokens: estimated tokens after which no further text is bought; None for no bound.
    """

    def __init__(
        self,
        embeddings: ArrayEmbeddings,
        dimensions: int,
        *,
        limits: RequestLimits,
        space: str,
        cache: VectorCache | None,
        throttle: Throttle,
        meter: Meter,
        patience: float = 300.0,
        stopped: threading.Event | None = None,
        secrets: tuple[str, ...] = (),
        most_tokens: int | None = None,
    ) -> None:
        self.dimensions = dimensions
        self.space = space
        self._embeddings = embeddings
        self._limits = limits
        self._cache = cache
        self._throttle = throttle
        self._meter = meter
        self._patience = patience
        self._stopped = stopped or threading.Event()
        self._secrets = secrets
        self._most_tokens = most_tokens
        self._under_way: dict[bytes, Promise] = {}
        self._refused_in_a_row = 0
        self._reserved = 0
        """Tokens bought or about to be."""
        self._probed: Vector | None = None
        self._repeated: set[bytes] = set()
        self._lock = threading.Lock()

    def embed(
        self, texts: Iterable[str], *, known: dict[bytes, Vector] | None = None, fresh: bool = False
    ) -> dict[str, Vector | TextFailure]:
        """The vector of each distinct text, or why it has none.

        A text that another thread is already embedding is waited for, not paid for again. New vectors are in
        the cache, durably, before this returns.

        Args:
            texts: repeated ones cost nothing.
            known: vectors found elsewhere by `text_hash`, to be used as they are.
            fresh: ask the provider, whatever the cache has.

        Raises:
            ProviderStopped: the run cannot go on.
            Stopped: the run was asked to stop.
        """
        hashes = {text: text_hash(text) for text in texts}
        found: dict[bytes, Vector] = dict(known or {})
        if self._cache and not fresh and (unknown := [digest for digest in hashes.values() if digest not in found]):
            found.update(self._cache.get_many(self.space, unknown))
        self._meter.hit(sum(digest in found for digest in hashes.values()))
        mine, others = self._claim({text: digest for text, digest in hashes.items() if digest not in found})
        results: dict[str, Vector | TextFailure] = {t: found[digest] for t, digest in hashes.items() if digest in found}
        cause: BaseException = Stopped("the request for this text did not come to its end")
        try:
            for batch, promise in mine:
                self._check_spending(batch)
                embedded = self._embed_batch(batch, hashes)
                promise.set_result(embedded)
                results.update(embedded)
        except BaseException as error:
            cause = error  # Whoever waits for one of these texts ends for the same reason.
            raise
        finally:
            self._release(mine, hashes, cause)
        results.update({text: promise.result()[text] for text, promise in others.items()})
        return results

    def probe(self) -> Vector:
        """Embed one short text, without the cache: does the configuration work at all?

        A passing fault is tried again a few times, vectors that cannot be right too; the rest is told at once.

        Raises:
            ProbeFailed: it does not work, and why.
            WrongVectors: it works, and gives vectors of another length, say.
        """
        wrong = 0

        def worth_repeating(error: BaseException) -> bool:
            nonlocal wrong
            wrong += isinstance(error, WrongVectors)
            if isinstance(error, WrongVectors):
                return wrong < _MALFORMED_ATTEMPTS
            return isinstance(error, ProbeFailed) and error.fault.kind in _WORTH_REPEATING

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(worth_repeating),
            stop=tenacity.stop_after_attempt(_PROBE_ATTEMPTS) | tenacity.stop_before_delay(self._patience),
            wait=lambda state: min(_asked_to_wait(state) or 0.25 * self._scale * 2**state.attempt_number, 60.0),
            sleep=tenacity.nap.sleep_using_event(self._stopped),
            reraise=True,
        )
        return retrying(self._probe_once)

    def _probe_once(self) -> Vector:
        try:
            vectors = self._call([PROBE_TEXT])
        except Stopped:
            raise
        except Exception as error:
            fault = provider_fault(error, self._secrets)
            if fault.kind == "bug":
                raise
            raise ProbeFailed(fault) from error
        check_vectors(vectors, [PROBE_TEXT], self.dimensions)
        self._probed = vectors[0]
        return self._probed

    # -- sharing between threads -----------------------------------------------------------------------

    def _claim(self, wanted: dict[str, bytes]) -> tuple[list[tuple[list[str], Promise]], dict[str, Promise]]:
        """The batches that the caller has to embed, and for the other texts where their vectors will be."""
        others: dict[str, Promise] = {}
        with self._lock:
            for text, digest in wanted.items():
                if (promise := self._under_way.get(digest)) is not None:
                    others[text] = promise
            mine = [(batch, Promise()) for batch in self._batches([text for text in wanted if text not in others])]
            for batch, promise in mine:
                self._under_way.update((wanted[text], promise) for text in batch)
        return mine, others

    def _release(self, mine: list[tuple[list[str], Promise]], hashes: dict[str, bytes], cause: BaseException) -> None:
        with self._lock:
            for batch, _ in mine:
                for text in batch:
                    del self._under_way[hashes[text]]
        for _, promise in mine:
            if not promise.done():
                promise.set_exception(cause)

    # -- requests --------------------------------------------------------------------------------------

    def _batches(self, texts: list[str]) -> Iterator[list[str]]:
        batch: list[str] = []
        tokens = 0
        for text in texts:
            more = estimate_tokens(text)
            if batch and (len(batch) >= self._limits.texts or tokens + more > self._limits.tokens):
                yield batch
                batch, tokens = [], 0
            batch.append(text)
            tokens += more
        if batch:
            yield batch

    def _check_spending(self, texts: list[str]) -> None:
        if self._most_tokens is None:
            return
        with self._lock:
            self._reserved += sum(map(estimate_tokens, texts))
            if self._reserved > self._most_tokens:
                raise ProviderStopped("the bound on cost is reached (--max-cost); run again with a higher one to go on")

    def _embed_batch(self, texts: list[str], hashes: dict[str, bytes]) -> dict[str, Vector | TextFailure]:
        """Embed one batch; halve it as long as the provider refuses it. What was bought is in the cache at once.

        The other half may end the run, and would take with it what this one has paid for.
        """
        try:
            vectors = self._call_patiently(texts)
        except _Refused as refusal:
            if len(texts) == 1:
                self._count_refusal(refusal.reason)
                return {texts[0]: TextFailure(refusal.reason)}
            middle = len(texts) // 2
            return self._embed_batch(texts[:middle], hashes) | self._embed_batch(texts[middle:], hashes)
        self._refused_in_a_row = 0
        if self._cache:
            self._cache.put_many(self.space, [(hashes[t], v) for t, v in zip(texts, vectors, strict=True)])
        return dict(zip(texts, vectors, strict=True))

    def _call_patiently(self, texts: list[str]) -> Vector:
        """One batch, repeated while that may help.

        Raises:
            _Refused: the provider will not take this batch.
            ProviderStopped: it will take no batch at all.
        """
        begun = time.monotonic()
        scale = self._scale
        backoff = tenacity.wait_exponential_jitter(initial=0.25 * scale, max=30.0 * scale, jitter=1.0 * scale)

        def worth_repeating(error: BaseException) -> bool:
            return isinstance(error, _Fault) and error.kind in _WORTH_REPEATING and not self._stopped.is_set()

        def wait(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            asked = error.retry_after if isinstance(error, _Fault) else None
            return backoff(state) if asked is None else asked + 0.05

        def give_up(state: tenacity.RetryCallState) -> bool:
            error = state.outcome.exception() if state.outcome else None
            if isinstance(error, _Fault) and error.malformed:
                return state.attempt_number >= _MALFORMED_ATTEMPTS
            if isinstance(error, _Fault) and (error.retry_after or 0.0) > MAX_RETRY_AFTER:
                return True
            # A rate limit is an answer, not an outage: it is waited out as long as others get through.
            since = self._meter.last_success if isinstance(error, _Fault) and error.kind == "rate_limited" else 0.0
            return time.monotonic() - max(begun, since) > self._patience

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(worth_repeating),
            stop=give_up,
            wait=wait,
            sleep=tenacity.nap.sleep_using_event(self._stopped),
            before_sleep=lambda _state: self._meter.retry(),
            reraise=True,
        )
        try:
            return retrying(lambda: self._call_once(texts))
        except _Fault as fault:
            if self._stopped.is_set() and fault.kind in _WORTH_REPEATING and not fault.malformed:
                raise Stopped from fault
            if fault.kind == "refused" or fault.malformed:
                raise _Refused(fault.reason) from fault
            if fault.kind == "bug" and fault.__cause__ is not None:
                raise fault.__cause__ from None
            if fault.kind == "transient" and self._meter.last_success > begun:
                # Others got through meanwhile: it is this batch that the provider cannot take.
                raise _Refused(fault.reason) from fault
            raise ProviderStopped(fault.reason) from fault

    def _call_once(self, texts: list[str]) -> Vector:
        try:
            vectors = self._call(texts)
            check_vectors(vectors, texts, self.dimensions)
            self._check_equal_vectors(vectors, texts)
            self._check_not_repeated(vectors, texts)
        except Stopped:
            raise
        except (WrongVectors, MalformedAnswerError) as error:
            raise _Fault("transient", str(error), None, malformed=True) from error
        except Exception as error:
            fault = provider_fault(error, self._secrets)
            if fault.kind in _WORTH_REPEATING:
                self._throttle.overloaded(fault.retry_after)
            raise _Fault(fault.kind, fault.message, fault.retry_after) from error
        return vectors

    def _check_equal_vectors(self, vectors: Vector, texts: Sequence[str]) -> None:
        """Distinct texts with the same vector are possible (case, word order), and a sign of a broken answer.

        They are asked for alone; if one then has another vector, the answer was broken. If they agree, the
        probe is asked for as well: one vector for all three is the provider's only one, and no text's.
        """
        first_with: dict[bytes, int] = {}
        for place, vector in enumerate(vectors):
            earlier = first_with.setdefault(vector.tobytes(), place)
            if earlier != place:
                for one in (earlier, place):
                    alone = self._call([texts[one]])
                    check_vectors(alone, [texts[one]], self.dimensions)
                    if not same_vector(alone[0], vectors[one]):
                        raise WrongVectors(_REPEATED)
                if not _is_the_probe(texts[earlier]):
                    control = self._call([PROBE_TEXT])
                    check_vectors(control, [PROBE_TEXT], self.dimensions)
                    if same_vector(control[0], vector):
                        with self._lock:
                            if len(self._repeated) < _MOST_REPEATED:
                                self._repeated.add(vector.tobytes())
                        raise WrongVectors(_REPEATED)
                return

    def _check_not_repeated(self, vectors: Vector, texts: Sequence[str]) -> None:
        """No text has the probe's vector, or one that the provider gave for everything; a lone text neither."""
        for vector, text in zip(vectors, texts, strict=True):
            is_probe = self._probed is not None and vector.tobytes() == self._probed.tobytes()
            if vector.tobytes() in self._repeated or (is_probe and not _is_the_probe(text)):
                raise WrongVectors(_REPEATED)

    def _call(self, texts: list[str]) -> Vector:
        tokens = sum(map(estimate_tokens, texts))
        with self._throttle.slot(tokens):
            begun = time.monotonic()
            try:
                vectors = self._embeddings.embed_array(texts)
            except BaseException:
                self._meter.request(time.monotonic() - begun, texts=len(texts), tokens=tokens, failed=True)
                raise
            seconds = time.monotonic() - begun
        self._meter.request(seconds, texts=len(texts), tokens=tokens, failed=False)
        self._throttle.succeeded(seconds)
        return vectors

    @property
    def _scale(self) -> float:
        """How long waits are: with little patience, shorter ones."""
        return min(1.0, self._patience / _FULL_WAITS)

    def _count_refusal(self, reason: str) -> None:
        self._refused_in_a_row += 1
        if self._refused_in_a_row >= _REFUSED_IN_A_ROW:
            raise ProviderStopped(
                f"the provider refused {self._refused_in_a_row} texts in a row; the last one: {reason}"
            )


def _is_the_probe(text: str) -> bool:
    """Whether a model may take the text for the probe: one that knows neither case nor punctuation does."""
    return "".join(filter(str.isalnum, text)).casefold() == PROBE_TEXT


def same_vector(one: Vector, other: Vector) -> bool:
    """Whether two vectors are the same but for what a provider's arithmetic varies (2 % of the length).

    Stricter than a cosine of 0.999, and it notices a difference in length, which `ip` distance would.
    """
    return one.shape == other.shape and float(np.linalg.norm(one - other)) <= 0.02 * float(np.linalg.norm(other))


def _asked_to_wait(state: tenacity.RetryCallState) -> float | None:
    error = state.outcome.exception() if state.outcome else None
    return error.fault.retry_after if isinstance(error, ProbeFailed) else None


class ProbeFailed(Exception):  # noqa: N818
    """The probe embedding failed; `fault` says how."""

    def __init__(self, fault: ProviderFault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class _Fault(Exception):  # noqa: N818
    def __init__(self, kind: str, reason: str, retry_after: float | None, *, malformed: bool = False) -> None:
        super().__init__(reason)
        self.kind, self.reason, self.retry_after, self.malformed = kind, reason, retry_after, malformed


class _Refused(Exception):  # noqa: N818
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
