"""What a handler is given and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from starlette.responses import Response

from kai.sandbox.errors import ApiError
from kai.sandbox.store import Store

Json = dict[str, Any]

JSON_TYPE = "application/json; charset=utf-8"
TEXT_TYPE = "text/plain; charset=utf-8"


@dataclass(frozen=True)
class Call:
    """One request: its path variables, query parameters, key and body; `query_bytes` is the query string's length."""

    store: Store
    path: dict[str, str]
    params: dict[str, str]
    key: str
    admin_key: str
    body: bytes
    data_dir: Path
    query_bytes: int = 0

    @property
    def collection(self) -> str:
        """The collection (or alias) named in the path."""
        return self.path["collection"]

    def json(self) -> Json:
        """The body as a JSON object; ApiError 400 if it is none."""
        try:
            parsed = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            raise ApiError(400, "Bad JSON.") from None
        if not isinstance(parsed, dict):
            raise ApiError(400, "Bad JSON.")
        return parsed

    def flag(self, name: str) -> bool:
        """Whether a query parameter is `true`."""
        return self.params.get(name) == "true"

    def required(self, name: str) -> str:
        """A query parameter; ApiError 400 without it."""
        value = self.params.get(name, "")
        if not value:
            raise ApiError(400, f"Parameter `{name}` is required.")
        return value


def json_response(value: Any, status: int = 200) -> Response:
    """`value` as JSON with sorted keys."""
    return raw_response(orjson.dumps(value, option=orjson.OPT_SORT_KEYS), status)


def raw_response(body: bytes, status: int = 200) -> Response:
    """JSON that is encoded already."""
    return Response(body, status, headers={"content-type": JSON_TYPE})


def text_response(body: bytes) -> Response:
    """JSON Lines, which go under text/plain."""
    return Response(body, headers={"content-type": TEXT_TYPE})


def error_response(error: ApiError) -> Response:
    """A refusal."""
    return json_response({"message": error.message}, error.status)


def unsigned(params: dict[str, str], name: str, default: int) -> int:
    """A parameter that is a whole number, or the default; ApiError for one that is none."""
    text = params.get(name, "")
    if not text:
        return default
    if not text.isdigit():
        raise ApiError(400, f"Parameter `{name}` must be an unsigned integer.")
    return int(text)
