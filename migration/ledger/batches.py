"""The part of the ledger about batches of texts that a provider embeds within a day."""

import socket
from typing import Any

from sqlalchemy import select, update

from migration.ledger.records import OPEN_BATCHES, BatchRecord, Json
from migration.ledger.schema import embedding_batches
from migration.ledger.store import Store, insert, new_id, now, plain_text

_LONGEST_REASON = 300


class Batches(Store):
    """Which batches a provider has, may have, or is still to get."""

    def intend_batch(self, batch: BatchRecord) -> BatchRecord:
        """Note a batch before anything of it reaches the provider; one of that name that is noted already stays."""
        moment = now()
        with self._writing() as connection:
            row = insert(connection.dialect, embedding_batches).values(
                id=new_id(),
                name=batch.name,
                model=batch.model,
                fingerprint=batch.fingerprint,
                provider_server=batch.provider_server,
                state=batch.state,
                texts=batch.texts,
                tokens=batch.tokens,
                done=0,
                failed=0,
                file=batch.file,
                failures={},
                host=socket.gethostname(),
                created_at=moment,
                updated_at=moment,
            )
            connection.execute(row.on_conflict_do_nothing(index_elements=["name"]))
        return next(each for each in self.batches(batch.fingerprint) if each.name == batch.name)

    def update_batch(self, name: str, *, failures: Json | None = None, **changes: Any) -> None:
        """Note what has become of a batch; columns that are not named stay as they are."""
        if failures is not None:
            changes["failures"] = {digest: plain_text(why, _LONGEST_REASON) for digest, why in failures.items()}
        for column in ("reason", "provider_state"):
            if changes.get(column):
                changes[column] = plain_text(changes[column], _LONGEST_REASON)
        with self._writing() as connection:
            named = update(embedding_batches).where(embedding_batches.c.name == name)
            connection.execute(named.values(updated_at=now(), **changes))

    def batches(self, fingerprint: str | None = None, *, only_open: bool = False) -> list[BatchRecord]:
        """Batches, the oldest first; of one model by its fingerprint, or of all, and all or those not at their end."""
        columns = embedding_batches.c
        query = select(embedding_batches).order_by(columns.created_at, columns.name)
        if fingerprint is not None:
            query = query.where(columns.fingerprint == fingerprint)
        if only_open:
            query = query.where(columns.state.in_(OPEN_BATCHES))
        return self._read(BatchRecord, query)
