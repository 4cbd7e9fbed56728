"""How well questions are answered, by the ranks at which their documents come; and how sure a mean is.

A rank counts from 1. What comes behind the first k is not found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

Metric = Literal["ndcg", "mrr", "recall"]
METRICS: Final[tuple[Metric, ...]] = get_args(Metric)
Scores: TypeAlias = npt.NDArray[np.float64]
"""One number from 0 to 1 for each question."""

RESAMPLES: Final = 4000
_AT_ONCE: Final = 4_000_000
"""Numbers drawn at once, which bounds memory to 32 MB."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over questions, and between which bounds it lies with the confidence that was asked for."""

    mean: float
    low: float
    high: float


def ranks_of(found: Sequence[str], relevant: frozenset[str], k: int) -> tuple[int, ...]:
    """The ranks, ascending, at which relevant documents come among the first k of those found, the nearest first."""
    return tuple(rank for rank, id_ in enumerate(found[:k], 1) if id_ in relevant)


def recall(ranks: Sequence[int], relevant: int, k: int) -> float:
    """The share of the relevant documents that is among the first k; of more than k, at most k could be."""
    return sum(rank <= k for rank in ranks) / min(relevant, k)


def reciprocal_rank(ranks: Sequence[int], _relevant: int, k: int) -> float:
    """One by the rank of the first relevant document; 0 where none is among the first k."""
    first = min(ranks, default=k + 1)
    return 1 / first if first <= k else 0.0


def ndcg(ranks: Sequence[int], relevant: int, k: int) -> float:
    """The normalised discounted cumulative gain: 1 where the relevant documents come first, less the later they come.

    A document at rank r counts one by log2(r + 1), and the sum is taken by the greatest that there could be.
    """
    gained = sum(1 / np.log2(rank + 1) for rank in ranks if rank <= k)
    best = sum(1 / np.log2(rank + 1) for rank in range(1, min(relevant, k) + 1))
    return float(gained / best)


_SCORE: Final[Mapping[Metric, Callable[[Sequence[int], int, int], float]]] = {
    "ndcg": ndcg,
    "mrr": reciprocal_rank,
    "recall": recall,
}


def scores(metric: Metric, found: Sequence[Sequence[str]], relevant: Sequence[frozenset[str]], k: int) -> Scores:
    """How well each question was answered.

    Args:
        metric: by which measure.
        found: for each question the documents found, the nearest first.
        relevant: for each question the documents that answer it, at least one.
        k: how many of those found count.

    Returns:
        Shape (number of questions,).
    """
    of = _SCORE[metric]
    pairs = zip(found, relevant, strict=True)
    return np.array([of(ranks_of(ids, right, k), len(right), k) for ids, right in pairs])


def bootstrap(values: Scores, *, confidence: float = 0.95, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """The mean of some values, and its percentile bootstrap interval.

    Of paired differences it is the paired bootstrap: each question is drawn with both of its scores.

    Args:
        values: shape (number of questions,), at least one.
        confidence: share of the intervals that contain the true mean, above 0 and below 1.
        seed: of the draws; the same values and seed give the same interval.
        resamples: how often as many questions are drawn with replacement.
    """
    pick, count = np.random.default_rng(seed), len(values)
    step = max(1, _AT_ONCE // count)
    parts = [
        values[pick.integers(0, count, (min(step, resamples - start), count))].mean(axis=1)
        for start in range(0, resamples, step)
    ]
    mean, tail = float(values.mean()), (1 - confidence) / 2
    low, high = (float(bound) for bound in np.quantile(np.concatenate(parts), (tail, 1 - tail)))
    # The mean of equal numbers may differ from them in the last bit.
    return Interval(mean, min(low, mean), max(high, mean))
