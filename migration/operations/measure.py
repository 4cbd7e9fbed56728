"""What a migration has taken: figures for its status while it runs, and for the ledger at its end."""

from __future__ import annotations

from typing import Any

from kai.models import EmbeddingSettings, estimate_cost
from migration.ledger import MetricsRecord
from migration.operations.execute import RunResult
from migration.runtime.control import Control
from migration.runtime.meter import Meter


def measured(meter: Meter, result: RunResult, embedding: EmbeddingSettings, before: MetricsRecord) -> MetricsRecord:
    """What was measured, together with what the run had taken before it was resumed."""
    earlier_seconds, earlier_tokens = before.seconds or 0.0, before.tokens or 0
    written = sum(item.outcome.written for item in result.collections if item.outcome)
    documents = written + (before.documents_per_second or 0.0) * earlier_seconds
    embedding_seconds = meter.embedding_seconds
    if before.tokens_per_second:
        embedding_seconds += earlier_tokens / before.tokens_per_second
    seconds, tokens = meter.seconds + earlier_seconds, meter.tokens + earlier_tokens
    p50, p95 = meter.latency(0.5), meter.latency(0.95)
    return MetricsRecord(
        documents_per_second=documents / seconds if documents else None,
        tokens_per_second=tokens / embedding_seconds if embedding_seconds else None,
        latency_p50_ms=before.latency_p50_ms if p50 is None else 1000 * p50,
        latency_p95_ms=before.latency_p95_ms if p95 is None else 1000 * p95,
        requests=meter.requests + (before.requests or 0),
        retries=meter.retries + (before.retries or 0),
        failures=meter.request_failures + (before.failures or 0),
        bytes_sent=meter.bytes_sent + (before.bytes_sent or 0),
        tokens=tokens,
        cost_usd=estimate_cost(embedding.model, tokens),
        seconds=seconds,
    )


def figures(meter: Meter, embedding: EmbeddingSettings, control: Control) -> dict[str, Any]:
    return {
        "paused": control.paused,
        "requests": meter.requests,
        "retries": meter.retries,
        "tokens": meter.tokens,
        "spent_usd": estimate_cost(embedding.model, meter.tokens),
    }
