"""What the ledger says about runs and models, put together for a reader. Values only, no layout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from kai.settings import Settings, load_settings
from migration.ledger import (
    CollectionRunRecord,
    FailureRecord,
    Ledger,
    MetricsRecord,
    ModelRecord,
    ModelUse,
    RunRecord,
    RunSummary,
    Trend,
    VerificationRecord,
    trend,
)
from migration.ledger.trends import WINDOW
from migration.operations.setup import open_ledger
from migration.strategies.refusals import Refused

_LOOKED_AT_FOR_TRENDS: Final = 5 * WINDOW
"""Runs read for the trends: rollbacks, backups and runs that had nothing to do lie between those that count."""


@dataclass(frozen=True, slots=True)
class RunLine:
    """A run as a history shows it.

    Attributes:
        collections: their names, in the order in which they were begun.
        eligible: documents that were to be done.
        documents: documents that were done.
        failed: documents that could not be.
        seconds: how long it worked; from start to finish where nobody measured.
        documents_per_second: as measured, else documents by seconds.
        verdict: of the verification; None where there was none.
        metrics: what was measured of the run as a whole.
    """

    id: str
    name: str
    kind: str
    alias: str | None
    description: str | None
    state: str
    verdict: str | None
    model: ModelRecord | None
    collections: tuple[str, ...]
    eligible: int
    documents: int
    failed: int
    started_at: datetime
    finished_at: datetime | None
    seconds: float | None
    documents_per_second: float | None
    cost_usd: float | None
    metrics: MetricsRecord


@dataclass(frozen=True, slots=True)
class Trends:
    """How the last migrations develop: documents a second, share that failed, cost of a document."""

    speed: Trend
    failures: Trend
    cost: Trend


@dataclass(frozen=True, slots=True)
class History:
    """The latest runs, latest first, and how they develop."""

    runs: tuple[RunLine, ...]
    trends: Trends


@dataclass(frozen=True, slots=True)
class RunDetails:
    """Everything about a run.

    Attributes:
        reverts: name of the run that it undoes.
        collections: each collection as the run left it; of one that was resumed, the last time counts.
        failures: the failed documents that were asked for.
        failures_total: how many there are.
        metrics: first those of the run as a whole, then those of its collections.
    """

    run: RunLine
    reverts: str | None
    parameters: Mapping[str, Any]
    source: Mapping[str, Any]
    host: str
    pid: int
    collections: tuple[CollectionRunRecord, ...]
    failures_total: int
    failures: tuple[FailureRecord, ...]
    verifications: tuple[VerificationRecord, ...]
    metrics: tuple[MetricsRecord, ...]


@dataclass(frozen=True, slots=True)
class Models:
    """The models, and the collections (`server/collection`) in which vectors of several models stand."""

    models: tuple[ModelUse, ...]
    mixed: tuple[str, ...]


def find_run(ledger: Ledger, name: str) -> RunRecord:
    """The run of this name, alias or unambiguous beginning of a name; `latest` is the one begun last.

    Raises:
        Refused: there is none.
        LedgerError: several names begin so.
    """
    run = ledger.find_run(name)
    if run is None:
        problem = "no run at all" if not ledger.runs(1) else f"no run {name!r}; `kai-migrate history` lists them"
        raise Refused(f"RUN: the ledger {ledger.place} holds {problem}")
    return run


def list_runs(limit: int = 20, *, settings: Settings | None = None) -> History:
    """The latest runs, and the trends, which do not depend on how many are listed.

    Args:
        limit: most runs to list.
        settings: where the ledger is; None reads `.env` and the environment.

    Raises:
        Refused: the ledger cannot be opened.
        LedgerError: it cannot be read.
    """
    with open_ledger(settings or load_settings(needs=())) as ledger:
        lines = [_line(summary) for summary in ledger.history(max(limit, _LOOKED_AT_FOR_TRENDS))]
    return History(tuple(lines[:limit]), trends_of(lines))


def trends_of(lines: list[RunLine]) -> Trends:
    """How the migrations among these runs, latest first, develop.

    Looks at those that came to their end and had documents. A run that embedded nothing because everything
    was current says nothing about speed or cost.
    """
    ended = [
        line
        for line in reversed(lines)
        if line.kind == "migrate" and line.state in ("completed", "partial") and line.documents + line.failed
    ]
    worked = [line for line in ended if line.documents and line.metrics.tokens != 0]
    speeds = [line.documents_per_second for line in worked if line.documents_per_second is not None]
    costs = [line.cost_usd / line.documents for line in worked if line.cost_usd is not None]
    shares = [line.failed / (line.documents + line.failed) for line in ended]
    return Trends(trend(speeds, True), trend(shares, False), trend(costs, False))


def describe_run(name: str, failures: int | None = 20, *, settings: Settings | None = None) -> RunDetails:
    """Everything about a run.

    Args:
        name: of the run, its alias, or `latest`.
        failures: most failed documents to list; None for all of them.
        settings: where the ledger is; None reads `.env` and the environment.

    Raises:
        Refused: there is no such run, or the ledger cannot be opened.
        LedgerError: several names begin so, or the ledger cannot be read.
    """
    with open_ledger(settings or load_settings(needs=())) as ledger:
        run = find_run(ledger, name)
        summary = ledger.summarise([run])[0]
        return RunDetails(
            run=_line(summary),
            reverts=name_of(ledger, run.reverts_run_id),
            parameters=run.parameters,
            source=run.source,
            host=run.host,
            pid=run.pid,
            collections=_last_of_each(summary),
            failures_total=summary.failures,
            failures=tuple(ledger.failures(run.id, limit=failures)),
            verifications=tuple(ledger.verifications(run.id)),
            metrics=tuple(ledger.metrics(run.id)),
        )


def lines_of(ledger: Ledger, *runs: RunRecord) -> list[RunLine]:
    """These runs as the history shows them."""
    return [_line(summary) for summary in ledger.summarise(runs)]


def list_models(*, settings: Settings | None = None) -> Models:
    """Every model with the documents that carry it.

    Args:
        settings: where the ledger is; None reads `.env` and the environment.

    Raises:
        Refused: the ledger cannot be opened.
        LedgerError: it cannot be read.
    """
    with open_ledger(settings or load_settings(needs=())) as ledger:
        models = ledger.models()
    uses = [use for model in models for use in model.collections]
    places = Counter((f"{use.source}/{use.collection}", use.field) for use in uses)
    return Models(tuple(models), tuple(sorted({place for (place, _), count in places.items() if count > 1})))


def _line(summary: RunSummary) -> RunLine:
    run, metrics, collections = summary.run, summary.metrics, _last_of_each(summary)
    documents = sum(item.done for item in collections)
    # While a collection is under way, or was when its process died, only the list of failures is up to date.
    ended = all(item.state != "running" for item in collections)
    seconds = metrics.seconds if metrics.seconds is not None else run.seconds
    speed = metrics.documents_per_second
    return RunLine(
        id=run.id,
        name=run.name,
        kind=run.kind,
        alias=run.alias,
        description=run.description,
        state=run.state,
        verdict=summary.verdict,
        model=summary.model,
        collections=tuple(item.collection for item in collections),
        eligible=sum(item.eligible for item in collections),
        documents=documents,
        failed=sum(item.failed for item in collections) if ended else summary.failures,
        started_at=run.started_at,
        finished_at=run.finished_at,
        seconds=seconds,
        documents_per_second=speed if speed is not None else documents / seconds if seconds else None,
        cost_usd=metrics.cost_usd,
        metrics=metrics,
    )


def _last_of_each(summary: RunSummary) -> tuple[CollectionRunRecord, ...]:
    """A resumed run has a record for each time that a collection was taken up."""
    return tuple({item.collection: item for item in summary.collections}.values())


def name_of(ledger: Ledger, run_id: str | None) -> str | None:
    """The name of the run with this id; None where there is none."""
    run = ledger.find_run(run_id) if run_id else None
    return run.name if run else None
