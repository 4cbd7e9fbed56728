"""Whether a collection's new vectors are in its old ones: the same model with fewer dimensions, and a sample agrees.

A vector is cut only from one that is the model's: the ledger says so of the very document, text and vector; or, where
the ledger knows nothing of the collection, its metadata say so; or the operator does (`--from-old`). Whoever says so, a
sample is embedded again first and compared. Where the ledger vouches for each document, the sample is there to show
that the model has stayed the same and that it nests; otherwise it stands for all documents, so it is larger: if one in
a hundred were wrong, 300 would miss it once in twenty times.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from kai.models import find_model, fingerprint
from kai.typesense_schemas import signature_of
from kai.vectors import Vector, cosine
from migration.documents.fetch import PAGE_SIZE, Page, Selection, export_pages, fetch_documents
from migration.embedding.embed import Embedder, TextFailure
from migration.embedding.provider import ProviderStopped
from migration.ledger import Ledger
from migration.operations.setup import Session
from migration.strategies.cut import cut_vectors, shortened
from migration.strategies.plan import CollectionPlan, Cut, Plan
from migration.strategies.refusals import Refused
from migration.strategies.second_field.mark import next_of
from migration.strategies.shadow_state import past_the_drop, unfinished_refill

LEAST_COSINE: Final = 0.9999
"""Between a vector that is cut and the one that the provider gives, of the same text."""
_SAMPLE: Final = {"ledger": 30, "metadata": 300, "operator": 300}
"""Texts that are embedded again, by who vouches."""
_UNIT: Final = 1e-3
"""Difference from 1 up to which a length counts as unit length."""
_SAME_LENGTH: Final = 0.01
_NAMED: Final = 3
_WHO: Final = {
    "ledger": "the ledger says",
    "metadata": "the collection's metadata say",
    "operator": "--from-old says",
}


def offer_cuts(session: Session, embedder: Embedder, plan: Plan, ledger: Ledger | None, *, keeps: bool = True) -> Plan:
    """The same plan, with how vectors are cut where they can be, and what is to be said of it.

    Args:
        session: the settings, and what was asked for.
        embedder: of the configured model; what it embeds of a sample is kept.
        plan: the collections.
        ledger: what was done; None where there is none.
        keeps: whether the vector cache has a place for what is cut.

    Raises:
        Refused: cutting was insisted on, and cannot be done or does not agree; or the provider gives no vectors.
    """
    options, embedding = session.options, session.settings.embedding
    if options.from_old and options.force:
        raise Refused("--from-old, --force: the one embeds nothing that can be cut, the other everything; choose one")
    model = find_model(embedding.family, embedding.model)
    if options.from_old and (model is None or not model.nests):
        raise Refused(
            f"--from-old: of {embedding.model} it is not known that the first numbers of a vector are its vector of "
            "fewer dimensions; leave --from-old out"
        )
    if options.from_old and not keeps:
        raise Refused("MIGRATION_HOME: the vector cache, which is to keep what is cut, has no place; see the warning")
    if options.from_old is False or options.force or model is None or not model.nests or not keeps:
        return plan
    if options.from_old and (grown := [item for item in plan.collections if _grows(item)]):
        raise Refused(
            *[
                f"--from-old: {item.name!r} has vectors of {item.old_dimensions} dimensions, and nothing longer than "
                f"that can be cut from them; leave --from-old out to get {item.new_dimensions}"
                for item in grown
            ]
        )
    proposed: dict[str, tuple[Cut, Page]] = {}
    collections = list(plan.collections)
    for number, item in enumerate(plan.collections):
        if not _shrinks(item):
            continue
        if (cut := _cut_of(session, item, ledger)) is not None:
            proposed[item.name] = cut, _sample(session, item, cut, ledger)
        elif options.dry_run:
            collections[number] = _with_note(
                item,
                f"--from-old could cut the new vectors from the {item.old_dimensions} numbers that stand there, if "
                f"they are of {embedding.model} too, which neither ledger nor metadata say; a sample would be embedded "
                "and compared first",
            )
    if not proposed:
        return replace(plan, collections=tuple(collections))
    try:
        # Anew, for the cache may have vectors that were cut; what is bought here is kept.
        again = embedder.embed(_texts(plan, proposed), cache="refresh")
    except ProviderStopped as error:
        raise Refused(f"{session.settings.family.where}: the embedding provider: {error}") from error
    for number, item in enumerate(collections):
        if item.name in proposed:
            cut, page = proposed[item.name]
            collections[number] = _judged(item, _compared(item, cut, page, again), embedding.model)
    compared = sum(not isinstance(vector, TextFailure) for vector in again.values())
    return replace(plan, collections=tuple(collections), compared=plan.compared + compared)


@dataclass(frozen=True, slots=True)
class _Compared:
    """What a sample says.

    Attributes:
        cut: as it would be done.
        cosines: between what would be cut and what the provider gives, with the document's id; the least first.
        wrong: ids of those that differ.
    """

    cut: Cut
    cosines: tuple[tuple[float, str], ...]
    wrong: tuple[str, ...]


def _shrinks(plan: CollectionPlan) -> bool:
    """Whether longer vectors stand there whole; not where a dead run has taken them out."""
    if plan.strategy in ("skipped", "create") or plan.is_swapped or past_the_drop(plan.leftover, plan.schema):
        return False
    if (beside := next_of(plan.schema)) is not None and beside.phase != "filling":
        return False  # The second field is filled already.
    return (plan.old_dimensions or 0) > plan.new_dimensions and unfinished_refill(plan.schema) is None


def _grows(plan: CollectionPlan) -> bool:
    return plan.strategy != "skipped" and plan.old_dimensions is not None and plan.old_dimensions < plan.new_dimensions


def _cut_of(session: Session, plan: CollectionPlan, ledger: Ledger | None) -> Cut | None:
    """From what the new vectors could be cut, and on whose word; None where nobody says whose the old ones are."""
    field, old = plan.beside or plan.collection.embedding_field, plan.old_dimensions or 0
    longer = replace(session.settings.embedding, dimensions=old)
    address = session.server.address
    model = ledger.find_model(fingerprint(longer, "")) if ledger else None
    model_id = model.id if model else None
    if session.options.from_old:
        return Cut(field, old, "operator", model_id)
    if ledger and model_id and ledger.count_documents(address, plan.name, model_id, field=field):
        return Cut(field, old, "ledger", model_id)
    is_known = ledger is not None and ledger.count_documents(address, plan.name, field=field) > 0
    said = signature_of(plan.schema, field).get("fingerprint")
    if not is_known and said == fingerprint(longer, plan.collection.template):
        return Cut(field, old, "metadata", model_id)
    return None


def _sample(session: Session, plan: CollectionPlan, cut: Cut, ledger: Ledger | None) -> Page:
    """Documents picked at random whose vectors would be cut, with their old vectors."""
    server, most = session.server, _SAMPLE[cut.trust]
    selection = Selection(cut.field, plan.collection.filter_by, plan.collection.text_fields)
    if cut.trust == "ledger" and ledger is not None and cut.model_id is not None:
        # More than are needed, for some were changed or deleted since.
        drawn = ledger.sample_documents(server.address, plan.name, cut.model_id, PAGE_SIZE, field=cut.field)
        ids = [record.document_id for record in drawn]
    else:
        ids = _drawn(session, plan, 2 * most)
    found: Page = []
    for start in range(0, len(ids), PAGE_SIZE):
        page = fetch_documents(server, plan.name, selection, ids[start : start + PAGE_SIZE])
        found += cut_vectors(server, ledger, plan, cut, page)
        if len(found) >= most:
            break
    return found[:most]


def _drawn(session: Session, plan: CollectionPlan, most: int) -> list[str]:
    """Ids of eligible documents, each as likely as any other."""
    pick = random.Random(plan.name)  # noqa: S311 - repeatable, not secret
    drawn: list[str] = []
    seen = 0
    for page in export_pages(session.server, plan.name, Selection("", plan.collection.filter_by, fields=())):
        for document in page:
            seen += 1
            if len(drawn) < most:
                drawn.append(document.id)
            elif (place := pick.randrange(seen)) < most:
                drawn[place] = document.id
    pick.shuffle(drawn)
    return drawn


def _texts(plan: Plan, proposed: Mapping[str, tuple[Cut, Page]]) -> set[str]:
    return {
        item.collection.text_of(document.fields)
        for item in plan.collections
        if item.name in proposed
        for document in proposed[item.name][1]
    }


def _compared(plan: CollectionPlan, cut: Cut, page: Page, again: Mapping[str, Vector | TextFailure]) -> _Compared:
    given = [(document, again[plan.collection.text_of(document.fields)]) for document in page]
    pairs = [(document, vector) for document, vector in given if not isinstance(vector, TextFailure)]
    # OpenAI gives fewer dimensions at unit length; Gemini gives the first numbers as they are.
    is_unit = all(abs(float(np.linalg.norm(vector)) - 1) <= _UNIT for _, vector in pairs)
    cosines: list[tuple[float, str]] = []
    wrong: list[str] = []
    for document, vector in pairs:
        ours = shortened(np.frombuffer(document.vector or b"", np.float64), plan.new_dimensions, is_unit=is_unit)
        similar, length = cosine(ours, vector), float(np.linalg.norm(vector))
        cosines.append((similar, document.id))
        if similar < LEAST_COSINE or abs(float(np.linalg.norm(ours)) - length) > _SAME_LENGTH * length:
            wrong.append(document.id)
    return _Compared(replace(cut, is_unit=is_unit), tuple(sorted(cosines)), tuple(wrong))


def _judged(plan: CollectionPlan, found: _Compared, model: str) -> CollectionPlan:
    """The plan with the cut, or with why there is none.

    Raises:
        Refused: the operator insists on what the sample shows to be wrong.
    """
    cut, texts = found.cut, f"{len(found.cosines)} texts embedded again"
    whose = f"{_WHO[cut.trust]} that the {cut.dimensions} numbers of the old vectors are {model}'s"
    if not found.cosines:
        if cut.trust == "operator":
            return plan  # Nothing is there that could be cut.
        return _with_note(plan, f"{whose}, but none of them could be compared; everything is embedded")
    least = f"least cosine {found.cosines[0][0]:.6f}"
    if found.wrong:
        named = ", ".join(map(repr, found.wrong[:_NAMED]))
        differ = f"of {texts}, {len(found.wrong)} have other vectors ({named}; {least})"
        if cut.trust == "operator":
            raise Refused(f"--from-old: {plan.name!r}: {differ}; leave --from-old out, and everything is embedded")
        return _with_note(plan, f"{whose}, but {differ}; everything is embedded")
    note = (
        f"{whose}, and {texts} agree ({least}): the new vectors are cut from them, and what has changed since is "
        "embedded; --no-from-old embeds everything"
    )
    agreed = replace(cut, compared=len(found.cosines), least_cosine=found.cosines[0][0])
    return replace(_with_note(plan, note), cut=agreed)


def _with_note(plan: CollectionPlan, note: str) -> CollectionPlan:
    return replace(plan, hazards=(*plan.hazards, note))
