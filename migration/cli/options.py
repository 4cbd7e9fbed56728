"""Options that several commands take, what a command does with them, and the version that they print."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

from kai.settings import Need, Settings
from migration.cli.layout import print_json

if TYPE_CHECKING:
    from migration.runtime.console import Console

T = TypeVar("T")
Command = Callable[..., None]

FILE: Final = click.Path(dir_okay=False, path_type=Path)
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
    """

    env_file: Path | None
    verbose: bool
    as_json: bool = False

    def carry_out(self, work: Callable[[Settings, Console], int], needs: Collection[Need] = ()) -> NoReturn:
        """Do the work, and end with its exit status or with that of its refusal; `needs` names the settings it uses."""
        from migration.cli.exits import with_settings

        sys.exit(with_settings(work, env_file=self.env_file, verbose=self.verbose, needs=needs))

    def answer(
        self,
        ask: Callable[[Settings, Console], T],
        lay_out: Callable[[T, Console], None],
        needs: Collection[Need] = (),
    ) -> NoReturn:
        """Print what is asked for, laid out for a person or as one JSON document, and end."""

        def work(settings: Settings, console: Console) -> int:
            found = ask(settings, console)
            if self.as_json:
                print_json(found, settings.secrets)
            else:
                lay_out(found, console)
            return 0

        self.carry_out(work, needs)


def common_options(command: Command) -> Command:
    """`--env-file`, `--json` and `-v`, as the last options of a command, which gets them as one `invocation`."""
    env_file = "File with the configuration; the environment wins. [default: .env]"
    as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")
    return click.option("--env-file", type=FILE, help=env_file)(as_json(_verbose(command)))


def settings_options(command: Command) -> Command:
    """`--env-file` and `-v`; likewise."""
    return click.option("--env-file", type=FILE, help="File with the configuration.")(_verbose(command))


def _verbose(command: Command) -> Command:
    @functools.wraps(command)
    def invoked(*, env_file: Path | None, verbose: bool, as_json: bool = False, **options: Any) -> None:
        command(invocation=Invocation(env_file, verbose, as_json), **options)

    return click.option("-v", "--verbose", is_flag=True, help="Say more on standard error.")(invoked)


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
