"""Vectors of the model that a collection had before, for what was written since: configured still, or remembered."""

from __future__ import annotations

from contextlib import ExitStack

from kai.collections import EmbeddedCollection
from kai.models import EmbeddingSettings, fingerprint
from kai.settings import Settings
from kai.typesense import Schema
from kai.typesense_schemas import signature_of
from migration.embedding.cache import CacheError, VectorCache
from migration.ledger import Ledger, ModelRecord
from migration.operations.setup import Session, configured_target, make_embedder, probe, register_model
from migration.strategies.alias.back import Remembered
from migration.strategies.context import RunContext
from migration.strategies.refusals import Refused
from migration.strategies.sources import Embedded, VectorSource


def earlier_model(
    settings: Settings, context: RunContext, stack: ExitStack, collection: EmbeddedCollection, schema: Schema
) -> VectorSource:
    """The vectors that documents of a collection would have by the model that its vectors are from.

    Args:
        settings: as configured; their model counts if it is that very one.
        context: of the run.
        stack: closes what is opened.
        collection: text template, embedding field, filter.
        schema: of the collection whose vectors are meant.
    """
    cache = readable_cache(context, stack)
    signature = signature_of(schema, collection.embedding_field)
    target = configured_target(settings)
    is_configured = target is not None and fingerprint(target, collection.template) == signature.get("fingerprint")
    if target is not None and is_configured and _has_key(settings):
        try:
            session = Session(
                settings=settings,
                server=context.server,
                console=context.console,
                options=context.options,
                control=context.control,
                meter=context.meter,
            )
            embedder = make_embedder(session, cache=cache)
            probe(embedder, settings)
        except Refused as error:
            context.console.warn(f"What was written since is not embedded by the earlier model: {error}")
        else:
            return Embedded(context, collection, embedder, target, register_model(context.ledger, target))
    return Remembered(context, collection, cache, _known(context.ledger, signature, collection.template))


def _has_key(settings: Settings) -> bool:
    key = settings.family.key
    return bool(settings.key) or key is None or not key.required


def readable_cache(context: RunContext, stack: ExitStack) -> VectorCache | None:
    """The vector cache; None where it cannot be read, which keeps nobody from going back."""
    try:
        return stack.enter_context(VectorCache(context.home, url=context.cache_url))
    except (CacheError, OSError) as error:
        context.console.detail(f"The vector cache cannot be read: {error}")
        return None


def _known(ledger: Ledger, signature: dict[str, object], template: str) -> ModelRecord | None:
    """The model that the signature names, where the ledger knows it."""
    for known in ledger.models():
        model = known.model
        embedding = EmbeddingSettings(model.family, model.model, model.dimensions, model.task_type)
        if fingerprint(embedding, template) == signature.get("fingerprint"):
            return model
    return None
