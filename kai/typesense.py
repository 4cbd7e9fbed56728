"""The one place that talks to Typesense.

JSON calls go through the official client; import, export and clone go through the same connection pool
directly, because the client would hold an export whole in memory and has no call for a clone. What is repeated,
and for how long, is the connection's (`kai.typesense_connection`); synonyms and curations, which differ between
versions, have a room of their own (`kai.typesense_curation`).

Every answer that is not 2xx, and every broken connection, becomes a `TypesenseError` that says whether
waiting may help (`kai.typesense_answers`).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

import httpx
import orjson

from kai.typesense_answers import (
    TRANSIENT_STATUSES,
    ImportAnswer,
    Schema,
    TypesenseError,
    own_fields,
    read_import_line,
    read_json,
    read_list,
    read_object,
    read_schema,
    read_search,
)
from kai.typesense_curation import CurationCalls

__all__ = [
    "ImportAnswer",
    "Schema",
    "Typesense",
    "TypesenseError",
    "embedding_field",
    "id_filter",
    "nameable",
    "search_by_vector",
]

PAGE_LIMIT = 250
"""Typesense refuses a `per_page` above this with 422."""

_AS_STORED = {"enable_overrides": "false", "enable_curations": "false"}
"""A curation for `*` would hide documents from the search, or show ones that were not asked for. The second is its
name from version 30 on, which disregards the first, as 29 does the second."""

_LONGEST_QUERY = 3500
"""Bytes of search parameters as the URL carries them; the server refuses a query string above 4,000."""

_NEIGHBOURS = 10
"""Found by a search for a vector."""
_THOROUGH = 500
"""Vectors that the index follows up in a search that is to miss none."""
_MOST_SEARCHES = 50
"""Searches in one multi_search; the server refuses more, as long as its `limit_multi_searches` is not raised."""


class Typesense(CurationCalls):
    """A Typesense server: its calls, each repeated while waiting may help."""

    # -- the server ------------------------------------------------------------------------------------

    def health(self) -> None:
        """Raise `TypesenseError` unless the server says, within its patience, that it is healthy. Needs no key."""

        def ask() -> None:
            answer = read_json(self.http.get("/health", timeout=min(10.0, self._timeout)))
            if not isinstance(answer, dict) or answer.get("ok") is not True:
                raise TypesenseError(f"Typesense at {self.url} is not healthy", status=503, transient=True)

        self.repeat(ask)

    def metrics(self) -> dict[str, Any]:
        """`/metrics.json`: memory and disk of the machine, figures as strings, bytes."""
        return self.repeat(lambda: read_object(read_json(self.http.get("/metrics.json"))))

    def stats(self, *, patiently: bool = True) -> dict[str, Any]:
        """`/stats.json`: requests a second by kind, over the last ten seconds; asked for once where not `patiently`."""

        def ask() -> dict[str, Any]:
            return read_object(read_json(self.http.get("/stats.json", timeout=min(10.0, self._timeout))))

        return self.repeat(ask) if patiently else self.once(ask)

    def version(self) -> str:
        """The server's version, e.g. `29.0`."""
        return self.repeat(lambda: str(read_object(read_json(self.http.get("/debug"))).get("version", "unknown")))

    def told_version(self) -> str:
        """The same; `unknown` also where it does not say it to this key."""
        try:
            return self.version()
        except TypesenseError:
            return "unknown"

    def schema_changes(self) -> list[dict[str, Any]]:
        """The alters in progress; an empty list is the only sign that the last one is complete."""

        def ask() -> list[dict[str, Any]]:
            # `null` until there has been one. Anything else that is no list does not say that there is none.
            answer = read_json(self.http.get("/operations/schema_changes"))
            return [] if answer is None else [read_object(change) for change in read_list(answer)]

        return self.repeat(ask)

    # -- collections -----------------------------------------------------------------------------------

    def collections(self) -> list[Schema]:
        """Every collection's schema. An alias does not show here."""
        return self.repeat(lambda: [read_schema(item) for item in read_list(self.client.collections.retrieve())])

    def collection(self, name: str) -> Schema | None:
        """The schema of the collection, or of the one an alias of this name points to; None if neither is."""
        try:
            return self.repeat(lambda: read_schema(self.client.collections[name].retrieve()))
        except TypesenseError as error:
            if error.missing:
                return None
            raise

    def create_collection(self, schema: Schema) -> Schema:
        """Create a collection; a name that is taken is a 409."""
        body = orjson.dumps(schema)
        return self.repeat(lambda: read_object(read_json(self.http.post("/collections", content=body))))

    def clone_collection(self, source: str, name: str) -> Schema:
        """Clone schema, synonyms and overrides (or names of sets) of a real collection, not documents, not metadata.

        Not repeated after an answer that was lost: the second request would be refused because the first
        one did its work; the caller looks instead.
        """
        body = orjson.dumps({"name": name})
        return self.once(
            lambda: read_object(read_json(self.http.post("/collections", params={"src_name": source}, content=body)))
        )

    def delete_collection(self, name: str) -> bool:
        """Drop a collection; False if it was not there (any more). No node shows it when this returns."""
        there = True
        try:
            self.repeat(lambda: read_json(self.http.delete(f"/collections/{_path(name)}")))
        except TypesenseError as error:
            if not error.missing:
                raise
            there = False
        self.settle()
        return there

    def drop_collection_once(self, name: str) -> int | None:
        """Drop a collection with a single request; how many documents the server counted in it, if it says so.

        For a name that an application may create again at once: repeating a request whose answer was lost
        could drop the application's collection. The caller looks instead.
        """
        answer = self.once(lambda: read_object(read_json(self.http.delete(f"/collections/{_path(name)}"))))
        count = answer.get("num_documents")
        return count if isinstance(count, int) else None

    def alter_fields(self, name: str, fields: Sequence[dict[str, Any]], *, timeout: float | None = None) -> None:
        """Change the schema. Never repeated: a client that times out does not stop the server's work."""
        body = orjson.dumps({"fields": list(fields)})
        url = f"/collections/{_path(name)}"
        if timeout is None:
            self.once(lambda: read_json(self.http.patch(url, content=body)))
        else:
            self.once(lambda: read_json(self.http.patch(url, content=body, timeout=timeout)))

    def set_metadata(self, name: str, metadata: dict[str, Any]) -> None:
        """Replace the collection's `metadata` whole."""
        body = orjson.dumps({"metadata": metadata})
        self.repeat(lambda: read_json(self.http.patch(f"/collections/{_path(name)}", content=body)))

    def aliases(self) -> dict[str, str]:
        """Alias name -> collection name."""

        def ask() -> dict[str, str]:
            answer = self.client.aliases.retrieve()
            return {str(item["name"]): str(item["collection_name"]) for item in read_list(answer["aliases"])}

        return self.repeat(ask)

    def set_alias(self, name: str, collection: str) -> None:
        """Create the alias, or let it lead to another collection; the server does not look whether there is one."""
        body = orjson.dumps({"collection_name": collection})
        self.once(lambda: read_json(self.http.put(f"/aliases/{_path(name)}", content=body)))

    # -- documents -------------------------------------------------------------------------------------

    def count(self, name: str, filter_by: str = "") -> int:
        """How many documents the filter lets through."""
        return int(
            self.search(name, {"q": "*", "per_page": 0, **({"filter_by": filter_by} if filter_by else {})})["found"]
        )

    def search(self, name: str, params: dict[str, Any], read: Callable[[bytes], Any] = orjson.loads) -> dict[str, Any]:
        """One search, parameters as Typesense names them, of what is stored: the collection's overrides do not count.

        By GET as KAI searches; one too long for a URL by multi_search.

        Args:
            name: the collection.
            params: of the search.
            read: makes the answer from its body, where that can be done more cheaply than by parsing it all.

        Raises:
            TypesenseError: also for an error that comes inside a 200 of multi_search.
        """
        params = _AS_STORED | params
        if len(str(httpx.QueryParams(params))) > _LONGEST_QUERY:
            answer: Any = self.multi_search([{"collection": name, **params}], read)[0]
            if "error" in answer:
                status = int(answer.get("code", 500))
                raise TypesenseError(str(answer["error"]), status=status, transient=status in TRANSIENT_STATUSES)
        else:
            url = f"/collections/{_path(name)}/documents/search"
            answer = self.repeat(lambda: read_search(read_json(self.http.get(url, params=params), read)))
        return read_search(answer)

    def multi_search(
        self, searches: Sequence[dict[str, Any]], read: Callable[[bytes], Any] = orjson.loads
    ) -> list[dict[str, Any]]:
        """Several searches, as many at once as the server takes; for each an answer or `{"code": …, "error": …}`."""
        parts = [searches[start : start + _MOST_SEARCHES] for start in range(0, len(searches), _MOST_SEARCHES)]
        return [result for part in parts for result in self._multi_search(part, read)]

    def _multi_search(self, searches: Sequence[dict[str, Any]], read: Callable[[bytes], Any]) -> list[dict[str, Any]]:
        body = orjson.dumps(
            {"searches": [_AS_STORED | search for search in searches]}, option=orjson.OPT_SERIALIZE_NUMPY
        )

        def send() -> list[dict[str, Any]]:
            results = list(read_json(self.http.post("/multi_search", content=body), read)["results"])
            if len(results) != len(searches):
                raise TypesenseError(f"the server answered {len(results)} of {len(searches)} searches", transient=True)
            return results

        return self.repeat(send)

    def document(self, name: str, document_id: str) -> dict[str, Any] | None:
        """One document by id, without the server's internal reference fields; None if it is not there."""
        if not nameable(document_id):
            return self._document_by_path(name, document_id)
        page = self.search(name, {"q": "*", "filter_by": f"id:=`{document_id}`", "per_page": 1})
        return dict(page["hits"][0]["document"]) if page["hits"] else None

    def _document_by_path(self, name: str, document_id: str) -> dict[str, Any] | None:
        url = f"/collections/{_path(name)}/documents/{_path(document_id)}"
        try:
            found = self.repeat(lambda: read_object(read_json(self.http.get(url))))
        except TypesenseError as error:
            if error.missing:
                return None
            raise
        # Unlike a search, this shows the fields that the server keeps for its references, and their names.
        internal = {".ref", *(found.get(".ref") or ())}
        return {key: value for key, value in found.items() if key not in internal}

    def delete_document(self, name: str, document_id: str) -> dict[str, Any] | None:
        """Delete one document, and with it those that refer to it; what stood there, or None if nothing did."""
        url = f"/collections/{_path(name)}/documents/{_path(document_id)}"
        try:
            return own_fields(self.repeat(lambda: read_object(read_json(self.http.delete(url)))))
        except TypesenseError as error:
            if error.missing:
                return None
            raise

    def import_lines(
        self, name: str, lines: Sequence[bytes], action: str, *, whole: bool = False
    ) -> list[ImportAnswer]:
        """Import JSON documents, one per line, in one request, and read every line of the answer.

        The server answers 200 even if every line failed. Repeated after 503s, time-outs and broken
        connections, so `action` must be one that may act twice: `update`, `emplace` or `upsert`; after
        a lost answer to a `create` the lines that had arrived come back with code 409.

        Args:
            name: of the collection.
            lines: one document each.
            action: `create`, `update`, `emplace` or `upsert`.
            whole: ask for each document as it stands after its line.

        Returns:
            One answer per line, in order.

        Raises:
            TypesenseError: the request as a whole failed, or the answer does not fit the lines.
        """
        if not lines:
            return []
        body = b"\n".join(lines)
        url = f"/collections/{_path(name)}/documents/import"
        params = {"action": action} | ({"return_doc": "true"} if whole else {})

        def send() -> list[ImportAnswer]:
            response = self.http.post(url, params=params, content=body, headers={"Content-Type": "text/plain"})
            answers = [read_import_line(line) for line in response.content.split(b"\n") if line]
            if len(answers) != len(lines):
                raise TypesenseError(
                    f"the server answered {len(answers)} lines to an import of {len(lines)}", transient=True
                )
            return answers

        return self.repeat(send)

    def check_writable(self, name: str) -> None:
        """Whether the key may write documents of a collection: an import of nothing, which changes nothing.

        Raises:
            TypesenseError: `unauthorized` if it may not; anything else says nothing about the key. Not repeated.
        """
        url = f"/collections/{_path(name)}/documents/import"
        headers = {"Content-Type": "text/plain"}
        self.once(lambda: self.http.post(url, params={"action": "emplace"}, content=b"", headers=headers, timeout=5.0))

    def export_lines(self, name: str, params: dict[str, str] | None = None) -> Iterator[bytes]:
        """Stream the documents as JSON lines, in insertion order, as they arrive; a few lines in memory.

        Raises:
            TypesenseError: transient if the stream broke off, or the server put an error into it instead of a
                document, as version 30 does; the lines before that were complete. Not transient if it could not
                be opened: that was tried for as long as patience lasts.
        """
        url = f"/collections/{_path(name)}/documents/export"
        try:
            opened = self.repeat(lambda: self.open_stream(url, params or {}))
        except TypesenseError as error:
            error.transient = False
            raise
        with self.watched(), opened as response:
            rest = b""
            for chunk in response.iter_bytes():
                first, *others = chunk.split(b"\n")
                if not others:
                    rest += first
                    continue
                if line := rest + first:
                    yield _document_line(line)
                rest = others.pop()
                yield from (_document_line(line) for line in others if line)
            if rest:
                # The last line of an export has no newline: whether it is whole, only its JSON tells.
                try:
                    orjson.loads(_document_line(rest))
                except orjson.JSONDecodeError as error:
                    raise TypesenseError("the export broke off in mid-record", transient=True) from error
                yield rest

    def free_memory(self) -> int | None:
        """Bytes of memory free on the server's machine; None where it does not say."""
        try:
            metrics = self.metrics()
            return int(metrics["system_memory_total_bytes"]) - int(metrics["system_memory_used_bytes"])
        except (TypesenseError, KeyError, TypeError, ValueError):
            return None

    def writes_a_second(self) -> float:
        """Requests a second that write, over the last 10 s; 0 where the server does not say."""
        try:
            stats = self.stats()
            kinds = ("write_requests_per_second", "import_requests_per_second", "delete_requests_per_second")
            return sum(float(stats.get(kind, 0)) for kind in kinds)
        except (TypesenseError, TypeError, ValueError):
            return 0.0


def embedding_field(schema: Schema, name: str) -> dict[str, Any] | None:
    """The field of this name in a collection's schema, or None."""
    return next((dict(field) for field in schema["fields"] if field["name"] == name), None)


def id_filter(ids: Iterable[str]) -> str:
    """A filter for these documents; empty if there are none that it can name (see `nameable`)."""
    wanted = ",".join(f"`{document_id}`" for document_id in ids if nameable(document_id))
    return f"id:[{wanted}]" if wanted else ""


def nameable(document_id: str) -> bool:
    """Whether a filter can name the id.

    Values stand in backticks there, so none can have one in it; a backslash at the end would escape the closing
    one, the server trims what stands between them, and `*` is every id.
    """
    return (
        "`" not in document_id
        and not document_id.endswith("\\")
        and document_id == document_id.strip()
        and document_id not in ("", "*")
    )


def _document_line(line: bytes) -> bytes:
    if not line.startswith(b"{"):
        raise TypesenseError(f"a line of the export cannot be read: {line[:120]!r}", transient=True)
    return line


def _path(part: str) -> str:
    return quote(part, safe="")


def search_by_vector(
    name: str, field: str, document_id: str, vector: bytes, *, exact: bool = False, most: int = _NEIGHBOURS
) -> dict[str, object]:
    """A search for so many neighbours of a vector, float32 bytes, as `multi_search` takes it.

    An exact one looks at nothing but the document, where a filter can name it.
    """
    options, only = f"k:{most}", {}
    if exact and nameable(document_id):
        # Fewer documents than the cut-off are compared one by one, past the index's graph.
        options, only = f"{options}, flat_search_cutoff:{_NEIGHBOURS}", {"filter_by": id_filter([document_id])}
    elif exact:
        options = f"{options}, ef:{_THOROUGH}"
    numbers = ",".join(map(repr, array("f", vector)))
    return {
        "collection": name,
        "q": "*",
        "per_page": most,
        "include_fields": "id",
        "vector_query": f"{field}:([{numbers}], {options})",
        **only,
    }
