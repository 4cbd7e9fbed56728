"""Documents out of JSON whose vectors stay text.

A vector is nearly all of a document's JSON, and most vectors that are read need not become numbers: the backup
keeps the text as it came. So the text of each vector is cut out of the answer before the rest is parsed, and
a marker stands in its place. The cut counts only if parsing the rest shows the marker as the value of the
embedding field of a document itself. Where it does not (the field's name in a nested object, the same key
twice, a vector that is no plain list of numbers), nothing is guessed: everything is parsed the usual way.
"""

from __future__ import annotations

import secrets
from typing import Any, Final

import orjson

_IN_NUMBERS: Final = b"0123456789+-.eE,"
_MARKER: Final = secrets.token_hex(16)
"""Not to be foreseen, so that no document has it as a value of its own."""


def read_line(line: bytes, field: str) -> dict[str, Any]:
    """One document. The value of `field`, if it is a list of numbers, is its JSON as bytes.

    Raises:
        orjson.JSONDecodeError: it is not JSON.
        TypeError: it is no object.
    """
    rest, slices = _cut(line, field)
    if slices:
        document = _parsed(rest)
        if isinstance(document, dict) and _put_back([document], field, slices):
            return document
    document = orjson.loads(line)
    if not isinstance(document, dict):
        raise TypeError("not an object")
    return document


def read_search(body: bytes, field: str) -> Any:
    """The answer to a search or a multi-search, the `field` of each document as in `read_line`.

    Raises:
        orjson.JSONDecodeError: it is not JSON.
    """
    rest, slices = _cut(body, field)
    if slices:
        answer = _parsed(rest)
        if _put_back(_documents(answer), field, slices):
            return answer
    return orjson.loads(body)


def _cut(text: bytes, field: str) -> tuple[bytes, list[bytes]]:
    """The text with a numbered marker for each list of numbers that follows the key, and the lists."""
    key = orjson.dumps(field) + b":["
    parts: list[bytes] = []
    slices: list[bytes] = []
    done = look_from = 0
    while (found := text.find(key, look_from)) >= 0:
        start = look_from = found + len(key) - 1
        end = text.find(b"]", start) + 1
        numbers = text[start:end]
        # Anything but numbers, a list within the list for instance, leaves more than the brackets.
        if len(numbers) > 2 and numbers.translate(None, _IN_NUMBERS) == b"[]":
            parts += text[done:start], b'"%b%d"' % (_MARKER.encode(), len(slices))
            slices.append(numbers)
            done = look_from = end
    return (b"".join((*parts, text[done:])) if slices else text), slices


def _parsed(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _documents(answer: Any) -> list[dict[str, Any]]:
    """The documents in an answer of the expected form; none for any other."""
    try:
        results = answer.get("results", [answer])
        found = [hit["document"] for result in results for hit in result.get("hits", ())]
    except (AttributeError, KeyError, TypeError):
        return []
    return found if all(isinstance(document, dict) for document in found) else []


def _put_back(documents: list[dict[str, Any]], field: str, slices: list[bytes]) -> bool:
    """Put each list where its marker stands; whether all of them stood there."""
    put = 0
    for document in documents:
        value = document.get(field)
        if isinstance(value, str) and value.startswith(_MARKER):
            document[field] = slices[int(value[len(_MARKER) :])]
            put += 1
    return put == len(slices)
