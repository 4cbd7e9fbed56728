"""When a model is better, when it is worse, and when nobody can tell: the rule, as a function of an interval."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from kai.typesense import PAGE_LIMIT
from migration.assessment.evaluation.metrics import Interval, Metric
from migration.ledger.records import EvaluationVerdict

LEAST_QUESTIONS: Final = 10
"""Fewer say too little: the bootstrap knows nothing but the few that there are, and its intervals are too narrow."""

MOST_FOUND: Final = PAGE_LIMIT
"""Documents that a search can find, at most."""
EXIT_STATUS: Final[Mapping[EvaluationVerdict, int]] = {"GO": 0, "NO-GO": 1, "CANNOT TELL": 4}
"""Of the command, by its verdict; 2 is a refusal, as everywhere, and 3 something that stopped."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What is asked of a new model, by the difference that it makes (new less old) in the mean of a metric.

    Attributes:
        metric: that counts.
        k: how many of the documents found count.
        least_gain: GO where the whole interval of the difference lies above this. Below 0 it lets a model pass that is
            a little worse.
        most_loss: NO-GO where the whole interval lies below minus this.
        confidence: of the interval. Of several models each one's is widened (Bonferroni), so that this is the
            confidence in all verdicts together.
    """

    metric: Metric = "ndcg"
    k: int = 10
    least_gain: float = 0.0
    most_loss: float = 0.0
    confidence: float = 0.95

    @property
    def measure(self) -> str:
        """The metric as tables name it: `ndcg@10`."""
        return f"{self.metric}@{self.k}"

    @property
    def problem(self) -> str:
        """Why it is no rule; empty where it is one."""
        if not 1 <= self.k <= MOST_FOUND:
            return f"--k {self.k}: write a number from 1 to {MOST_FOUND}, as many as the server gives at once"
        if self.least_gain >= -self.most_loss:
            return ""
        return (
            f"--least-gain {self.least_gain:g}, --most-loss {self.most_loss:g}: a model could be GO and NO-GO at once; "
            f"whoever lets one pass that is {-self.least_gain:g} worse accepts that loss: give --most-loss "
            f"{-self.least_gain:g} as well"
        )

    @property
    def loss(self) -> str:
        """The bound of NO-GO as a number is written: `0`, `-0.02`."""
        return f"{-self.most_loss or 0:g}"

    def __str__(self) -> str:
        return (
            f"GO where the difference in {self.measure} is above {self.least_gain:g} with {self.confidence:.0%} "
            f"confidence, NO-GO where it is below {self.loss}, else CANNOT TELL, as with fewer than {LEAST_QUESTIONS} "
            "questions"
        )


def judge(difference: Interval, questions: int, rule: Rule) -> EvaluationVerdict:
    """What the rule says of a model.

    Args:
        difference: new less old in the rule's metric.
        questions: how many it was taken over.
        rule: one without a `problem`.
    """
    if questions < LEAST_QUESTIONS:
        return "CANNOT TELL"
    if difference.low > rule.least_gain:
        return "GO"
    return "NO-GO" if difference.high < -rule.most_loss else "CANNOT TELL"


def best_of(verdicts: Iterable[EvaluationVerdict]) -> EvaluationVerdict:
    """Of several models: GO where one of them is, NO-GO where each of them is."""
    found = set(verdicts)
    if "GO" in found:
        return "GO"
    return "CANNOT TELL" if "CANNOT TELL" in found else "NO-GO"
