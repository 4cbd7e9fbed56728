"""Is what stands there what should stand there: checks with numbers.

The passes of a run are themselves the check of every document. On top of them a sample is embedded again,
which would show a provider that mixed its answers up, and searched for by its own vector, which shows that
the server's index has what its documents have.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from kai.collections import EmbeddedCollection
from kai.typesense import Schema, Typesense, TypesenseError, embedding_field, nameable, search_by_vector
from kai.typesense_schemas import other_vector_fields
from kai.vectors import cosine
from migration.documents.fetch import Selection, export_pages, fetch_documents
from migration.embedding.embed import Embedder, TextFailure, text_hash
from migration.embedding.provider import ProviderStopped
from migration.embedding.throttle import Stopped
from migration.ledger import CheckResult, Ledger, RunRecord, VerificationRecord
from migration.ledger.records import Verdict
from migration.operations.order import Writers
from migration.strategies.context import Outcome, RunContext, Sampled
from migration.strategies.plan import CollectionPlan

LEAST_COSINE: Final = 0.999
"""Providers are not exact: the same text gives vectors with a cosine of 0.9999 or so to each other."""
_NOTHING: Final = {True: "nothing to compare with", False: "nothing to compare with: the run made no backup"}
"""By whether the run was to make a backup."""
_SAME_PLACE: Final = 1e-4
"""Cosine distance up to which another document stands in the same place: it has the same text."""
WORTH_PAYING_FOR: Final = 250
"""Documents that a run must have written for its sample to be embedded again: below it the check would cost
a good part of what the run did."""


def check_run(
    context: RunContext, embedder: Embedder, plan: CollectionPlan, schema: Schema, outcome: Outcome
) -> list[CheckResult]:
    """The checks at the end of a run: its passes, and its sample."""
    undone = len(outcome.failures) + outcome.changing
    checks = [
        CheckResult("documents", outcome.passes > 0, outcome.count, detail=f"read in {outcome.passes} passes"),
        _checked("vectors of the target", outcome.count, undone),
    ]
    if outcome.unseen:
        lost = abs(outcome.unseen)
        what = "written, and are lost" if outcome.unseen > 0 else "deleted, and came back"
        detail = f"in the last moment before the drop {lost} documents were {what}"
        checks.append(_checked("documents seen before the drop", outcome.count, lost, detail))
    # Else no document was read whole twice.
    if context.options.backup and outcome.incomplete_seconds is None and not plan.beside:
        changed = outcome.other_fields_changed
        # A run writes every document, and of each the vector alone: what it damaged would be damaged in most of
        # them. A few that changed while it was under way were changed by the application.
        by_others = outcome.application_wrote or 2 * changed < outcome.success
        detail = "the application was writing meanwhile" if changed and by_others else ""
        passed = not changed or by_others
        checks.append(CheckResult("other fields unchanged", passed, outcome.success, changed, detail=detail))
    sample, field_name = outcome.sample[: context.options.verify_sample], plan.collection.embedding_field
    if sample and outcome.written >= WORTH_PAYING_FOR:
        checks += check_sample_again(embedder, sample, outcome.count)
    if sample and (embedding_field(schema, field_name) or {}).get("num_dim"):
        checks.append(check_found_while_written(context.server, plan.name, field_name, sample, outcome.count))
    return checks


def check_collection(
    server: Typesense,
    writers: Writers,
    run: RunRecord,
    collection: EmbeddedCollection,
    schema: Schema,
    *,
    embedder: Embedder | None,
    sample_size: int = 10,
    advance: Callable[[int], object] = lambda _: None,
) -> list[CheckResult]:
    """The checks of a collection at any time after a run: every eligible document is read and compared.

    Args:
        server: where it is.
        writers: what the run did, and who else wrote there.
        run: whose vectors should stand there.
        collection: text template, embedding field, filter.
        schema: as the server has it now.
        embedder: of the run's model, to embed a sample again; None to do without.
        sample_size: documents in the sample.
        advance: told the number of documents of each page.
    """
    ledger, ways_back = writers.ledger, writers.ways_back()
    name, field = str(schema["name"]), collection.embedding_field
    dimensions = (embedding_field(schema, field) or {}).get("num_dim")
    selection = Selection(field, collection.filter_by, excluded=other_vector_fields(schema, field))
    count = missing = wrong_length = other_model = unknown = overwritten = text_changed = compared = other_fields = 0
    sample: list[Sampled] = []
    pick = random.Random(run.number)  # noqa: S311 - repeatable, not secret
    for page in export_pages(server, name, selection):
        known = ledger.documents(server.address, name, [document.id for document in page], field=field)
        for document in page:
            count += 1
            record, stored = known.get(document.id), document.vector_bytes()
            text = collection.text_of(document.fields)
            if stored is None:
                missing += 1
                continue
            wrong_length += bool(dimensions) and len(stored) != 4 * int(dimensions or 0)
            if record is None or record.model_id != run.model_id:
                was_put_back = record is not None and record.run_id in ways_back
                unknown += was_put_back
                other_model += not was_put_back
                continue
            overwritten += not record.has_vector(stored)
            text_changed += record.text_hash != text_hash(text)
            if record.content_hash is not None:
                compared += 1
                other_fields += record.content_hash != document.content_hash()
            if len(sample) < sample_size:
                sample.append(Sampled(document.id, text, stored))
            elif (place := pick.randrange(count)) < sample_size:
                sample[place] = Sampled(document.id, text, stored)
        advance(len(page))
    came_back = f"{unknown} were put back since, and of which model they are is not known" if unknown else ""
    backed_up = run.parameters.get("backup") is not False
    checks = [
        _check_count(ledger, run, name, count),
        _checked("vectors there", count, missing),
        _checked("vectors of the right length", count, wrong_length),
        _checked("vectors of the run's model", count - unknown, other_model, came_back),
        _checked("vectors as they were written", count, overwritten),
        _checked("texts as they were embedded", count, text_changed),
        _checked("other fields unchanged", compared, other_fields, _NOTHING[backed_up] if not compared else ""),
    ]
    if sample and embedder is not None:
        checks += check_sample_again(embedder, sample, count)
    if sample and dimensions:
        checks.append(check_found(server, name, field, sample, count))
    return checks


def record_verdict(ledger: Ledger, run: RunRecord, name: str, checks: Sequence[CheckResult]) -> VerificationRecord:
    """Note what the checks of a collection come to: PASS where all of them passed."""
    verdict: Verdict = "PASS" if all(check.passed for check in checks) else "FAIL"
    return ledger.record_verification(run.id, name, verdict, checks)


def told(check: CheckResult) -> str:
    """A check in a line: what was right of how many, and what there is to say of it."""
    right = f"{check.count - check.failed} of {check.count}"
    return f"{check.name}: {right}{f' ({check.detail})' if check.detail else ''}"


def _checked(name: str, count: int, failed: int, detail: str = "", confidence: float = 1.0) -> CheckResult:
    """A check that passes where nothing failed."""
    return CheckResult(name, not failed, count, failed, confidence, detail)


def _check_count(ledger: Ledger, run: RunRecord, name: str, count: int) -> CheckResult:
    """Whether the documents of the run are there. Some the application may have deleted since; most, hardly."""
    left = next((each.done + each.failed for each in ledger.collection_runs(run.id) if each.collection == name), 0)
    gone = max(left - count, 0)
    detail = f"{gone} fewer than the run left" if gone else "read in one snapshot"
    return CheckResult("documents", 2 * gone <= left, max(count, left), gone, detail=detail)


def check_sample_again(embedder: Embedder, sample: Sequence[Sampled], population: int) -> list[CheckResult]:
    """Embed the sample's texts again, past the cache, and compare: cosine at least 0.999."""
    try:
        again = embedder.embed([item.text for item in sample], cache="bypass")
    except (ProviderStopped, Stopped) as error:
        # A provider that is gone says nothing about the vectors that stand there.
        return [CheckResult("sample embedded again", True, 0, 0, 0.0, f"not done: {error or 'stopped'}")]
    cosines = [
        cosine(np.frombuffer(item.vector, np.float32), vector)
        for item in sample
        if not isinstance(vector := again[item.text], TextFailure)
    ]
    wrong = sum(value < LEAST_COSINE for value in cosines)
    refused = next((vector.reason for vector in again.values() if isinstance(vector, TextFailure)), "")
    least = f"least cosine {min(cosines):.6f}" if cosines else f"not done: {refused}"
    confidence = len(cosines) / max(population, len(sample))
    return [_checked("sample embedded again", len(cosines), wrong, least, confidence)]


def check_found(
    server: Typesense, name: str, field_name: str, sample: Sequence[Sampled], population: int
) -> CheckResult:
    """Search for each of the sample by its own vector; it, or one in the same place, must come up."""
    try:
        answers = server.multi_search([search_by_vector(name, field_name, item.id, item.vector) for item in sample])
        doubtful = [item for item, answer in zip(sample, answers, strict=True) if not _is_found(item.id, answer)]
        # The index is approximate and may pass over a vector that it has: only an exact search says it is not there.
        answers = server.multi_search(
            [search_by_vector(name, field_name, item.id, item.vector, exact=True) for item in doubtful]
        )
    except TypesenseError as error:
        return _checked("sample found by its vector", len(sample), len(sample), str(error), 0.0)
    missed = [item.id for item, answer in zip(doubtful, answers, strict=True) if not _is_found_exactly(item, answer)]
    detail = f"not found: {', '.join(missed)}" if missed else ""
    confidence = len(sample) / max(population, len(sample))
    return _checked("sample found by its vector", len(sample), len(missed), detail, confidence)


def check_found_while_written(
    server: Typesense, name: str, field_name: str, sample: Sequence[Sampled], population: int
) -> CheckResult:
    """As `check_found`, without what the application, which may be writing on, has changed or deleted meanwhile.

    That is a few of a sample, at most: where more than half of it does not stand as it was sampled, that is told.
    """
    check = check_found(server, name, field_name, sample, population)
    if check.passed:
        return check
    try:
        now = fetch_documents(server, name, Selection(field_name, fields=()), [item.id for item in sample])
    except TypesenseError:
        return check
    vectors = {document.id: document.vector_bytes() for document in now}
    standing = [item for item in sample if not nameable(item.id) or vectors.get(item.id) == item.vector]
    if len(standing) == len(sample) or 2 * len(standing) < len(sample):
        return check
    return check_found_while_written(server, name, field_name, standing, population)


def _is_found(document_id: str, answer: dict[str, object]) -> bool:
    hits = answer.get("hits")
    if not isinstance(hits, list):
        return False
    if any(hit["document"]["id"] == document_id for hit in hits):
        return True
    # More documents than were asked for may share one text, and so one place.
    return bool(hits) and float(hits[-1].get("vector_distance", 1.0)) <= _SAME_PLACE


def _is_found_exactly(item: Sampled, answer: dict[str, object]) -> bool:
    """Whether the index has the document at its vector, and not at another one."""
    hits = answer.get("hits")
    if not nameable(item.id) or not isinstance(hits, list):
        return _is_found(item.id, answer)
    vector = np.frombuffer(item.vector, np.float32).astype(np.float64)
    # By the inner product, a vector shorter than 1 is that far from itself.
    own_distance = max(0.0, 1.0 - float(np.dot(vector, vector)))
    return any(float(hit.get("vector_distance", 1.0)) <= own_distance + _SAME_PLACE for hit in hits)
