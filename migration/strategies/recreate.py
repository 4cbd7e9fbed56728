"""A change of dimensions: the collection is recreated under its own name, with every document in it.

    back up + build the shadow -> catch up -> check -> cut over (migration.strategies.shadow.cutover) -> passes in place

While the shadow is built the live collection serves on, and nothing about it changes. Every page goes to the
backup on disk before it goes to the shadow. Catching up compares the live documents with what the shadow
was given, by content; the shadow itself and the mark that it carries on the server say after any crash how
far a run got, and all that this needs.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from kai.models import fingerprint
from kai.typesense import Schema
from migration.backup.errors import BackupError
from migration.strategies.context import Context, Failure, Outcome, Workshop
from migration.strategies.shadow.builder import CannotCopy, ShadowBuilder
from migration.strategies.shadow.cutover import CutOver, CutOverStopped
from migration.strategies.shadow.keeping import remove_unfinished_copies
from migration.strategies.shadow_state import (
    Mark,
    MarkKeeper,
    find,
    find_shadow,
    is_foreign,
    own_metadata,
    past_the_drop,
    read_mark,
    role_of,
    set_role,
    shadow_name,
    standing,
)

if TYPE_CHECKING:
    from migration.backup import BackupWriter
    from migration.backup.old_vectors import OldVectors
    from migration.strategies.plan import CollectionPlan

__all__ = ["CannotCopy", "Recreate", "remove_shadow", "settle_leftover"]

CATCH_UPS: Final = 3


class Recreate:
    """The whole way of one collection to other dimensions; picks up where a dead run left it.

    Args:
        context: the tools of the run.
        plan: what to do.
        backup: takes each page, durably, before it goes to the shadow; None for no backup. It is closed.
        old_vectors: where the vectors come from on the way back; None to embed.

    Attributes:
        outcome: what was done so far.
    """

    def __init__(
        self,
        context: Context,
        plan: CollectionPlan,
        backup: BackupWriter | None = None,
        old_vectors: OldVectors | None = None,
    ) -> None:
        self._context = context
        self._server = context.server
        self._plan = plan
        self._name = plan.name
        self._backup = backup
        self._builder = ShadowBuilder(context, plan, backup, old_vectors)
        self.outcome = Outcome(complete=False)

    def run(self, total: int) -> Outcome:
        """From wherever it stands to the end.

        Args:
            total: eligible documents, for the progress bar.

        Raises:
            CannotCopy: the live collection is untouched and the shadow is removed; or somebody else's is there.
            CutOverStopped: the shadow holds everything, and the next start goes on.
        """
        try:
            self._run(total)
        except BaseException:
            with contextlib.suppress(BackupError):  # What stopped the run is worth more to know.
                self._close_backup()
            raise
        self._close_backup()
        return self.outcome

    def _close_backup(self) -> None:
        if self._backup is not None:
            self._backup.close(complete=self.outcome.downtime_seconds is not None)

    def _run(self, total: int) -> Outcome:
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
        cut_over = CutOver(self._context, self._plan, self._builder, self.outcome)
        if mark is not None and past_the_drop(mark, live):
            self._builder.keeper = MarkKeeper(self._server, mark)
            with self._builder.keeper:
                self._builder.keeper.write()
                self._know_the_shadow(mark)
                cut_over.finish()
            return self.outcome
        if live is None:
            raise CannotCopy(f"collection {self._name!r} is gone, and its shadow is no full copy of it")
        try:
            self._build(live, shadow, mark, total)
            with self._keeper:
                is_dropped = self._fill() and cut_over.drop()
                if is_dropped:
                    cut_over.finish()
        except CannotCopy:
            self._undo()
            raise
        if not is_dropped:
            self._account()
            self._keeper.let_go()
        return self.outcome

    def _know_the_shadow(self, mark: Mark) -> None:
        """Where the ledger knows nothing of this target, as on another machine, the shadow tells what it has."""
        ledger, source = self._context.ledger, self._server.address
        if mark.fingerprint != fingerprint(self._context.embedding, self._plan.collection.template):
            return
        names, model = (mark.of, shadow_name(mark.of)), self._context.model.id
        if not any(ledger.count_documents(source, name, model) for name in names):
            self._builder.learn()

    @property
    def _keeper(self) -> MarkKeeper:
        keeper = self._builder.keeper
        if keeper is None:
            raise CannotCopy(f"the shadow {self._builder.shadow!r} carries no mark")
        return keeper

    def _build(self, live: Schema, shadow: Schema | None, mark: Mark | None, total: int) -> None:
        """The shadow is there, of the wanted schema, and it is known what it holds."""
        wanted = fingerprint(self._context.embedding, self._plan.collection.template)
        if mark is not None and mark.fingerprint != wanted:
            remove_shadow(self._context, self._name)
            shadow = None
        self._context.status.phase("copying", collection=self._name, total=total)
        self._builder.create(live, shadow)
        self._builder.learn()

    def _fill(self) -> bool:
        """The shadow is complete, abreast and checked; False if the run was stopped before."""
        context, builder = self._context, self._builder
        with context.console.progress(f"  Migrating {self._name}", self._server.count(self._name)) as bar:
            builder.build(bar.update)
        if context.control.stopped.is_set():
            return False
        context.status.phase("catching up", collection=self._name)
        for _ in range(CATCH_UPS):
            if not (changed := builder.catch_up()) or context.control.stopped.is_set():
                break
        else:
            self.outcome.notes.append(
                f"the application keeps writing: {changed} documents changed during the last of {CATCH_UPS} catch-ups"
            )
        if context.control.stopped.is_set():
            return False
        self._check()
        self._account()
        return not context.control.stopped.is_set()

    def _check(self) -> None:
        """Read the shadow back.

        Raises:
            CannotCopy: it is not as it should be, even after another catch-up.
        """
        self._context.status.phase("checking", collection=self._name)
        if self._wrong() and not self._context.control.stopped.is_set():
            self._builder.catch_up()
            if wrong := self._wrong():
                raise CannotCopy(f"the shadow is not as it should be: {'; '.join(wrong)}")

    def _wrong(self) -> list[str]:
        live = standing(self._server, self._name)
        return [f"collection {self._name!r} is gone"] if live is None else self._builder.check(live)

    def _account(self) -> None:
        self.outcome.failures = dict(self._builder.failures)
        self.outcome.written = self._builder.standing

    def _undo(self) -> None:
        """Leave the server as it was: no shadow, no mark."""
        keeper = self._builder.keeper
        if keeper is None or not keeper.is_ours():
            return
        if keeper.mark.phase != "building":
            keeper.write(phase="building")
        remove_shadow(self._context, self._name)
        self.outcome.failures = {
            **self._builder.failures,
            **{id_: Failure("copy", reason) for id_, reason in self._builder.refused.items()},
        }


def settle_leftover(context: Context, plan: CollectionPlan) -> Outcome | None:
    """Finish or remove what a dead run left, unless it serves this run's target.

    Returns:
        What was finished; the collection must be planned anew. None where nothing was done.
    """
    mark = plan.leftover
    wanted = fingerprint(context.embedding, plan.collection.template)
    if plan.strategy == "recreate" and (mark is None or mark.fingerprint == wanted):
        return None
    if mark is None:
        # A run that died right after creating the shadow left it without a mark.
        shadow = context.server.collection(shadow_name(plan.name)) if plan.strategy != "skipped" else None
        if shadow is not None and not is_foreign(shadow, plan.schema):
            remove_shadow(context, plan.name)
        return None
    if past_the_drop(mark, standing(context.server, plan.name)):
        return Recreate(context, plan).run(plan.eligible)
    remove_shadow(context, plan.name)
    return Outcome()


def remove_shadow(context: Workshop, name: str) -> None:
    """Delete a shadow while the live collection is whole, the live one's mark, and what the ledger knew of it.

    Raises:
        CutOverStopped: the live collection is not the original; nothing is deleted.
    """
    server = context.server
    live = standing(server, name)
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
