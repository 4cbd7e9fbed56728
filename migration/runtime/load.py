"""`--max-load`: the server's own figures, above which a run waits.

They come from `/stats.json`, which speaks of the last ten seconds, so that what the run itself has done shows for as
long in what it looks at.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from kai.typesense import TypesenseError

Bounds = Mapping[str, float]
"""The most that each figure may be, by name."""

FIGURES: Final = (
    "delete_latency_ms",
    "delete_requests_per_second",
    "import_latency_ms",
    "import_requests_per_second",
    "overloaded_requests_per_second",
    "pending_write_batches",
    "search_latency_ms",
    "search_requests_per_second",
    "total_requests_per_second",
    "write_latency_ms",
    "write_requests_per_second",
)
"""The figures of `/stats.json` (29.0 and 30) of which more is worse."""
_EVERY: Final = 1.0
"""Seconds for which an answer of the server is taken to be true."""


def parse_bounds(text: str) -> dict[str, float]:
    """`search_latency_ms=50,pending_write_batches=20`, by name.

    Raises:
        ValueError: naming what is wrong with it.
    """
    bounds: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, number = (word.strip() for word in part.partition("="))
        if name not in FIGURES:
            raise ValueError(f"{name!r} is no figure of the server; known: {', '.join(FIGURES)}")
        try:
            most = float(number)
        except ValueError:
            most = math.nan
        if not math.isfinite(most) or most < 0:
            raise ValueError(f"{part!r} needs a number of 0 or more, such as {name}=50")
        bounds[name] = most
    if not bounds:
        raise ValueError("it names no figure; such as search_latency_ms=50,pending_write_batches=20")
    return bounds


def told(bounds: Bounds) -> str:
    """As `parse_bounds` takes it."""
    return ",".join(f"{name}={most:g}" for name, most in bounds.items())


class LoadWatch:
    """Looks at a server's figures, at most once a second, whoever asks.

    Args:
        ask: the server's figures; may raise `TypesenseError`.
        warn: told, once, that the server does not give them.
    """

    def __init__(self, ask: Callable[[], Mapping[str, Any]], warn: Callable[[str], object]) -> None:
        self._ask = ask
        self._warn = warn
        self._lock = threading.Lock()
        self._asked = -math.inf
        self._figures: Mapping[str, Any] = {}
        self._is_told = False

    def excess(self, bounds: Bounds) -> str:
        """Which figures are above their bounds, in words; empty if none is, or the server does not say.

        A server that cannot be asked is no reason to wait: a request to it waits by itself.
        """
        if not bounds:
            return ""
        with self._lock:
            if time.monotonic() - self._asked >= _EVERY:
                self._look()
                self._asked = time.monotonic()
            figures = self._figures
        return ", ".join(
            f"{name} is {figure:g}, above {most:g}"
            for name, most in bounds.items()
            if isinstance(figure := figures.get(name), int | float) and figure > most
        )

    def _look(self) -> None:
        try:
            self._figures = self._ask()
        except TypesenseError as error:
            self._figures = {}
            if not self._is_told:
                self._is_told = True
                self._warn(f"The server does not give its figures, so --max-load cannot be kept to: {error}")
        else:
            self._is_told = False
