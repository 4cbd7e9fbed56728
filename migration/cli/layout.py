"""How values look to a person and to a program."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from kai.settings import redact

if TYPE_CHECKING:
    from migration.ledger import EvaluationRecord
    from migration.runtime.console import Console

T = TypeVar("T")

NOTHING = "-"
"""What a table shows where nothing is known."""


# -- for a program ---------------------------------------------------------------------------------------


def print_json(value: Any, secrets: Iterable[str]) -> None:
    """One JSON document to standard output, without secrets.

    Times become ISO 8601 in UTC, hashes hexadecimal digits, dataclasses objects in the order of their fields.
    """
    from migration.runtime.console import write_line

    write_line(json.dumps(plain(value, tuple(secrets)), indent=2, ensure_ascii=False), sys.stdout)


def plain(value: Any, secrets: tuple[str, ...] = ()) -> Any:
    """A value as JSON has it. Secrets are taken out of each text, so that the document stays valid JSON."""
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name), secrets) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(entry, secrets) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry, secrets) for entry in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, str | Path):
        return redact(str(value), secrets).encode("utf-8", "replace").decode()
    return value


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


def text(value: Any) -> str:
    """Any value in a cell: `-` for nothing, on one line."""
    return NOTHING if value is None or value == "" else " ".join(str(value).split())


def moment(value: datetime | None) -> str:
    """A time to the second, UTC."""
    return NOTHING if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def amount(value: float | None) -> str:
    """A number: whole ones whole, others with the digits that say something."""
    if value is None:
        return NOTHING
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 1 or value == 0 else f"{value:.2g}"


def seconds(value: float | None) -> str:
    """A duration: `4.2 s`, `3 min 12 s`, `2 h 05 min`."""
    if value is None:
        return NOTHING
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def usd(value: float | None) -> str:
    """A cost."""
    if value is None:
        return NOTHING
    return f"${value:,.2f}" if value >= 1 or value == 0 else f"${value:.2g}" if value >= 0.0001 else "<$0.0001"


def percent(value: float | None) -> str:
    """A share or a change."""
    return NOTHING if value is None else f"{100 * value:.1f} %"


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
