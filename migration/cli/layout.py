"""How values look to a person and to a program."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from migration.runtime.values import NOTHING, amount, moment, percent, plain, seconds, text, usd

if TYPE_CHECKING:
    from migration.runtime.console import Console

__all__ = [
    "NOTHING",
    "amount",
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
