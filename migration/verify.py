"""Is what stands there what should stand there: checks with numbers, and a verdict.

The passes of a run are themselves the check of every document. On top of them a sample is embedded again,
which would show a provider that mixed its answers up, and searched for by its own vector, which shows that
the server's index has what its documents have.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from kai.typesense import Schema, Typesense, TypesenseError, embedding_field
from migration.context import Context, Outcome, Sampled
from migration.embed import Embedder, ProviderStopped, TextFailure
from migration.throttle import Stopped

if TYPE_CHECKING:
    from migration.ledger import CheckResult

LEAST_COSINE: Final = 0.999
"""Providers are not exact: the same text gives vectors with a cosine of 0.9999 or so to each other."""
_NEIGHBOURS: Final = 10
_SAME_PLACE: Final = 1e-4
"""Cosine distance up to which another document stands in the same place: it has the same text."""
WORTH_PAYING_FOR: Final = 250
"""Documents that a run must have written for its sample to be embedded again: below it the check would cost
a good part of what the run did."""


def check_run(context: Context, name: str, schema: Schema, field_name: str, outcome: Outcome) -> list[CheckResult]:
    """The checks at the end of a run: its passes, and its sample."""
    from migration.ledger import CheckResult

    undone = len(outcome.failures) + outcome.changing
    checks = [
        CheckResult("documents", outcome.passes > 0, outcome.count, detail=f"read in {outcome.passes} passes"),
        CheckResult("vectors of the target", not undone, outcome.count, undone),
    ]
    if context.backup:
        changed = outcome.other_fields_changed
        checks.append(
            CheckResult(
                "other fields unchanged",
                not changed or outcome.application_wrote,
                outcome.success,
                changed,
                detail="the application was writing meanwhile" if changed and outcome.application_wrote else "",
            )
        )
    sample = outcome.sample[: context.verify_sample]
    if sample and outcome.written >= WORTH_PAYING_FOR:
        checks += check_sample_again(context.embedder, sample, outcome.count)
    if sample and (embedding_field(schema, field_name) or {}).get("num_dim"):
        checks.append(check_found(context.server, name, field_name, sample, outcome.count))
    return checks


def check_sample_again(embedder: Embedder, sample: Sequence[Sampled], population: int) -> list[CheckResult]:
    """Embed the sample's texts again, past the cache, and compare: cosine at least 0.999."""
    from migration.ledger import CheckResult

    try:
        again = embedder.embed([item.text for item in sample], fresh=True)
    except (ProviderStopped, Stopped):
        return []  # A provider that is gone says nothing about the vectors that stand there.
    cosines = [
        cosine(np.frombuffer(item.vector, np.float32), vector)
        for item in sample
        if not isinstance(vector := again[item.text], TextFailure)
    ]
    wrong = sum(value < LEAST_COSINE for value in cosines)
    least = f"least cosine {min(cosines):.6f}" if cosines else ""
    confidence = len(sample) / max(population, len(sample))
    return [CheckResult("sample embedded again", not wrong, len(cosines), wrong, confidence, least)]


def check_found(
    server: Typesense, name: str, field_name: str, sample: Sequence[Sampled], population: int
) -> CheckResult:
    """Search for each of the sample by its own vector; it, or one in the same place, must come up."""
    from migration.ledger import CheckResult

    searches = [
        {
            "collection": name,
            "q": "*",
            "per_page": _NEIGHBOURS,
            "include_fields": "id",
            "vector_query": f"{field_name}:([{','.join(map(repr, np.frombuffer(s.vector, np.float32).tolist()))}], "
            f"k:{_NEIGHBOURS})",
        }
        for s in sample
    ]
    try:
        answers = server.multi_search(searches)
    except TypesenseError as error:
        return CheckResult("sample found by its vector", False, len(sample), len(sample), 0.0, str(error))
    missed = [item.id for item, answer in zip(sample, answers, strict=True) if not _is_found(item.id, answer)]
    detail = f"not found: {', '.join(missed)}" if missed else ""
    confidence = len(sample) / max(population, len(sample))
    return CheckResult("sample found by its vector", not missed, len(sample), len(missed), confidence, detail)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Cosine of the angle between two vectors; -1 where their lengths differ or one is zero."""
    if one.shape != other.shape:
        return -1.0
    scale = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(np.dot(one, other)) / scale if scale else -1.0


def vector_hash(vector: bytes) -> bytes:
    """The name under which the ledger knows a vector: SHA-256 of its float32 bytes."""
    return hashlib.sha256(vector).digest()


def _is_found(document_id: str, answer: dict[str, object]) -> bool:
    hits = answer.get("hits")
    if not isinstance(hits, list):
        return False
    if any(hit["document"]["id"] == document_id for hit in hits):
        return True
    # More documents than were asked for may share one text, and so one place.
    return bool(hits) and float(hits[-1].get("vector_distance", 1.0)) <= _SAME_PLACE
