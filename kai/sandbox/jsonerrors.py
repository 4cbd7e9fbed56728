"""Error texts for JSON that cannot be parsed, in the words of the parser that a real server uses."""

from __future__ import annotations

import json


def bad_json(text: bytes) -> str:
    """`Bad JSON: …` with the place where parsing stopped.

    The words are exact for a bad key or value at the place found; other mistakes get the general form.
    """
    decoded = text.decode(errors="replace")
    try:
        json.loads(decoded)
    except json.JSONDecodeError as error:
        return f"Bad JSON: {_describe(decoded, error)}"
    return "Bad JSON: not a proper document."


def _describe(text: str, error: json.JSONDecodeError) -> str:
    prefix = "[json.exception.parse_error.101] parse error at line"
    is_key = error.msg.startswith("Expecting property name")
    what, expected = ("object key", "; expected string literal") if is_key else ("value", "")
    position = error.pos
    if position >= len(text.rstrip()):
        what = f"{what} - unexpected end of input{expected}"
        return f"{prefix} {error.lineno}, column {len(text) + 1}: syntax error while parsing {what}"
    start = max(0, position - 1)
    return (
        f"{prefix} {error.lineno}, column {position + 1}: syntax error while parsing {what} - "
        f"invalid literal; last read: '{text[start : position + 1]}'{expected}"
    )
