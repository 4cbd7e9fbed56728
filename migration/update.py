"""Vectors into the embedding field, in place: one import request a page, and every line of its answer read.

Only `id` and the embedding are sent, with `action=update`: a document deleted meanwhile stays deleted, and
a text field sent along would set off the server's own embedding where it has one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson
import tenacity

from kai.typesense import ImportAnswer, Typesense, TypesenseError
from migration.embed import Vector

_LINE_ATTEMPTS: Final = 4


@dataclass(slots=True)
class Written:
    """What became of the documents of one import.

    Attributes:
        written: ids that the server accepted.
        gone: ids of documents that are not there any more.
        failed: id -> the server's words.
    """

    written: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def update_line(document_id: str, embedding_field: str, vector: Vector | None) -> bytes:
    """One line of an import: id and vector, each number as the shortest text of its float32.

    None removes the embedding.
    """
    return orjson.dumps({"id": document_id, embedding_field: vector}, option=orjson.OPT_SERIALIZE_NUMPY)


def import_documents(server: Typesense, collection: str, lines: Mapping[str, bytes], action: str = "update") -> Written:
    """Import one line per document id, and tell what became of each.

    Lines that the server could not take at the moment (busy, lagging) are sent again, alone.

    Raises:
        TypesenseError: the request as a whole failed beyond the server's patience.
    """
    result = Written()
    pending = list(lines)
    backoff = tenacity.Retrying(
        retry=tenacity.retry_if_result(bool),
        stop=tenacity.stop_after_attempt(_LINE_ATTEMPTS),
        wait=server.backoff(),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else {},
    )

    def send() -> dict[str, str]:
        nonlocal pending
        answers = _import(server, collection, [lines[document_id] for document_id in pending], action)
        later = _sort(pending, answers, result)
        pending = list(later)
        return later

    result.failed.update(backoff(send))
    return result


def _import(server: Typesense, collection: str, lines: Sequence[bytes], action: str) -> list[ImportAnswer]:
    """One request; several where a proxy in front of the server finds one too large (413)."""
    try:
        return server.import_lines(collection, lines, action)
    except TypesenseError as error:
        if error.status != 413 or len(lines) < 2:
            raise
    middle = len(lines) // 2
    return [
        *_import(server, collection, lines[:middle], action),
        *_import(server, collection, lines[middle:], action),
    ]


def _sort(ids: Sequence[str], answers: Sequence[ImportAnswer], result: Written) -> dict[str, str]:
    """Put each answer where it belongs; return the ones that may succeed later, with the server's words."""
    later: dict[str, str] = {}
    for document_id, answer in zip(ids, answers, strict=True):
        if answer.success:
            result.written.append(document_id)
        elif answer.code == 404 and "document with id" in answer.error and "Referenced" not in answer.error:
            result.gone.append(document_id)
        elif answer.code in (408, 429) or answer.code >= 500:
            later[document_id] = answer.error
        else:
            result.failed[document_id] = answer.error
    return later
