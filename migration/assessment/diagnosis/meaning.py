"""Is the stored vector of a document the one that the configured model gives for its text?

The texts of a sample, or all of them, are embedded, each is compared with what stands there, and what is not equal is
looked up among the vectors of the other texts: one that is there belongs to that text, one that is nowhere is another
model's. What is bought is in the cache before it is compared, so a migration to that model pays for none of it again;
and what the cache has already is compared beside the sample, for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from kai.collections import EmbeddedCollection
from kai.models import estimate_cost
from kai.vectors import LEAST_COSINE, Vector, cosine
from migration.assessment.diagnosis.findings import Finding, Named
from migration.assessment.diagnosis.origin import REFERENCES, Origin, trace
from migration.assessment.diagnosis.stored import Place, Stored, number_of, sound_vector, vector_number
from migration.documents.fetch import Document
from migration.embedding.cache import VectorCache
from migration.embedding.embed import Embedder, TextFailure, text_hash

_TRACED_BYTES: Final = 32_000_000
"""Of vectors that are not their text's, kept to be looked up among those of the other texts."""
_NEAR: Final = 0.5
"""Cosine from which on a vector that is not its text's is of something like it, or of a relative of the model: vectors
of unrelated models are at right angles, within 0.1 or so."""
_TRIED_AGAIN: Final = 10
"""Texts of the cache that the provider is asked for again: the model of this name may be another one by now."""

_PAIRS: Final = 10
"""Documents with the wrong text's vector of which is said whose it is."""


class AnotherModelError(Exception):
    """The provider gives other vectors than those that were bought under the model's name; the message says so."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Which of a collection's distinct texts are embedded.

    Attributes:
        texts: how many.
        of: how many distinct texts there are.
        tokens: estimated, of those in the sample.
        cost_usd: of them, by list price; None where the price is not known.
        whole_cost_usd: of all the texts.
        last: the highest hash that is in it; hashes are as good as drawn by lot.
    """

    texts: int
    of: int
    tokens: int
    cost_usd: float | None
    whole_cost_usd: float | None
    last: int

    @property
    def is_whole(self) -> bool:
        """Whether it is all of them."""
        return self.texts == self.of

    def has(self, number: int) -> bool:
        """Whether the text of this hash is among them; of all of them, also one that was written since."""
        return self.is_whole or (self.texts > 0 and number <= self.last)


@dataclass(frozen=True, slots=True)
class _Stray:
    """A document whose vector is not its text's."""

    id: str
    vector: Vector
    cosine: float


@dataclass(slots=True)
class Compared:
    """What came of the comparison.

    Attributes:
        documents: whose vector was compared.
        is_whole: whether these are all that have a text and a vector of the model's length.
        same: of them, those that carry their text's.
        strays: those that do not, as many as fit in memory.
        untraced: the others.
        refused: those whose text the provider does not take.
        reason: the first of its reasons.
        references: vectors of some that do.
        origins: whose the strays' vectors are, by their ids.
        shared: documents that share a vector with others of other words, where the comparison did not say whose it is.
    """

    documents: int = 0
    is_whole: bool = False
    same: int = 0
    strays: list[_Stray] = field(default_factory=list)
    untraced: Named = field(default_factory=Named)
    refused: Named = field(default_factory=Named)
    reason: str = ""
    references: list[Vector] = field(default_factory=list)
    origins: dict[str, Origin] = field(default_factory=dict)
    shared: Named = field(default_factory=Named)


def draw_sample(stored: Stored, model: str, most: int | None, most_usd: float | None) -> Sample:
    """Choose the texts to embed.

    Args:
        stored: what stands in the collection.
        model: name of the configured one, for its price.
        most: distinct texts; None for all.
        most_usd: that they may cost by list price; None for any price.
    """
    texts, tokens = stored.distinct_texts()
    count = len(texts) if most is None else min(most, len(texts))
    whole = estimate_cost(model, int(tokens.sum()))
    if most_usd is not None and whole:
        sums = np.cumsum(tokens[:count])
        affordable = most_usd / whole * float(tokens.sum())
        count = int(np.searchsorted(sums, affordable, side="right"))
    bought = int(tokens[:count].sum())
    last = int(texts[count - 1]) if count else 0
    return Sample(count, len(texts), bought, estimate_cost(model, bought), whole, last)


def compare(
    place: Place,
    stored: Stored,
    sample: Sample,
    embedder: Embedder,
    cache: VectorCache,
    space: str,
    advance: Callable[[int], object] = lambda _: None,
) -> Compared:
    """Read the collection again, embed the texts of the sample, and compare.

    Beside the sample: texts whose vector the cache has.

    Args:
        place: what to read.
        stored: what the first reading has shown.
        sample: the texts to embed.
        embedder: of the configured model; keeps what it buys in the cache.
        cache: that of the embedder.
        space: fingerprint of the model.
        advance: told the number of documents of each page.

    Raises:
        AnotherModelError: the provider gives other vectors than the cache has.
        ProviderStopped: it gives no more vectors.
        TypesenseError: the server cannot be read.
    """
    found, suspects, shared = Compared(), stored.shared(), Named()
    room = _TRACED_BYTES // (4 * embedder.provider.dimensions)
    candidates, is_tried = 0, False
    for page in place.read():
        pairs = list(_with_vector(place.collection, page, embedder.provider.dimensions))
        candidates += len(pairs)
        kept = cache.get_many(space, list({text_hash(text) for _, text, _ in pairs}))
        if kept and not is_tried:
            is_tried = True
            _try_again(embedder, [text for _, text, _ in pairs if text_hash(text) in kept], kept)
        wanted = {text for _, text, _ in pairs if text_hash(text) in kept or sample.has(number_of(text_hash(text)))}
        vectors = embedder.embed(wanted)
        for document, text, vector in pairs:
            is_shared = vector_number(vector.tobytes()) in suspects
            if is_shared:
                shared.add(document.id)
            if text not in wanted:
                if is_shared:
                    found.shared.add(document.id)
                continue
            right = vectors[text]
            if isinstance(right, TextFailure):
                found.refused.add(document.id)
                found.reason = found.reason or right.reason
                continue
            found.documents += 1
            if (near := cosine(vector, right)) >= LEAST_COSINE:
                found.same += 1
                if len(found.references) < REFERENCES:
                    found.references.append(vector)
            elif len(found.strays) < room:
                found.strays.append(_Stray(document.id, vector, near))
            else:
                found.untraced.add(document.id)
        advance(len(page))
    found.is_whole = found.documents + found.refused.count == candidates
    if not found.same:
        found.shared = shared
    elif found.strays:
        _trace(place, found, cache, space)
    return found


def find_shared(place: Place, stored: Stored) -> Named:
    """The documents that share a vector with others of other words: of all but one, it cannot be their text's."""
    named, suspects = Named(), stored.shared()
    for page in place.read() if suspects else ():
        for document in page:
            vector = sound_vector(document)
            if vector is not None and vector_number(vector.tobytes()) in suspects:
                named.add(document.id)
    return named


def findings_of_shared(place: Place, shared: Named) -> tuple[Finding, ...]:
    """That documents share a vector, where nothing was embedded that would say whose it is."""
    what = "with a vector that a document of other words has, too: it can be the right one of one text alone"
    return shared.found("warning", "duplicate_vector", what, place.where, place.migrate)


def findings_of_compared(place: Place, compared: Compared, model: str) -> Iterator[Finding]:
    """Which vectors are not their text's, where some are: if none is, they are all another model's.

    Args:
        place: of what.
        compared: what came of it.
        model: name of the configured one.
    """
    where, mend = place.where, place.migrate
    what = f"with a text that the provider does not take ({compared.reason})"
    yield from compared.refused.found("warning", "text_refused", what, where, "shorten or correct them")
    if not compared.same:
        return
    wrong, nobodys, near, other = Named(), Named(), Named(), Named()
    for stray in compared.strays:
        origin = compared.origins[stray.id]
        if origin.document_id is not None:
            wrong.add(stray.id)
        elif stray.cosine >= _NEAR:
            near.add(stray.id)
        else:
            (nobodys if origin.is_of_model else other).add(stray.id)
    pairs = [f"{id_} has that of {compared.origins[id_].document_id}" for id_ in wrong.ids[:_PAIRS]]
    more = ", …" if wrong.count > len(pairs) else ""
    what = f"with the vector of another document's text: {', '.join(pairs)}{more}"
    yield from wrong.found("error", "wrong_text", what, where, mend)
    what = "with the model's vector of another text, which is none of those that were embedded"
    yield from nobodys.found("error", "wrong_text", what, where, mend)
    what = (
        f"with a vector that is near to the text's and not equal to it (cosine {_NEAR} to {LEAST_COSINE}): the text "
        "was changed since, or a relative of the model made it"
    )
    yield from near.found("warning", "changed_text", what, where, mend)
    equal = f"where {compared.same:,} carry that of {model}"
    if compared.is_whole:
        what = f"with another model's vector, which is that of no text here, {equal}"
        yield from other.found("error", "another_model", what, where, mend)
    else:
        what = f"with a vector of another model, or of a text outside the sample, {equal}"
        yield from other.found("error", "wrong_vector", what, where, f"--sample all tells which; {mend}")
    what = f"with another vector than the text's, {equal}; whose it is was not looked into: there are too many"
    yield from compared.untraced.found("error", "wrong_vector", what, where, mend)


def _with_vector(
    collection: EmbeddedCollection, page: Sequence[Document], dimensions: int
) -> Iterator[tuple[Document, str, Vector]]:
    """The documents that have a text, and a vector of the model's length, with both."""
    for document in page:
        text, vector = collection.text_of(document.fields), sound_vector(document)
        if text and vector is not None and len(vector) == dimensions:
            yield document, text, vector


def _try_again(embedder: Embedder, texts: Sequence[str], kept: dict[bytes, Vector]) -> None:
    """Ask the provider for some texts that the cache has.

    Raises:
        AnotherModelError: its vectors are others.
    """
    some = list(dict.fromkeys(texts))[:_TRIED_AGAIN]
    again = embedder.embed(some, cache="bypass")
    pairs = [(kept[text_hash(text)], vector) for text, vector in again.items() if not isinstance(vector, TextFailure)]
    least = min((cosine(one, other) for one, other in pairs), default=1.0)
    if least < LEAST_COSINE:
        raise AnotherModelError(
            f"another model has the configured name now: of {len(pairs)} texts that were embedded before, it gives "
            f"other vectors (least cosine {least:.4f})"
        )


def _trace(place: Place, found: Compared, cache: VectorCache, space: str) -> None:
    """Look each stray up among the vectors of the texts that were embedded."""

    def known() -> Iterator[tuple[list[str], Vector]]:
        for page in place.read(with_vectors=False):
            texts = {text_hash(place.collection.text_of(document.fields)): document.id for document in reversed(page)}
            if vectors := cache.get_many(space, list(texts), dimensions=len(found.strays[0].vector)):
                yield [texts[digest] for digest in vectors], np.stack(list(vectors.values()))

    origins = trace([stray.vector for stray in found.strays], found.references, known())
    found.origins = {stray.id: origin for stray, origin in zip(found.strays, origins, strict=True)}
