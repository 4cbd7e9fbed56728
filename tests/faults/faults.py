"""The faults of Typesense by name: which of them pass, which end a run, and the words that tell of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests.faults.script import Fault, Kind

OUT_OF_MEMORY: Final = "Rejecting write: running out of resource type: OUT_OF_MEMORY"


@dataclass(frozen=True, slots=True)
class Known:
    """A fault, and the words of the message when it stays (a pattern). `slow` ones take a time-out each."""

    fault: Fault
    words: str
    slow: bool = False


PASSING: Final[dict[str, Known]] = {
    "a refused connection": Known(Fault("refused"), r"connection failed|refused|disconnected"),
    "a connection reset before the server acted": Known(Fault("reset_before"), r"connection failed"),
    "a connection reset after the server acted": Known(Fault("reset_after"), r"connection failed"),
    "a time-out before the server acted": Known(Fault("time_out_before"), r"time-out", slow=True),
    "a time-out after the server acted": Known(Fault("time_out_after"), r"time-out", slow=True),
    "a truncated body": Known(Fault("truncated"), r"not JSON|cannot be read|answered \d+ lines|broke off|ended after"),
    "a body that breaks off": Known(Fault("broken_off"), r"connection failed"),
    "a page of HTML": Known(Fault("not_json"), r"not JSON|cannot be read|answered \d+ lines|broke off"),
    "an empty body": Known(Fault("empty"), r"not JSON|cannot be read|answered \d+ lines|ended after"),
    "a 408": Known(Fault("status", 408, "Request timed out"), r"HTTP 408"),
    "a 429 with Retry-After": Known(Fault("status", 429, "Slow down", retry_after="0"), r"HTTP 429"),
    "a 429 without Retry-After": Known(Fault("status", 429, "Slow down"), r"HTTP 429"),
    "a 500": Known(Fault("status", 500, "Internal error"), r"HTTP 500"),
    "a 500 although the server acted": Known(Fault("status", 500, "Internal error", acted=True), r"HTTP 500"),
    "a 503": Known(Fault("status", 503, "Not Ready or Lagging"), r"HTTP 503"),
    "a 422 out of memory": Known(Fault("status", 422, OUT_OF_MEMORY), r"OUT_OF_MEMORY"),
}
"""Faults that a run rides out when they pass."""

FINAL: Final[dict[str, Known]] = {
    "a 400": Known(Fault("status", 400, "Bad JSON"), r"HTTP 400"),
    "a 401": Known(Fault("status", 401, "Forbidden - a valid `x-typesense-api-key` header must be sent."), r"HTTP 401"),
    "a 404": Known(Fault("status", 404, "Not Found"), r"HTTP 404|does not exist|not there any more"),
    "a 409": Known(Fault("status", 409, "Conflict"), r"HTTP 409"),
    "a 413": Known(Fault("status", 413, "Payload Too Large"), r"HTTP 413"),
    "a 422": Known(Fault("status", 422, "Unprocessable"), r"HTTP 422"),
}
"""Answers that are the server's last word: a run that gets one stops."""

PREFLIGHT: Final[tuple[Kind, ...]] = ("health", "collections", "collection")
"""Kinds of call whose first one comes before anything is changed."""
RUNNING: Final[tuple[Kind, ...]] = ("search", "export", "import", "metadata")
"""Kinds of call that a run cannot do without once it is under way."""
OPTIONAL: Final[tuple[Kind, ...]] = ("stats",)
"""Kinds of call that a run does without."""
