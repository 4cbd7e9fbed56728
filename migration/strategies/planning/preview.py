"""What a dry run looks at beyond the plan: how fast the server's own last runs were, and every text."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Final

from kai.models import estimate_cost, estimate_tokens
from kai.settings import EmbeddingSettings
from kai.typesense import Typesense
from migration.documents.fetch import Page, Selection, fetch_pages
from migration.embedding.embed import text_hash
from migration.embedding.throttle import Stopped
from migration.ledger import Ledger
from migration.strategies.plan import CollectionPlan, Texts

_LOOKED_AT: Final = 20
"""Runs that are asked how fast this server is."""
_WORTH_MEASURING: Final = 250
"""Documents that a run must have written for its pace to say something."""


def paces_of(server: str, ledger: Ledger | None) -> dict[str, float]:
    """By strategy, how many numbers of vectors a second the last run at this address wrote that took it alone."""
    paces: dict[str, float] = {}
    if ledger is None:
        return paces
    for run in ledger.runs(_LOOKED_AT):
        if run.kind != "migrate" or run.source.get("server") != server:
            continue
        done = [each for each in ledger.collection_runs(run.id) if each.strategy != "skipped"]
        measured = next(iter(ledger.metrics(run.id)), None)
        speed = measured.documents_per_second if measured else None
        if len({each.strategy for each in done}) != 1 or sum(each.done for each in done) < _WORTH_MEASURING:
            continue
        if speed and done[0].new_dimensions:
            paces.setdefault(done[0].strategy, speed * done[0].new_dimensions)
    return paces


def look_at_texts(
    server: Typesense,
    plan: CollectionPlan,
    embedding: EmbeddingSettings,
    stopped: threading.Event,
    is_cut: Callable[[Page], Collection[str]] = lambda _: (),
) -> CollectionPlan:
    """The same plan with its texts counted. Reads every eligible document's text fields, a page at a time.

    Args:
        server: where the documents are.
        plan: of the collection.
        embedding: the target.
        stopped: set to end it.
        is_cut: the ids of those of a page, without their vectors, whose new vectors are cut from the old ones.

    Raises:
        Stopped: somebody asked to stop meanwhile.
    """
    if plan.strategy == "skipped":
        return plan
    collection = plan.collection
    seen: set[bytes] = set()
    without = tokens = cut = saved = 0
    example = ""
    selection = Selection(collection.embedding_field, collection.filter_by, collection.text_fields, with_vector=False)
    # Not the plan's name: after a crash in a cut-over only the shadow is there.
    for page in fetch_pages(server, str(plan.schema["name"]), selection):
        if stopped.is_set():
            raise Stopped
        cuttable = is_cut(page)
        for document in page:
            text = collection.text_of(document.fields)
            if not text:
                without += 1
            elif (digest := text_hash(text)[:12]) not in seen:
                example = example or text
                seen.add(digest)
                size = estimate_tokens(text)
                if document.id in cuttable:
                    cut += 1
                    saved += size
                else:
                    tokens += size
    cost, saved_usd = estimate_cost(embedding.model, tokens), estimate_cost(embedding.model, saved)
    return replace(plan, texts=Texts(len(seen), without, tokens, cost, example, cut, saved, saved_usd))
