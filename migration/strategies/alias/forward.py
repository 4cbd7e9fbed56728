"""A collection's way to the one that takes its place; picks up where a dead run left it, on whichever machine.

Until the first alias is moved, the live collection serves and nothing about it changes: what is built may be thrown
away. From then on the new collection serves, and the old one is read again until nothing differs: what the application
wrote before the swap and nobody had seen, and what it wrote by the old collection's own name. So no write is lost,
and nothing waits for a quiet moment.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Final

from kai.typesense import Schema
from migration.runtime.console import named
from migration.strategies.alias.base import Base, hashes_of, remove_base
from migration.strategies.alias.carry import Carry, carry_until_even
from migration.strategies.alias.state import aliases_of, find_pair, mark_replaced, move_aliases
from migration.strategies.context import StrategyStopped, failures_of
from migration.strategies.curation import take_along
from migration.strategies.moment import Withheld, passed, ready
from migration.strategies.passes import Passes
from migration.strategies.plan import CollectionPlan
from migration.strategies.shadow.builder import CannotCopy, ShadowBuilder
from migration.strategies.shadow.filling import account, check, fill
from migration.strategies.shadow.keeping import refused_file, write_refused
from migration.strategies.shadow_state import Mark, MarkKeeper, get_exact, own_metadata
from migration.strategies.task import Task

_LAST_CATCH_UPS: Final = 4
"""Catch-ups right before the swap. What the last of them did not see is carried over after it."""
_PASSES: Final = 12
"""Passes over the old collection after the swap, of which one must find nothing."""


class Alias:
    """The whole way of one collection.

    Args:
        task: whose plan's strategy is `alias`.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._server = task.server
        self._run = task.context.run.name
        self._old, self._new = task.name, task.plan.successor
        self._outcome = task.outcome

    def run(self) -> CollectionPlan:
        """From wherever it stands to the collection that waits for `finish`; the plan of what stands then.

        Raises:
            CannotCopy: the live collection is untouched, and what was built is removed; or somebody else's is there.
            StrategyStopped: the next start goes on; `Withheld` where no alias was moved because nobody gave the moment.
        """
        self._outcome.complete = False
        self._server.settle()
        pair = find_pair(self._server.collections(), self._old)
        mark = pair.mark if pair else None
        if mark is not None and mark.held_elsewhere:
            raise CannotCopy(mark.holder)
        if pair is not None and pair.is_foreign:
            raise CannotCopy(
                f"a collection {pair.new!r} is there that this tool did not make; rename or delete it first"
            )
        if pair is not None and mark is not None and pair.is_swapped and self._is_moved(mark):
            keeper = MarkKeeper(self._server, mark, self._new)
            keeper.write()
            with keeper:
                self._follow_up(keeper)
        else:
            live = get_exact(self._server, self._old)
            if live is None:
                raise CannotCopy(f"collection {self._old!r} is gone, and {self._new!r} is no full copy of it")
            keeper = self._build_and_swap(live, pair.new_schema if pair else None, mark)
        keeper.let_go()
        standing = get_exact(self._server, self._new)
        return self._plan_of(standing) if standing is not None else self._task.plan

    # -- up to the swap ----------------------------------------------------------------------------------

    def _is_moved(self, mark: Mark) -> bool:
        """Whether any alias has been moved. One that died before the first begins with catching up."""
        return mark.phase != "swapping" or any(name in mark.aliases for name in aliases_of(self._server, self._new))

    def _build_and_swap(self, live: Schema, existing: Schema | None, mark: Mark | None) -> MarkKeeper:
        task, builder = self._task, ShadowBuilder(self._task, None, self._new)
        if mark is not None and mark.fingerprint != task.source.fingerprint:
            remove_new(task, self._new)
            existing = None
        task.enter("copying", task.plan.eligible)
        try:
            builder.create(live, existing)
            builder.learn()
            with builder.keeper as keeper:
                is_given = fill(task, builder) and ready(task, builder.catch_up, lambda: check(task, builder))
                if is_given and (base := self._swap(builder)) is not None:
                    self._follow_up(keeper, base)
                else:
                    account(task, builder)
        except Withheld:
            account(task, builder)
            builder.keeper.let_go()
            raise
        except CannotCopy:
            if builder.is_ours():
                remove_new(task, self._new)
                self._outcome.failures = builder.failures | failures_of(builder.refused)
            raise
        return builder.keeper

    def _swap(self, builder: ShadowBuilder) -> Base | None:
        """Write down what both have in common, and what is to happen now; None if the run was stopped before.

        Raises:
            CannotCopy: no alias leads to the live collection any more, or the new one refuses what changed last.
        """
        task, server = self._task, self._server
        task.enter("swapping")
        base = Base(server, self._new)
        base.open(self._run)
        take_along(server, self._old, self._new)
        for _ in range(_LAST_CATCH_UPS):
            changed = builder.catch_up()
            if task.is_stopped:
                return None
            base.become(hashes_of(builder.contents))
            if not changed:
                break
        live, aliases = get_exact(server, self._old), aliases_of(server, self._old)
        if live is None or not builder.is_ours():
            raise StrategyStopped(f"{self._old!r} or {self._new!r} is in other hands meanwhile; no alias was moved")
        if not aliases:
            raise CannotCopy(f"no alias leads to {self._old!r} any more, so that none could be moved")
        if builder.refused:
            file = refused_file(task.context.home, self._run, self._old)
            write_refused(file, builder.refused)
            self._outcome.notes.append(f"{len(builder.refused)} documents that cannot be copied are in {file}")
        builder.keeper.write(phase="swapping", aliases=aliases, beside=own_metadata(live) or {})
        return base

    # -- from the swap on --------------------------------------------------------------------------------

    def _follow_up(self, keeper: MarkKeeper, base: Base | None = None) -> None:
        """Everything after the mark that says what is to happen: the swap, and what follows from it.

        Args:
            keeper: of the new collection's mark.
            base: what both have in common; None to read it.
        """
        task, outcome = self._task, self._outcome
        if keeper.mark.phase == "swapping":
            with self._server.unstoppable():
                outcome.notes += move_aliases(
                    self._server, keeper.mark.aliases, self._old, self._new, lambda names: keeper.write(aliases=names)
                )
                keeper.write(phase="swapped")
            passed(task)
        elif back := aliases_of(self._server, self._old):
            outcome.notes.append(f"{', '.join(map(repr, back))} leads to {self._old!r} again; it was left so")
        mark_replaced(self._server, self._old, keeper.mark.run)
        if base is None:
            base = Base(self._server, self._new)
            base.open(keeper.mark.run)
        carry = Carry(task, self._new, base)
        task.enter("carrying over")
        is_even = self._carry(carry)
        if task.is_stopped:
            return
        # The application writes to the new collection now, perhaps with the old model.
        plan = self._plan_of(self._server.collection(self._new) or task.plan.schema)
        Passes(replace(task, plan=plan), plan.schema, doing="Checking").run(
            self._server.count(self._new, task.source.filter_by)
        )
        is_even = outcome.complete and self._carry(carry) and is_even
        if task.is_stopped:
            outcome.complete = False
            return
        self._tell(carry, keeper.mark.run, is_even=is_even)
        keeper.write(phase="waiting")
        outcome.waits = True

    def _carry(self, carry: Carry) -> bool:
        # A node that lags shows only now what it took before the swap.
        return carry_until_even(self._task, carry, _PASSES, lambda: time.sleep(self._server.lag))

    def _tell(self, carry: Carry, run: str, *, is_even: bool) -> None:
        outcome = self._outcome
        outcome.failures |= failures_of(carry.refused) | carry.failures
        outcome.written += carry.carried
        outcome.notes += named(
            dict.fromkeys(sorted(carry.left)),
            f"were written to in {self._old!r} and, by an alias, in {self._new!r}, whose content stands",
        )
        if not is_even:
            outcome.notes.append(
                f"{self._old!r} is written to by its own name all the time; what came last is not carried over"
            )
        outcome.notes.append(f"the previous collection {self._old!r} stands until `kai-migrate finish {run}`")

    def _plan_of(self, schema: Schema) -> CollectionPlan:
        """The same plan, over the collection that has taken the other's place."""
        return replace(self._task.plan, name=self._new, schema=schema)


def remove_new(task: Task, new: str) -> None:
    """Remove a collection that no alias was moved to, its base, and what the ledger knew of it."""
    server = task.server
    server.settle()
    remove_base(server, new)
    server.delete_collection(new)
    task.context.ledger.forget_collection(server.address, new, field=task.field)


def settle_new(task: Task) -> bool:
    """Remove what a dead run built beside a collection that is to go another way now; whether there was anything.

    Raises:
        StrategyStopped: that run is at it again.
    """
    pair = find_pair(task.server.collections(), task.name)
    if pair is None or pair.is_foreign or pair.is_swapped or task.plan.strategy == "alias":
        return False
    if pair.mark is not None and pair.mark.held_elsewhere:
        raise StrategyStopped(pair.mark.holder)
    remove_new(task, pair.new)
    return True
