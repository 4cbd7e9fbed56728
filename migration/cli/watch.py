"""`kai-migrate watch RUN`: how far a run is, while it is under way."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from migration.cli.completion import run_names
from migration.cli.layout import amount, percent, plain, seconds, usd
from migration.cli.options import Invocation, Number, settings_options

if TYPE_CHECKING:
    from tqdm import tqdm

    from kai.settings import Settings
    from migration.operations.watch import Update
    from migration.runtime.console import Console

_BAR: Final = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{postfix}]"
_NO_BAR: Final = "{desc} [{postfix}]"


@click.command("watch")
@click.argument("run", required=False, shell_complete=run_names)
@click.option(
    "--interval",
    type=Number(0.2, 3600.0),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two looks.",
)
@click.option("--json", "as_lines", is_flag=True, help="Print each update as JSON, one object a line.")
@settings_options
def command(run: str | None, interval: float, as_lines: bool, invocation: Invocation) -> int:
    """Show how far RUN is until it ends, and end with its exit status; 3 if its process died.

    RUN is its name, its alias, a beginning of the name that no other run has, or `latest`; by default the run that
    is under way, else the latest. A bar at a terminal, elsewhere a line for each update. On another machine, where
    the run's folder is not to be seen, only what a shared ledger is told: each collection's beginning and end.
    Ctrl-C ends the watching with 130, and the run goes on.
    """
    from migration.cli.exits import answer
    from migration.operations.watch import watch

    def ask(settings: Settings, console: Console) -> Update:
        with _shown(console, settings.secrets, as_lines=as_lines) as told:
            return watch(run, interval=interval, told=told, settings=settings)

    return answer(invocation, ask, lambda *_: None, needs=())


@contextlib.contextmanager
def _shown(console: Console, secrets: tuple[str, ...], *, as_lines: bool) -> Iterator[Callable[[Update], None]]:
    """What shows an update: as JSON, in a bar where somebody sits before it, else as a line."""
    if as_lines:
        yield lambda update: console.line(json.dumps(plain(_facts(update), secrets), ensure_ascii=False))
    elif sys.stdout.isatty() and sys.stderr.isatty() and not console.is_for_programs:
        with console.bar("", 0) as bar:
            yield lambda update: _show(update, console, bar)
    else:
        yield lambda update: console.line(_line(update))


def _show(update: Update, console: Console, bar: tqdm[Any]) -> None:
    """In the bar; the last word in a line of its own, which stays."""
    if update.has_ended:
        bar.leave = False
        bar.close()
        console.line(_line(update))
        return
    total = update.facts.get("total")
    bar.bar_format = _BAR if total else _NO_BAR
    bar.total, bar.n = total or 0, update.facts.get("done") or 0
    bar.set_description_str(_title(update), refresh=False)
    bar.set_postfix_str(", ".join(_rest(update)), refresh=False)
    bar.refresh()


def _facts(update: Update) -> dict[str, Any]:
    return {"run": update.run, "origin": update.origin, **update.facts}


def _title(update: Update) -> str:
    collection = update.facts.get("collection")
    return f"{update.run}: {update.phase}" + (f" '{collection}'" if collection else "")


def _line(update: Update) -> str:
    done, total = update.facts.get("done") or 0, update.facts.get("total")
    far = f"{amount(done)} of {amount(total)} ({percent(done / total)})" if total else amount(done)
    parts = [_title(update), f"{far} documents", *_rest(update)]
    if update.has_ended:
        parts.append(f"exit status {update.exit_status}")
    return ", ".join(parts)


def _rest(update: Update) -> Iterator[str]:
    """What there is to say beside how far it is."""
    facts = update.facts
    if facts.get("failed"):
        yield f"{amount(facts['failed'])} failed"
    if not update.has_ended:
        if facts.get("documents_per_second"):
            yield f"{amount(facts['documents_per_second'])} a second"
        if facts.get("seconds_left") is not None:
            yield f"{seconds(facts['seconds_left'])} left"
        if facts.get("paused"):
            yield "paused"
        if facts.get("waiting_for"):
            yield f"waiting: {facts['waiting_for']}"
    if facts.get("spent_usd"):
        yield usd(facts["spent_usd"])
    if update.origin == "ledger" and not update.has_ended:
        yield f"by the ledger alone, its process {facts['pid']} is on {facts['host']}"
    if update.phase == "died":
        yield "its process is gone; the same command again goes on with it"
