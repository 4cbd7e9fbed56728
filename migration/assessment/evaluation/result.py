"""What an evaluation has found: plain values, for a person, a program, a report and the ledger alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np

from migration.assessment.evaluation.metrics import METRICS, Interval, Metric, Scores, bootstrap
from migration.assessment.evaluation.questions import Question
from migration.assessment.evaluation.verdict import EXIT_STATUS, LEAST_QUESTIONS, Rule, judge
from migration.ledger.records import EvaluationVerdict

_NAMED: Final = 10


@dataclass(frozen=True, slots=True)
class Figures:
    """What a model is worth, and what it takes.

    Attributes:
        model: family/model/dimensions.
        metrics: by name, such as `ndcg@10`: the mean over the questions with its interval.
        latency_p50_ms, latency_p95_ms: of embedding one question, as measured; None where none had to be embedded.
        cost_usd: list price of embedding every text of the collection; None where the price is not known.
        embedding_seconds: what embedding them takes, one request after another, by what was measured; None where
            the cache had everything.
        server_seconds: what the server takes for the new vectors, roughly; None for the old model.
        storage_bytes: what the vectors and their index take in the server's memory, roughly.
        tokens_bought: estimated tokens of what was embedded for this evaluation.
        usd_bought: their list price; None where it is not known.
        failed: texts and questions that the model could not embed.
    """

    model: str
    metrics: Mapping[str, Interval]
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    cost_usd: float | None = None
    embedding_seconds: float | None = None
    server_seconds: float | None = None
    storage_bytes: int | None = None
    tokens_bought: int = 0
    usd_bought: float | None = None
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """A question that a new model answers worse; without its text, which belongs to the user.

    Attributes:
        line: of the file; of a question that was made its number.
        relevant: the documents that answer it.
        old, new: its score by the rule's metric.
    """

    line: int
    relevant: tuple[str, ...]
    old: float
    new: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A new model against the old one.

    Attributes:
        figures: of the new one.
        differences: new less old by metric, over the same questions, with the interval of the verdict's confidence.
        better, worse: how many questions it answers better and worse, by the rule's metric.
        worst: those that became worst, the worst first.
        verdict: by the rule.
        reason: in a sentence.
    """

    figures: Figures
    differences: Mapping[str, Interval]
    better: int
    worse: int
    worst: tuple[Change, ...]
    verdict: EvaluationVerdict
    reason: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Old against new.

    Attributes:
        at: when.
        server, collection, field: where the old vectors stand.
        against: the run whose vectors the new ones are, searched by the server; empty where both were searched here.
        questions: how many were asked.
        questions_file: where they are from; empty where they were made from the documents.
        searched: documents that were searched in.
        documents: those of the collection that have a text.
        rule: by which it was judged.
        old: the model of the vectors that stand there.
        candidates: the new ones, in the order in which they were given.
        verdict: GO where one of them is, NO-GO where each of them is.
        notes: what is to be known of it, a sentence each.
        report: the file of its report; empty where none could be written.
    """

    at: datetime
    server: str
    collection: str
    field: str
    against: str
    questions: int
    questions_file: str
    searched: int
    documents: int
    rule: Rule
    old: Figures
    candidates: tuple[Candidate, ...]
    verdict: EvaluationVerdict
    notes: tuple[str, ...]
    report: str = ""

    @property
    def exit_status(self) -> int:
        """0 GO, 1 NO-GO, 4 CANNOT TELL."""
        return EXIT_STATUS[self.verdict]


def means(by_metric: Mapping[str, Scores], seed: int) -> dict[str, Interval]:
    """The mean of each metric with its 95 % interval."""
    return {name: bootstrap(values, seed=seed) for name, values in by_metric.items()}


def measures(k: int) -> dict[str, Metric]:
    """The metrics by the name that tables give them."""
    return {f"{metric}@{k}": metric for metric in METRICS}


def compared(
    figures: Figures,
    old: Mapping[str, Scores],
    new: Mapping[str, Scores],
    questions: Sequence[Question],
    rule: Rule,
    confidence: float,
    seed: int,
) -> Candidate:
    """A new model against the old one, by the scores of both for the same questions.

    Args:
        figures: of the new one.
        old, new: by metric, shape (number of questions,).
        questions: in the order of the scores.
        rule: for the verdict.
        confidence: of the intervals of the differences.
        seed: of the bootstrap.
    """
    differences = {name: bootstrap(new[name] - old[name], confidence=confidence, seed=seed) for name in new}
    before, after = old[rule.measure], new[rule.measure]
    change = after - before
    order = [int(place) for place in np.argsort(change, kind="stable") if change[place] < 0]
    worst = tuple(
        Change(questions[i].line, tuple(sorted(questions[i].relevant)), float(before[i]), float(after[i]))
        for i in order[:_NAMED]
    )
    difference = differences[rule.measure]
    verdict = judge(difference, len(questions), rule)
    return Candidate(
        figures,
        differences,
        int((change > 0).sum()),
        len(order),
        worst,
        verdict,
        _reason(verdict, difference, figures, before, len(questions), rule),
    )


def _reason(
    verdict: EvaluationVerdict, difference: Interval, figures: Figures, before: Scores, questions: int, rule: Rule
) -> str:
    lies = f"{rule.measure} {difference.mean:+.3f}, between {difference.low:+.3f} and {difference.high:+.3f}"
    if verdict == "GO":
        return f"{figures.model} finds more: {lies}, all of it above {rule.least_gain:g}"
    if verdict == "NO-GO":
        return f"{figures.model} finds less: {lies}, all of it below {rule.loss}"
    if questions < LEAST_QUESTIONS:
        return f"{questions} questions are too few to judge {figures.model} ({lies}); give {LEAST_QUESTIONS} or more"
    if not difference.low and not difference.high:
        return f"{figures.model} finds as much as the old one, question by question"
    if before.mean() > 0.99 and figures.metrics[rule.measure].mean > 0.99:
        return (
            f"both models answer nearly everything ({lies}): the questions are too easy to tell {figures.model} apart"
        )
    return f"{figures.model} may find more or less: {lies}; more questions narrow that"
