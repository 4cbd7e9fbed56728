"""Pages of documents: search pages up to 10,000 documents, beyond that the export stream cut into pages.

A search page costs the more the deeper it is, so the cost of paging grows with the square of the
collection; the export stays linear (measured on 29.0 at 100,000 documents: 20.4 s against 10.5 s). Both
come through `fetch_pages`, one page in memory at a time.

A collection that changes meanwhile can hide a document from one pass (one is deleted before a page
boundary and its successors move up) or show it twice. Showing twice is harmless. Against hiding there are
two guards: a search pass that has seen fewer documents than the server counts is followed by an export,
which reads one snapshot; and the caller repeats its passes until one finds nothing left to do.
"""

from __future__ import annotations

import hashlib
import struct
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

import orjson

from kai.raw_vectors import read_line, read_search
from kai.typesense import PAGE_LIMIT, Typesense, TypesenseError, id_filter, nameable
from kai.vectors import as_float32

PAGE_SIZE: Final = PAGE_LIMIT
SEARCH_UP_TO: Final = 10_000
"""Documents. Above this the export stream is read instead of search pages."""

_BROKEN_STREAMS: Final = 8
"""How often in a row an export may break off without bringing a single new page before it is given up."""


@dataclass(slots=True)
class Document:
    """One document as read.

    Attributes:
        id: its id.
        fields: what was asked for, `id` among it, without the embedding.
        numbers: the stored embedding as the server's JSON has it, or None where there is none. It becomes
            numbers where it is asked for: as Python floats it takes four times the memory.
    """

    id: str
    fields: dict[str, Any]
    numbers: bytes | None

    @property
    def vector(self) -> array[float] | None:
        """The stored embedding, the very numbers of the server's JSON, or None.

        Raises:
            TypesenseError: it is not a list of numbers.
        """
        numbers = self._parsed()
        try:
            return None if numbers is None else array("d", numbers)
        except TypeError as error:
            raise TypesenseError(f"the vector of document {self.id!r} is not a list of numbers") from error

    def content_hash(self) -> bytes:
        """SHA-256 over everything read but the vector, independent of the order of attributes."""
        return hashlib.sha256(orjson.dumps(self.fields, option=orjson.OPT_SORT_KEYS)).digest()

    def vector_bytes(self) -> bytes | None:
        """The vector as float32, the way Typesense compares it; None where there is none.

        What is no list of numbers counts as none, and a number beyond float32 as infinite: neither is a vector
        that anybody searches with, and both are to be replaced, not to stop a run.
        """
        numbers = self._parsed()
        if not isinstance(numbers, list):
            return None
        try:
            # struct is three times as fast as NumPy here, and rounds the same way.
            return struct.pack(f"{len(numbers)}f", *numbers)
        except OverflowError:
            return as_float32(numbers).tobytes()
        except (struct.error, TypeError):
            return None

    def differs_at_once(self, first: float, by: float) -> bool:
        """Whether the first number of the vector, which is read without the others, differs from `first` by more.

        False where it cannot be told so: for no vector, one of a single number, or what is no list of numbers.
        """
        try:
            return self.numbers is not None and abs(float(self.numbers[1 : self.numbers.index(b",")]) - first) > by
        except ValueError:
            return False

    def _parsed(self) -> list[float] | None:
        if self.numbers is None:
            return None
        try:
            numbers: list[float] = orjson.loads(self.numbers)
        except orjson.JSONDecodeError as error:
            raise TypesenseError(f"the vector of document {self.id!r} cannot be read", transient=True) from error
        return numbers


Page = list[Document]


@dataclass(frozen=True, slots=True)
class Line:
    """One document as the export has it: its id, and the line, which an import takes."""

    id: str
    content: bytes


R = TypeVar("R", Document, Line)


@dataclass(frozen=True, slots=True)
class Selection:
    """What to read of a collection.

    Attributes:
        embedding_field: its value goes to `Document.vector`; empty for documents without one.
        filter_by: Typesense filter; empty for every document.
        fields: the fields needed beside `id` and the embedding; None for whole documents.
        excluded: fields not to read, where whole documents are read (other vectors, say).
        with_vector: whether the embedding itself is needed.
    """

    embedding_field: str = ""
    filter_by: str = ""
    fields: tuple[str, ...] | None = None
    excluded: tuple[str, ...] = ()
    with_vector: bool = True

    def parameters(self) -> dict[str, str]:
        """As search and export take them."""
        parameters = {"filter_by": self.filter_by} if self.filter_by else {}
        if self.fields is not None:
            wanted = ["id", *self.fields, self.embedding_field if self.with_vector else ""]
            parameters["include_fields"] = ",".join(filter(None, dict.fromkeys(wanted)))
        else:
            excluded = [*self.excluded, *([] if self.with_vector else [self.embedding_field])]
            if excluded:
                parameters["exclude_fields"] = ",".join(excluded)
        return parameters


IDS: Final = Selection(fields=())
"""Nothing but the documents' ids."""


def fetch_pages(server: Typesense, collection: str, selection: Selection) -> Iterator[Page]:
    """The selected documents in pages of up to 250, read as they are asked for.

    What was written before the first page is asked for shows in them, whichever node is read.

    Raises:
        TypesenseError: the server could not be read within its patience, or an export broke off again and
            again at the same place.
    """
    server.settle()
    if server.count(collection, selection.filter_by) > SEARCH_UP_TO:
        yield from export_pages(server, collection, selection)
    else:
        yield from _search_pages(server, collection, selection)


def export_pages(
    server: Typesense, collection: str, selection: Selection, *, is_counted: bool = True
) -> Iterator[Page]:
    """The selected documents by the export stream, in insertion order, from one snapshot.

    A stream that breaks off is opened again and read on after the last document that was delivered. Without
    `is_counted` its end is believed: for a collection of which the server counts documents that it refused.
    """
    return _export(server, collection, selection, partial(_document_of, selection=selection), is_counted=is_counted)


def values_of(server: Typesense, collection: str, field: str) -> set[str]:
    """The values, as text, that the documents of a collection have in a field."""
    pages = export_pages(server, collection, Selection(fields=(field,)))
    return {str(document.fields.get(field)) for page in pages for document in page}


def export_line_pages(server: Typesense, collection: str, after: str | None = None) -> Iterator[list[Line]]:
    """Whole documents as an import takes them, read as by `export_pages`; with `after`, those behind that document.

    If that document is not there any more, all of them.
    """
    return _export(server, collection, Selection(), _line_of, after)


def whole_export(server: Typesense, collection: str, selection: Selection) -> Iterator[bytes]:
    """The lines of one export.

    Raises:
        TypesenseError: transient if it broke off, or ended without a sign of damage (a proxy cut it between two
            lines) but brought fewer documents than the server counts before and after it.
    """
    seen, expected = 0, _count(server, collection, selection.filter_by)
    for line in server.export_lines(collection, selection.parameters()):
        seen += 1
        yield line
    if seen < expected and seen < (counted := _count(server, collection, selection.filter_by)):
        raise TypesenseError(f"the export ended after {seen} documents; the server counts {counted}", transient=True)


def _export(
    server: Typesense,
    collection: str,
    selection: Selection,
    read: Callable[[bytes], R],
    after: str | None = None,
    *,
    is_counted: bool = True,
) -> Iterator[list[R]]:
    server.settle()
    broken = 0
    while True:
        try:
            if after is not None and not _is_selected(server, collection, selection, after):
                # Deleted meanwhile, or not selected any more: start over; seeing documents twice is harmless.
                after = None
            if is_counted:
                lines = whole_export(server, collection, selection)
            else:
                lines = server.export_lines(collection, selection.parameters())
            for page in _pages_of_lines(lines, read, after):
                yield page
                after, broken = page[-1].id, 0
        except TypesenseError as error:
            broken += 1
            if not error.transient or broken >= _BROKEN_STREAMS:
                raise
        else:
            return


def _is_selected(server: Typesense, collection: str, selection: Selection, document_id: str) -> bool:
    """Whether an export will have the document again; one that no filter can name only where there is none."""
    if not nameable(document_id):
        return not selection.filter_by and server.document(collection, document_id) is not None
    wanted = f"id:=`{document_id}`"
    if selection.filter_by:
        wanted = f"({selection.filter_by}) && {wanted}"
    return _count(server, collection, wanted) > 0


def _count(server: Typesense, collection: str, filter_by: str) -> int:
    """How many documents there are; an error is not transient, for it was waited for as long as patience lasts."""
    try:
        return server.count(collection, filter_by)
    except TypesenseError as error:
        error.transient = False
        raise


def _pages_of_lines(lines: Iterator[bytes], read: Callable[[bytes], R], after: str | None) -> Iterator[list[R]]:
    page: list[R] = []
    for line in lines:
        try:
            document = read(line)
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise TypesenseError(f"a line of the export cannot be read: {line[:80]!r}", transient=True) from error
        if after is not None:
            after = None if document.id == after else after
            continue
        page.append(document)
        if len(page) == PAGE_SIZE:
            yield page
            page = []
    if page:
        yield page


def _search_pages(server: Typesense, collection: str, selection: Selection) -> Iterator[Page]:
    seen: set[str] = set()  # At most SEARCH_UP_TO ids, unless the collection grows while it is read.
    number = 0
    while True:
        number += 1
        parameters = {"q": "*", "per_page": PAGE_SIZE, "page": number, **selection.parameters()}
        answer = server.search(collection, parameters, partial(read_search, field=selection.embedding_field))
        page = [_document(hit["document"], selection) for hit in answer["hits"]]
        fresh = [document for document in page if document.id not in seen]
        seen.update(document.id for document in fresh)
        if fresh:
            yield fresh
        if len(page) < PAGE_SIZE:
            break
    if len(seen) < server.count(collection, selection.filter_by):
        for page in export_pages(server, collection, selection):
            if missed := [document for document in page if document.id not in seen]:
                yield missed


def fetch_newest(server: Typesense, collection: str, selection: Selection, documents: int) -> tuple[int, Page]:
    """How many documents are selected, and those added last, at most 250; one request.

    A collection with a `default_sorting_field` gives others first (Typesense 29.0 and 30).
    """
    parameters = {"q": "*", "per_page": documents, **selection.parameters()}
    answer = server.search(collection, parameters, partial(read_search, field=selection.embedding_field))
    return int(answer["found"]), [_document(hit["document"], selection) for hit in answer["hits"]]


def eligible_of(server: Typesense, name: str, filter_by: str, ids: Sequence[str]) -> set[str]:
    """The ids of the documents, at most 250, that the filter lets through; all of them where there is none.

    An id that no filter can name (see `nameable`) is never among them, unless there is none.
    """
    if not filter_by:
        return set(ids)
    if not (wanted := id_filter(ids)):
        return set()
    parameters = {"q": "*", "per_page": len(ids), "include_fields": "id", "filter_by": f"({filter_by}) && {wanted}"}
    return {str(hit["document"]["id"]) for hit in server.search(name, parameters)["hits"]}


def fetch_documents(server: Typesense, collection: str, selection: Selection, ids: Sequence[str]) -> Page:
    """The documents of these ids as they stand now, at most 250 of them.

    Those deleted are left out, and those that are not selected (any more), or that no filter can name.
    """
    if not (wanted := id_filter(ids)):
        return []
    if selection.filter_by:
        wanted = f"({selection.filter_by}) && {wanted}"
    parameters = {"q": "*", "per_page": PAGE_SIZE, **selection.parameters(), "filter_by": wanted}
    answer = server.search(collection, parameters, partial(read_search, field=selection.embedding_field))
    return [_document(hit["document"], selection) for hit in answer["hits"]]


def fetch_again(server: Typesense, collection: str, selection: Selection, page: Page) -> Page:
    """These documents, read without their vectors before, with all that is selected of them, as they stand now.

    A server reads for several requests at once, and writes out one export alone: vectors come faster in this way.
    """
    found = fetch_documents(server, collection, selection, [document.id for document in page])
    for document_id in (document.id for document in page if not nameable(document.id)):
        fields = server.document(collection, document_id)
        if fields is not None:
            wanted = fields.keys() if selection.fields is None else {"id", selection.embedding_field, *selection.fields}
            kept = {name: value for name, value in fields.items() if name in wanted and name not in selection.excluded}
            found.append(_document(kept, selection))
    return found


def _line_of(line: bytes) -> Line:
    return Line(str(orjson.loads(line)["id"]), line)


def _document_of(line: bytes, selection: Selection) -> Document:
    return _document(read_line(line, selection.embedding_field), selection)


def _document(fields: dict[str, Any], selection: Selection) -> Document:
    vector = fields.pop(selection.embedding_field, None)
    if vector and not isinstance(vector, bytes):
        vector = orjson.dumps(vector)  # Whatever it is: a field that is out of the schema takes anything.
    return Document(str(fields["id"]), fields, vector or None)
