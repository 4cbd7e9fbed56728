"""One function for each call of the API; `kai.sandbox.routes` says which path leads to which."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from starlette.responses import Response, StreamingResponse

from kai.sandbox.alter import alter
from kai.sandbox.document import Document
from kai.sandbox.errors import ApiError, document_not_found, forbidden
from kai.sandbox.keys import create_key, delete_key, get_key, is_allowed, list_keys
from kai.sandbox.matching import matching_documents
from kai.sandbox.metrics import metrics, stats
from kai.sandbox.projection import Projection
from kai.sandbox.requests import TEXT_TYPE, Call, json_response, raw_response, text_response
from kai.sandbox.search import search
from kai.sandbox.writes import Writer, delete_documents

Json = dict[str, Any]

LEADER, FOLLOWER = 1, 4
"""What /debug calls the state of a node."""
MAX_SEARCHES = 50
MAX_QUERY_BYTES = 4000
EXPORT_CHUNK_BYTES = 256 * 1024


def debug(call: Call) -> Response:
    """GET /debug"""
    state = LEADER if call.store.is_leader else FOLLOWER
    return json_response({"state": state, "version": f"{call.store.version}.0"})


def get_metrics(call: Call) -> Response:
    """GET /metrics.json"""
    return json_response(metrics(call.data_dir))


def get_stats(call: Call) -> Response:
    """GET /stats.json"""
    return json_response(stats())


def configure(call: Call) -> Response:
    """POST /config: `skip-writes` is all that can be set here"""
    wanted = call.json().get("skip-writes", call.store.skip_writes)
    if not isinstance(wanted, bool):
        raise ApiError(400, "Configuration `skip-writes` must be a boolean.")
    call.store.skip_writes = wanted
    return json_response({"success": True}, 201)


def schema_changes(call: Call) -> Response:
    """GET /operations/schema_changes: null until there has been one, then the running ones."""
    running = call.store.schema_changes
    return json_response(None if running is None else list(running.values()))


def snapshot(call: Call) -> Response:
    """POST /operations/snapshot"""
    call.store.write_snapshot(Path(call.required("snapshot_path")))
    return json_response({"success": True}, 201)


def nothing_to_do(call: Call) -> Response:
    """Operations that have no meaning here and always succeed."""
    return json_response({"success": True})


# ---------------------------------------------------------------------- collections


def list_collections(call: Call) -> Response:
    """GET /collections: newest first."""
    found = reversed(list(call.store.collections.values()))
    return json_response([item.schema.to_json(item.num_documents) for item in found])


def create_collection(call: Call) -> Response:
    """POST /collections, with `src_name` a clone; from 30 on, `copy_documents` (of any value) fills it"""
    body = call.json()
    source = call.params.get("src_name")
    if source:
        with_documents = call.store.has_sets and "copy_documents" in call.params
        created = call.store.clone_collection(source, body.get("name"), with_documents=with_documents)
    else:
        created = call.store.create_collection(body)
    return json_response(created.schema.to_json(created.num_documents), 201)


def get_collection(call: Call) -> Response:
    """GET /collections/:name"""
    found = call.store.get(call.collection)
    return json_response(found.schema.to_json(found.num_documents))


def alter_collection(call: Call) -> Response:
    """PATCH /collections/:name"""
    call.store.get(call.collection)
    return json_response(alter(call.store, call.collection, call.json()))


def drop_collection(call: Call) -> Response:
    """DELETE /collections/:name"""
    return json_response(call.store.drop_collection(call.collection))


# ---------------------------------------------------------------------- documents


def create_document(call: Call) -> Response:
    """POST /collections/:name/documents"""
    with call.store.gate(call.collection) as collection, call.store.lock:
        action = call.params.get("action", "create")
        writer = Writer(call.store, collection, action, call.params.get("dirty_values"))
        written = writer.write(call.body)
        call.store.log.commit()
    return raw_response(written.to_json(), 201)


def get_document(call: Call) -> Response:
    """GET /collections/:name/documents/:id"""
    collection = call.store.get(call.collection)
    found = collection.get(call.path["document_id"])
    if found is None:
        raise document_not_found(call.path["document_id"])
    include, exclude = call.params.get("include_fields", ""), call.params.get("exclude_fields", "")
    if include or exclude:
        return raw_response(Projection(call.store, collection, include, exclude).show(found))
    return raw_response(found.to_internal_json())


def update_document(call: Call) -> Response:
    """PATCH /collections/:name/documents/:id"""
    attributes = call.json() | {"id": call.path["document_id"]}
    with call.store.gate(call.collection) as collection, call.store.lock:
        writer = Writer(call.store, collection, "update", call.params.get("dirty_values"))
        written = writer.write_attributes(attributes, call.body)
        call.store.log.commit()
    return raw_response(written.to_json())


def delete_document(call: Call) -> Response:
    """DELETE /collections/:name/documents/:id"""
    with call.store.gate(call.collection) as collection:
        found = collection.get(call.path["document_id"])
        if found is None:
            raise document_not_found(call.path["document_id"])
        delete_documents(call.store, collection, [found])
    return raw_response(found.to_internal_json())


def update_by_filter(call: Call) -> Response:
    """PATCH /collections/:name/documents?filter_by=…"""
    attributes = call.json()
    with call.store.gate(call.collection) as collection, call.store.lock:
        writer = Writer(call.store, collection, "update", call.params.get("dirty_values"))
        found = matching_documents(call.store, collection, _required_filter(call))
        for document in found:
            writer.write_attributes(attributes | {"id": document.id})
        call.store.log.commit()
    return json_response({"num_updated": len(found)})


def delete_by_filter(call: Call) -> Response:
    """DELETE /collections/:name/documents?filter_by=…, or `truncate=true`"""
    filter_by = "" if call.flag("truncate") else _required_filter(call)
    with call.store.gate(call.collection) as collection:
        found = matching_documents(call.store, collection, filter_by)
        count = delete_documents(call.store, collection, found)
    return json_response({"num_deleted": count})


def _required_filter(call: Call) -> str:
    filter_by = call.params.get("filter_by", "")
    if not filter_by.strip():
        raise ApiError(400, "Parameter `filter_by` must be provided.")
    return filter_by


def import_documents(call: Call) -> Response:
    """POST /collections/:name/documents/import"""
    with call.store.gate(call.collection) as collection:
        action = call.params.get("action", "create")
        writer = Writer(call.store, collection, action, call.params.get("dirty_values"))
        answers = writer.import_lines(call.body, return_id=call.flag("return_id"), return_doc=call.flag("return_doc"))
    return text_response(answers)


def export_documents(call: Call) -> Response:
    """GET /collections/:name/documents/export: streamed, the state at the time of the request"""
    collection = call.store.get(call.collection)
    include, exclude = call.params.get("include_fields", ""), call.params.get("exclude_fields", "")
    projection = Projection(call.store, collection, include, exclude)
    documents = matching_documents(call.store, collection, call.params.get("filter_by", ""))
    return StreamingResponse(_chunks(documents, projection), headers={"content-type": TEXT_TYPE})


def _chunks(documents: list[Document], projection: Projection) -> Iterator[bytes]:
    """JSON Lines in pieces of about `EXPORT_CHUNK_BYTES`; no newline after the last line.

    The answer is on its way already: a document that cannot be shown leaves a line that is no JSON.
    """
    piece: list[bytes] = []
    size = 0
    for number, document in enumerate(documents):
        try:
            line = projection.show(document)
        except ApiError as error:
            line = f"Error while getting seq_id of `{document.id}`: {error.message}".encode()
        piece.append(b"\n" + line if number else line)
        size += len(line)
        if size >= EXPORT_CHUNK_BYTES:
            yield b"".join(piece)
            piece, size = [], 0
    yield b"".join(piece)


# ---------------------------------------------------------------------- search


def search_documents(call: Call) -> Response:
    """GET /collections/:name/documents/search"""
    if call.query_bytes > MAX_QUERY_BYTES:
        raise ApiError(
            400,
            f"Query string exceeds max allowed length of {MAX_QUERY_BYTES}. "
            "Use the /multi_search end-point for larger payloads.",
        )
    return json_response(search(call.store, call.collection, call.params))


def multi_search(call: Call) -> Response:
    """POST /multi_search: query parameters are defaults of every search, errors stand in `results`"""
    searches = call.json().get("searches")
    if not isinstance(searches, list):
        raise ApiError(400, "Missing `searches` array.")
    if len(searches) > MAX_SEARCHES:
        raise ApiError(400, "Number of multi searches exceeds `limit_multi_searches` parameter.")
    names = [entry.get("collection", "") for entry in searches if isinstance(entry, dict)]
    if not is_allowed(call.store, call.admin_key, call.key, "documents:search", names):
        raise forbidden()
    return json_response({"results": [_one_of_many(call, entry) for entry in searches]})


def _one_of_many(call: Call, entry: Any) -> Json:
    if not isinstance(entry, dict):
        return {"code": 400, "error": "A search value must be an object."}
    sent = {key: value if isinstance(value, str) else _as_text(value) for key, value in entry.items()}
    params = call.params | sent
    try:
        return search(call.store, params.pop("collection", ""), params)
    except ApiError as error:
        return {"code": error.status, "error": error.message}


def _as_text(value: Any) -> str:
    return orjson.dumps(value).decode()


# ---------------------------------------------------------------------- aliases, keys


def list_aliases(call: Call) -> Response:
    """GET /aliases"""
    return json_response({"aliases": [call.store.get_alias(name) for name in sorted(call.store.aliases)]})


def get_alias(call: Call) -> Response:
    """GET /aliases/:name"""
    return json_response(call.store.get_alias(call.path["alias"]))


def put_alias(call: Call) -> Response:
    """PUT /aliases/:name"""
    return json_response(call.store.set_alias(call.path["alias"], call.json().get("collection_name")))


def delete_alias(call: Call) -> Response:
    """DELETE /aliases/:name"""
    return json_response(call.store.delete_alias(call.path["alias"]))


def post_key(call: Call) -> Response:
    """POST /keys"""
    return json_response(create_key(call.store, call.json()), 201)


def get_keys(call: Call) -> Response:
    """GET /keys"""
    return json_response({"keys": list_keys(call.store)})


def get_one_key(call: Call) -> Response:
    """GET /keys/:id"""
    return json_response(get_key(call.store, call.path["key_id"]))


def delete_one_key(call: Call) -> Response:
    """DELETE /keys/:id"""
    return json_response(delete_key(call.store, call.path["key_id"]))
