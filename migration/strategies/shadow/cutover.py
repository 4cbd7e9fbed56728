"""From the checked shadow to the collection under its own name; every step safe to repeat after a crash.

    mark the original -> last catch-up -> drop -> make asynchronous references forget -> clone the shadow under
    the old name -> copy -> renew references -> check -> take the marks away -> remove the shadow -> passes in place

Between the drop and the end of the copy the full collection is away; that time is measured and kept. What an
application writes while the copy is made stays: the copy creates documents, it never overwrites.
Nothing is embedded while the collection is away, so no provider can keep it away: what the application
wrote gets its vectors from the passes in place at the end.

What cannot be seen are writes that the server takes between the last look and the drop. Typesense has no
lock for writers. So the collection must have stood still for a while before it is dropped; where it does not, the
caller goes another way, unless the operator insists. The time that cannot be seen is kept as short as it can be,
measured, and told; what the server's own count shows to be lost in it is a failure.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from kai.typesense_schemas import schema_differences
from migration.documents.fetch import values_of
from migration.strategies.context import Rejected, StrategyStopped, failures_of
from migration.strategies.curation import hand_on, take_along
from migration.strategies.moment import passed
from migration.strategies.passes import Passes
from migration.strategies.shadow.builder import ShadowBuilder
from migration.strategies.shadow.copying import CopyBack
from migration.strategies.shadow.keeping import keep_collection, kept_name, refused_file, write_refused
from migration.strategies.shadow.references import WrongJoins, renew_references_to
from migration.strategies.shadow.referring import Referring
from migration.strategies.shadow.successor import CutOverStopped, Successor
from migration.strategies.shadow.watching import Watch, clock
from migration.strategies.shadow_state import MARK, drop, get_exact, own_metadata, set_role
from migration.strategies.task import Task

_LAST_CATCH_UPS: Final = 8
_EMBEDDING_CATCH_UPS: Final = 4
"""How many of them wait for vectors of what changed; the others leave that to the passes."""
_LOOKS: Final = 30
"""How often the newest documents are looked at for a quiet moment, after catch-ups that never found one."""
_QUIET: Final = 0.5
"""Seconds without a change, from the beginning of the first reading on, after which a collection stands still."""
_QUIET_AFTER_CHANGES: Final = 3.0
"""The same where changes were seen: whoever wrote may write again."""
_BETWEEN_LOOKS: Final = 0.05


class KeepsWriting(StrategyStopped):
    """The application never stood still, so that dropping the collection would lose what it writes."""


class CutOver:
    """One collection's cut-over.

    Args:
        task: whose collection it is.
        builder: the shadow, complete and checked.
    """

    def __init__(self, task: Task, builder: ShadowBuilder) -> None:
        self._task = task
        self._context = task.context
        self._server = task.server
        self._builder = builder
        self._outcome = task.outcome
        self._name, self._shadow = task.name, builder.shadow
        self._kept = kept_name(task.name, task.context.run.name)
        self._uncopied: dict[str, Rejected] = {}
        self._watch = Watch(task.server, task.name)
        self._successor = Successor(task, builder, self._watch, self._write_refused)
        # Dropped although the application keeps writing.
        self._insists = task.context.options.strategy == "recreate"

    # -- up to the drop --------------------------------------------------------------------------------

    def drop(self) -> bool:
        """Mark the original, catch up for the last time, and drop it; False if the run was stopped before.

        Raises:
            CannotCopy: the shadow refuses what changed last, or another run has taken it over.
            KeepsWriting: the collection does not stand still.
        """
        context, server, builder = self._context, self._server, self._builder
        self._task.enter("cut-over")
        if not self._insists:
            self._await_rest()
        if context.options.keep_old:
            self._keep_old()
        take_along(server, self._name, self._shadow)
        self._referring().keep()
        live = get_exact(server, self._name)
        if live is None or not builder.is_ours():
            raise CutOverStopped(f"{self._name!r} or its shadow is in other hands meanwhile; nothing was dropped")
        own = own_metadata(live)
        set_role(server, self._name, own, "original", context.run.name)
        builder.keeper.write(phase="cutting over", live_metadata=own, dropped_at=time.time(), copied_to="")
        # A node that lags does not show what was written just before.
        read, looked = (moment - server.lag for moment in self._last_look())
        if self._task.is_stopped:
            builder.keeper.write(phase="building")
            set_role(server, self._name, own, None)
            return False
        if builder.refused:
            self._write_refused(builder.refused)
        known = builder.held + len(builder.refused)
        with server.unstoppable():
            counted, dropped = drop(server, self._name, "original", before_again=self._refuse_what_came)
        unseen = 0 if counted is None else counted - known
        builder.keeper.write(dropped_at=dropped, unseen=unseen)
        self._tell_blind_window(read, looked, dropped)
        if unseen:
            what = "written, and are lost" if unseen > 0 else "deleted, and come back"
            self._outcome.notes.append(
                f"the server counted {counted} documents at the drop, but {known} were seen just before: "
                f"{abs(unseen)} documents were {what}"
            )
        return True

    def _refuse_what_came(self) -> None:
        """Stop where an application wrote while the server did not answer the drop.

        Nothing is undone or caught up with: that request may yet be carried out. The next start sees whether it was.

        Raises:
            CutOverStopped: something was written.
        """
        if not self._insists and not self._builder.is_abreast():
            raise CutOverStopped(
                f"{self._name!r} was written to while Typesense did not answer the request to drop it, which was not "
                "sent again"
            )

    def _last_look(self) -> tuple[float, float]:
        """Catch up until the live collection stands still; when it was read, and when its newest were looked at."""
        builder = self._builder
        read = looked = 0.0
        for number in range(_LAST_CATCH_UPS):
            self._server.settle()
            shadow = self._server.collection(self._shadow)
            if shadow is None or shadow["num_documents"] != builder.held:
                # Documents went with what they referred to, say.
                builder.learn()
            read = looked = time.time()
            changed = builder.catch_up(embed=number < _EMBEDDING_CATCH_UPS)
            if self._task.is_stopped:
                return read, looked
            if changed:
                continue
            if not self._insists and not self._has_rested:
                self._wait_for_rest()
                continue
            looked = time.time()
            if builder.is_abreast():
                return (looked if builder.sees_all else read), (looked if builder.sees_newest else read)
        if not self._insists:
            raise self._keeps_writing()
        self._outcome.notes.append(f"the application kept writing: {_LAST_CATCH_UPS} last catch-ups each found changes")
        for _ in range(_LOOKS):
            looked = time.time()
            if builder.is_abreast() or self._task.is_stopped:
                return (looked if builder.sees_all else read), (looked if builder.sees_newest else read)
            read = time.time()
            builder.catch_up(embed=False)
        return read, read

    def _await_rest(self) -> None:
        """Return when the collection has stood still for long enough, or the run is to end.

        Raises:
            KeepsWriting: it does not.
        """
        for number in range(_LAST_CATCH_UPS):
            self._builder.catch_up(embed=number < _EMBEDDING_CATCH_UPS)
            self._wait_for_rest()
            if self._has_rested or self._task.is_stopped:
                return
        raise self._keeps_writing()

    @property
    def _has_rested(self) -> bool:
        builder = self._builder
        needed = _QUIET_AFTER_CHANGES if builder.saw_changes else _QUIET
        return time.monotonic() - builder.quiet_since >= needed + self._server.lag

    def _wait_for_rest(self) -> None:
        """Until the collection has rested for long enough, or is seen to have changed."""
        while not self._has_rested and not self._task.is_stopped and self._builder.is_abreast():
            time.sleep(_BETWEEN_LOOKS)

    def _keeps_writing(self) -> KeepsWriting:
        if self._context.options.keep_old:
            self._server.delete_collection(self._kept)
            self._outcome.notes[:] = [note for note in self._outcome.notes if repr(self._kept) not in note]
        return KeepsWriting(f"the application keeps writing to {self._name!r}, and dropping it would lose writes")

    def _tell_blind_window(self, read: float, looked: float, dropped: float) -> None:
        self._outcome.notes.append(
            f"new and deleted documents of the {(dropped - looked) * 1000:.0f} ms before the drop, and changed ones "
            f"of the {(dropped - read) * 1000:.0f} ms before it, could not be seen "
            f"(since {clock(looked)} and {clock(read)}; dropped by {clock(dropped)})"
        )

    def _write_refused(self, refused: Mapping[str, Rejected]) -> None:
        file = refused_file(self._context.home, self._context.run.name, self._name)
        write_refused(file, refused)
        self._uncopied.update(refused)
        self._outcome.notes.append(f"{len(refused)} documents that cannot be copied are in {file}")

    def _keep_old(self) -> None:
        kept = self._kept
        failed = keep_collection(self._server, self._name, kept, self._context.run.name)
        if failed.keys() - self._builder.refused.keys():
            self._server.delete_collection(kept)
            raise CutOverStopped(
                f"{len(failed)} documents could not be kept in {kept!r}: {next(iter(failed.values()))}; nothing was "
                "dropped"
            )
        set_role(self._server, kept, own_metadata(self._server.collection(kept) or {}), None)
        # Told now: it stands there also if this run is stopped before the drop.
        self._outcome.notes.append(
            f"the previous collection is kept as {kept!r}; remove it with "
            f'`curl -X DELETE -H "X-TYPESENSE-API-KEY: $TYPESENSE_API_KEY" {self._server.url}/collections/{kept}`'
        )

    # -- after the drop --------------------------------------------------------------------------------

    def finish(self) -> None:
        """Everything after the drop. Nothing here is given up half-way for a Ctrl-C: the collection is away.

        Raises:
            CutOverStopped: documents cannot be copied back, or the application keeps getting in the way.
        """
        with self._server.unstoppable():
            self._put_in_place()
        self._bring_up_to_date()

    def _put_in_place(self) -> None:
        mark, keeper = self._builder.mark, self._builder.keeper
        if mark.phase != "done":
            if not mark.whole_at:
                self._successor.stand_up()
                self._outcome.notes += hand_on(self._server, self._shadow, self._name)
                self._copy_back()
                keeper.write(whole_at=time.time())
            away = self._builder.mark.whole_at - self._builder.mark.dropped_at
            self._outcome.downtime_seconds = (self._outcome.downtime_seconds or 0.0) + away
            self._outcome.unseen = self._builder.mark.unseen
            self._renew_references()
            self._check()
            keeper.write(phase="done")
        self._clean_up()

    def _copy_back(self) -> None:
        """Copy the shadow's documents back, in their order; a document that is there already is the newer one."""
        context, builder = self._context, self._builder
        total = self._server.count(self._shadow)
        self._task.enter("copying back", total)
        copying = CopyBack(self._task, builder.keeper, self._watch)
        writes = bool(self._watch.seen)
        with context.console.progress(f"  Copying {self._name}", total) as bar:
            copying.run(bar.update)
        if writes or copying.left_out:
            self._outcome.notes.append(
                f"the application wrote to {self._name!r} while it was filled; what it wrote stands, and what it then "
                f"deleted stays deleted, unless both happened within {self._watch.longest_gap * 1000:.0f} ms"
            )
        if copying.refused and not context.options.allow_partial:
            self._outcome.failures |= failures_of(copying.refused)
            document_id, rejected = next(iter(copying.refused.items()))
            raise CutOverStopped(
                f"{len(copying.refused)} documents cannot be copied back, {document_id!r} among them "
                f"({rejected.reason}); they are in {self._shadow!r} and in the backup; mend the cause and run again"
            )
        if copying.refused:
            self._write_refused(copying.refused)

    def _renew_references(self) -> None:
        """The joins of other collections lead to the right documents again."""
        try:
            self._outcome.notes += renew_references_to(self._server, self._name, but=self._shadow)
        except WrongJoins as error:
            raise CutOverStopped(str(error)) from error
        self._outcome.notes += self._referring().gone()

    def _referring(self) -> Referring:
        folder = self._context.home / "runs" / self._builder.mark.run
        return Referring(self._server, self._name, self._shadow, folder)

    def _check(self) -> None:
        """The schema is the wanted one, and nothing of the shadow's is missing but what was deleted since."""
        self._server.settle()
        found, wanted = get_exact(self._server, self._name), self._server.collection(self._shadow)
        if found is None or wanted is None:
            raise CutOverStopped(f"collection {self._name!r} or its shadow went away during the cut-over")
        if differences := schema_differences(wanted, found):
            raise CutOverStopped(f"the schema of {self._name!r} is not as it was: {'; '.join(differences)}")
        there = values_of(self._server, self._name, "id") | self._uncopied.keys()
        if missing := sorted(values_of(self._server, self._shadow, "id") - there):
            self._outcome.notes.append(
                f"{len(missing)} documents were deleted while they were copied back, {missing[0]!r} among them"
            )

    def _clean_up(self) -> None:
        """No mark on the collection, no shadow: the last steps, in this order."""
        self._server.settle()
        found = get_exact(self._server, self._name)
        if found is None:
            raise CutOverStopped(f"collection {self._name!r} went away during the cut-over; its shadow is kept")
        if MARK in (found.get("metadata") or {}):
            set_role(self._server, self._name, own_metadata(found), None)
        ledger, source = self._context.ledger, self._server.address
        if ledger.count_documents(source, self._shadow):
            ledger.move_documents(source, self._shadow, self._name, field=self._task.field)
        self._server.delete_collection(self._shadow)

    def _bring_up_to_date(self) -> None:
        """Passes in place: proof that every eligible document has its vector, and vectors for what is new."""
        source, outcome = self._task.source, self._outcome
        if self._builder.mark.fingerprint != source.fingerprint:
            # An earlier run's target: finished as it was begun; the run then migrates to its own.
            outcome.complete = True
            return
        passed(self._task)
        passes = Passes(self._task, self._server.collection(self._name) or self._task.plan.schema, doing="Checking")
        try:
            passes.run(self._server.count(self._name, source.filter_by))
        finally:
            outcome.failures |= failures_of(self._uncopied)
