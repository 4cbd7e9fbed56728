"""What a run, or one collection of it, has taken: the figures of this start on top of those of earlier ones."""

from __future__ import annotations

from kai.models import estimate_cost
from migration.ledger import Ledger, MetricsRecord
from migration.runtime.meter import Meter


class Measures:
    """Notes what a run takes in its ledger: as a whole, and by collection.

    Attributes:
        before: what the run had taken when it was resumed; None by name of a collection for the run as a whole.
        whole: the run as it was measured last; nothing before.
    """

    def __init__(self, ledger: Ledger, run_id: str, model: str | None) -> None:
        """Of a run that embeds nothing, `model` is None, and there is no price."""
        self._ledger, self._run_id, self._model = ledger, run_id, model
        self.before = {each.collection: each for each in ledger.metrics(run_id)}
        self.whole = MetricsRecord()

    def note(self, meter: Meter, written: int, collection: str | None = None) -> None:
        """Note what was measured since the start, or since the collection was begun.

        Raises:
            LedgerError: it cannot be noted.
        """
        before = self.before.get(collection, MetricsRecord(collection))
        measured = _measured(meter, written, before, self._model)
        if collection is None:
            self.whole = measured
        self._ledger.record_metrics(self._run_id, measured)


def _measured(meter: Meter, written: int, before: MetricsRecord, model: str | None) -> MetricsRecord:
    earlier_seconds, earlier_tokens = before.seconds or 0.0, before.tokens or 0
    documents = written + (before.documents_per_second or 0.0) * earlier_seconds
    embedding_seconds = meter.embedding_seconds
    if before.tokens_per_second:
        embedding_seconds += earlier_tokens / before.tokens_per_second
    seconds, tokens = meter.seconds + earlier_seconds, meter.tokens + earlier_tokens
    p50, p95 = meter.latency(0.5), meter.latency(0.95)
    return MetricsRecord(
        before.collection,
        documents_per_second=documents / seconds if documents else None,
        tokens_per_second=tokens / embedding_seconds if embedding_seconds else None,
        latency_p50_ms=before.latency_p50_ms if p50 is None else 1000 * p50,
        latency_p95_ms=before.latency_p95_ms if p95 is None else 1000 * p95,
        requests=meter.requests + (before.requests or 0),
        retries=meter.retries + (before.retries or 0),
        failures=meter.request_failures + (before.failures or 0),
        bytes_sent=meter.bytes_sent + (before.bytes_sent or 0),
        tokens=tokens,
        cost_usd=estimate_cost(model, tokens) if model else None,
        seconds=seconds,
    )
