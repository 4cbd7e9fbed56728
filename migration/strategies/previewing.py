"""What a dry run looks at beyond the plan: the ways side by side, and every text."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from kai.models import estimate_cost, estimate_tokens
from kai.settings import EmbeddingSettings
from kai.typesense import Schema, Typesense
from migration.documents.fetch import Page, Selection, fetch_pages
from migration.embedding.embed import text_hash
from migration.embedding.throttle import Stopped
from migration.strategies.next_field import next_of
from migration.strategies.plan import CollectionPlan, Texts
from migration.strategies.shadow_state import (
    past_the_drop,
    unfinished_refill,
)
from migration.strategies.ways import corrected, ways_open


def compare_ways(
    server: Typesense, plan: CollectionPlan, everything: Sequence[Schema], paces: Mapping[str, float]
) -> CollectionPlan:
    """The same plan with the ways that are open to its collection; none where what was begun can only be gone on with.

    Args:
        server: where the collection is.
        plan: how it would be migrated.
        everything: the schemas of all collections.
        paces: numbers of vectors a second by strategy, where the server's own runs have shown them.
    """
    schema = plan.schema
    is_begun = plan.is_swapped or past_the_drop(plan.leftover, schema)
    if plan.strategy == "skipped" or is_begun or unfinished_refill(schema) or next_of(schema):
        return plan
    serves = replace(plan.collection, embedding_field=plan.beside or plan.collection.embedding_field)
    ways = ways_open(
        server,
        serves,
        schema,
        plan.old_dimensions,
        plan.new_dimensions,
        plan.server_seconds,
        plan.away_seconds,
        everything,
    )
    return replace(plan, ways=corrected(ways, plan.documents * plan.new_dimensions, paces))


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
