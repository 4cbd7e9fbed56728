"""The part of the ledger about models that were compared by questions, whether or not a run used them."""

from collections.abc import Collection, Sequence
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import insert, select

from migration.ledger.records import EvaluationRecord
from migration.ledger.schema import evaluations
from migration.ledger.store import Store, new_id, without_secrets


class Evaluations(Store):
    """What evaluations have found."""

    def record_evaluations(self, found: Sequence[EvaluationRecord]) -> None:
        """Remember these, all or none; at least one."""
        rows = [without_secrets(asdict(each)) | {"id": new_id(), "at": each.at} for each in found]
        with self._writing() as connection:
            connection.execute(insert(evaluations), rows)

    def evaluations(
        self,
        limit: int | None = None,
        *,
        model: str | None = None,
        collection: str | None = None,
        since: datetime | None = None,
        between: Collection[str] = (),
    ) -> list[EvaluationRecord]:
        """What evaluations have found, the latest first.

        Args:
            limit: most of them.
            model: only of this new model: `model`, `family/model` or `family/model/dimensions`.
            collection: only in this one, by its real name.
            since: only those then or later.
            between: only where both models, as family/model/dimensions, are among these; empty for any.
        """
        columns = evaluations.c
        query = select(evaluations).order_by(columns.at.desc(), columns.id)
        if collection is not None:
            query = query.where(columns.collection == collection)
        if since is not None:
            query = query.where(columns.at >= since)
        if between:
            query = query.where(columns.old_model.in_(between), columns.new_model.in_(between))
        found = self._read(EvaluationRecord, query)
        return [each for each in found if model is None or model in _names_of(each.new_model)][:limit]


def _names_of(model: str) -> tuple[str, ...]:
    """What a model may be called: with or without its family and its dimensions; either may hold a slash."""
    without_dimensions = model.rpartition("/")[0]
    return model, without_dimensions, without_dimensions.partition("/")[2]
