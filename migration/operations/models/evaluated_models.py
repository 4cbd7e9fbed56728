"""Which models are evaluated: those that were named, that of the vectors that stand there, and that of a run."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kai.collections import EmbeddedCollection
from kai.families import family_of
from kai.models import EmbeddingSettings, fingerprint
from kai.settings import Need, Settings, SettingsError, load_settings
from kai.typesense import Schema, Typesense
from kai.typesense_schemas import signature_of
from kai.vectors import LEAST_COSINE, Vector, cosine
from migration.assessment.evaluation.model import Model
from migration.assessment.evaluation.sample import Fetched
from migration.embedding.cache import VectorCache
from migration.embedding.embed import TextFailure, text_hash
from migration.embedding.provider import ProviderStopped
from migration.ledger import Ledger
from migration.operations.setup import Session, configured_target, make_embedder, probe
from migration.runtime.console import Console
from migration.runtime.meter import Meter
from migration.strategies.refusals import Refused

_NAMED: Final = re.compile(r"([^/@]+)/(.+)[@/]([0-9]+)")
_ITS_OWN: Final[tuple[Need, ...]] = ("embedding",)
_COMPARED: Final = 10
"""Texts whose stored vectors are compared with those of the model that they should be from."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What an evaluation works with.

    Attributes:
        settings: where Typesense, ledger and cache are, and the configured target.
        env_file: where keys and addresses of the models' providers are; None for `.env`.
        server, ledger, cache: open.
        console: what a person reads.
    """

    settings: Settings
    env_file: Path | None
    server: Typesense
    ledger: Ledger
    cache: VectorCache
    console: Console

    def settings_of(self, words: str, option: str, task_type: str | None = None) -> Settings:
        """The settings as they would be if this model were configured.

        Args:
            words: FAMILY/MODEL@DIMENSIONS.
            option: that named it, for a refusal.
            task_type: Google's; None for the configured one.

        Raises:
            Refused: it cannot be used, or its key is missing.
        """
        found = _NAMED.fullmatch(words.strip())
        if found is None:
            raise Refused(
                f"{option} {words!r}: write FAMILY/MODEL@DIMENSIONS, such as openai/text-embedding-3-small@768"
            )
        chosen = dict(zip(("EMBEDDING_FAMILY", "EMBEDDING_MODEL", "EMBEDDING_DIMENSIONS"), found.groups(), strict=True))
        if task_type:
            chosen["EMBEDDING_TASK_TYPE"] = task_type
        try:
            return load_settings(self.env_file, {**os.environ, **chosen}, needs=_ITS_OWN)
        except SettingsError as error:
            raise Refused(*[f"{option} {words}: {problem}" for problem in error.problems]) from error

    def target(self) -> Settings:
        """The settings of the configured target.

        Raises:
            Refused: none is configured, or it cannot be used.
        """
        target = configured_target(self.settings)
        if target is not None:
            return self.settings_of(_words(target), "the configured model", target.task_type)
        try:
            return load_settings(self.env_file, needs=_ITS_OWN)
        except SettingsError as error:
            raise Refused(
                *[f"--model: none is given, and none configured: {each}" for each in error.problems]
            ) from error

    def open(self, settings: Settings) -> Model:
        """A model, once a probe has shown that it works.

        Raises:
            Refused: it does not.
        """
        meter = Meter()
        session = Session(settings=settings, server=self.server, console=self.console, meter=meter)
        embedder = make_embedder(session, cache=self.cache)
        probe(embedder, settings)
        meter.restart()
        return Model(settings.embedding, embedder, self.cache, meter)

    def old_settings(self, schema: Schema, field: str) -> tuple[Settings, str]:
        """The settings of the model that the vectors of a field are from, by the collection's stamp or the ledger.

        Returns:
            The settings, and a sentence where it is not certain; else empty.

        Raises:
            Refused: nobody knows, or it cannot be used.
        """
        stamp, option = signature_of(schema, field), "--old"
        if all(stamp.get(part) for part in ("family", "model", "dimensions")):
            words = f"{stamp['family']}/{stamp['model']}@{stamp['dimensions']}"
            return self.settings_of(words, option, stamp.get("task_type")), ""
        name = str(schema["name"])
        uses = Counter(
            {
                each.model: use.documents
                for each in self.ledger.models()
                for use in each.collections
                if (use.source, use.collection) == (self.server.address, name) and use.field in (field, "")
            }
        )
        if not uses:
            raise Refused(
                f"--old: neither the metadata of {name!r} nor the ledger says which model the vectors in {field!r} are "
                "from; name it: --old FAMILY/MODEL@DIMENSIONS"
            )
        (model, documents), *others = uses.most_common()
        words = f"{model.family}/{model.model}@{model.dimensions}"
        mixed = (
            f"by the ledger vectors of several models stand in {field!r} of {name!r}; the old model is {model.name}, "
            f"which {documents} documents carry; run the migration to its end, or name another with --old"
        )
        return self.settings_of(words, option, model.task_type), mixed if others else ""

    def settings_of_run(self, run: str, target: str, collection: EmbeddedCollection) -> Settings:
        """The settings of the model by which a run has built vectors, as it is configured or in the ledger.

        Raises:
            Refused: nobody knows it any more, or it cannot be used.
        """
        configured = configured_target(self.settings)
        known = [configured] if configured else []
        known += [EmbeddingSettings(m.model.family, m.model.model, m.model.dimensions, m.model.task_type)
                  for m in self.ledger.models()]  # fmt: skip
        found = next((each for each in known if fingerprint(each, collection.template) == target), None)
        if found is None:
            raise Refused(
                f"--against shadow: run {run} built it with a model that is neither configured nor in the ledger; set "
                "EMBEDDING_FAMILY, EMBEDDING_MODEL and EMBEDDING_DIMENSIONS (and --collections-file) to what it had"
            )
        return self.settings_of(_words(found), f"the model of run {run},", found.task_type)


def refuse_other_vectors(model: Model, documents: Iterable[Fetched], place: str, remedy: str) -> None:
    """Refuse stored vectors that are not the model's: questions embedded by it would find nothing but by chance.

    Args:
        model: that they should be from.
        documents: the first few that have a vector are compared.
        place: where they stand, in words.
        remedy: what to do.

    Raises:
        Refused: most of them are others.
        ProviderStopped: the model cannot be asked.
    """
    length = model.embedding.dimensions
    some = [(each.text, each.vector) for each in documents if each.vector is not None and len(each.vector) == length]
    cosines = _cosines(model, some[:_COMPARED])
    others = [value for value in cosines if value < LEAST_COSINE]
    # A text may have changed since; most of them have not.
    if 2 * len(others) > len(cosines):
        raise Refused(
            f"the vectors {place} are not those of {model.name}: of {len(cosines)} texts embedded by it, {len(others)} "
            f"have another vector (least cosine {min(others):.4f}); {remedy}"
        )


def refuse_another_of_the_name(model: Model, texts: Sequence[str]) -> None:
    """Refuse a model where the cache has another one's vectors under its name, from another server or an older tag.

    Raises:
        Refused: they are.
        ProviderStopped: the model cannot be asked.
    """
    kept = model.cache.get_many(fingerprint(model.embedding, ""), [text_hash(text) for text in texts])
    some = [(text, kept[digest]) for text in texts if (digest := text_hash(text)) in kept]
    cosines = _cosines(model, some[:_COMPARED])
    others = [value for value in cosines if value < LEAST_COSINE]
    if others:
        raise Refused(
            f"{family_of(model.embedding.family).where}: another model has the name {model.name} now: of "
            f"{len(cosines)} texts whose vectors are in the cache, {len(others)} have other ones (least cosine "
            f"{min(others):.4f}); correct the address or the name, or set MIGRATION_HOME to another folder"
        )


def _cosines(model: Model, some: Sequence[tuple[str, Vector]]) -> list[float]:
    """How far these vectors agree with those that the model gives now, past the cache; at most one request."""
    again = model.embedder.embed([text for text, _ in some], cache="bypass") if some else {}
    return [cosine(now, vector) for text, vector in some if not isinstance(now := again[text], TextFailure)]


def stopped(model: Model, error: ProviderStopped) -> Refused:
    """That the provider of a model cannot go on; what it gave is kept."""
    where = family_of(model.embedding.family).where
    return Refused(f"{where}: the provider of {model.name}: {error}; what it has embedded is kept, so run this again")


def _words(embedding: EmbeddingSettings) -> str:
    return f"{embedding.family}/{embedding.model}@{embedding.dimensions}"
