"""How values look to a person and to a program."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from migration.runtime.values import NOTHING, amount, moment, percent, plain, seconds, text, usd

if TYPE_CHECKING:
    from migration.ledger import EvaluationRecord
    from migration.runtime.console import Console

__all__ = [
    "EVALUATIONS",
    "NOTHING",
    "amount",
    "interval",
    "measure_of",
    "moment",
    "percent",
    "plain",
    "print_json",
    "rows_of",
    "seconds",
    "section",
    "text",
    "usd",
]

T = TypeVar("T")


# -- for a program ---------------------------------------------------------------------------------------


def print_json(value: Any, secrets: Iterable[str]) -> None:
    """One JSON document to standard output, without secrets.

    Times become ISO 8601 in UTC, hashes hexadecimal digits, dataclasses objects in the order of their fields.
    """
    from migration.runtime.console import write_line

    write_line(json.dumps(plain(value, tuple(secrets)), indent=2, ensure_ascii=False), sys.stdout)


# -- for a person ----------------------------------------------------------------------------------------


def rows_of(columns: Mapping[str, Callable[[T], str]], items: Iterable[T]) -> list[list[str]]:
    """A table's titles, and what stands under each of them for each of the items."""
    return [list(columns), *([cell(item) for cell in columns.values()] for item in items)]


def section(console: Console, title: str, columns: Mapping[str, Callable[[T], str]], items: Sequence[T]) -> None:
    """A table of its own, where there is anything to show."""
    if items:
        console.line()
        console.line(title)
        console.table(rows_of(columns, items))


def interval(value: Mapping[str, float] | None, *, signed: bool = False) -> str:
    """A mean and between which bounds it lies: `0.912 (0.880 to 0.941)`."""
    if value is None:
        return NOTHING
    show = "{:+.3f}" if signed else "{:.3f}"
    mean, low, high = (show.format(value[name]) for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


EVALUATIONS: dict[str, Callable[[EvaluationRecord], str]] = {
    "EVALUATED": lambda each: moment(each.at),
    "COLLECTION": lambda each: each.collection,
    "OLD": lambda each: each.old_model,
    "NEW": lambda each: each.new_model,
    "RUN": lambda each: text(each.run),
    "QUESTIONS": lambda each: f"{amount(each.questions)} of {each.questions_from}",
    "METRIC": lambda each: measure_of(each.rule),
    "DIFFERENCE": lambda each: interval(each.metrics["differences"].get(measure_of(each.rule)), signed=True),
    "VERDICT": lambda each: each.verdict,
}
"""What evaluations have found, as `history --evaluations` and `compare` show it."""


def measure_of(rule: Mapping[str, Any]) -> str:
    """The metric that a rule goes by, as tables name it."""
    return f"{rule['metric']}@{rule['k']}"
