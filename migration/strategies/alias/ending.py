"""The end of a run: the collection whose place was taken goes, backed up, and with it what both had in common.

An application may still write to it by its own name. So it is read again right before it goes, and what the server
counts at the drop is compared with that.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from kai.typesense import Typesense
from migration.strategies.alias.base import Base, changed_since, remove_base
from migration.strategies.alias.state import Pair, aliases_of, find_pair
from migration.strategies.context import StrategyStopped
from migration.strategies.plan import CollectionPlan
from migration.strategies.refusals import Refused
from migration.strategies.shadow_state import MarkKeeper, drop, get_exact, own_metadata
from migration.strategies.task import Task

_AGAIN: Final = "run the same migration again, which carries it over, and finish then"


def refuse_unfinishable(server: Typesense, pair: Pair, field: str) -> None:
    """Refuse to drop a collection that is still used. Only reads.

    Args:
        server: where it is.
        pair: the collection, and the one that took its place.
        field: the embedding field.

    Raises:
        Refused: an alias leads to it, or it was written to since what it had was carried over.
    """
    mark = pair.mark
    assert mark is not None  # noqa: S101 - a pair that was swapped
    if mark.held_elsewhere:
        raise Refused(mark.holder)
    if mark.phase in ("reverting", "reverted"):
        raise Refused(f"run {mark.run} is being taken back; run `kai-migrate rollback {mark.run}` again")
    if mark.phase != "waiting":
        raise Refused(f"run {mark.run} over {pair.old!r} did not come to its end; run the same migration again first")
    if why := still_used(server, pair.old, pair.new, field):
        raise Refused(why)


def still_used(server: Typesense, old: str, new: str, field: str) -> str:
    """Why the collection cannot go yet; empty where it can, or is gone."""
    server.settle()
    if get_exact(server, old) is None:
        return ""
    if aliases := aliases_of(server, old):
        return (
            f"{', '.join(map(repr, aliases))} leads to {old!r}, which is to be dropped; point it to {new!r} "
            f'(PUT /aliases/NAME with {{"collection_name": "{new}"}}), or remove it'
        )
    base = Base(server, new)
    base.read()
    if changed := changed_since(server, base, old, field):
        return f"{changed} documents of {old!r} were written or deleted since, by its own name; {_AGAIN}"
    return ""


class DropOld:
    """The end of one collection's run.

    Args:
        task: whose plan names the old collection, and as its successor the new one.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._server = task.server
        self._old, self._new = task.name, task.plan.successor

    def run(self) -> CollectionPlan:
        """From wherever it stands to the new collection alone; the plan, of what stands then.

        Raises:
            StrategyStopped: the old one is used again; it stands.
        """
        task, server = self._task, self._server
        task.outcome.complete = False
        pair = find_pair(server.collections(), self._new)
        if pair is None or pair.mark is None or not pair.is_swapped:
            raise StrategyStopped(f"{self._new!r} is in other hands meanwhile; nothing was dropped")
        if pair.mark.held_elsewhere:
            raise StrategyStopped(pair.mark.holder)
        keeper = MarkKeeper(server, pair.mark, self._new)
        keeper.write()
        with keeper:
            is_dropped = pair.old_schema is None or self._drop()
        keeper.let_go()  # No sign of life comes after this, which would bring the mark back.
        if not is_dropped:
            return task.plan
        remove_base(server, self._new)
        found = get_exact(server, self._new)
        if found is None:
            raise StrategyStopped(f"collection {self._new!r} is gone")
        server.set_metadata(self._new, own_metadata(found) or {})
        ledger = task.context.ledger
        ledger.forget_collection(server.address, self._old, field=task.field)
        task.outcome.complete = True
        return replace(task.plan, name=self._new, schema=found)

    def _drop(self) -> bool:
        """Back it up and drop it; False if the run was stopped before."""
        task, server = self._task, self._server
        if not self._back_up():
            return False
        if why := still_used(server, self._old, self._new, task.field):
            raise StrategyStopped(f"{why}. Nothing was dropped")
        base = Base(server, self._new)
        base.read()
        with server.unstoppable():
            counted, _ = drop(server, self._old, "replaced")
        if counted is not None and counted != len(base.contents):
            task.outcome.notes.append(
                f"the server counted {counted} documents of {self._old!r} at the drop, but {len(base.contents)} were "
                "seen just before: somebody writes to it by its own name"
            )
        return True

    def _back_up(self) -> bool:
        task = self._task
        backup = task.open_backup("documents")
        if backup is None:
            return True
        if not task.back_up_whole(backup):
            return False
        backup.is_complete = True
        task.outcome.notes.append(
            f"{self._old!r} is in the backup {backup.folder}; `kai-migrate restore {backup.folder}` creates it again"
        )
        return True
