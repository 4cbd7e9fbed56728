"""Metrics of answers, how sure their means are, and what the rule makes of a difference."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from migration.assessment.evaluation.metrics import METRICS, Interval, Metric, bootstrap, ndcg, ranks_of, recall, scores
from migration.assessment.evaluation.ranking import nearest
from migration.assessment.evaluation.verdict import EXIT_STATUS, LEAST_QUESTIONS, Rule, best_of, judge
from migration.ledger.records import EvaluationVerdict

IDS = [f"d{number}" for number in range(12)]
FOUND = st.lists(st.sampled_from(IDS), unique=True)
RELEVANT = st.frozensets(st.sampled_from(IDS), min_size=1)
SCORES = st.lists(st.floats(-1, 1), min_size=1, max_size=40).map(np.array)


def score(metric: Metric, found: list[str], relevant: frozenset[str], k: int) -> float:
    return float(scores(metric, [found], [relevant], k)[0])


@pytest.mark.parametrize(
    ("found", "relevant", "k", "expected"),
    [
        (["a", "b", "c"], {"a"}, 3, (1.0, 1.0, 1.0)),
        (["a", "b", "c"], {"b"}, 3, (1 / math.log2(3), 1 / 2, 1.0)),
        (["a", "b", "c"], {"c"}, 2, (0.0, 0.0, 0.0)),
        (["a", "b", "c"], {"b", "c"}, 3, ((1 / math.log2(3) + 1 / 2) / (1 + 1 / math.log2(3)), 1 / 2, 1.0)),
        (["a", "b", "c"], {"a", "x"}, 3, (1 / (1 + 1 / math.log2(3)), 1.0, 0.5)),
        (["a", "b"], {"a", "b", "c"}, 2, (1.0, 1.0, 1.0)),
        ([], {"a"}, 10, (0.0, 0.0, 0.0)),
    ],
)
def test_metrics_are_what_their_definitions_say(
    found: list[str], relevant: set[str], k: int, expected: tuple[float, ...]
) -> None:
    for metric, value in zip(METRICS, expected, strict=True):
        assert score(metric, found, frozenset(relevant), k) == pytest.approx(value), metric


@given(FOUND, RELEVANT, st.integers(1, 15), st.sampled_from(METRICS))
def test_every_score_lies_between_none_and_all_and_is_1_where_the_relevant_come_first(
    found: list[str], relevant: frozenset[str], k: int, metric: Metric
) -> None:
    assert 0 <= score(metric, found, relevant, k) <= 1 + 1e-12
    assert score(metric, sorted(IDS, key=lambda id_: id_ not in relevant), relevant, k) == pytest.approx(1.0)
    assert score(metric, [id_ for id_ in found if id_ not in relevant], relevant, k) == 0


@given(FOUND, RELEVANT, st.integers(1, 15), st.sampled_from(METRICS), st.data())
def test_no_score_falls_where_a_relevant_document_moves_up(
    found: list[str], relevant: frozenset[str], k: int, metric: Metric, data: st.DataObject
) -> None:
    places = [place for place in range(1, len(found)) if found[place] in relevant]
    if places:
        place = data.draw(st.sampled_from(places))
        better = [*found]
        better[place - 1], better[place] = better[place], better[place - 1]
        assert score(metric, better, relevant, k) >= score(metric, found, relevant, k) - 1e-12


def test_what_comes_behind_the_first_k_is_not_found() -> None:
    assert ranks_of(["a", "b", "c"], frozenset("bc"), 2) == (2,)
    assert recall((1, 4), 2, 3) == 0.5
    assert ndcg((4,), 1, 3) == 0


@given(SCORES, st.integers(0, 5))
def test_an_interval_contains_its_mean_lies_within_the_values_and_is_the_same_again(
    values: np.ndarray, seed: int
) -> None:
    found = bootstrap(values, seed=seed, resamples=200)
    assert values.min() - 1e-12 <= found.low <= found.mean <= found.high <= values.max() + 1e-12
    assert found == bootstrap(values, seed=seed, resamples=200)
    wider = bootstrap(values, confidence=0.99, seed=seed, resamples=200)
    assert wider.low <= found.low <= found.high <= wider.high


def test_of_equal_values_nothing_is_uncertain_and_of_no_difference_nothing_is_left() -> None:
    assert bootstrap(np.zeros(50)) == Interval(0.0, 0.0, 0.0)
    assert bootstrap(np.full(30, 0.1)).low == pytest.approx(0.1)


def test_an_interval_contains_the_true_mean_as_often_as_it_says() -> None:
    pick = np.random.default_rng(3)
    hits = 0
    for seed in range(200):
        found = bootstrap(pick.random(60), seed=seed, resamples=400)
        hits += found.low <= 0.5 <= found.high
    assert 180 <= hits <= 199


@pytest.mark.parametrize(
    ("difference", "rule", "verdict"),
    [
        (Interval(0.1, 0.01, 0.2), Rule(), "GO"),
        (Interval(0.1, 0.0, 0.2), Rule(), "CANNOT TELL"),
        (Interval(0.0, 0.0, 0.0), Rule(), "CANNOT TELL"),
        (Interval(-0.1, -0.2, -0.01), Rule(), "NO-GO"),
        (Interval(-0.1, -0.2, 0.0), Rule(), "CANNOT TELL"),
        (Interval(0.1, 0.01, 0.2), Rule(least_gain=0.05), "CANNOT TELL"),
        (Interval(0.1, 0.06, 0.2), Rule(least_gain=0.05), "GO"),
        (Interval(-0.1, -0.2, -0.01), Rule(most_loss=0.05), "CANNOT TELL"),
        (Interval(-0.1, -0.2, -0.06), Rule(most_loss=0.05), "NO-GO"),
        (Interval(0.0, -0.01, 0.01), Rule(least_gain=-0.02, most_loss=0.02), "GO"),
    ],
)
def test_the_rule_looks_at_the_whole_interval(difference: Interval, rule: Rule, verdict: EvaluationVerdict) -> None:
    assert judge(difference, LEAST_QUESTIONS, rule) == verdict
    assert judge(difference, LEAST_QUESTIONS - 1, rule) == "CANNOT TELL"


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(-1, 1), st.floats(0, 1))
def test_no_rule_says_go_and_no_go_of_one_difference(low: float, width: float, gain: float, loss: float) -> None:
    rule, difference = Rule(least_gain=gain, most_loss=loss), Interval(low, low, low + width)
    if not rule.problem:
        assert not (difference.low > rule.least_gain and difference.high < -rule.most_loss)


def test_a_rule_that_contradicts_itself_is_told_with_its_remedy() -> None:
    assert "give --most-loss 0.02 as well" in Rule(least_gain=-0.02).problem
    assert Rule(least_gain=-0.02, most_loss=0.02).problem == ""
    assert Rule(k=0).problem == Rule(k=0, least_gain=-1).problem
    assert "--k 251: write a number from 1 to 250" in Rule(k=251).problem


def test_a_rule_says_what_it_is() -> None:
    assert str(Rule(k=5, most_loss=0.02)) == (
        "GO where the difference in ndcg@5 is above 0 with 95% confidence, NO-GO where it is below -0.02, else CANNOT "
        "TELL, as with fewer than 10 questions"
    )


def test_of_several_models_one_is_enough_and_all_must_fail() -> None:
    assert best_of(["NO-GO", "CANNOT TELL", "GO"]) == "GO"
    assert best_of(["NO-GO", "CANNOT TELL"]) == "CANNOT TELL"
    assert best_of(["NO-GO", "NO-GO"]) == "NO-GO"
    assert EXIT_STATUS == {"GO": 0, "NO-GO": 1, "CANNOT TELL": 4}


def test_the_nearest_come_first_equally_near_in_their_order_and_what_is_no_number_never() -> None:
    documents = np.array([[0, 1], [np.nan, np.nan], [2, 0], [1, 0], [0, 0]], np.float32)
    questions = np.array([[1, 0], [0, 5], [np.nan, 0]], np.float32)
    found = nearest(["up", "none", "long", "short", "zero"], documents, questions, 4)
    assert found == [["long", "short", "up", "zero"], ["up", "long", "short", "zero"], []]
    assert nearest(["a", "b"], documents[:2], questions[:1], 10) == [["a"]]
