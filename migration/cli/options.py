"""Kinds of options that several commands take, and the version that they print."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import click


class SeveralValues(click.Command):
    """A command whose option `--collections` takes all names that follow it, up to the next option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat the option before each of its values, which is the form that click knows."""
        return super().parse_args(ctx, spread("--collections", args))


def spread(option: str, args: Sequence[str]) -> list[str]:
    """`--collections a b --dry-run` as `--collections a --collections b --dry-run`."""
    result: list[str] = []
    taking = False
    for position, argument in enumerate(args):
        if argument == "--":
            return [*result, *args[position:]]
        if argument == option:
            taking = True
            follows = args[position + 1] if position + 1 < len(args) else None
            if follows is None or follows.startswith("-"):
                result.append(option)
        elif argument.startswith("-"):
            taking = False
            result.append(argument)
        elif taking:
            result += [option, argument]
        else:
            result.append(argument)
    return result


def program_version() -> str:
    """The installed version."""
    try:
        return version("kai-embedding-migration")
    except PackageNotFoundError:
        return "unknown (not installed)"


class Number(click.FloatRange):
    """A number within bounds; neither `nan` nor `inf` is one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number, or a usage error."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


def share(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    """`5%` as 0.05."""
    if value is None:
        return None
    try:
        share = float(value.removesuffix("%")) / 100
    except ValueError:
        share = 0.0
    if not value.endswith("%") or not 0 < share <= 1:
        raise click.BadParameter(f"{value!r} is no share such as 5%, above 0% and up to 100%")
    return share
