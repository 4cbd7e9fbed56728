"""Several servers of one model, as one: each request goes to the one that will most likely answer it first.

How long a server takes is measured, and multiplied by the requests that it has under way and one more. Of servers
that take one request at a time, one of 50 ms and one of 150 ms answered 298 and 105 of 400 requests in 16.5 s, where
15.0 s is the least possible; two of 50 ms took 13.0 s, one alone 24.6 s.

One that fails is left out, for a second at first, then for twice as long each time up to a minute; then one request
tries it again. The request that failed goes to another; only where none is left does the caller learn of it, as if one
server had failed.

They must have the same model, so before the first request each embeds the same text, and again before it is used after
a failure, for it may have been started with another model.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, cast

from langchain_core.embeddings import Embeddings

from kai.address import canonical_url
from kai.embeddings import ArrayEmbeddings, EndpointsError, MalformedAnswerError, NamesItsModel
from kai.provider_errors import FaultKind, provider_fault
from kai.providers.answers import ArrayBased
from kai.vectors import Vector, WrongVectors, check_vectors, cosine

LEAST_COSINE: Final = 0.9999
COMPARED_TEXT: Final = "The same text has the same vector on every server."
_FIRST_WAIT_S: Final = 1.0
_LONGEST_WAIT_S: Final = 60.0
_SHARE_OF_LATEST: Final = 0.3
_FORGOTTEN_HALF_S: Final = 60.0
"""Seconds without an answer after which half of a server's measured time is forgotten: it may be faster now."""
_OF_THE_REQUEST: Final[frozenset[FaultKind]] = frozenset({"refused", "bug"})
_MAY_PASS: Final[tuple[FaultKind, ...]] = ("rate_limited", "transient")


@dataclass(slots=True)
class _Server:
    """What is known of one server; times in seconds of the chooser's clock."""

    under_way: int = 0
    usual: float | None = None
    answered_at: float = 0.0
    out_until: float = 0.0
    wait: float = 0.0

    def remembered(self, now: float) -> float | None:
        """Seconds that one request takes; less of it the longer ago that was, None if it was never measured."""
        if self.usual is None or self.under_way:
            return self.usual
        share: float = 0.5 ** ((now - self.answered_at) / _FORGOTTEN_HALF_S)
        return self.usual * share


class Chooser:
    """Which of several servers gets the next request. Thread-safe, and asks nobody.

    Args:
        count: of servers; each is known by its place, from 0.
        clock: seconds.
    """

    def __init__(self, count: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._servers = [_Server() for _ in range(count)]
        self._clock = clock
        self._lock = threading.Lock()

    def choose(self, tried: Collection[int] = ()) -> int | None:
        """The server to ask, which counts as asked until it is `released`; None if none is left.

        Args:
            tried: those that have failed with this request. Where it has been to none, and all are out, the one is
                chosen whose time comes first.
        """
        with self._lock:
            now = self._clock()
            left = [place for place in range(len(self._servers)) if place not in tried]
            able = [place for place in left if self._servers[place].out_until <= now]
            if not able:
                if tried or not left:
                    return None
                able = [min(left, key=lambda place: self._servers[place].out_until)]
            seconds = [server.remembered(now) for server in self._servers]
            # One that was never measured is taken for the fastest, and comes first, so that it is.
            fastest = min((each for each in seconds if each is not None), default=0.0)

            def expected(place: int) -> tuple[float, int, bool]:
                known, more = seconds[place], self._servers[place].under_way + 1
                return (fastest if known is None else known) * more, more, known is not None

            chosen = min(able, key=expected)
            server = self._servers[chosen]
            server.under_way += 1
            if server.wait:  # It has failed before, so this request tries it alone.
                server.out_until = now + server.wait
            return chosen

    def released(self, place: int) -> None:
        """The request to it has come to an end, whichever."""
        with self._lock:
            self._servers[place].under_way -= 1

    def answered(self, place: int, seconds: float) -> None:
        """It gave a good answer after so many seconds."""
        with self._lock:
            server = self._servers[place]
            before = seconds if server.usual is None else server.usual
            server.usual = (1 - _SHARE_OF_LATEST) * before + _SHARE_OF_LATEST * seconds
            server.answered_at = self._clock()
            server.out_until = server.wait = 0.0

    def failed(self, place: int, wait: float | None = None) -> bool:
        """It gave none; leave it out, for as long as it asks for, if it does.

        Returns:
            Whether it was in use until now.
        """
        with self._lock:
            server = self._servers[place]
            first = not server.wait
            server.wait = min(_LONGEST_WAIT_S, max(_FIRST_WAIT_S, 2 * server.wait))
            server.out_until = self._clock() + max(server.wait, wait or 0.0)
            server.usual = None
            return first


class Endpoints(ArrayBased):
    """Several `Embeddings` of one model, as one.

    Args:
        servers: by base URL.
        tell: is told, a sentence each, when one fails, answers again, or has another model.
        clock: seconds.
    """

    def __init__(
        self,
        servers: Mapping[str, Embeddings],
        *,
        tell: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(self._embed)
        self._names = [canonical_url(base) for base in servers]
        self._servers = [cast(ArrayEmbeddings, server) for server in servers.values()]
        self._chooser = Chooser(len(self._servers), clock)
        self._tell = tell or (lambda _sentence: None)
        self._clock = clock
        self._reference: Vector | None = None
        self._compared: set[int] = set()
        self._others: set[int] = set()
        """Those that have come back with another model; they stay out."""
        self._lock = threading.Lock()

    def digest_of_model(self) -> str | None:
        """What all of them call the model; None where they do not say, or do not say the same."""
        if not all(isinstance(server, NamesItsModel) for server in self._servers):
            return None
        digests = {cast(NamesItsModel, server).digest_of_model() for server in self._servers}
        return digests.pop() if len(digests) == 1 else None

    def _embed(self, texts: list[str]) -> Vector:
        with self._lock:
            if self._reference is None:
                self._reference = self._compare_all()
        failures: dict[int, Exception] = {}
        while (place := self._chooser.choose(self._others | failures.keys())) is not None:
            try:
                return self._ask(place, texts, self._reference)
            except Exception as error:
                fault = provider_fault(error)
                if fault.kind in _OF_THE_REQUEST:
                    raise
                failures[place] = error
                self._compared.discard(place)
                if self._chooser.failed(place, fault.retry_after) and place not in self._others:
                    self._tell(f"{self._names[place]} is left out for the time being: {fault.message}")
            finally:
                self._chooser.released(place)
        raise _foremost(list(failures.values()))

    def _ask(self, place: int, texts: list[str], reference: Vector) -> Vector:
        server = self._servers[place]
        if place not in self._compared:
            self._compare(place, server.embed_array([COMPARED_TEXT]), reference)
        begun = self._clock()
        vectors = server.embed_array(texts)
        try:
            check_vectors(vectors, texts, len(reference))
        except WrongVectors as error:  # Another server may do better.
            raise MalformedAnswerError(str(error)) from error
        self._chooser.answered(place, self._clock() - begun)
        return vectors

    def _compare(self, place: int, vectors: Vector, reference: Vector) -> None:
        """One that comes back is used only if it has the same model still."""
        if len(vectors) == 1 and cosine(vectors[0], reference) < LEAST_COSINE:
            self._others.add(place)
            message = f"{self._names[place]} has another model than before, and is not asked any more"
            self._tell(message)
            raise EndpointsError(message)
        self._compared.add(place)
        self._tell(f"{self._names[place]} answers again")

    def _compare_all(self) -> Vector:
        """The vector that all servers give to one text; those that do not answer are left out for the time being.

        Raises:
            EndpointsError: one gives another vector, or refuses what the others do.
        """
        with ThreadPoolExecutor(len(self._servers)) as pool:
            answers = list(pool.map(_probed, self._servers))
        vectors = {place: answer for place, answer in enumerate(answers) if not isinstance(answer, Exception)}
        failures = {place: answer for place, answer in enumerate(answers) if isinstance(answer, Exception)}
        if not vectors:
            raise _foremost(list(failures.values()))
        for place, error in failures.items():
            fault = provider_fault(error)
            if fault.kind not in _MAY_PASS:
                raise EndpointsError(f"{self._names[place]} cannot be used: {fault.message}") from error
            self._chooser.failed(place, fault.retry_after)
            self._tell(f"{self._names[place]} is left out for the time being: {fault.message}")
        alike = [
            {other for other, theirs in vectors.items() if cosine(vector, theirs) >= LEAST_COSINE}
            for vector in vectors.values()
        ]
        most = max(alike, key=len)
        if odd := vectors.keys() - most:
            named = ", ".join(self._names[place] for place in sorted(odd))
            rest = ", ".join(self._names[place] for place in sorted(most))
            raise EndpointsError(
                f"{named} gives the same text another vector than {rest}: another model or other dimensions; "
                "all servers must have the same model"
            )
        self._compared.update(vectors)
        return vectors[min(vectors)]


def _probed(server: ArrayEmbeddings) -> Vector | Exception:
    try:
        vectors = server.embed_array([COMPARED_TEXT])
    except Exception as error:
        return error
    if len(vectors) != 1:
        return MalformedAnswerError(f"the answer to one text has {len(vectors)} vectors")
    vector: Vector = vectors[0]
    return vector


def _foremost(errors: list[Exception]) -> Exception:
    """The error that is told: one that may pass, if there is such a one, so that it is waited for."""
    kinds = [*_MAY_PASS, *{provider_fault(error).kind for error in errors}]
    return min(errors, key=lambda error: kinds.index(provider_fault(error).kind))
