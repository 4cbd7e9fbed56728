"""Options that several commands take, and the version that they print."""

from __future__ import annotations

import functools
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from migration.cli.completion import collection_names

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from kai.settings_values import LogFormat

Command = Callable[..., int]
"""Returns the exit status."""

FILE: Final = click.Path(dir_okay=False, path_type=Path)
ENV_FILE: Final = click.option(
    "--env-file", type=FILE, help="File with the configuration; the environment wins. [default: .env]"
)
VERBOSE: Final = click.option("-v", "--verbose", is_flag=True, help="Say more on standard error.")
LOG_FORMAT: Final = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    help="json: what is told on standard error as one JSON object a line. [default: MIGRATION_LOG_FORMAT, or text]",
)
CONCURRENCY: Final = click.option(
    "--concurrency",
    type=click.IntRange(1, 64),
    default=4,
    show_default=True,
    help="Most embedding requests under way at once.",
)
MAX_RPM: Final = click.option(
    "--max-rpm", type=click.IntRange(1), metavar="N", help="Most embedding requests in any minute."
)
MAX_TPM: Final = click.option(
    "--max-tpm", type=click.IntRange(1), metavar="N", help="Most embedding tokens in any minute."
)
YES: Final = click.option("-y", "--yes", is_flag=True, help="Do not ask.")
COLLECTIONS_FILE: Final = click.option("--collections-file", type=FILE, help="As for a run.")
OWN_COLLECTIONS: Final = click.option(
    "--collections-file", type=FILE, help="TOML file that names your own collections in place of KAI's."
)


@dataclass(frozen=True, slots=True)
class Invocation:
    """How a command was called, whichever it is.

    Attributes:
        env_file: file with the settings; None for `.env`.
        verbose: whether details are shown.
        as_json: whether a program reads the answer.
        log_format: how is told on standard error what is done; None for what the settings say.
    """

    env_file: Path | None
    verbose: bool
    as_json: bool = False
    log_format: LogFormat | None = None


def common_options(command: Command) -> Callable[..., NoReturn]:
    """`--env-file`, `--json` and `-v`, as the last options of a command, which gets them as one `invocation`."""
    as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")
    return ENV_FILE(as_json(VERBOSE(_invoked(command))))


def settings_options(command: Command) -> Callable[..., NoReturn]:
    """`--env-file` and `-v`; likewise."""
    return click.option("--env-file", type=FILE, help="File with the configuration.")(VERBOSE(_invoked(command)))


def _invoked(command: Command) -> Callable[..., NoReturn]:
    @functools.wraps(command)
    def invoked(*, env_file: Path | None, verbose: bool, as_json: bool = False, **options: Any) -> NoReturn:
        log_format = click.get_current_context().find_root().params.get("log_format")
        sys.exit(command(invocation=Invocation(env_file, verbose, as_json, log_format), **options))

    return invoked


class SeveralValues(click.Command):
    """A command whose option `--collections` takes all names that follow it, up to the next option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat the option before each of its values, which is the form that click knows."""
        return super().parse_args(ctx, spread("--collections", args))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """After one name of a collection, also further ones."""
        found = super().shell_complete(ctx, incomplete)
        if ctx.params.get("collections") and not incomplete.startswith("-"):
            found += collection_names(ctx, None, incomplete)
        return found


def spread(option: str, args: Sequence[str]) -> list[str]:
    """`--collections a b --dry-run` as `--collections a --collections b --dry-run`."""
    result: list[str] = []
    taking = False
    for position, argument in enumerate(args):
        if argument == "--":
            return [*result, *args[position:]]
        if not argument.startswith("-"):
            result += [option, argument] if taking else [argument]
            continue
        follows = args[position + 1 : position + 2]
        taking = argument == option and bool(follows) and not follows[0].startswith("-")
        if not taking:
            result.append(argument)
    return result


class Number(click.FloatRange):
    """A number within bounds; neither `nan` nor `inf` is one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number, or a usage error."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


def age(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> timedelta | None:
    """`90d` as days, `12h` as hours; a number alone is days."""
    if value is None:
        return None
    if (found := re.fullmatch(r"([0-9]{1,6})([dh]?)", value.strip())) is None:
        raise click.BadParameter(f"{value!r} is no age; write one such as 90d (days) or 12h (hours)")
    return timedelta(hours=int(found[1])) if found[2] == "h" else timedelta(days=int(found[1]))


def size(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    """`500MB` as 500,000,000 bytes; a number alone is bytes."""
    if value is None:
        return None
    if (found := re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,6})?) ?(kb|mb|gb|tb|b)?", value.strip().lower())) is None:
        raise click.BadParameter(f"{value!r} is no size; write one such as 500MB or 2GB")
    factor = {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}.get(found[2], 1)
    return round(float(found[1]) * factor)


def moment_since(ctx: click.Context, parameter: click.Parameter, value: str | None) -> datetime | None:
    """`30d` as that long ago; a date or time as it is, in UTC unless it says otherwise."""
    if value is None:
        return None
    try:
        if re.fullmatch(r"[0-9]+[dh]", value.strip()) and (ago := age(ctx, parameter, value)) is not None:
            return datetime.now(UTC) - ago
        moment = datetime.fromisoformat(value.strip())
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{value!r} is no time; write an age such as 30d or 12h, a date such as 2026-11-01, or a date and time"
        ) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def duration(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    """`8h`, `90m`, `1h30m` in seconds; without a word, infinite."""
    if value is None:
        return None
    if not value:
        return math.inf
    found = re.fullmatch(r"(?:\d+(?:\.\d+)?[smhd])+", value)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)([smhd])", value))
    if found is None or not seconds:
        raise click.BadParameter(f"{value!r} is no duration such as 8h, 90m or 1h30m")
    return seconds


def bounds(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> dict[str, float]:
    """`search_latency_ms=50,pending_write_batches=20`, by name."""
    if value is None:
        return {}
    from migration.runtime.load import parse_bounds

    try:
        return parse_bounds(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


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


def ask(question: str) -> bool:
    """Ask at the terminal; where there is none, the answer is no."""
    if not sys.stdin.isatty():
        click.echo(question, err=True)
        return False
    return click.confirm(question, err=True)
