"""After a second field is filled: look again and again for what the application writes, until the operator finishes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace

from kai.typesense import TypesenseError
from migration.embedding.cache import CacheError
from migration.embedding.provider import ProviderStopped
from migration.embedding.throttle import Stopped
from migration.ledger import LedgerError
from migration.operations.runs.execute import Work
from migration.runtime.console import SILENT
from migration.strategies.context import Outcome, RunContext, StrategyStopped
from migration.strategies.second_field.mark import next_of
from migration.strategies.task import Task

_BETWEEN_LOOKS = 1.0
"""Seconds between two looks whether the field is to be finished."""


def follow(context: RunContext, works: Sequence[Work]) -> None:
    """Give what the application writes its vector in the new fields, at the interval that was asked for.

    Ends once every field is to be finished or was taken back, or when somebody asks for it. What goes wrong meanwhile
    is told, and tried again: the old fields serve.

    Args:
        context: the tools of the run, with `follow` among its options; nothing is done where that is None.
        works: those that filled a second field.
    """
    interval = context.options.follow
    if interval is None or not works:
        return
    context.console.line(
        f"Following every {interval:g} s, until `kai-migrate finish {context.run.name}`; Ctrl-C ends it, too."
    )
    under_way = list(works)
    while True:
        context.status.phase("following")
        under_way = _still_waiting(context, under_way, interval)
        if not under_way or context.control.stopped.is_set():
            return
        for work in under_way:
            _look(context, work)


def _still_waiting(context: RunContext, works: list[Work], seconds: float) -> list[Work]:
    """Wait for so long; those works that nobody finishes or takes back meanwhile."""
    until = time.monotonic() + seconds
    while works and time.monotonic() < until:
        context.control.stopped.wait(min(_BETWEEN_LOOKS, max(until - time.monotonic(), 0.0)))
        if context.control.stopped.is_set():
            break
        with contextlib.suppress(TypesenseError):  # What follows meets it again, and tells it.
            works = [work for work in works if _waits(context, work)]
    return works


def _waits(context: RunContext, work: Work) -> bool:
    schema = context.server.collection(work.plan.name)
    mark = next_of(schema) if schema else None
    return mark is not None and mark.field == work.plan.collection.embedding_field and mark.phase == "waiting"


def _look(context: RunContext, work: Work) -> None:
    """One more time through the collection; silent, unless something came or went wrong."""
    outcome, console, name = Outcome(), context.console, work.plan.name
    quiet = replace(context, console=SILENT)
    try:
        with contextlib.ExitStack() as stack:
            work.carry_out(Task(quiet, work.plan, work.source(quiet, stack), outcome, "", stack))
    except Stopped:
        return
    except (ProviderStopped, TypesenseError, StrategyStopped, LedgerError, CacheError) as error:
        console.warn(f"  Following '{name}': {error}; tried again")
    if outcome.written:
        console.line(f"  Following '{name}': {outcome.written} documents that the application wrote have their vector")
