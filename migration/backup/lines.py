"""The lines of a backup: JSON that the import of Typesense takes as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

Vector = Sequence[float] | NDArray[np.floating[Any]]
"""The numbers of one vector."""


def vector_line(document_id: str, field: str, vector: Vector | bytes | None) -> bytes:
    """The line that puts this vector back, when imported with `action=update`: `{"id": …, "<field>": […]}`.

    Args:
        document_id: the document's id.
        field: the embedding field.
        vector: its numbers (a list, an `array`, a NumPy array). They read back as the very same float64
            values. Bytes: the JSON list of them as the server sent it, which is taken as it is. None where
            the document has no vector: importing `null` takes a vector away.

    Returns:
        UTF-8 without a newline; `id` comes first.

    Raises:
        ValueError: a number is not finite, which JSON cannot say, or the id is no Unicode text.
    """
    try:
        if vector is None:
            numbers = b"null"
        elif isinstance(vector, bytes):
            numbers = vector
        else:
            # An array goes through float64: the short form of a float32 would read back as another float64.
            exact = vector if isinstance(vector, list | tuple) else np.ascontiguousarray(vector, np.float64)
            numbers = orjson.dumps(exact, option=orjson.OPT_SERIALIZE_NUMPY)
            if b"null" in numbers:  # what orjson makes of NaN and infinity
                raise ValueError(f"the vector of document {document_id!r} has a number that is not finite")
        return b'{"id":%b,%b:%b}' % (orjson.dumps(document_id), orjson.dumps(field), numbers)
    except orjson.JSONEncodeError as error:
        raise ValueError(f"document {document_id!r} cannot be written as JSON: {error}") from error


def document_id(line: bytes) -> str:
    """The id in a line.

    Raises:
        ValueError: it is not one line, not a JSON object, or has no id that is text.
    """
    if b"\n" in line:
        raise ValueError("a record must be one line")
    record = orjson.loads(line)
    found = record.get("id") if isinstance(record, dict) else None
    if not isinstance(found, str):
        raise ValueError(f"a record must be a JSON object with an id: {line[:80]!r}")
    return found
