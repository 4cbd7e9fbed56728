"""One search: filter, keyword or vector ranking, sorting, paging."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from kai.sandbox.collection import Collection
from kai.sandbox.curation import curations_of, synonyms_of
from kai.sandbox.document import Document
from kai.sandbox.documents import dig
from kai.sandbox.errors import ApiError, document_not_found
from kai.sandbox.matching import matching_documents
from kai.sandbox.projection import Projection
from kai.sandbox.requests import unsigned
from kai.sandbox.schema import Field
from kai.sandbox.store import Store
from kai.sandbox.text import TextMatch, TextQuery

Json = dict[str, Any]
Params = dict[str, str]

MAX_PER_PAGE = 250
DEFAULT_PER_PAGE = 10
DEFAULT_NEIGHBOURS = 250
DEFAULT_ALPHA = 0.3
VECTOR_QUERY = re.compile(r"\s*([^\s:]+)\s*:\s*\(\s*\[([^\]]*)\]\s*(?:,(.*))?\)\s*", re.DOTALL)


@dataclass
class Hit:
    """A found document with what ranked it; `fusion` is the score of a hybrid search."""

    document: Document
    match: TextMatch | None = None
    distance: float | None = None
    fusion: float | None = None


@dataclass(frozen=True)
class VectorQuery:
    """`field:([numbers], k:10, alpha:0.3, distance_threshold:0.5, id: x)`; `k` 0 means "as many as fit"."""

    field: Field
    vector: list[float]
    k: int
    alpha: float
    threshold: float
    own_id: str | None


def search(store: Store, name: str, params: Params) -> Json:
    """The answer to one search in the collection (or alias) `name`; ApiError for a refused one."""
    started = time.perf_counter()
    collection = store.get(name)
    per_page = unsigned(params, "per_page", DEFAULT_PER_PAGE)
    page = max(1, unsigned(params, "page", 1))
    if per_page > MAX_PER_PAGE:
        raise ApiError(422, f"Only upto {MAX_PER_PAGE} hits can be fetched per page.")
    text = params.get("q", "")
    query_by = [field.strip() for field in params.get("query_by", "").split(",") if field.strip()]
    if text != "*" and not query_by:
        raise ApiError(400, "No search fields specified for the query.")
    query = _text_query(store, collection, params, query_by) if text != "*" else None
    for field in query_by:
        if field not in collection.fields:
            raise ApiError(404, f"Could not find a field named `{field}` in the schema.")
    vector_query = _vector_query(collection, params)
    order = _sort_order(collection, params.get("sort_by", ""))
    candidates = matching_documents(store, collection, params.get("filter_by", ""))
    is_filtered = bool(params.get("filter_by", "").strip())
    if vector_query is not None:
        k = vector_query.k or max(DEFAULT_NEIGHBOURS, page * per_page)
        neighbours = _neighbours(collection, vector_query, candidates if is_filtered else None)
        if query is None:
            nearest = neighbours[:k]
            hits = [
                Hit(document, distance=distance)
                for distance, seq in nearest
                if (document := collection.documents.get(seq)) is not None
            ]
        else:
            keyword_hits = _text_hits(query, candidates)
            hits = _fused(collection, keyword_hits, neighbours, k=k, alpha=vector_query.alpha)
    elif query is not None:
        hits = _text_hits(query, candidates)
    else:
        # Newest first: the order of a search that ranks nothing.
        hits = [Hit(document) for document in reversed(candidates)]
    for field_name, descending in reversed(order):
        hits = _sorted(hits, field_name, descending)
    if params.get("enable_curations" if store.has_sets else "enable_overrides") != "false":
        hits = _curated(collection, curations_of(store, collection), params, hits)
    projection = Projection(store, collection, params.get("include_fields", ""), params.get("exclude_fields", ""))
    shown = hits[(page - 1) * per_page : page * per_page]
    return {
        "facet_counts": [],
        "found": len(hits),
        "hits": [_show(hit, projection, query) for hit in shown],
        "out_of": collection.num_documents,
        "page": page,
        "request_params": {
            "collection_name": collection.name,
            "first_q": text,
            "per_page": per_page,
            "q": text,
        },
        "search_cutoff": False,
        "search_time_ms": int((time.perf_counter() - started) * 1000),
    }


def _text_query(store: Store, collection: Collection, params: Params, query_by: list[str]) -> TextQuery:
    enabled = params.get("enable_synonyms") != "false"
    return TextQuery(params.get("q", ""), query_by, synonyms_of(store, collection) if enabled else [])


def _curated(collection: Collection, curations: list[Json], params: Params, hits: list[Hit]) -> list[Hit]:
    """The hits under the curations whose rule is exactly this query; they hide and pin, and no more."""
    for curation in curations:
        rule = curation.get("rule", {})
        if (rule.get("query"), rule.get("match")) != (params.get("q", ""), "exact"):
            continue
        if rule.get("filter_by", "") not in ("", params.get("filter_by", "")):
            continue
        hidden = {entry["id"] for entry in curation.get("excludes", ())}
        pins = sorted(curation.get("includes", ()), key=lambda entry: int(entry.get("position", 1)))
        pinned = {entry["id"]: int(entry.get("position", 1)) for entry in pins}
        shown = {document.id: Hit(document) for document in collection.documents.values() if document.id in pinned}
        hits = [hit for hit in hits if hit.document.id not in hidden and hit.document.id not in pinned]
        for document_id, position in pinned.items():
            if document_id in shown:
                hits.insert(position - 1, shown[document_id])
    return hits


def _show(hit: Hit, projection: Projection, query: TextQuery | None) -> Json:
    shown: Json = {
        "document": orjson.Fragment(projection.show(hit.document)),
        "highlight": {},
        "highlights": [],
    }
    if query is not None:
        shown["highlight"], shown["highlights"] = query.highlights(hit.document)
        match = hit.match or query.no_match()
        shown["text_match"] = match.score
        shown["text_match_info"] = match.info()
    if hit.fusion is not None:
        # Computed in single precision, as the recorded scores show.
        shown["hybrid_search_info"] = {"rank_fusion_score": float(np.float32(hit.fusion))}
    if hit.distance is not None:
        shown["vector_distance"] = hit.distance
    return shown


def _text_hits(query: TextQuery, candidates: list[Document]) -> list[Hit]:
    matches = query.search(candidates)
    hits = [Hit(doc, match=matches[doc.seq]) for doc in reversed(candidates) if doc.seq in matches]
    return sorted(hits, key=lambda hit: -hit.match.score if hit.match else 0)


def _neighbours(
    collection: Collection, query: VectorQuery, candidates: list[Document] | None
) -> list[tuple[float, int]]:
    allowed = None if candidates is None else {document.seq for document in candidates}
    index = collection.vector_index(query.field)
    found = index.nearest(collection.documents, query.vector, allowed)
    own = collection.ids.get(query.own_id) if query.own_id is not None else None
    return [(distance, seq) for distance, seq in found if seq != own and distance <= query.threshold]


def _fused(
    collection: Collection,
    keyword_hits: list[Hit],
    neighbours: list[tuple[float, int]],
    *,
    k: int,
    alpha: float,
) -> list[Hit]:
    """A hybrid search: (1 - alpha) / keyword rank + alpha / vector rank, of the `k` nearest.

    Equal distances rank the older document first here, unlike everywhere else.
    """
    distances = {seq: distance for distance, seq in neighbours}
    matches = {hit.document.seq: hit.match for hit in keyword_hits}
    fusion = {seq: (1.0 - alpha) / rank for rank, seq in enumerate(matches, start=1)}
    for rank, (_, seq) in enumerate(sorted(neighbours)[:k], start=1):
        fusion[seq] = fusion.get(seq, 0.0) + alpha / rank
    hits = [
        Hit(collection.documents[seq], matches.get(seq), distances.get(seq), score)
        for seq, score in fusion.items()
        # A document may have been deleted while the ranks were computed.
        if seq in collection.documents
    ]
    return sorted(hits, key=lambda hit: (-(hit.fusion or 0.0), -hit.document.seq))


def _vector_query(collection: Collection, params: Params) -> VectorQuery | None:
    text = params.get("vector_query", "").strip()
    if not text:
        return None
    found = VECTOR_QUERY.fullmatch(text)
    if found is None:
        raise ApiError(400, "Malformed vector query string.")
    name, numbers, rest = found.groups()
    spec = collection.fields.get(name)
    if spec is None or not spec.num_dim or name in collection.unready:
        raise ApiError(400, f"Field `{name}` does not have a vector query index.")
    options = dict(_option(part) for part in (rest or "").split(",") if part.strip())
    try:
        vector = [float(number) for number in numbers.split(",") if number.strip()]
        k = int(options.get("k", "0"))
        alpha = float(options.get("alpha", DEFAULT_ALPHA))
        threshold = float(options.get("distance_threshold", "inf"))
    except ValueError:
        raise ApiError(400, "Malformed vector query string.") from None
    own_id = options.get("id")
    if own_id is not None and not vector:
        vector = _own_vector(collection, spec, own_id)
    if len(vector) != spec.num_dim:
        raise ApiError(400, f"Query field `{name}` must have {spec.num_dim} dimensions.")
    return VectorQuery(spec, vector, k, alpha, threshold, own_id)


def _own_vector(collection: Collection, spec: Field, own_id: str) -> list[float]:
    document = collection.get(own_id)
    raw = document.raw(spec.name) if document is not None else None
    if document is None:
        raise document_not_found(own_id)
    if raw is None:
        raise ApiError(400, f"Document id referenced in vector query does not contain `{spec.name}`.")
    return [float(number) for number in orjson.loads(raw)]


def _option(text: str) -> tuple[str, str]:
    key, _, value = text.partition(":")
    return key.strip(), value.strip()


def _sort_order(collection: Collection, sort_by: str) -> list[tuple[str, bool]]:
    """(field, descending) of every `sort_by` entry, or of the default sorting field."""
    default = collection.schema.default_sorting_field
    if not sort_by.strip():
        return [(default, True)] if default else []
    order: list[tuple[str, bool]] = []
    for part in sort_by.split(","):
        name, _, direction = part.strip().rpartition(":")
        if direction.lower() not in ("asc", "desc") or not name:
            raise ApiError(400, f"Parameter `sort_by` is malformed: `{part.strip()}`.")
        spec = collection.fields.get(name)
        is_rank = name in ("_text_match", "_vector_distance", "_seq_id")
        if not is_rank and (spec is None or not spec.sort):
            raise ApiError(404, f"Could not find a field named `{name}` in the schema for sorting.")
        order.append((name, direction.lower() == "desc"))
    if len(order) > 3:
        raise ApiError(422, "Only upto 3 sort_by fields can be specified.")
    return order


def _sorted(hits: list[Hit], name: str, descending: bool) -> list[Hit]:
    """Stable; documents without the value last, either way."""
    keyed = [(_sort_value(hit, name), hit) for hit in hits]
    present = [(value, hit) for value, hit in keyed if value is not None]
    missing = [hit for value, hit in keyed if value is None]
    present.sort(key=lambda pair: pair[0], reverse=descending)
    return [hit for _, hit in present] + missing


def _sort_value(hit: Hit, name: str) -> Any:
    if name == "_text_match":
        return hit.match.score if hit.match else None
    if name == "_vector_distance":
        return hit.distance
    if name == "_seq_id":
        return hit.document.seq
    return dig(hit.document.attributes, name)
