"""Whether a series of measurements gets better."""

import math
from collections.abc import Sequence
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


def trend(values: Sequence[float], higher_is_better: bool) -> Trend:
    """Say how a series, oldest first, develops.

    The slope is the median over the slopes of all pairs (Theil and Sen), which a single odd run does not move
    as it moves a least-squares line. Slope times length of the window is the change; a change of more than
    10 % of the median magnitude is a trend. Looks at the last 10 finite values; fewer than 5 are "unknown".
    """
    window = [float(value) for value in values if math.isfinite(value)][-WINDOW:]
    if len(window) < FEWEST:
        return "unknown"
    largest = max(abs(value) for value in window)
    if largest == 0:
        return "stable"
    window = [value / largest for value in window]  # differences of huge values would overflow
    slope = median((b - a) / (j - i) for (i, a), (j, b) in combinations(enumerate(window), 2))
    change = slope * (len(window) - 1)
    typical = median(abs(value) for value in window)
    if abs(change) <= BAND * typical:
        return "stable"
    return "improving" if (change > 0) == higher_is_better else "declining"
