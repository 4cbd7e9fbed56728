"""A change of dimensions: the collection is recreated under its own name, with every document in it.

    back up + build the shadow -> catch up -> check -> cut over (migration.strategies.shadow.cutover) -> passes in place

While the shadow is built the live collection serves on, and nothing about it changes. Every page goes to the
backup on disk before it goes to the shadow. Catching up compares the live documents with what the shadow
was given, by content; the shadow itself and the mark that it carries on the server say after any crash how
far a run got, and all that this needs.
"""

from __future__ import annotations

from kai.typesense import Schema
from migration.backup import BackupWriter
from migration.strategies.context import RunContext, failures_of
from migration.strategies.moment import Withheld, ready
from migration.strategies.shadow.builder import CannotCopy, ShadowBuilder
from migration.strategies.shadow.cutover import CutOver, KeepsWriting
from migration.strategies.shadow.filling import account, check, fill
from migration.strategies.shadow.keeping import remove_unfinished_copies
from migration.strategies.shadow.successor import CutOverStopped
from migration.strategies.shadow_state import (
    Mark,
    MarkKeeper,
    find,
    find_shadow,
    get_exact,
    is_foreign,
    own_metadata,
    past_the_drop,
    read_mark,
    role_of,
    set_role,
    shadow_name,
)
from migration.strategies.task import Task


class Recreate:
    """The whole way of one collection to other dimensions; picks up where a dead run left it.

    Args:
        task: whose plan's strategy is `recreate`.
        backup: takes each page, durably, before it goes to the shadow; None for no backup.
    """

    def __init__(self, task: Task, backup: BackupWriter | None = None) -> None:
        self._task = task
        self._server = task.server
        self._name = task.name
        self._backup = backup
        self._builder = ShadowBuilder(task, backup)
        self._outcome = task.outcome

    def run(self) -> None:
        """From wherever it stands to the end.

        Raises:
            CannotCopy: the live collection is untouched and the shadow is removed; or somebody else's is there.
            CutOverStopped: the shadow holds everything, and the next start goes on.
            KeepsWriting: the application never stood still; nothing was dropped, and the shadow is removed.
            Withheld: nothing was dropped, and the shadow stays.
        """
        self._outcome.complete = False
        self._server.settle()
        everything = self._server.collections()
        shadow, live = find_shadow(everything, self._name), find(everything, self._name)
        mark = read_mark(shadow) if shadow else None
        if mark is not None and mark.held_elsewhere:
            raise CannotCopy(mark.holder)
        if shadow is not None and is_foreign(shadow, live):
            raise CannotCopy(
                f"a collection {shadow['name']!r} is there that this tool did not make; rename or delete it first"
            )
        remove_unfinished_copies(self._server, everything, self._name)
        builder = self._builder
        cut_over = CutOver(self._task, builder)
        if mark is not None and past_the_drop(mark, live):
            self._builder.take_up(mark)
            with self._builder.keeper:
                self._know_the_shadow(mark)
                cut_over.finish()
            return
        if live is None:
            raise CannotCopy(f"collection {self._name!r} is gone, and its shadow is no full copy of it")
        try:
            self._build(live, shadow, mark)
            with builder.keeper:
                is_dropped = fill(self._task, builder) and self._is_given() and cut_over.drop()
                if is_dropped:
                    if self._backup is not None:
                        self._backup.is_complete = True
                    cut_over.finish()
        except (CannotCopy, KeepsWriting):
            self._undo()
            raise
        except Withheld:
            self._leave()
            raise
        if not is_dropped:
            self._leave()

    def _is_given(self) -> bool:
        return ready(self._task, self._builder.catch_up, lambda: check(self._task, self._builder))

    def _leave(self) -> None:
        """The shadow stays for the next start, which may be another machine's."""
        account(self._task, self._builder)
        self._builder.keeper.let_go()

    def _know_the_shadow(self, mark: Mark) -> None:
        """Where the ledger knows nothing of this target, as on another machine, the shadow tells what it has."""
        ledger, source = self._task.context.ledger, self._task.source
        if mark.fingerprint != source.fingerprint:
            return
        names = (mark.of, shadow_name(mark.of))
        if not any(
            ledger.count_documents(self._server.address, name, source.model_id, field=self._task.field)
            for name in names
        ):
            self._builder.learn()

    def _build(self, live: Schema, shadow: Schema | None, mark: Mark | None) -> None:
        """The shadow is there, of the wanted schema, and it is known what it holds."""
        if mark is not None and mark.fingerprint != self._task.source.fingerprint:
            remove_shadow(self._task.context, self._name)
            shadow = None
        self._task.enter("copying", self._task.plan.eligible)
        self._builder.create(live, shadow)
        self._builder.learn()

    def _undo(self) -> None:
        """Leave the server as it was: no shadow, no mark."""
        builder = self._builder
        if not builder.is_ours():
            return
        if builder.mark.phase != "building":
            builder.keeper.write(phase="building")
        remove_shadow(self._task.context, self._name)
        self._outcome.failures = builder.failures | failures_of(builder.refused)


def settle_leftover(task: Task) -> bool:
    """Finish or remove what a dead run left, unless it serves this run's target.

    Returns:
        Whether anything was finished or removed; the collection must be planned anew.
    """
    context, plan, mark = task.context, task.plan, task.plan.leftover
    if plan.strategy == "recreate" and (mark is None or mark.fingerprint == task.source.fingerprint):
        return False
    if mark is None:
        # A run that died right after creating the shadow left it without a mark.
        shadow = context.server.collection(shadow_name(plan.name))
        if shadow is not None and not is_foreign(shadow, plan.schema):
            remove_shadow(context, plan.name)
        return False
    if past_the_drop(mark, get_exact(context.server, plan.name)):
        Recreate(task).run()
    else:
        remove_shadow(context, plan.name)
    return True


def remove_shadow(context: RunContext, name: str) -> None:
    """Delete a shadow while the live collection is whole, the live one's mark, and what the ledger knew of it.

    Raises:
        CutOverStopped: the live collection is not the original; nothing is deleted.
    """
    server = context.server
    server.settle()
    live = get_exact(server, name)
    shadow = server.collection(shadow_name(name))
    mark = read_mark(shadow) if shadow else None
    if live is None or past_the_drop(mark, live) or (shadow and is_foreign(shadow, live)):
        raise CutOverStopped(f"{shadow_name(name)!r} may be the only full copy of {name!r}; it is kept")
    if mark is not None and mark.phase != "building":
        # In this order: without its mark the original would pass for another's collection.
        MarkKeeper(server, mark).write(phase="building")
    if role_of(live) is not None:
        set_role(server, name, own_metadata(live), None)
    server.delete_collection(shadow_name(name))
    context.ledger.forget_collection(server.address, shadow_name(name))
