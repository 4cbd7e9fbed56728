"""The provider: one request after another, each as patiently as it is worth, and no answer taken unchecked.

tenacity repeats what is worth repeating, and is the only layer that does. No vector leaves here unchecked: as
many as texts, as long as the target's dimensions, all numbers finite, not all of them zero, and none that the
provider gives for everything.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import tenacity

from kai.embedding_interface import MalformedAnswerError, NamesItsModel
from kai.models import estimate_tokens
from kai.provider_errors import ProviderFault, provider_fault
from kai.vectors import Vector, WrongVectors, check_vectors, same_vector
from migration.embedding.throttle import Stopped, Throttle
from migration.runtime.meter import Meter

if TYPE_CHECKING:
    from kai.embedding_interface import ArrayEmbeddings

_WORTH_REPEATING: Final = frozenset({"rate_limited", "transient"})
_MALFORMED_ATTEMPTS: Final = 3
"""How often vectors that cannot be right are asked for again before the batch is taken apart."""
_PROBE_ATTEMPTS: Final = 5
_FULL_WAITS: Final = 150.0
"""Seconds of patience from which on the waits between repetitions have their full length."""
_MOST_REPEATED: Final = 100
"""Vectors that are remembered because the provider gave them for texts that have nothing in common."""
PROBE_TEXT: Final = "probe"
_REPEATED: Final = "the provider returned one vector for several texts"
MAX_RETRY_AFTER: Final = 900.0
"""Seconds. A provider that asks for longer has a daily quota that is used up: better to stop and resume."""


class ProviderStopped(Exception):  # noqa: N818 - named for what it does to the run
    """The provider cannot go on: key revoked, model gone, out of reach for too long. The run can be resumed."""


class RefusedTexts(Exception):  # noqa: N818
    """The provider does not take these texts together; the message says why."""


class _Failed(Exception):  # noqa: N818
    """A request failed, and `fault` says how; `malformed`: it was answered, with what cannot be right."""

    def __init__(self, fault: ProviderFault, *, malformed: bool = False) -> None:
        super().__init__(fault.message)
        self.fault, self.malformed = fault, malformed


class ProbeFailed(_Failed):
    """The probe embedding failed; `fault` says how."""


class Provider:
    """Asks one family's provider for vectors, for several threads at once.

    Args:
        embeddings: the family's `Embeddings`.
        dimensions: length of every vector.
        throttle: the gate in front of the provider.
        meter: where requests are counted.
        patience: seconds of failures in a row after which the provider counts as out of reach.
        stopped: ends waiting.
        secrets: what must not show in any reason.
    """

    def __init__(
        self,
        embeddings: ArrayEmbeddings,
        dimensions: int,
        *,
        throttle: Throttle,
        meter: Meter,
        patience: float = 300.0,
        stopped: threading.Event | None = None,
        secrets: tuple[str, ...] = (),
    ) -> None:
        self.dimensions = dimensions
        self._embeddings = embeddings
        self._throttle = throttle
        self._meter = meter
        self._patience = patience
        self._stopped = stopped or threading.Event()
        self._secrets = secrets
        self._probed: Vector | None = None
        self._repeated: set[bytes] = set()
        self._lock = threading.Lock()

    def digest_of_model(self) -> str | None:
        """What the provider's server calls this very model, whatever its name; None where it does not say."""
        return self._embeddings.digest_of_model() if isinstance(self._embeddings, NamesItsModel) else None

    def probe(self, text: str = PROBE_TEXT) -> Vector:
        """Embed one short text, without the cache: does the configuration work at all?

        A passing fault is tried again a few times, vectors that cannot be right too; the rest is told at once.

        Raises:
            ProbeFailed: it does not work, and why.
            WrongVectors: it works, and gives vectors of another length, say.
        """
        wrong = 0

        def worth_repeating(error: BaseException) -> bool:
            nonlocal wrong
            if isinstance(error, WrongVectors):
                wrong += 1
                return wrong < _MALFORMED_ATTEMPTS and not self._stopped.is_set()
            return self._may_pass(error)

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(worth_repeating),
            stop=tenacity.stop_after_attempt(_PROBE_ATTEMPTS) | tenacity.stop_before_delay(self._patience),
            wait=lambda state: min(_asked_to_wait(state) or 0.25 * self._scale * 2**state.attempt_number, 60.0),
            sleep=tenacity.nap.sleep_using_event(self._stopped),
            reraise=True,
        )
        try:
            vector: Vector = retrying(lambda: self._probe_once(text))
        except (_Failed, WrongVectors) as error:
            if self._stopped.is_set():
                raise Stopped from error
            if isinstance(error, _Failed):
                raise ProbeFailed(error.fault) from error
            raise
        return vector

    def _probe_once(self, text: str) -> Vector:
        if self._stopped.is_set():
            raise Stopped
        vector: Vector = self._checked([text])[0]
        if text == PROBE_TEXT:
            self._probed = vector
        return vector

    def vectors(self, texts: list[str]) -> Vector:
        """The vectors of one request's texts, asked for again while that may help.

        Args:
            texts: distinct, and as many as one request may carry.

        Returns:
            Shape (number of texts, dimensions), checked.

        Raises:
            RefusedTexts: the provider will not take these texts together.
            ProviderStopped: it will take none at all.
            Stopped: the run was asked to stop.
        """
        begun = time.monotonic()
        scale = self._scale
        backoff = tenacity.wait_exponential_jitter(initial=0.25 * scale, max=30.0 * scale, jitter=1.0 * scale)

        def wait(state: tenacity.RetryCallState) -> float:
            asked = _asked_to_wait(state)
            return backoff(state) if asked is None else asked + 0.05

        def give_up(state: tenacity.RetryCallState) -> bool:
            failed = _failed(state)
            if failed and failed.malformed:
                return state.attempt_number >= _MALFORMED_ATTEMPTS
            # A rate limit is an answer, not an outage: it is waited out as long as others get through.
            since = self._meter.last_success if failed and failed.fault.kind == "rate_limited" else 0.0
            return time.monotonic() - max(begun, since) > self._patience

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(self._may_pass),
            stop=give_up,
            wait=wait,
            sleep=self._throttle.sleep,
            before_sleep=lambda _state: self._meter.retry(),
            reraise=True,
        )
        try:
            return retrying(lambda: self._call_once(texts))
        except _Failed as failed:
            kind, reason = failed.fault.kind, failed.fault.message
            if self._stopped.is_set() and kind in _WORTH_REPEATING and not failed.malformed:
                raise Stopped from failed
            # Where others got through meanwhile, it is this batch that the provider cannot take.
            others_passed = kind == "transient" and self._meter.last_success > begun
            if kind == "refused" or failed.malformed or others_passed:
                raise RefusedTexts(reason) from failed
            self._throttle.give_up(lambda: ProviderStopped(reason))
            raise ProviderStopped(reason) from failed

    def _call_once(self, texts: list[str]) -> Vector:
        try:
            vectors = self._checked(texts)
            self._check_equal_vectors(vectors, texts)
            self._check_not_repeated(vectors, texts)
        except WrongVectors as error:
            raise _Failed(ProviderFault("transient", None, None, str(error)), malformed=True) from error
        except _Failed as failed:
            if failed.fault.kind in _WORTH_REPEATING and not failed.malformed:
                self._throttle.overloaded(min(failed.fault.retry_after or 0.0, MAX_RETRY_AFTER))
            raise
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
                    if not same_vector(self._checked([texts[one]])[0], vectors[one]):
                        raise WrongVectors(_REPEATED)
                if not _is_the_probe(texts[earlier]) and same_vector(self._checked([PROBE_TEXT])[0], vector):
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

    def _checked(self, texts: list[str]) -> Vector:
        vectors = self._call(texts)
        check_vectors(vectors, texts, self.dimensions)
        return vectors

    def _call(self, texts: list[str]) -> Vector:
        tokens = sum(map(estimate_tokens, texts))
        with self._throttle.slot(tokens):
            begun = time.monotonic()
            try:
                vectors = self._embeddings.embed_array(texts)
            except BaseException as error:
                self._meter.request(time.monotonic() - begun, texts=len(texts), tokens=tokens, failed=True)
                fault = provider_fault(error, self._secrets)
                if fault.kind == "bug" or not isinstance(error, Exception):
                    raise
                raise _Failed(fault, malformed=isinstance(error, MalformedAnswerError)) from error
            seconds = time.monotonic() - begun
        self._meter.request(seconds, texts=len(texts), tokens=tokens, failed=False)
        self._throttle.succeeded(seconds)
        return vectors

    def _may_pass(self, error: BaseException) -> bool:
        """Whether it is worth repeating what failed so."""
        if not isinstance(error, _Failed) or self._stopped.is_set():
            return False
        return error.fault.kind in _WORTH_REPEATING and (error.fault.retry_after or 0.0) <= MAX_RETRY_AFTER

    @property
    def _scale(self) -> float:
        """How long waits are: with little patience, shorter ones."""
        return min(1.0, self._patience / _FULL_WAITS)


def _is_the_probe(text: str) -> bool:
    """Whether a model may take the text for the probe: one that knows neither case nor punctuation does."""
    return "".join(filter(str.isalnum, text)).casefold() == PROBE_TEXT


def _failed(state: tenacity.RetryCallState) -> _Failed | None:
    error = state.outcome.exception() if state.outcome else None
    return error if isinstance(error, _Failed) else None


def _asked_to_wait(state: tenacity.RetryCallState) -> float | None:
    failed = _failed(state)
    return failed.fault.retry_after if failed else None
