"""Texts to vectors: each distinct text once, in as few requests as the provider's limits allow.

A request that the provider refuses is halved until the text that it refuses stands alone; that text fails by
itself and the others go on.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from kai.families import RequestLimits
from kai.models import estimate_tokens
from kai.vectors import Vector
from migration.embedding.provider import Provider, ProviderStopped, RefusedTexts
from migration.embedding.throttle import Stopped
from migration.runtime.meter import Meter

if TYPE_CHECKING:
    from migration.embedding.cache import VectorCache

_REFUSED_IN_A_ROW: Final = 50
"""Texts refused one by one, without a good answer between them, after which it is not the texts."""


@dataclass(frozen=True, slots=True)
class TextFailure:
    """This text could not be embedded, and why."""

    reason: str


CacheUse: TypeAlias = Literal["use", "refresh", "bypass"]
"""What becomes of the vectors in the cache: used; bought anew, once; passed by, to compare."""

Promise: TypeAlias = Future[dict[str, Vector | TextFailure]]
"""The outcome of a batch, by text. One for each text would cost as much as reading its vector."""


def text_hash(text: str) -> bytes:
    """SHA-256 of the text as UTF-8: the name under which its vector is remembered."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class Embedder:
    """Embeds texts for several threads at once.

    Args:
        provider: who makes the vectors.
        limits: what one request may carry.
        space: fingerprint of model, dimensions and task type: the cache's first key.
        cache: where vectors already paid for are kept; None to do without.
        meter: where vectors found in the cache are counted.
        most_tokens: estimated tokens after which no further text is bought; None for no bound.
        takes_cut: whether vectors of the cache are taken that were cut from longer ones of the same model.
    """

    def __init__(
        self,
        provider: Provider,
        *,
        limits: RequestLimits,
        space: str,
        cache: VectorCache | None,
        meter: Meter,
        most_tokens: int | None = None,
        takes_cut: bool = True,
    ) -> None:
        self.provider = provider
        self._limits = limits
        self._space = space
        self._cache = cache
        self._meter = meter
        self._most_tokens = most_tokens
        self._takes_cut = takes_cut
        self._under_way: dict[bytes, Promise] = {}
        self._afresh: set[bytes] = set()
        """Hashes of texts that were bought although the cache had them; once is enough."""
        self._refused_in_a_row = 0
        self._reserved = 0
        """Tokens bought or about to be."""
        self._lock = threading.Lock()

    def count_as_spent(self, tokens: int) -> None:
        """Tokens that the run had bought before it was gone on with."""
        with self._lock:
            self._reserved += tokens

    def embed(self, texts: Iterable[str], *, cache: CacheUse = "use") -> dict[str, Vector | TextFailure]:
        """The vector of each distinct text, or why it has none.

        A text that another thread is already embedding is waited for, not paid for again. New vectors are in
        the cache, durably, before this returns, but for those that pass it by.

        Args:
            texts: repeated ones cost nothing.
            cache: whether to `use` its vectors; to `refresh` them, which buys anew what the provider was not asked for
                by this embedder, once; or to `bypass` them, to compare with what it gives now.

        Raises:
            ProviderStopped: the run cannot go on.
            Stopped: the run was asked to stop.
        """
        hashes = {text: text_hash(text) for text in texts}
        results = self._cached(hashes, hashes, cache)
        mine, others = self._claim({text: digest for text, digest in hashes.items() if text not in results})
        cause: BaseException = Stopped("the request for this text did not come to its end")
        try:
            for batch, promise in mine:
                # Another thread may have bought some between the first look and the claim.
                embedded = self._cached(batch, hashes, cache)
                if rest := [text for text in batch if text not in embedded]:
                    self._check_spending(rest)
                    embedded |= self._embed_batch(rest, hashes, is_kept=cache != "bypass")
                if cache == "refresh":
                    self._afresh.update(hashes[text] for text in rest)
                promise.set_result(embedded)
                results.update(embedded)
        except BaseException as error:
            cause = error  # Whoever waits for one of these texts ends for the same reason.
            raise
        finally:
            self._release(mine, hashes, cause)
        results.update({text: promise.result()[text] for text, promise in others.items()})
        return results

    def keep_cut(self, vectors: Mapping[bytes, Vector], cut_from: int) -> None:
        """Keep vectors, by the hashes of their texts, that were cut from longer ones of the same model.

        Durable on return. A vector that the provider gave stays.

        Raises:
            CacheError: there is no place for them.
        """
        if self._cache is not None:
            self._cache.put_many(self._space, vectors.items(), cut_from=cut_from, replaces=False)

    def cut_from(self, hashes: Sequence[bytes]) -> dict[bytes, int]:
        """Of the vectors that were cut, by the hash of the text: the length of those that they were cut from."""
        return self._cache.cut_from(self._space, hashes) if self._cache is not None and self._takes_cut else {}

    def _cached(
        self, texts: Iterable[str], hashes: dict[str, bytes], cache: CacheUse
    ) -> dict[str, Vector | TextFailure]:
        if self._cache is None or cache == "bypass":
            return {}
        wanted = {hashes[text]: text for text in texts if cache == "use" or hashes[text] in self._afresh}
        found = self._cache.get_many(self._space, list(wanted))
        if not self._takes_cut:
            for digest in self._cache.cut_from(self._space, list(found)):
                del found[digest]
        self._meter.hit(len(found))
        self._cache.count_hits(self._space, len(found))
        return {wanted[digest]: vector for digest, vector in found.items()}

    # -- sharing between threads -----------------------------------------------------------------------

    def _claim(self, wanted: dict[str, bytes]) -> tuple[list[tuple[list[str], Promise]], dict[str, Promise]]:
        """The batches that the caller has to embed, and for the other texts where their vectors will be."""
        with self._lock:
            others = {text: self._under_way[digest] for text, digest in wanted.items() if digest in self._under_way}
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

    def _embed_batch(
        self, texts: list[str], hashes: dict[str, bytes], *, is_kept: bool
    ) -> dict[str, Vector | TextFailure]:
        """Embed one batch; halve it as long as the provider refuses it. What was bought is in the cache at once.

        The other half may end the run, and would take with it what this one has paid for.
        """
        try:
            vectors = self.provider.vectors(texts)
        except RefusedTexts as refusal:
            if len(texts) == 1:
                self._refused_in_a_row += 1
                if self._refused_in_a_row >= _REFUSED_IN_A_ROW:
                    raise ProviderStopped(
                        f"the provider refused {self._refused_in_a_row} texts in a row; the last one: {refusal}"
                    ) from refusal
                return {texts[0]: TextFailure(str(refusal))}
            middle = len(texts) // 2
            first = self._embed_batch(texts[:middle], hashes, is_kept=is_kept)
            return first | self._embed_batch(texts[middle:], hashes, is_kept=is_kept)
        self._refused_in_a_row = 0
        if self._cache and is_kept:
            self._cache.put_many(self._space, [(hashes[t], v) for t, v in zip(texts, vectors, strict=True)])
        return dict(zip(texts, vectors, strict=True))
