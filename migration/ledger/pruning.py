"""The part of the ledger about taking things out of it: runs with all that is known of them, and models.

What is asked for was decided on an earlier look; by then another process may have begun or resumed a run. So each is
looked at once more, in the transaction that removes it, and nothing goes where it would explain a vector.
"""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Table, delete, func, or_, select

from migration.ledger.errors import LedgerError
from migration.ledger.records import UNFINISHED, ModelRecord
from migration.ledger.schema import document_embeddings, embedding_models, metadata, runs
from migration.ledger.store import Store, alone

_PAGE = 1000
"""Ids in one statement at most."""


class Pruning(Store):
    """What nothing needs any more."""

    def documents_by_run(self) -> dict[str, int]:
        """How many documents carry a vector that a run wrote or recognised, by the id of the run."""
        columns = document_embeddings.c
        # Counted before the ids are joined, so that the count runs over the index alone.
        counts = (
            select(columns.run_number, func.count().label("documents"))
            .where(columns.run_number.is_not(None))
            .group_by(columns.run_number)
            .subquery()
        )
        query = select(runs.c.id, counts.c.documents).join(counts, counts.c.run_number == runs.c.number)
        with self._reading() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def delete_runs(self, run_ids: Collection[str]) -> None:
        """Remove runs, with their starts, collections, failures, verdicts and metrics. All or none.

        Raises LedgerError where one of them did not come to its end, explains a vector that stands, or undoes or is
        undone by a run that would stay.
        """
        every = list(run_ids)
        pages = [every[start : start + _PAGE] for start in range(0, len(every), _PAGE)]
        with self._writing() as connection:
            alone(connection, runs)
            for page in pages:
                self._refuse_needed(connection, page, set(every))
            for page in pages:
                for table in _tables_about_runs():
                    connection.execute(delete(table).where(table.c.run_id.in_(page)))
            for page in pages:
                connection.execute(delete(runs).where(runs.c.id.in_(page)))

    def _refuse_needed(self, connection: Connection, page: Collection[str], every: Collection[str]) -> None:
        explains = select(document_embeddings.c.run_number).where(document_embeddings.c.run_number == runs.c.number)
        needed = or_(runs.c.state.in_(UNFINISHED), explains.exists())
        query = select(runs.c.name).where(runs.c.id.in_(page), needed)
        tied = select(runs.c.name, runs.c.id, runs.c.reverts_run_id).where(
            runs.c.reverts_run_id.is_not(None), or_(runs.c.id.in_(page), runs.c.reverts_run_id.in_(page))
        )
        names = [row[0] for row in connection.execute(query)]
        names += [name for name, run_id, reverts in connection.execute(tied) if (run_id in every) != (reverts in every)]
        if names:
            raise LedgerError(f"nothing was removed: run {names[0]} is needed by now; ask again")

    def delete_model(self, model: ModelRecord) -> None:
        """Remove a model that no document carries and no run in the ledger was for.

        Raises LedgerError where one does.
        """
        columns = document_embeddings.c
        with self._writing() as connection:
            alone(connection, runs)
            carrying = (
                select(columns.model_number)
                .join(embedding_models, embedding_models.c.number == columns.model_number)
                .where(embedding_models.c.id == model.id)
            )
            used = select(runs.c.name).where(runs.c.model_id == model.id).order_by(runs.c.number.desc())
            if connection.execute(select(carrying.exists())).scalar():
                raise LedgerError(f"the model {model.name} stays: documents carry it; `kai-migrate models` says which")
            if (name := connection.execute(used.limit(1)).scalar()) is not None:
                raise LedgerError(
                    f"the model {model.name} stays: the ledger has runs to it, the latest {name}; remove them first "
                    "with `kai-migrate ledger prune`"
                )
            connection.execute(delete(embedding_models).where(embedding_models.c.id == model.id))


def _tables_about_runs() -> list[Table]:
    """Those whose rows belong to a run, each after those that refer to it."""

    def belongs(table: Table) -> bool:
        column: Any = table.c.get("run_id")
        return column is not None and any(key.column is runs.c.id for key in column.foreign_keys)

    return [table for table in reversed(metadata.sorted_tables) if belongs(table)]
