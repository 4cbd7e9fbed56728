"""When a series counts as getting better."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migration.ledger import Trend, trend

series = st.lists(st.floats(min_value=0, max_value=1e308), min_size=5, max_size=10)
opposite: dict[Trend, Trend] = {
    "improving": "declining", "declining": "improving", "stable": "stable", "unknown": "unknown",
}  # fmt: skip


@pytest.mark.parametrize(
    ("values", "higher_is_better", "expected"),
    [
        ([10, 12, 14, 16, 18], True, "improving"),
        ([10, 12, 14, 16, 18], False, "declining"),
        ([18, 16, 14, 12, 10], True, "declining"),
        ([100, 101, 99, 100, 102], True, "stable"),
        ([100, 101, 5, 100, 102], True, "stable"),  # one odd run is no trend
        ([0, 0, 0, 0, 0], False, "stable"),
        ([0, 0, 0, 0, 9], False, "stable"),
        ([0, 1, 2, 3, 4], False, "declining"),
        ([1, 2, 3, 4], True, "unknown"),
        ([], True, "unknown"),
        ([1, 2, 3, 4, float("nan"), float("inf")], True, "unknown"),
        ([100, 50, 1, *[10] * 10], True, "stable"),  # only the last ten count
    ],
)
def test_the_rule_by_example(values: list[float], higher_is_better: bool, expected: Trend) -> None:
    assert trend(values, higher_is_better) == expected


@given(series)
def test_what_is_better_upward_is_worse_downward(values: list[float]) -> None:
    assert trend(values, True) == opposite[trend(values, False)]


@given(series)
def test_a_series_read_backwards_has_the_opposite_trend(values: list[float]) -> None:
    assert trend(values[::-1], True) == opposite[trend(values, True)]


@given(st.lists(st.integers(0, 10**6).map(float), min_size=5, max_size=10), st.integers(-8, 8))
def test_the_unit_does_not_matter(values: list[float], exponent: int) -> None:
    assert trend([value * 2.0**exponent for value in values], True) == trend(values, True)


@given(st.floats(min_value=-1e300, max_value=1e300), st.integers(5, 12))
def test_a_constant_is_stable(value: float, count: int) -> None:
    assert trend([value] * count, True) == "stable"


@given(st.lists(st.floats(), max_size=30), st.booleans())
def test_any_numbers_have_an_answer(values: list[float], higher_is_better: bool) -> None:
    answer = trend(values, higher_is_better)
    assert answer in opposite
