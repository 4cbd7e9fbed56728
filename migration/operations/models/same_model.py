"""Is the model of this name the one whose vectors stand there? A few of their texts, embedded again, tell.

A name says little: another server may have another model under it, and a tag of Ollama can be moved. What ledger and
cache hold is known by the name alone, so a run would take vectors of the wrong space for current and add to them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, zip_longest
from typing import Final

import numpy as np

from kai.models import fingerprint
from kai.vectors import LEAST_COSINE, cosine
from migration.documents.fetch import PAGE_SIZE, Selection, fetch_documents, fetch_newest
from migration.embedding.cache import VectorCache
from migration.embedding.embed import Embedder, TextFailure, text_hash
from migration.embedding.provider import ProviderStopped
from migration.ledger import Ledger, ModelRecord
from migration.operations.setup import Session
from migration.strategies.context import Sampled
from migration.strategies.plan import CollectionPlan, Plan
from migration.strategies.refusals import Refused

_NAMED: Final = 3
_SPARE: Final = 4
"""How many documents are looked at for each of the sample: some were changed or deleted since."""


@dataclass(frozen=True, slots=True)
class SameModel:
    """What became of the question.

    Attributes:
        server: base URL of the provider, without login; None where nobody is asked.
        digest: what that server calls the model; None where it does not say.
        compared: texts that were embedded again.
        is_other: whether another model has this name now, and everything is to be embedded again.
        notes: what the operator should know, a sentence each.
    """

    server: str | None
    digest: str | None
    compared: int = 0
    is_other: bool = False
    notes: tuple[str, ...] = ()

    def told(self, plan: Plan) -> Plan:
        """The plan that says so."""
        return replace(plan, hazards=(*plan.hazards, *self.notes), compared=self.compared)


def recognise(
    session: Session, embedder: Embedder, plan: Plan, ledger: Ledger | None, cache: VectorCache | None
) -> SameModel:
    """Embed a few texts again whose vectors are known, and compare; at most one request, none where none is known.

    Args:
        session: the settings, and how many texts.
        embedder: of the configured model; its cache is passed by.
        plan: the collections.
        ledger: knows which documents carry this model's vector of the text that they have; None where there is none.
        cache: knows vectors of this name, too; None where there is none.

    Raises:
        Refused: they are not of the same model, and not everything is to be embedded again; or the provider gives no
            vectors.
        Stopped: somebody asked to stop.
    """
    settings, options = session.settings, session.options
    embedding, most = settings.embedding, options.verify_sample
    server, digest = settings.provider_server, embedder.provider.digest_of_model()
    space = fingerprint(embedding, "")
    model = ledger.find_model(space) if ledger else None
    changes = tuple(_changes(model, server, digest))
    known = [
        list(islice(_current(session, item, ledger, model), most))
        or list(islice(_kept(session, item, cache, space, changes), most))
        for item in plan.collections
        if most and item.strategy != "skipped"
    ]
    in_turns = [each for each in chain.from_iterable(zip_longest(*known)) if each is not None]
    sample = in_turns[: max(most, len(known))]
    try:
        again = embedder.embed([item.text for _, item in sample], cache="bypass") if sample else {}
    except ProviderStopped as error:
        raise Refused(f"{settings.family.where}: the embedding provider: {error}") from error
    cosines = [
        (cosine(np.frombuffer(item.vector, np.float32), vector), name, item.id)
        for name, item in sample
        if not isinstance(vector := again[item.text], TextFailure)
    ]
    wrong = [each for each in cosines if each[0] < LEAST_COSINE]
    compared = f"{len(cosines)} current texts embedded again"
    if not wrong:
        if cosines:
            session.console.detail(f"The same model: {compared}, least cosine {min(cosines)[0]:.6f}")
        seen = f"{compared} have the vectors that are there" if cosines else "nothing that is there could be compared"
        return SameModel(server, digest, len(cosines), notes=tuple(f"{note}; {seen}" for note in changes))
    named = ", ".join(f"{name} {id_!r}" for _, name, id_ in wrong[:_NAMED])
    before = "".join(f"; {note}" for note in changes)
    found = (
        f"another model has the name {embedding.model!r} now: of {compared}, {len(wrong)} have other vectors than "
        f"those that are there (least cosine {min(wrong)[0]:.4f}), such as {named}{before}"
    )
    if not options.force:
        base = settings.family.base.name if settings.family.base else None
        correct = f"correct {base} or EMBEDDING_MODEL" if base else "correct EMBEDDING_MODEL"
        where = ", ".join(filter(None, ("EMBEDDING_MODEL", base)))
        raise Refused(f"{where}: {found}; {correct}, or give --force to embed every document again")
    note = f"{found}; every document is embedded again, and no vector that was kept under this name is used"
    return SameModel(server, digest, len(cosines), is_other=True, notes=(note,))


def disown(session: Session, ledger: Ledger, cache: VectorCache, plan: Plan, model: ModelRecord) -> None:
    """What is kept under the model's name is another's: the cache forgets it, the ledger does not know whose it is.

    So no crash, and no document that fails, leaves anything behind that a later run would take for current.
    """
    cache.forget(model.fingerprint)
    for item in plan.collections:
        if item.strategy != "skipped":
            ledger.disown_documents(session.server.address, str(item.schema["name"]), model.id)


def _changes(model: ModelRecord | None, server: str | None, digest: str | None) -> Iterator[str]:
    """In what the provider differs from the one that the model was last used with."""
    if model is None:
        return
    if model.provider_server and server and model.provider_server != server:
        yield f"the vectors of {model.name} came from {model.provider_server} before, and come from {server} now"
    if model.model_digest and digest and model.model_digest != digest:
        yield f"the digest of {model.model!r} was {model.model_digest[:19]} before, and is {digest[:19]} now"


def _current(
    session: Session, plan: CollectionPlan, ledger: Ledger | None, model: ModelRecord | None
) -> Iterator[tuple[str, Sampled]]:
    """Documents that carry the model's vector of the text that they have, by the ledger, with the collection's name."""
    if ledger is None or model is None:
        return
    server, name, collection = session.server, str(plan.schema["name"]), plan.collection
    field = collection.embedding_field
    drawn = ledger.sample_documents(server.address, name, model.id, _looked_at(session), field=field)
    records = {record.document_id: record for record in drawn}
    for document in fetch_documents(server, name, _selection(plan), list(records)):
        record, text, stored = records[document.id], collection.text_of(document.fields), document.vector_bytes()
        if stored and record.has_vector(stored) and record.text_hash == text_hash(text):
            yield name, Sampled(document.id, text, stored)


def _kept(
    session: Session, plan: CollectionPlan, cache: VectorCache | None, space: str, changes: Sequence[str]
) -> Iterator[tuple[str, Sampled]]:
    """The same by the cache, where the ledger knows none: what it keeps is taken for what the model gives.

    Only what stands there, unless the provider has changed: then whatever a run would take out of the cache.
    """
    if cache is None or not cache.has(space):
        return
    name, collection = str(plan.schema["name"]), plan.collection
    _, page = fetch_newest(session.server, name, _selection(plan), _looked_at(session))
    texts = {document.id: collection.text_of(document.fields) for document in page}
    kept = cache.get_many(space, list({text_hash(text) for text in texts.values() if text}))
    for document in page:
        vector = kept.get(text_hash(texts[document.id]))
        if vector is not None and (changes or document.vector_bytes() == vector.tobytes()):
            yield name, Sampled(document.id, texts[document.id], vector.tobytes())


def _selection(plan: CollectionPlan) -> Selection:
    return Selection(plan.collection.embedding_field, plan.collection.filter_by, plan.collection.text_fields)


def _looked_at(session: Session) -> int:
    return min(_SPARE * session.options.verify_sample, PAGE_SIZE)
