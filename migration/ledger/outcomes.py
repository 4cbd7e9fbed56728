"""The part of the ledger about how runs went: failures, verifications, metrics, and the history of it all."""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, func, insert, select

from migration.ledger.records import (
    CheckResult,
    FailureReason,
    FailureRecord,
    MetricsRecord,
    ModelRecord,
    RunRecord,
    RunSummary,
    Verdict,
    VerificationRecord,
    WrongDocument,
    verdict_of,
)
from migration.ledger.runs import Runs, collections_of
from migration.ledger.schema import embedding_models, failures, metrics, verification_results, wrong_documents
from migration.ledger.store import new_id, now, plain_text, records, records_by_run, upsert

_PAGE: Final = 1000
"""Rows written at once, which bounds memory."""

_NUMBER: Final = re.compile(r"\d+")
"""Of a text's length, say: by it, one reason would look like as many as there are documents."""


class Outcomes(Runs):
    """What failed, what was checked, what was measured."""

    def record_failures(self, run_id: str, collection: str, rows: Iterable[FailureRecord]) -> None:
        """Remember documents that failed; a later failure of the same document replaces the earlier one.

        Of each record, document, stage, reason and time (None: now) are kept. Reasons are cut at 1000
        characters.
        """
        moment = now()
        # By document: PostgreSQL refuses a statement that would touch the same row twice.
        values = {
            row.document_id: asdict(row)
            | {
                "id": new_id(),
                "run_id": run_id,
                "collection": collection,
                "reason": plain_text(row.reason),
                "at": row.at or moment,
            }
            for row in rows
        }
        if values:
            with self._writing() as connection:
                statement = upsert(connection.dialect, failures, ("run_id", "collection", "document_id"))
                connection.execute(statement, list(values.values()))

    def failures(self, run_id: str, collection: str | None = None, limit: int | None = None) -> list[FailureRecord]:
        """Documents that failed in a run and have not succeeded since, by collection and id."""
        query = select(failures).where(failures.c.run_id == run_id)
        if collection is not None:
            query = query.where(failures.c.collection == collection)
        return self._read(FailureRecord, query.order_by(failures.c.collection, failures.c.document_id).limit(limit))

    def clear_failure(self, run_id: str, collection: str, document_ids: str | Sequence[str]) -> int:
        """Forget failures of documents that succeeded after all; how many there were."""
        ids = [document_ids] if isinstance(document_ids, str) else list(document_ids)
        if not ids:
            return 0
        with self._writing() as connection:
            of_these = (failures.c.collection == collection, failures.c.document_id.in_(ids))
            return connection.execute(delete(failures).where(failures.c.run_id == run_id, *of_these)).rowcount

    def record_verification(
        self, run_id: str | None, collection: str, verdict: Verdict, checks: Iterable[CheckResult]
    ) -> VerificationRecord:
        """Remember the verdict over a collection, and every document that failed a check.

        `run_id` is None where no run is known. What was expected and found is cut at 1000 characters.
        """
        made, identity = tuple(checks), new_id()
        wrong = [(check.name, each) for check in made for each in check.wrong_documents]
        record = VerificationRecord(collection, verdict, made, run_id, now(), len(wrong))
        row = {"id": identity, "run_id": run_id, "collection": collection, "verdict": verdict, "at": record.at}
        with self._writing() as connection:
            connection.execute(insert(verification_results), row | {"checks": [_numbers(check) for check in made]})
            for start in range(0, len(wrong), _PAGE):
                values = [
                    {
                        "verification_id": identity,
                        "number": number,
                        "check_name": name,
                        "document_id": each.document_id,
                        "expected": plain_text(each.expected),
                        "found": plain_text(each.found),
                    }
                    for number, (name, each) in enumerate(wrong[start : start + _PAGE], start)
                ]
                connection.execute(insert(wrong_documents), values)
        return record

    def verifications(self, run_id: str, wrong: int | None = None) -> list[VerificationRecord]:
        """All verdicts over a run's collections, the oldest first, each with at most so many wrong documents."""
        table = verification_results.c
        query = select(verification_results).where(table.run_id == run_id).order_by(table.at, table.collection)
        with self._reading() as connection:
            return [_verification(connection, row, wrong) for row in connection.execute(query).all()]

    def record_metrics(self, run_id: str, measured: MetricsRecord) -> None:
        """Remember how a run, or one collection of it, went, in place of what was known of that."""
        same = metrics.c.collection.is_not_distinct_from(measured.collection)
        with self._writing() as connection:
            connection.execute(delete(metrics).where(metrics.c.run_id == run_id, same))
            connection.execute(insert(metrics), {"id": new_id(), "run_id": run_id, **asdict(measured)})

    def metrics(self, run_id: str) -> list[MetricsRecord]:
        """What was measured of a run: first the whole, then its collections by name."""
        with self._reading() as connection:
            return _metrics_of(connection, [run_id]).get(run_id, [])

    def history(self, limit: int | None = 20) -> list[RunSummary]:
        """The latest runs, latest first, each with model, collections, failures, verdict and metrics."""
        return self.summarise(self.runs(limit))

    def summarise(self, listed: Sequence[RunRecord]) -> list[RunSummary]:
        """These runs, in this order, each with model, collections, failures, verdict and metrics."""
        with self._reading() as connection:
            ids = [run.id for run in listed]
            model_ids = {run.model_id for run in listed if run.model_id}
            known = select(embedding_models).where(embedding_models.c.id.in_(model_ids))
            models = {model.id: model for model in records(connection, ModelRecord, known)}
            collections = collections_of(connection, ids)
            reasons = _reasons(connection, ids)
            verdicts = _verdicts(connection, ids)
            measured = _metrics_of(connection, ids)
        return [
            RunSummary(
                run,
                models.get(run.model_id or ""),
                tuple(collections.get(run.id, ())),
                sum(each.documents for each in reasons.get(run.id, ())),
                verdicts.get(run.id),
                next((entry for entry in measured.get(run.id, ()) if entry.collection is None), MetricsRecord()),
                {entry.collection: entry for entry in measured.get(run.id, ()) if entry.collection is not None},
                tuple(reasons.get(run.id, ())),
            )
            for run in listed
        ]


def _reasons(connection: Connection, run_ids: Collection[str]) -> dict[str, list[FailureReason]]:
    """Why documents of these runs failed, by run, the most frequent reason first."""
    of_one = (failures.c.run_id, failures.c.stage, failures.c.reason)
    query = select(*of_one, func.count()).where(failures.c.run_id.in_(run_ids)).group_by(*of_one)
    alike: dict[tuple[str, str, str], dict[str, int]] = {}
    for run_id, stage, reason, documents in connection.execute(query):
        alike.setdefault((run_id, stage, _NUMBER.sub("#", reason)), {})[reason] = documents
    found: dict[str, list[FailureReason]] = {}
    for (run_id, stage, pattern), by_reason in alike.items():
        reason = pattern if len(by_reason) > 1 else next(iter(by_reason))
        found.setdefault(run_id, []).append(FailureReason(stage, reason, sum(by_reason.values())))
    return {
        run_id: sorted(reasons, key=lambda each: (-each.documents, each.stage, each.reason))
        for run_id, reasons in found.items()
    }


def _verdicts(connection: Connection, run_ids: Collection[str]) -> dict[str, Verdict]:
    """The verdict over each run: of every collection the latest one counts."""
    table = verification_results.c
    query = select(table.run_id, table.collection, table.verdict).where(table.run_id.in_(run_ids)).order_by(table.at)
    latest: dict[str, dict[str, Verdict]] = {}
    for run_id, collection, verdict in connection.execute(query):
        latest.setdefault(run_id, {})[collection] = verdict
    return {run_id: verdict_of(verdicts.values()) for run_id, verdicts in latest.items()}


def _numbers(check: CheckResult) -> dict[str, Any]:
    """A check as the ledger's JSON has it: an older program takes these names and no other."""
    names = ("name", "passed", "count", "failed", "confidence")
    return {name: getattr(check, name) for name in names} | {"detail": plain_text(check.detail)}


def _verification(connection: Connection, row: Row[Any], most: int | None) -> VerificationRecord:
    entries = wrong_documents.c
    of_this = entries.verification_id == row.id
    total = connection.execute(select(func.count()).select_from(wrong_documents).where(of_this)).scalar_one()
    wrong: dict[str, list[WrongDocument]] = {}
    named = select(wrong_documents).where(of_this).order_by(entries.number).limit(most)
    for entry in connection.execute(named) if total else ():
        wrong.setdefault(entry.check_name, []).append(WrongDocument(entry.document_id, entry.expected, entry.found))
    checks = (CheckResult(**check, wrong_documents=tuple(wrong.get(check["name"], ()))) for check in row.checks)
    return VerificationRecord(row.collection, row.verdict, tuple(checks), row.run_id, row.at, total)


def _metrics_of(connection: Connection, run_ids: Collection[str]) -> dict[str, list[MetricsRecord]]:
    query = select(metrics).where(metrics.c.run_id.in_(run_ids))
    whole_first = (metrics.c.collection.is_not(None), metrics.c.collection)
    return records_by_run(connection, MetricsRecord, query.order_by(*whole_first))
