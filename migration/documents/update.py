"""Lines of imports, one request a page, and every line of its answer read; most of all vectors, in place.

Of a vector only `id` and the embedding are sent, with `action=update`: a document deleted meanwhile stays deleted, and
a text field sent along would set off the server's own embedding where it has one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import tenacity

from kai.typesense import ImportAnswer, Typesense, TypesenseError
from kai.vectors import AnyVector
from migration.documents.fetch import Document, Selection, export_pages
from migration.documents.pipeline import run_pages

_LINE_ATTEMPTS: Final = 4
_BUSY: Final = frozenset({408, 429, 503})


@dataclass(slots=True)
class Written:
    """What became of the documents of one import.

    Attributes:
        written: ids that the server accepted.
        gone: ids of documents that are not there any more.
        failed: id -> the server's words.
        changed: id -> the whole document right before its line and right after it, where that was asked for.
    """

    written: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    changed: dict[str, tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=dict)


def update_line(document_id: str, embedding_field: str, vector: AnyVector | None) -> bytes:
    """One line of an import: id and vector, each number as the shortest text of its float32 (or float64).

    None removes the embedding.
    """
    return orjson.dumps({"id": document_id, embedding_field: vector}, option=orjson.OPT_SERIALIZE_NUMPY)


def take_values_out(
    server: Typesense,
    collection: str,
    field_name: str,
    filter_by: str = "",
    advance: Callable[[int], object] = lambda _: None,
) -> dict[str, str]:
    """Take a field's values out of the documents.

    Args:
        server: where the collection is.
        collection: its name.
        field_name: the field; not in the schema.
        filter_by: of which documents; empty for all.
        advance: told the number of documents of each page.

    Returns:
        The server's words for each document that it refuses to change, by id.
    """
    refused: dict[str, str] = {}

    def empty(ids: list[str]) -> int:
        lines = {document_id: update_line(document_id, field_name, None) for document_id in ids}
        refused.update(import_documents(server, collection, lines).failed)
        return len(ids)

    # The next ids are read while the server takes the values of the last ones out.
    pages = export_pages(server, collection, Selection(field_name, filter_by, fields=(), with_vector=False))
    run_pages(pages, lambda page: [document.id for document in page], empty, advance)
    return refused


def line_of(document: Document, field_name: str, vector: AnyVector | list[float] | None) -> bytes:
    """The whole document as a line of an import."""
    fields: dict[str, Any] = dict(document.fields)
    if vector is not None:
        fields[field_name] = vector
    return orjson.dumps(fields, option=orjson.OPT_SERIALIZE_NUMPY)


def import_documents(
    server: Typesense, collection: str, lines: Mapping[str, bytes], action: str = "update", *, look: bool = False
) -> Written:
    """Import one line per document id, and tell what became of each.

    Lines that the server could not take at the moment are sent again, alone: as long as its patience lasts where
    it says that it is busy, a few times where it failed (500), which may be that document's own fault.

    Args:
        server: where the collection is.
        collection: its name.
        lines: by document id.
        action: of the import.
        look: with `update`, ask for each document as it stood right before and right after. Before each line goes one
            that changes nothing, in the same request: nothing can be read and then changed in one step otherwise.

    Raises:
        TypesenseError: the request as a whole, or lines of a busy server, failed beyond the server's patience.
    """
    result = Written()
    pending = list(lines)
    failures = 0
    begun = time.monotonic()

    def send() -> dict[str, ImportAnswer]:
        nonlocal pending, failures
        if look:
            answers = _look_and_import(server, collection, {i: lines[i] for i in pending}, result)
        else:
            answers = _import(server, collection, [lines[document_id] for document_id in pending], action)
        later = _sort(pending, answers, result)
        pending = list(later)
        failures += any(answer.code not in _BUSY for answer in later.values())
        return later

    later = tenacity.Retrying(
        retry=tenacity.retry_if_result(bool),
        stop=lambda _: failures >= _LINE_ATTEMPTS or time.monotonic() - begun > server.patience,
        wait=server.backoff(),
        sleep=server.pause,
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else {},
    )(send)
    busy = [answer for answer in later.values() if answer.code in _BUSY]
    if busy:
        raise TypesenseError(
            f"{len(busy)} lines of an import were put off: {busy[0].error} (code {busy[0].code})",
            status=busy[0].code,
            transient=True,
        )
    result.failed.update({document_id: answer.error for document_id, answer in later.items()})
    return result


def _look_and_import(
    server: Typesense, collection: str, lines: Mapping[str, bytes], result: Written
) -> list[ImportAnswer]:
    both = [line for document_id, change in lines.items() for line in (orjson.dumps({"id": document_id}), change)]
    answers = _import(server, collection, both, "update", whole=True)
    for document_id, seen, changed in zip(lines, answers[::2], answers[1::2], strict=True):
        if seen.document is not None and changed.document is not None:
            result.changed[document_id] = seen.document, changed.document
    return answers[1::2]


def _import(
    server: Typesense, collection: str, lines: Sequence[bytes], action: str, *, whole: bool = False
) -> list[ImportAnswer]:
    """One request; several where a proxy in front of the server finds one too large (413)."""
    try:
        return server.import_lines(collection, lines, action, whole=whole)
    except TypesenseError as error:
        if error.status != 413 or len(lines) < 2:
            raise
    middle = len(lines) // 2
    return [
        *_import(server, collection, lines[:middle], action, whole=whole),
        *_import(server, collection, lines[middle:], action, whole=whole),
    ]


def _sort(ids: Sequence[str], answers: Sequence[ImportAnswer], result: Written) -> dict[str, ImportAnswer]:
    """Put each answer where it belongs; return the ones of lines that may succeed later."""
    later: dict[str, ImportAnswer] = {}
    for document_id, answer in zip(ids, answers, strict=True):
        if answer.success:
            result.written.append(document_id)
        elif answer.code == 404 and "document with id" in answer.error and "Referenced" not in answer.error:
            result.gone.append(document_id)
        elif answer.code in _BUSY or answer.code >= 500:
            later[document_id] = answer
        else:
            result.failed[document_id] = answer.error
    return later
