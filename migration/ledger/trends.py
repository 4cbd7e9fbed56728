"""Whether a series of measurements gets better."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import median
from typing import Literal

Trend = Literal["improving", "stable", "declining", "unknown"]

FEWEST = 5
"""Measurements below which nothing is said."""
WINDOW = 10
"""Measurements looked at: the last ones."""
BAND = 0.10
"""Change over the window, relative to the typical value, up to which a series counts as stable."""


@dataclass(frozen=True, slots=True)
class Drift:
    """How a series of measurements develops, in numbers.

    Attributes:
        count: measurements in the window.
        latest: the last of them; None without any.
        typical: their median; None without any.
        change: over the window, as a share of the median magnitude (0.1 is 10 % more); None below 5 measurements, or
            where that median is 0.
        trend: what that means.
    """

    count: int = 0
    latest: float | None = None
    typical: float | None = None
    change: float | None = None
    trend: Trend = "unknown"


def drift(values: Sequence[float], higher_is_better: bool) -> Drift:
    """How a series, oldest first, develops.

    The slope is the median over the slopes of all pairs (Theil and Sen), which a single odd run does not move
    as it moves a least-squares line. Slope times length of the window is the change; a change of more than
    10 % of the median magnitude is a trend. Looks at the last 10 finite values; fewer than 5 are "unknown".
    """
    window = [float(value) for value in values if math.isfinite(value)][-WINDOW:]
    if not window:
        return Drift()
    found = Drift(len(window), window[-1], median(window))
    if len(window) < FEWEST:
        return found
    largest = max(abs(value) for value in window)
    if largest == 0:
        return replace(found, trend="stable")
    window = [value / largest for value in window]  # differences of huge values would overflow
    slope = median((b - a) / (j - i) for (i, a), (j, b) in combinations(enumerate(window), 2))
    change = slope * (len(window) - 1)
    typical = median(abs(value) for value in window)
    share = change / typical if typical else None
    if abs(change) <= BAND * typical:
        return replace(found, change=share, trend="stable")
    return replace(found, change=share, trend="improving" if (change > 0) == higher_is_better else "declining")


def trend(values: Sequence[float], higher_is_better: bool) -> Trend:
    """What the drift of a series comes to."""
    return drift(values, higher_is_better).trend
