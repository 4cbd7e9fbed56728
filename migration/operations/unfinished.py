"""What is unfinished on a server, whichever machine began it, and the command that ends it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kai.settings import Settings, load_settings
from kai.typesense import Schema
from migration.ledger import Ledger
from migration.ledger.records import UNFINISHED
from migration.operations.setup import TYPESENSE_ONLY, open_ledger, open_server
from migration.runtime.console import SILENT, Console
from migration.runtime.holding import HOLDING, find_held
from migration.strategies.alias.state import Pair, find_pair
from migration.strategies.second_field.mark import NextField, next_of
from migration.strategies.shadow_state import (
    Mark,
    find,
    past_the_drop,
    read_mark,
    role_of,
    unfinished_refill,
)

_AGAIN = "run the same migration again"


@dataclass(frozen=True, slots=True)
class Unfinished:
    """One thing that waits for somebody.

    Attributes:
        collection: where it stands.
        what: what stands there, in words.
        run: that began it; empty where nobody can tell.
        state: how far it is.
        held_by: machine and process of the run that is at it; empty where none is.
        remedy: the command that ends it.
    """

    collection: str
    what: str
    run: str
    state: str
    held_by: str
    remedy: str


@dataclass(frozen=True, slots=True)
class UnfinishedWork:
    """Everything on a server that waits for somebody.

    Attributes:
        server: its address.
        items: those that the server shows, then runs that only this machine's ledger knows.
    """

    server: str
    items: tuple[Unfinished, ...]


def list_unfinished(*, settings: Settings | None = None, console: Console = SILENT) -> UnfinishedWork:
    """Look through the marks on the server, and the ledger for runs that did not come to their end. Only reads.

    Args:
        settings: Typesense and the ledger; None reads `.env` and the environment.
        console: where to tell of waiting; nothing by default.

    Raises:
        Refused: the ledger cannot be opened.
        LedgerError, TypesenseError: the ledger or the server cannot be read.
    """
    settings = settings or load_settings(needs=TYPESENSE_ONLY)
    with open_server(settings, console) as server, open_ledger(settings) as ledger:
        items = find_unfinished(server.collections(), server.address, ledger, settings.home)
    return UnfinishedWork(server.address, items)


def find_unfinished(
    everything: Sequence[Schema], address: str, ledger: Ledger | None, home: Path
) -> tuple[Unfinished, ...]:
    """The same, of the schemas of all collections, and of what a ledger knows where there is one."""
    items = list(_on_the_server(everything))
    shown = {item.run for item in items}
    if ledger is not None:
        items += [item for item in _in_the_ledger(ledger, address) if item.run not in shown]
    holding = {each.run for each in find_held(home) if each.is_under_way}
    return tuple(_released(item) if item.run in holding else item for item in items)


def _released(item: Unfinished) -> Unfinished:
    """Of a run of this home that waits for its moment to be given."""
    return replace(item, state=HOLDING, remedy=f"kai-migrate release {item.run}")


def _on_the_server(everything: Sequence[Schema]) -> Iterator[Unfinished]:
    for schema in sorted(everything, key=lambda each: str(each["name"])):
        name = str(schema["name"])
        if (next_ := next_of(schema)) is not None:
            yield _second_field(name, next_)
        if (refill := unfinished_refill(schema)) is not None:
            yield Unfinished(name, "a vector field being filled", str(refill["run"]), refill["phase"], "", _AGAIN)
        mark = read_mark(schema)
        if mark is not None and (pair := find_pair(everything, name)) is not None and pair.is_swapped:
            yield _successor(pair, mark)
        elif mark is not None:
            yield _shadow(name, mark, find(everything, mark.of))
        elif role_of(schema) == "restored":
            yield Unfinished(name, "a collection that comes back", "", "filling", "", "give the same command again")


def _second_field(name: str, mark: NextField) -> Unfinished:
    ends = {
        "filling": _AGAIN,
        "withdrawing": f"kai-migrate rollback {mark.run}",
        "waiting": f"kai-migrate finish {mark.run}, or kai-migrate rollback {mark.run}",
        "finishing": f"kai-migrate finish {mark.run}, or kai-migrate rollback {mark.run}",
        "contracting": f"kai-migrate finish {mark.run}",
    }
    what = f"the field {mark.field!r} beside {mark.of!r}"
    return Unfinished(name, what, mark.run, mark.phase, "", ends[mark.phase])


def _successor(pair: Pair, mark: Mark) -> Unfinished:
    back, finish = f"kai-migrate rollback {mark.run}", f"kai-migrate finish {mark.run}"
    ends = {"waiting": f"{finish}, or {back}", "reverting": back, "reverted": back}
    remedy = finish if pair.old_schema is None else ends.get(mark.phase, _AGAIN)
    holder = f"process {mark.pid} on {mark.host}" if mark.held_elsewhere else ""
    remedy = "wait until it has ended" if holder else remedy
    return Unfinished(pair.new, f"in the place of {pair.old!r}", mark.run, mark.phase, holder, remedy)


def _shadow(name: str, mark: Mark, live: Schema | None) -> Unfinished:
    what = f"the only full copy of {mark.of!r}" if past_the_drop(mark, live) else f"a copy of {mark.of!r}"
    holder = f"process {mark.pid} on {mark.host}" if mark.held_elsewhere else ""
    return Unfinished(name, what, mark.run, mark.phase, holder, "wait until it has ended" if holder else _AGAIN)


def _in_the_ledger(ledger: Ledger, address: str) -> Iterator[Unfinished]:
    """Runs that ended early and are still the last word over their collections."""
    for run in ledger.runs():
        names = [str(name) for name in run.source.get("collections", ())]
        if run.state not in UNFINISHED or run.source.get("server") != address or run.kind == "verify":
            continue
        last = ledger.last_run_over(address, names)
        if last is None or last.id != run.id:
            continue
        remedy = f"kai-migrate {run.kind}, with what it was given" if run.kind != "migrate" else _AGAIN
        yield Unfinished(", ".join(names), f"a {run.kind} that did not end", run.name, run.state, "", remedy)
