"""What the ledger says about runs and models, put together for a reader. Values only, no layout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from kai.settings import Settings, load_settings
from migration.ledger import (
    CollectionRunRecord,
    EvaluationRecord,
    FailureReason,
    FailureRecord,
    Ledger,
    MetricsRecord,
    ModelRecord,
    ModelUse,
    RunRecord,
    RunSummary,
    StartRecord,
    VerificationRecord,
)
from migration.ledger.records import RunKind
from migration.ledger.trends import WINDOW
from migration.operations.setup import open_ledger
from migration.operations.trends import Series, Trends, last_of_each, series_of, trends_of
from migration.strategies.refusals import Refused

_LOOKED_AT_FOR_TRENDS: Final = 20 * WINDOW
"""Runs read for the trends: those of other models and collections lie between, and those that had nothing to do."""


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
        failure_reasons: why documents failed, the most frequent reason first.
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
    failure_reasons: tuple[FailureReason, ...]


@dataclass(frozen=True, slots=True)
class History:
    """The latest runs, latest first, and how they develop: all together, and each model and collection by itself."""

    runs: tuple[RunLine, ...]
    trends: Trends
    series: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class RunDetails:
    """Everything about a run.

    Attributes:
        reverts: name of the run that it undoes.
        collections: each collection as the run left it; of one that was resumed, the last time counts.
        failures: the failed documents that were asked for.
        failures_total: how many there are.
        provider_server: base URL of the provider, without login; None where nobody was asked, or nobody noted it.
        model_digest: what that server called the model; None where it does not say.
        metrics: first those of the run as a whole, then those of its collections.
        starts: how it was started, and each time that it was gone on with; the last one last.
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
    starts: tuple[StartRecord, ...]
    provider_server: str | None = None
    model_digest: str | None = None


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


def list_runs(
    limit: int = 20,
    *,
    model: str | None = None,
    collection: str | None = None,
    since: datetime | None = None,
    kinds: Collection[RunKind] = (),
    settings: Settings | None = None,
) -> History:
    """The latest runs, and the trends, which do not depend on how many are listed.

    Args:
        limit: most runs to list.
        model: only runs to this one: `model`, `family/model` or `family/model/dimensions`.
        collection: only runs over this one, by its real name.
        since: only runs begun then or later.
        kinds: only runs of these kinds; empty for all.
        settings: where the ledger is; None reads `.env` and the environment.

    Raises:
        Refused: the ledger cannot be opened, or knows no such model.
        LedgerError: it cannot be read.
    """
    with open_ledger(settings or load_settings(needs=())) as ledger:
        models = {each.id for each in ledger.find_models(model)} if model else None
        if models is not None and not models:
            raise Refused(f"--model: the ledger knows no model {model!r}; `kai-migrate models` lists them")
        found = [
            run
            for run in ledger.runs()
            if (not kinds or run.kind in kinds)
            and (since is None or run.started_at >= since)
            and (models is None or run.model_id in models)
            and (collection is None or collection in run.source.get("collections", ()))
        ]
        summaries = ledger.summarise(found[: max(limit, _LOOKED_AT_FOR_TRENDS)])
    series = series_of(summaries, collection)
    return History(tuple(map(_line, summaries[:limit])), trends_of(series), series)


def list_evaluations(
    limit: int = 20,
    *,
    model: str | None = None,
    collection: str | None = None,
    since: datetime | None = None,
    settings: Settings | None = None,
) -> tuple[EvaluationRecord, ...]:
    """What evaluations have found, the latest first.

    Args:
        limit: most to list.
        model: only of this new one: `model`, `family/model` or `family/model/dimensions`.
        collection: only over this one, by its real name.
        since: only those made then or later.
        settings: where the ledger is; None reads `.env` and the environment.

    Raises:
        Refused: the ledger cannot be opened.
        LedgerError: it cannot be read.
    """
    with open_ledger(settings or load_settings(needs=())) as ledger:
        return tuple(ledger.evaluations(limit, model=model, collection=collection, since=since))


def describe_run(
    name: str, failures: int | None = 20, wrong_documents: int | None = None, *, settings: Settings | None = None
) -> RunDetails:
    """Everything about a run.

    Args:
        name: of the run, its alias, or `latest`.
        failures: most failed documents to list; None for all of them.
        wrong_documents: most documents that failed a check to list of each verification; None for all of them.
        settings: where the ledger is; None reads `.env` and the environment.

    Raises:
        Refused: there is no such run, or the ledger cannot be opened.
        LedgerError: several names begin so, or the ledger cannot be read.
    """
    with open_ledger(settings or load_settings(needs=())) as ledger:
        return details_of(ledger, find_run(ledger, name), failures, wrong_documents)


def details_of(
    ledger: Ledger, run: RunRecord, failures: int | None = 20, wrong_documents: int | None = None
) -> RunDetails:
    """Everything about a run of a ledger that is open."""
    summary = ledger.summarise([run])[0]
    return RunDetails(
        run=_line(summary),
        reverts=name_of(ledger, run.reverts_run_id),
        parameters=run.parameters,
        source=run.source,
        host=run.host,
        pid=run.pid,
        collections=last_of_each(summary.collections),
        failures_total=summary.failures,
        failures=tuple(ledger.failures(run.id, limit=failures)),
        verifications=tuple(ledger.verifications(run.id, wrong_documents)),
        metrics=tuple(ledger.metrics(run.id)),
        provider_server=run.provider_server,
        model_digest=run.model_digest,
        starts=tuple(ledger.starts(run.id)),
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
    run, metrics, collections = summary.run, summary.metrics, last_of_each(summary.collections)
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
        failure_reasons=summary.reasons,
    )


def name_of(ledger: Ledger, run_id: str | None) -> str | None:
    """The name of the run with this id; None where there is none."""
    run = ledger.find_run(run_id) if run_id else None
    return run.name if run else None
