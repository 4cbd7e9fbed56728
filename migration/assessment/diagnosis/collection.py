"""The checks of one collection: its schema, every document, and what the model gives for their texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from kai.collections import EmbeddedCollection
from kai.models import EmbeddingSettings, find_model, fingerprint
from kai.typesense import Schema, Typesense, TypesenseError
from kai.typesense_schemas import serving_field
from migration.assessment.diagnosis.findings import Check, Finding
from migration.assessment.diagnosis.meaning import (
    AnotherModelError,
    Compared,
    Sample,
    compare,
    draw_sample,
    find_shared,
    findings_of_compared,
    findings_of_shared,
)
from migration.assessment.diagnosis.schema import check_schema, stamp_is_of
from migration.assessment.diagnosis.stored import Place, Stored, findings_by_ledger, findings_of, read_stored
from migration.embedding.cache import VectorCache
from migration.embedding.embed import Embedder
from migration.embedding.provider import ProviderStopped
from migration.ledger import Ledger
from migration.runtime.console import Console
from migration.strategies.shadow_state import unfinished

_VECTORS = "vectors"
_MEANING = "vectors against their texts"
_OTHER_MODEL = "correct EMBEDDING_MODEL or the provider's address, or embed everything again with --force"


@dataclass(frozen=True, slots=True)
class Buyer:
    """Who gives the vectors to compare with.

    Attributes:
        embedder: of the configured model; keeps what it buys in the cache.
        cache: that of the embedder.
        vector_length: Euclidean length of a vector that it gave.
    """

    embedder: Embedder
    cache: VectorCache
    vector_length: float


@dataclass(slots=True)
class Examiner:
    """What the checks of the collections have in common.

    Attributes:
        server: where they are.
        console: where it is told what is going to be paid for, and how far it is.
        everything: the schemas of all collections.
        target: the configured model; None where none is.
        ledger: what was done; None where there is none that can be read.
        buyer: who gives the vectors to compare with; where nobody does, why.
        most_texts: distinct texts of each collection to embed; None for all.
        most_usd: that they may cost from here on; None for any price.
    """

    server: Typesense
    console: Console
    everything: Sequence[Schema]
    target: EmbeddingSettings | None
    ledger: Ledger | None
    buyer: Buyer | str
    most_texts: int | None
    most_usd: float | None

    def check(self, collection: EmbeddedCollection, schema: Schema | None) -> Iterator[Check]:
        """The checks of one collection; what goes wrong in the middle of them ends them."""
        if collection.skipped:
            yield Check(_VECTORS, collection.name, f"left alone: {collection.skipped}", is_made=False)
            return
        if schema is None:
            what = f"collection {collection.name!r} does not exist on {self.server.url}"
            remedy = "check TYPESENSE_HOST and TYPESENSE_PORT, or name those that there are with --collections"
            finding = Finding("error", "no_collection", what, collection.name, remedy)
            yield Check(_VECTORS, collection.name, "not there", (finding,), is_made=False)
            return
        field = serving_field(schema, collection.embedding_field)
        place = Place(self.server, replace(collection, embedding_field=field), schema)
        if undone := unfinished(self.everything, place.name):
            yield Check(_VECTORS, place.where, undone, is_made=False)
            return
        length = self.buyer.vector_length if isinstance(self.buyer, Buyer) else None
        of_schema = check_schema(place.collection, schema, self.target, length)
        yield of_schema
        if any(finding.code == "field" for finding in of_schema.findings):
            yield Check(_VECTORS, place.where, "there is no such field", is_made=False)
            return
        try:
            yield from self._vectors(place)
        except TypesenseError as error:
            what, remedy = str(error), "look again once the server answers"
            if error.status == 400 and collection.filter_by:
                what, remedy = f"filter_by {collection.filter_by!r}: {error}", "correct it in the collections file"
            finding = Finding("error", "not_readable", what, place.where, remedy)
            yield Check(_VECTORS, place.where, "cannot be read", (finding,), is_made=False)

    def _vectors(self, place: Place) -> Iterator[Check]:
        """Read every document, then compare what can be compared."""
        model = find_model(self.target.family, self.target.model) if self.target else None
        total = self.server.count(place.name, place.collection.filter_by)
        with self.console.progress(f"  Reading {place.name}", total) as bar:
            stored = read_stored(place, self.ledger, model, bar.update)
        told = f"{stored.documents:,} documents, {stored.compared:,} with text and vector"
        yield Check(_VECTORS, place.where, told, tuple(findings_of(stored, place)))
        by_ledger = tuple(findings_by_ledger(stored, place, self.ledger)) if self.ledger else ()
        if not isinstance(self.buyer, Buyer) or self.target is None:
            yield self._not_compared(place, stored, str(self.buyer), by_ledger)
        elif why := _incomparable(stored, self.target):
            yield self._not_compared(place, stored, why, by_ledger)
        else:
            yield self._compared(place, stored, self.buyer, self.target, by_ledger)

    def _not_compared(self, place: Place, stored: Stored, why: str, by_ledger: tuple[Finding, ...]) -> Check:
        shared = findings_of_shared(place, find_shared(place, stored))
        return Check(_MEANING, place.where, why, (*shared, *by_ledger), is_made=False)

    def _compared(
        self, place: Place, stored: Stored, buyer: Buyer, target: EmbeddingSettings, by_ledger: tuple[Finding, ...]
    ) -> Check:
        sample = draw_sample(stored, target.model, self.most_texts, self.most_usd)
        if self.most_usd is not None and sample.cost_usd is not None:
            self.most_usd = max(0.0, self.most_usd - sample.cost_usd)
        self.console.warn(_price(place, sample))
        space = fingerprint(target, "")
        try:
            with self.console.progress(f"  Comparing {place.name}", stored.documents) as bar:
                compared = compare(place, stored, sample, buyer.embedder, buyer.cache, space, bar.update)
        except ProviderStopped as error:
            remedy = "mend that, then look again: what was bought is kept"
            finding = Finding("error", "provider", str(error), place.where, remedy)
            return Check(_MEANING, place.where, "broken off", (finding, *by_ledger), is_made=False)
        except AnotherModelError as error:
            finding = Finding("error", "model_changed", str(error), place.where, _OTHER_MODEL)
            return Check(_MEANING, place.where, "broken off", (finding, *by_ledger), is_made=False)
        findings = [
            *self._no_or_mixed(place, stored, compared, target),
            *findings_of_shared(place, compared.shared),
            # Where every vector was compared, the ledger has nothing to add.
            *(() if compared.same and compared.is_whole else by_ledger),
        ]
        how = "every text" if compared.is_whole else _sampled(sample)
        told = f"{compared.same:,} of {compared.documents:,} documents carry their text's ({how})"
        return Check(_MEANING, place.where, told, tuple(findings))

    def _no_or_mixed(
        self, place: Place, stored: Stored, compared: Compared, target: EmbeddingSettings
    ) -> Iterator[Finding]:
        """That the collection is another model's, or which of its vectors are."""
        name = target.name
        yield from findings_of_compared(place, compared, name)
        if compared.same or not compared.documents:
            return
        what = f"none of {compared.documents:,} documents carries the vector that {name} gives for its text"
        if self._is_said_to_be(place, stored, target):
            what += ", though metadata or ledger say that it does: another model has the name now"
            yield Finding("error", "model_changed", what, place.where, _OTHER_MODEL)
        else:
            what += ": the collection is another model's, as before a migration to this one"
            remedy = "migrate; or, to look for mixed vectors now, configure the model that they are of"
            yield Finding("info", "other_model", what, place.where, remedy)

    def _is_said_to_be(self, place: Place, stored: Stored, target: EmbeddingSettings) -> bool:
        """Whether metadata or ledger say that the vectors are the configured model's."""
        if stamp_is_of(place.collection, place.schema, target):
            return True
        model = self.ledger.find_model(fingerprint(target, "")) if self.ledger else None
        return model is not None and stored.by_model[model.id] > 0


def _incomparable(stored: Stored, target: EmbeddingSettings) -> str:
    """Why the vectors cannot be compared with the model's."""
    if not stored.compared:
        return "no document has both a text and a vector"
    if target.dimensions not in stored.lengths:
        lengths = ", ".join(map(str, sorted(stored.lengths)))
        return f"the vectors have {lengths} dimensions, those of {target.model} {target.dimensions}"
    return ""


def _sampled(sample: Sample) -> str:
    return "every text" if sample.is_whole else f"a sample of {sample.texts:,} of {sample.of:,} texts"


def _price(place: Place, sample: Sample) -> str:
    cost = "at a price that is not known" if sample.cost_usd is None else f"${sample.cost_usd:.4f} by list price"
    rest = ""
    if not sample.is_whole:
        whole = "" if sample.whole_cost_usd is None else f", ${sample.whole_cost_usd:.4f}"
        rest = f" (all of them: --sample all{whole}; --max-cost bounds it)"
    return (
        f"{place.where}: {_sampled(sample)} is embedded, about {sample.tokens:,} tokens, {cost}, less what was bought "
        f"before; it is kept for a migration{rest}"
    )
