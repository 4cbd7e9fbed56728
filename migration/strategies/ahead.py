"""Which texts a migration would embed, by the plan that it would follow: to be embedded before it comes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from kai.typesense import Typesense, embedding_field
from migration.documents.fetch import Selection, fetch_pages
from migration.embedding.embed import text_hash
from migration.embedding.throttle import Stopped
from migration.ledger import Ledger, ModelRecord
from migration.strategies.plan import CollectionPlan
from migration.strategies.shadow_state import unfinished_refill
from migration.strategies.sources import vouched_for


@dataclass(frozen=True, slots=True)
class PageOfTexts:
    """What a page of documents comes to.

    Attributes:
        documents: how many there are.
        texts: of those that a migration would embed, by id.
        without: ids of documents that have no text.
    """

    documents: int
    texts: dict[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()


def texts_ahead(
    server: Typesense, plan: CollectionPlan, ledger: Ledger | None, model: ModelRecord | None, stopped: threading.Event
) -> Iterator[PageOfTexts]:
    """The texts of a collection that a migration would embed, page by page; nothing is written.

    Args:
        server: where it is.
        plan: what the migration would do to it.
        ledger: knows which documents have the target's vector already; None where there is none.
        model: the target, as the ledger knows it; None where it does not.
        stopped: ends the reading.

    Raises:
        Stopped: somebody asked to stop.
        TypesenseError: the collection cannot be read.
    """
    if plan.strategy == "skipped":
        return
    collection, name = plan.collection, str(plan.schema["name"])
    leaves = model is not None and _leaves_what_is_current(server, plan, ledger, model)
    filter_by = "" if _embeds_everything(plan) else collection.filter_by
    selection = Selection(collection.embedding_field, filter_by, collection.text_fields, with_vector=leaves)
    for page in fetch_pages(server, name, selection):
        if stopped.is_set():
            raise Stopped
        texts = {document.id: collection.text_of(document.fields) for document in page}
        without = tuple(id_ for id_, text in texts.items() if not text)
        wanted = {id_: text for id_, text in texts.items() if text}
        if leaves and ledger is not None and model is not None:
            known = ledger.documents(server.address, name, list(wanted), field=collection.embedding_field)
            for document in page:
                text = texts[document.id]
                if text and vouched_for(document, known.get(document.id), model.id, text_hash(text)) is not None:
                    del wanted[document.id]
        yield PageOfTexts(len(page), wanted, without)


def _leaves_what_is_current(server: Typesense, plan: CollectionPlan, ledger: Ledger | None, model: ModelRecord) -> bool:
    """Whether a document that has the target's vector is left as it is, and there is one: the others read no vectors.

    Where a field is emptied, or a collection copied, every vector is wanted again.
    """
    if ledger is None or plan.strategy not in ("in place", "into"):
        return False
    name, field_name = str(plan.schema["name"]), plan.collection.embedding_field
    return bool(ledger.sample_documents(server.address, name, model.id, 1, field=field_name))


def _embeds_everything(plan: CollectionPlan) -> bool:
    """Whether documents outside the filter are embedded too: their field is required, and their old vector goes."""
    wanted = embedding_field(plan.schema, plan.collection.embedding_field)
    if (
        wanted is None
    ):  # Taken out by a run that is to be gone on with, or still to be added beside the one that serves.
        wanted = (unfinished_refill(plan.schema) or {}).get("field", {"optional": True})
    if wanted.get("optional"):
        return False
    length_stays = plan.old_dimensions == plan.new_dimensions
    return plan.strategy in ("rebuild", "alter") or (plan.strategy in ("recreate", "alias") and not length_stays)
