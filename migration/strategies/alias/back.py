"""The way back while both collections stand: the aliases first, then what was written since, then the new one goes.

From the first moved alias on the old collection serves again, as it was left. What the application wrote to the new
one since the swap is carried to it, and never over what it writes there from now on; deletions, too.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from kai.collections import EmbeddedCollection
from kai.vectors import AnyVector
from migration.documents.fetch import Document, Page
from migration.embedding.cache import CacheError, VectorCache
from migration.ledger import DocumentRecord, ModelRecord
from migration.runtime.console import named
from migration.strategies.alias.base import Base, remove_base
from migration.strategies.alias.carry import Carry, carry_until_even
from migration.strategies.alias.state import Pair, find_pair, move_aliases
from migration.strategies.context import RunContext, StrategyStopped, failures_of
from migration.strategies.curation import take_along
from migration.strategies.plan import CollectionPlan
from migration.strategies.shadow_state import MarkKeeper, get_exact, own_metadata, set_role
from migration.strategies.sources import Known, VectorSource, Wanted, row_of
from migration.strategies.task import Task

_PASSES: Final = 12


class SwapBack:
    """One collection's way back.

    Args:
        task: whose plan names the old collection, and as its successor the new one; its source has the vectors of the
            old model.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._server = task.server
        self._old, self._new = task.name, task.plan.successor
        self._outcome = task.outcome

    def run(self) -> CollectionPlan:
        """From wherever it stands to the old collection alone; the plan, of what stands then.

        Raises:
            StrategyStopped: documents cannot be carried back, and the new collection is kept for them.
        """
        task, server = self._task, self._server
        self._outcome.complete = False
        server.settle()
        pair = find_pair(server.collections(), self._new)
        if pair is None or pair.mark is None or not pair.is_swapped:
            self._outcome.complete = True  # All of it was done before a run that died could note that.
            return task.plan
        if pair.mark.held_elsewhere:
            raise StrategyStopped(pair.mark.holder)
        if pair.old_schema is None:
            raise StrategyStopped(f"collection {self._old!r} is gone")
        keeper = MarkKeeper(server, pair.mark, self._new)
        keeper.write(phase=pair.mark.phase if pair.mark.phase == "reverted" else "reverting")
        with keeper:
            if keeper.mark.phase == "reverting" and not self._revert(pair, keeper):
                keeper.let_go()
                return task.plan
        self._remove()
        self._outcome.success = server.count(self._old, task.source.filter_by)
        self._outcome.complete = True
        return task.plan

    def _revert(self, pair: Pair, keeper: MarkKeeper) -> bool:
        """The old collection serves, with all that was written; False if the run was stopped before."""
        task, server, outcome = self._task, self._server, self._outcome
        task.enter("swapping back")
        with server.unstoppable():
            outcome.notes += move_aliases(
                server, keeper.mark.aliases, self._new, self._old, lambda names: keeper.write(aliases=names)
            )
        take_along(server, self._new, self._old)
        base = Base(server, self._new)
        base.open(keeper.mark.run)
        # Read from the new one, for a collection of the old one's schema.
        carry = Carry(task.over(self._new), self._old, base)
        task.enter("carrying back")
        is_even = carry_until_even(task, carry, _PASSES, lambda: time.sleep(server.lag))
        if task.is_stopped:
            return False
        outcome.written += carry.carried
        outcome.failures |= failures_of(carry.refused)
        if carry.refused:
            document_id, rejected = next(iter(carry.refused.items()))
            raise StrategyStopped(
                f"{len(carry.refused)} documents cannot be carried back, {document_id!r} among them "
                f"({rejected.reason}); {self._old!r} serves; they are in {self._new!r}: mend them there and run again"
            )
        if not is_even:
            raise StrategyStopped(f"{self._new!r} is written to by its own name all the time; stop that and run again")
        self._tell(carry)
        self._give_back_metadata(pair)
        keeper.write(phase="reverted")
        return True

    def _tell(self, carry: Carry) -> None:
        if carry.carried:
            self._outcome.notes.append(
                f"{carry.carried} documents that were written or deleted since the swap were carried to {self._old!r}"
            )
        self._outcome.notes += self._task.source.notes()
        self._outcome.notes += named(
            dict.fromkeys(sorted(carry.left)),
            f"were written to in {self._new!r} and, since the way back, in {self._old!r}, whose content stands",
        )

    def _give_back_metadata(self, pair: Pair) -> None:
        """What the application said in the new one's metadata stays said; which model the vectors are from does not."""
        new, old = (
            own_metadata(schema or {}) or {} for schema in (get_exact(self._server, self._new), pair.old_schema)
        )
        signature = {key: value for key, value in old.items() if key == "embedding"}
        said = {key: value for key, value in new.items() if key != "embedding"}
        set_role(self._server, self._old, said | signature, None)

    def _remove(self) -> None:
        server = self._server
        remove_base(server, self._new)
        server.delete_collection(self._new)
        self._task.context.ledger.forget_collection(server.address, self._new, field=self._task.field)


class Remembered(VectorSource):
    """Vectors of a model that is not at hand, as far as the vector cache remembers them.

    Args:
        context: says which run it is.
        collection: text template, embedding field, filter.
        cache: of vectors; None for none.
        model: whose vectors they are; None where it is not known.
    """

    def __init__(
        self,
        context: RunContext,
        collection: EmbeddedCollection,
        cache: VectorCache | None,
        model: ModelRecord | None,
    ) -> None:
        self._context = context
        self._cache = cache
        self._model = model
        self.collection = collection
        self.filter_by = collection.filter_by
        self.fingerprint = ""
        self.model_id = model.id if model else None
        self._without: dict[str, None] = {}

    def current(self, document: Document, record: DocumentRecord | None) -> bytes | None:
        """Never asked: nothing of it stands yet."""
        return None

    def wanted(self, page: Page, known: Known, *, again: bool = False) -> Wanted:
        """What the cache has for the documents' texts, and none for the others."""
        hashes = {document.id: self.text_hash(document) for document in page}
        cached: Mapping[bytes, AnyVector] = {}
        if self._cache is not None and self._model is not None:
            try:
                cached = self._cache.get_many(
                    self._model.fingerprint, list(set(hashes.values())), self._model.dimensions
                )
            except CacheError:
                cached = {}  # What it remembers is worth having, and not worth stopping for.
        self._without.update((id_, None) for id_, digest in hashes.items() if digest not in cached)
        return {id_: cached.get(digest) for id_, digest in hashes.items()}

    def carries(self, document: Document, vector: AnyVector | None, *, again: bool) -> bool:
        """Never asked: see `current`."""
        return False

    def rows(
        self, page: Page, stored: Mapping[str, bytes], contents: Mapping[str, bytes | None], known: Known
    ) -> dict[str, DocumentRecord]:
        """Of the model, where it has a vector."""
        return {
            d.id: row_of(d, self.text_hash(d), stored[d.id], self.model_id, self._context.run.id, contents.get(d.id))
            for d in page
            if d.id in stored
        }

    def notes(self) -> list[str]:
        """Which documents have no vector now."""
        return named(
            self._without,
            "that were written since have no vector of the earlier model, which is not configured; the application, or "
            "a migration to that model, gives them one",
        )
