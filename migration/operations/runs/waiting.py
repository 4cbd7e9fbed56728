"""What a run has left to the operator on a server, as the marks there tell, whichever machine began it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from kai.typesense import Schema, Typesense
from migration.ledger import Ledger, RunRecord
from migration.runtime.lock import Held, hold
from migration.strategies.alias.state import Pair, swapped_pairs
from migration.strategies.refusals import Refused
from migration.strategies.second_field.mark import NextField, next_of, set_next

Waiting: TypeAlias = NextField | Pair
"""What waits to be finished: a second field, or a collection that took another's place."""

_LETS_GO: Final = 60.0
"""Seconds in which a run that follows sees that it is to end."""


def marks_of(schemas: Sequence[Schema]) -> dict[str, Waiting]:
    """What stands on a server of second fields, and of collections that took another's place, by collection."""
    second = {str(schema["name"]): mark for schema in schemas if (mark := next_of(schema)) is not None}
    return second | {pair.new: pair for pair in swapped_pairs(schemas)}


def latest_of(ledger: Ledger, marks: Mapping[str, Waiting]) -> str:
    """The run begun last of those that have left marks, as far as the ledger knows them."""
    numbers = {known.name: known.number for known in ledger.runs()}
    return max({mark.run for mark in marks.values()}, key=lambda name: (numbers.get(name, 0), name))


def known_run(ledger: Ledger, server: Typesense, marks: Mapping[str, Waiting], run: str) -> RunRecord | None:
    """A run in the ledger; one that another machine has begun is noted there, if a collection carries its mark."""
    if (record := ledger.find_run(run)) is not None:
        return record
    theirs = {name: mark for name, mark in marks.items() if mark.run == run}
    if not theirs:
        return None
    names = [each for name, mark in theirs.items() for each in ([mark.old, name] if isinstance(mark, Pair) else [name])]
    source = {"server": server.address, "collections": names}
    kind = next(iter(theirs.values())).kind
    record = ledger.start_run(run, kind, source=source, parameters={"typesense": server.told_version()})
    for name, mark in theirs.items():
        ledger.start_collection(
            record.id, name, "alias" if isinstance(mark, Pair) else "into", embedding_field=mark.field
        )
    return ledger.finish_run(record.id, "waiting")


def named_by(ledger: Ledger, marks: Mapping[str, Waiting], run: str) -> str:
    """The name of the run that goes by this name, alias or beginning, here or in a mark that another machine has made.

    Raises:
        Refused: there is none.
    """
    if (record := ledger.find_run(run)) is not None:
        return record.name
    found = {mark.run for mark in marks.values() if mark.run.startswith(run)}
    if len(found) != 1:
        raise Refused(f"RUN: there is no run {run!r} that waits to be finished; kai-migrate list shows what does")
    return found.pop()


def let_go(server: Typesense, marks: Mapping[str, Waiting]) -> None:
    """Have a run that follows end, and return once it has.

    Args:
        server: where the collections are.
        marks: of second fields that are to be finished or taken back, by collection.

    Raises:
        Held: another run holds a collection.
    """
    for name, mark in marks.items():
        if not isinstance(mark, Pair) and mark.phase == "waiting":
            set_next(server, name, replace(mark, phase="finishing"))
    deadline = time.monotonic() + _LETS_GO
    for name in marks:
        while True:
            try:
                with hold(server.address, name):
                    break
            except Held:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
