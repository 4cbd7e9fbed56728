"""What goes wrong with which call to Typesense: faults, scripts of them, and what a script did."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

Kind = Literal[
    "health", "collections", "collection", "search", "export", "import", "metadata", "multi_search", "stats", "other"
]
"""A kind of call, as the tool makes them."""

KINDS: Final[tuple[Kind, ...]] = (
    "health", "collections", "collection", "search", "export", "import", "metadata", "multi_search", "stats",
)  # fmt: skip

FaultName = Literal[
    "refused",
    "reset_before",
    "reset_after",
    "time_out_before",
    "time_out_after",
    "truncated",
    "broken_off",
    "not_json",
    "empty",
    "status",
    "lines",
    "garbled_line",
    "collection_dropped",
]

_ROUTES: Final[tuple[tuple[str, str, Kind], ...]] = (
    ("GET", r"/health", "health"),
    ("GET", r"/stats\.json", "stats"),
    ("POST", r"/multi_search", "multi_search"),
    ("GET", r"/collections/?", "collections"),
    ("GET", r"/collections/[^/]+", "collection"),
    ("PATCH", r"/collections/[^/]+", "metadata"),
    ("GET", r"/collections/[^/]+/documents/search", "search"),
    ("GET", r"/collections/[^/]+/documents/export", "export"),
    ("POST", r"/collections/[^/]+/documents/import", "import"),
)


def kind_of(method: str, path: str) -> Kind:
    """The kind of a call, from its method and its path with or without a query."""
    bare, _, query = path.partition("?")
    if "action=emplace" in query:
        return "other"  # An import of nothing, by which a run finds out whether its key may write.
    return next((kind for verb, route, kind in _ROUTES if verb == method and re.fullmatch(route, bare)), "other")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong with one call.

    Attributes:
        name: `refused` closes the port for `seconds` and every connection with it; `reset_before` and
            `reset_after` reset the connection before or after the server acted; `time_out_before` and
            `time_out_after` never answer; `truncated` sends half of the answer as if it were all;
            `broken_off` closes the connection after half of it; `not_json` is a page of HTML and `empty`
            nothing at all, both with status 200 and without the server acting; `status` is an error, `acted`
            or not; `lines` lets the lines of an import for `ids` fail with `status` and `message`;
            `garbled_line` spoils one line of an import's answer; `collection_dropped` drops the collection
            first.
        status: for `status` and `lines`.
        message: for both: the server's words.
        retry_after: for `status`: the header, if any.
        acted: for `status`: whether the server did what it was asked for all the same.
        ids: for `lines`: documents whose lines fail; empty for every second line.
        seconds: for `refused`; None for as long as nobody opens the port again.
    """

    name: FaultName
    status: int = 500
    message: str = "Internal error"
    retry_after: str | None = None
    acted: bool = False
    ids: frozenset[str] = frozenset()
    seconds: float | None = 0.02


@dataclass(frozen=True, slots=True)
class Call:
    """One call to Typesense. `number` counts the calls of its kind, from 1; `place` all calls."""

    kind: Kind
    number: int
    place: int


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault and the calls that it meets: of this kind, from the `first` on, `times` of them."""

    kind: Kind
    fault: Fault
    first: int = 1
    times: int = 1

    def meets(self, call: Call) -> bool:
        """Whether this call goes wrong."""
        return call.kind == self.kind and self.first <= call.number < self.first + self.times


LASTING: Final = 10**9
"""So many times that nobody sees the end of it."""


def from_place(place: int, act: Callable[[], object]) -> Callable[[Call], object]:
    """For `Script.before_call`: act before this call and every later one."""

    def before_call(call: Call) -> None:
        if call.place >= place:
            act()

    return before_call


@dataclass(slots=True)
class Script:
    """Which calls go wrong, and which did.

    Attributes:
        planned: the first one that meets a call is what happens to it.
        before_call: called, in the proxy's thread, before each call is looked at.
        fired: what went wrong so far, in order.
        calls: how many calls of each kind there were.
    """

    planned: Sequence[Planned] = ()
    before_call: Callable[[Call], object] = lambda _call: None
    fired: list[tuple[Call, Planned]] = field(default_factory=list)
    calls: Counter[Kind] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def next_fault(self, method: str, path: str) -> Fault | None:
        """Count a call, and say what goes wrong with it."""
        kind = kind_of(method, path)
        with self._lock:
            self.calls[kind] += 1
            call = Call(kind, self.calls[kind], self.calls.total())
        self.before_call(call)
        for planned in self.planned:
            if planned.meets(call):
                self.fired.append((call, planned))
                return planned.fault
        return None
