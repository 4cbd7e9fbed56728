"""What the ledger says about runs, models and documents, put together for a reader. Values only, no layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import numpy as np

from kai.collections import EmbeddedCollection
from kai.models import FAMILIES, fingerprint
from kai.settings import EmbeddingSettings, Settings
from migration.embedding.embed import text_hash
from migration.ledger import (
    CollectionRunRecord,
    DocumentRecord,
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
    vector_hash,
)
from migration.ledger.trends import WINDOW
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
class Difference:
    """One measure of two runs. `change` is the second relative to the first, less 1; None where it says nothing."""

    measure: str
    first: float | str | None
    second: float | str | None
    change: float | None


@dataclass(frozen=True, slots=True)
class Models:
    """The models, and the collections (`server/collection`) in which vectors of several models stand."""

    models: tuple[ModelUse, ...]
    mixed: tuple[str, ...]


Origin = Literal[
    "current", "text changed since", "vector was overwritten by somebody else", "no vector", "not in the ledger"
]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a document's vector comes from.

    Attributes:
        status: the verdict in words.
        eligible: whether the collection's filter lets the document through.
        dimensions: length of the vector that stands there; None where there is none.
        text_hash, vector_hash: SHA-256 of what stands there now.
        recorded: what the ledger knows; None where it knows nothing.
        model, run: those that made the vector, if the ledger knows.
        configured: the model that is configured, as family/model/dimensions; None where none is.
        is_configured: whether the vector is the configured model's; None where that cannot be said.
    """

    server: str
    collection: str
    document_id: str
    status: Origin
    eligible: bool
    dimensions: int | None
    text_hash: bytes | None
    vector_hash: bytes | None
    recorded: DocumentRecord | None
    model: ModelRecord | None
    run: str | None
    configured: str | None
    is_configured: bool | None


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


def list_runs(ledger: Ledger, limit: int) -> History:
    """The latest runs, at most `limit`, and the trends, which do not depend on `limit`."""
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


def describe_run(ledger: Ledger, run: RunRecord, failures: int | None = 20) -> RunDetails:
    """Everything about a run, with so many of its failed documents; None for all of them."""
    summary = ledger.summarise([run])[0]
    return RunDetails(
        run=_line(summary),
        reverts=_name_of(ledger, run.reverts_run_id),
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


def two_runs(ledger: Ledger, first: RunRecord, second: RunRecord) -> tuple[RunLine, RunLine]:
    """Two runs as the history shows them."""
    one, other = ledger.summarise([first, second])
    return _line(one), _line(other)


def differences(one: RunLine, other: RunLine) -> tuple[Difference, ...]:
    """Two runs side by side, measure by measure."""

    def measure(name: str, first: float | None, second: float | None) -> Difference:
        change = second / first - 1 if first and second is not None else None
        return Difference(name, first, second, change)

    def dimensions(line: RunLine) -> int | None:
        return line.model.dimensions if line.model else None

    return (
        Difference("model", _model_name(one.model), _model_name(other.model), None),
        measure("dimensions", dimensions(one), dimensions(other)),
        measure("documents", one.documents, other.documents),
        measure("failed", one.failed, other.failed),
        measure("seconds", one.seconds, other.seconds),
        measure("documents_per_second", one.documents_per_second, other.documents_per_second),
        measure("latency_p50_ms", one.metrics.latency_p50_ms, other.metrics.latency_p50_ms),
        measure("latency_p95_ms", one.metrics.latency_p95_ms, other.metrics.latency_p95_ms),
        measure("retries", one.metrics.retries, other.metrics.retries),
        measure("tokens", one.metrics.tokens, other.metrics.tokens),
        measure("cost_usd", one.cost_usd, other.cost_usd),
    )


def list_models(ledger: Ledger) -> Models:
    """Every model with the documents that carry it."""
    models = ledger.models()
    places = [f"{use.source}/{use.collection}" for model in models for use in model.collections]
    return Models(tuple(models), tuple(sorted({place for place in places if places.count(place) > 1})))


def explain_document(
    ledger: Ledger,
    server: str,
    collection: EmbeddedCollection,
    name: str,
    document: Mapping[str, Any],
    *,
    eligible: bool,
    configured: EmbeddingSettings | None,
) -> Explanation:
    """Compare a document as it stands on the server with what the ledger knows of it.

    Args:
        ledger: what was done.
        server: `host:port`.
        collection: its text template and embedding field.
        name: the real collection's name.
        document: as the server gave it, with its vector.
        eligible: whether the collection's filter lets it through.
        configured: the model that new vectors would be from, if one is configured.
    """
    id_ = str(document["id"])
    record = ledger.documents(server, name, [id_]).get(id_)
    model = ledger.find_model(record.model_id) if record and record.model_id else None
    text, vector = collection.text_of(document), document.get(collection.embedding_field)
    text_now = text_hash(text) if text else None
    vector_now = vector_hash(np.asarray(vector, np.float32).tobytes()) if vector else None
    wanted = fingerprint(configured, "") if configured else None
    known = model is not None and record is not None and vector_now == record.vector_hash
    return Explanation(
        server=server,
        collection=name,
        document_id=id_,
        status=_status(record, text_now, vector_now),
        eligible=eligible,
        dimensions=len(vector) if vector else None,
        text_hash=text_now,
        vector_hash=vector_now,
        recorded=record,
        model=model,
        run=_name_of(ledger, record.run_id if record else None),
        configured="/".join(map(str, configured.describe().values())) if configured else None,
        is_configured=model.fingerprint == wanted if wanted and known and model else None,
    )


def configured_target(settings: Settings) -> EmbeddingSettings | None:
    """The embedding settings, where they name a model; keys are not needed to know which one."""
    embedding = settings.embedding
    return embedding if embedding.family in FAMILIES and embedding.model and embedding.dimensions else None


def _status(record: DocumentRecord | None, text_now: bytes | None, vector_now: bytes | None) -> Origin:
    if vector_now is None:
        return "no vector"
    if record is None:
        return "not in the ledger"
    if record.vector_hash != vector_now:
        return "vector was overwritten by somebody else"
    return "current" if record.text_hash == text_now else "text changed since"


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


def _model_name(model: ModelRecord | None) -> str | None:
    return f"{model.family}/{model.model}" if model else None


def _name_of(ledger: Ledger, run_id: str | None) -> str | None:
    run = ledger.find_run(run_id) if run_id else None
    return run.name if run else None
