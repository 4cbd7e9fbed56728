"""How migrations develop: each model and each collection by itself, whose figures say nothing of another's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from migration.ledger import CollectionRunRecord, Drift, MetricsRecord, RunSummary, Trend, drift


@dataclass(frozen=True, slots=True)
class Series:
    """The last migrations of one collection to one model.

    Attributes:
        model: family, model and dimensions; None where the model was deleted.
        collection: its real name.
        speed: documents a second.
        failures: share of the documents that failed.
        cost: US dollars a document.
    """

    model: str | None
    collection: str
    speed: Drift
    failures: Drift
    cost: Drift


@dataclass(frozen=True, slots=True)
class Trends:
    """What the series come to: declining where one of them declines, else improving where one improves, else stable."""

    speed: Trend
    failures: Trend
    cost: Trend


@dataclass(slots=True)
class _Values:
    """Of one series, the oldest first."""

    speed: list[float] = field(default_factory=list)
    failures: list[float] = field(default_factory=list)
    cost: list[float] = field(default_factory=list)


def series_of(summaries: Iterable[RunSummary], collection: str | None = None) -> tuple[Series, ...]:
    """How the migrations among these runs, latest first, develop; the series of the latest run comes first.

    Looks at those that came to their end and had documents. A run that embedded nothing because everything was
    current says nothing about speed or cost.

    Args:
        summaries: of the runs.
        collection: only of this one; None for all.
    """
    found: dict[tuple[str | None, str], _Values] = {}
    for summary in summaries:
        if summary.run.kind != "migrate" or summary.run.state not in ("completed", "partial"):
            continue
        model = summary.model
        words = model.name if model else None
        for item in last_of_each(summary.collections):
            if item.strategy == "skipped" or not item.done + item.failed or collection not in (None, item.collection):
                continue
            values = found.setdefault((words, item.collection), _Values())
            _add(values, item, _metrics(summary, item))
    return tuple(
        Series(
            model,
            name,
            drift(values.speed[::-1], True),
            drift(values.failures[::-1], False),
            drift(values.cost[::-1], False),
        )
        for (model, name), values in found.items()
    )


def _metrics(summary: RunSummary, item: CollectionRunRecord) -> MetricsRecord:
    """Those of the collection; in an older ledger those of the run, where it had no other one."""
    is_alone = len({each.collection for each in summary.collections}) == 1
    return summary.metrics_of.get(item.collection) or (summary.metrics if is_alone else MetricsRecord())


def _add(values: _Values, item: CollectionRunRecord, metrics: MetricsRecord) -> None:
    values.failures.append(item.failed / (item.done + item.failed))
    if not item.done or metrics.tokens == 0:
        return
    speed = metrics.documents_per_second
    if speed is None and item.finished_at is not None and (taken := item.finished_at - item.started_at):
        speed = item.done / taken.total_seconds()
    if speed is not None:
        values.speed.append(speed)
    if metrics.cost_usd is not None:
        values.cost.append(metrics.cost_usd / item.done)


def trends_of(series: Sequence[Series]) -> Trends:
    """All of them together."""
    return Trends(
        _together([each.speed.trend for each in series]),
        _together([each.failures.trend for each in series]),
        _together([each.cost.trend for each in series]),
    )


def _together(trends: Sequence[Trend]) -> Trend:
    order: tuple[Trend, ...] = ("declining", "improving", "stable")
    return next((trend for trend in order if trend in trends), "unknown")


def last_of_each(collections: Iterable[CollectionRunRecord]) -> tuple[CollectionRunRecord, ...]:
    """A resumed run has a record for each time that a collection was taken up."""
    return tuple({item.collection: item for item in collections}.values())
