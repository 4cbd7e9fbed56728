"""Is what stands there what should stand there: checks with numbers, and the documents that failed them.

The passes of a run are themselves the check of every document. On top of them a sample is embedded again,
which would show a provider that mixed its answers up, and searched for by its own vector, which shows that
the server's index has what its documents have.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np

from kai.collections import EmbeddedCollection
from kai.typesense import Schema, Typesense, TypesenseError, embedding_field, nameable, search_by_vector
from kai.typesense_schemas import other_vector_fields
from kai.vectors import LEAST_COSINE, cosine
from migration.documents.fetch import Selection, export_pages, fetch_documents
from migration.embedding.embed import Embedder, TextFailure, text_hash
from migration.embedding.provider import ProviderStopped
from migration.embedding.throttle import Stopped
from migration.ledger import (
    CheckResult,
    DocumentRecord,
    Ledger,
    RunRecord,
    VerificationRecord,
    WrongDocument,
    vector_hash,
)
from migration.ledger.records import verdict_of
from migration.operations.runs.writers import Writers
from migration.strategies.context import Outcome, RunContext, Sampled
from migration.strategies.plan import CollectionPlan

TARGET: Final = "vectors of the target"
_THERE: Final = "vectors there"
_LENGTH: Final = "vectors of the right length"
_MODEL: Final = "vectors of the run's model"
_WRITTEN: Final = "vectors as they were written"
_TEXTS: Final = "texts as they were embedded"
_OTHER_FIELDS: Final = "other fields unchanged"
_AGAIN: Final = "sample embedded again"
_FOUND: Final = "sample found by its vector"
_OF_TARGET: Final = "a vector of the target"
_HASH_DIGITS: Final = 64
_SAME_PLACE: Final = 1e-4
"""Cosine distance up to which another document stands in the same place: it has the same text."""
NAMED: Final = 20
"""Wrong documents that a person is told; the ledger has all of them."""
WORTH_PAYING_FOR: Final = 250
"""Documents that a run must have written for its sample to be embedded again: below it the check would cost
a good part of what the run did."""


def check_run(
    context: RunContext, embedder: Embedder, plan: CollectionPlan, schema: Schema, outcome: Outcome
) -> list[CheckResult]:
    """The checks at the end of a run: its passes, and its sample."""
    failed = [WrongDocument(id_, _OF_TARGET, f"{each.stage}: {each.reason}") for id_, each in outcome.failures.items()]
    changing = [WrongDocument(id_, _OF_TARGET, "still changing when the last pass ended") for id_ in outcome.unsettled]
    checks = [
        CheckResult("documents", outcome.passes > 0, outcome.count, detail=f"read in {outcome.passes} passes"),
        _checked(TARGET, outcome.count, failed + changing),
    ]
    if outcome.unseen:
        lost = abs(outcome.unseen)
        what = "written, and are lost" if outcome.unseen > 0 else "deleted, and came back"
        detail = f"in the last moment before the drop {lost} documents were {what}"
        checks.append(CheckResult("documents seen before the drop", False, outcome.count, lost, detail=detail))
    # Else no document was read whole twice.
    if context.options.backup and outcome.incomplete_seconds is None and not plan.beside:
        changed = len(outcome.other_fields_changed)
        # A run writes every document, and of each the vector alone: what it damaged would be damaged in most of
        # them. A few that changed while it was under way were changed by the application.
        by_others = outcome.application_wrote or 2 * changed < outcome.success
        detail = "the application was writing meanwhile" if changed and by_others else ""
        passed = not changed or by_others
        wrong = () if passed else tuple(outcome.other_fields_changed)
        checks.append(
            CheckResult(_OTHER_FIELDS, passed, outcome.success, changed, detail=detail, wrong_documents=wrong)
        )
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
    wrong: defaultdict[str, list[WrongDocument]] = defaultdict(list)
    model_names = _ModelNames(ledger)
    count = unknown = compared = 0
    sample: list[Sampled] = []
    pick = random.Random(run.number)  # noqa: S311 - repeatable, not secret
    for page in export_pages(server, name, selection):
        known = ledger.documents(server.address, name, [document.id for document in page], field=field)
        for document in page:
            count += 1
            record, stored = known.get(document.id), document.vector_bytes()
            text = collection.text_of(document.fields)

            def expect(check: str, expected: str, found: str, of: str = document.id) -> None:
                if expected != found:
                    wrong[check].append(WrongDocument(of, expected, found))

            if stored is None:
                expect(_THERE, "a vector", "none")
                continue
            if dimensions:
                expect(_LENGTH, f"{dimensions} dimensions", f"{len(stored) // 4} dimensions")
            if record is None or record.model_id != run.model_id:
                if record is not None and record.run_id in ways_back:
                    unknown += 1
                else:
                    expect(_MODEL, model_names[run.model_id], model_names.of(record))
                continue
            expect(_WRITTEN, record.vector_hash.hex(), vector_hash(stored).hex())
            expect(_TEXTS, record.text_hash.hex(), text_hash(text).hex())
            if record.content_hash is not None:
                compared += 1
                expect(_OTHER_FIELDS, record.content_hash.hex(), document.content_hash().hex())
            if len(sample) < sample_size:
                sample.append(Sampled(document.id, text, stored))
            elif (place := pick.randrange(count)) < sample_size:
                sample[place] = Sampled(document.id, text, stored)
        advance(len(page))
    came_back = f"{unknown} were put back since, and of which model they are is not known" if unknown else ""
    backed_up = run.parameters.get("backup") is not False
    checks = [
        _check_count(server, ledger, run, name, collection, count),
        _checked(_THERE, count, wrong[_THERE]),
        _checked(_LENGTH, count, wrong[_LENGTH]),
        _checked(_MODEL, count - unknown, wrong[_MODEL], came_back),
        _checked(_WRITTEN, count, wrong[_WRITTEN]),
        _checked(_TEXTS, count, wrong[_TEXTS]),
    ]
    if compared or not count:
        checks.append(_checked(_OTHER_FIELDS, compared, wrong[_OTHER_FIELDS]))
    elif not backed_up:
        checks.append(_not_checked(_OTHER_FIELDS, "nothing to compare with: the run made no backup"))
    # Else the run went a way that reads no document whole, and so claims nothing of the other fields.
    if sample and embedder is not None:
        checks += check_sample_again(embedder, sample, count)
    if sample and dimensions:
        checks.append(check_found(server, name, field, sample, count))
    return checks


class _ModelNames(dict[str | None, str]):
    """The names of models by their ids in the ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def __missing__(self, model_id: str | None) -> str:
        model = self._ledger.find_model(model_id) if model_id else None
        self[model_id] = model.name if model else "a model that the ledger does not know"
        return self[model_id]

    def of(self, record: DocumentRecord | None) -> str:
        """The model of a document's vector, as far as the ledger knows."""
        return "not in the ledger" if record is None else self[record.model_id]


def record_verdict(ledger: Ledger, run: RunRecord, name: str, checks: Sequence[CheckResult]) -> VerificationRecord:
    """Note what the checks of a collection come to: PASS where all of them were made and passed."""
    return ledger.record_verification(run.id, name, verdict_of(check.passed for check in checks), checks)


def told(check: CheckResult) -> str:
    """A check in a line: what was right of how many, and what there is to say of it."""
    right = f"{check.count - check.failed} of {check.count}"
    return f"{check.name}: {right}{f' ({check.detail})' if check.detail else ''}"


def told_wrong(checks: Sequence[CheckResult]) -> Iterator[str]:
    """The first documents that failed a check, a line each, and how many more there are."""
    wrong = [(check.name, each) for check in checks for each in check.wrong_documents]
    for name, each in wrong[:NAMED]:
        differs = f"expected {shortened(each.expected)}, found {shortened(each.found)}"
        yield f"document {each.document_id!r}: {name}: {differs}"
    if (more := len(wrong) - NAMED) > 0:
        yield f"… and {more:,} more; `kai-migrate show RUN --json` has them all"


def shortened(value: str) -> str:
    """What was expected or found, as a person reads it: the beginning of a hash tells it from others."""
    return f"{value[:16]}…" if len(value) == _HASH_DIGITS and " " not in value else value


def _checked(
    name: str, count: int, wrong: Sequence[WrongDocument], detail: str = "", confidence: float = 1.0
) -> CheckResult:
    """A check that passes where no document failed."""
    return CheckResult(name, not wrong, count, len(wrong), confidence, detail, tuple(wrong))


def _not_checked(name: str, reason: str) -> CheckResult:
    """A check that could not be made: it says nothing of what stands there."""
    return CheckResult(name, None, 0, 0, 0.0, f"not done: {reason}")


def _check_count(
    server: Typesense, ledger: Ledger, run: RunRecord, name: str, collection: EmbeddedCollection, count: int
) -> CheckResult:
    """Whether the documents of the run are there. Some the application may have deleted since; most, hardly."""
    left = next((each.done + each.failed for each in ledger.collection_runs(run.id) if each.collection == name), 0)
    gone = max(left - count, 0)
    if 2 * gone <= left:
        detail = f"{gone} fewer than the run left" if gone else "read in one snapshot"
        return CheckResult("documents", True, max(count, left), gone, detail=detail)
    standing = Selection(filter_by=collection.filter_by, fields=(), with_vector=False)
    there = {document.id for page in export_pages(server, name, standing) for document in page}
    missing = tuple(
        WrongDocument(record.document_id, "a document", "none")
        for record in ledger.iterate_documents(server.address, name)
        if record.model_id == run.model_id and record.document_id not in there
    )
    detail = f"{gone} fewer than the run left"
    return CheckResult("documents", False, left, gone, detail=detail, wrong_documents=missing)


def check_sample_again(embedder: Embedder, sample: Sequence[Sampled], population: int) -> list[CheckResult]:
    """Embed the sample's texts again, past the cache, and compare: cosine at least 0.999."""
    try:
        again = embedder.embed([item.text for item in sample], cache="bypass")
    except (ProviderStopped, Stopped) as error:
        # A provider that is gone says nothing about the vectors that stand there.
        return [_not_checked(_AGAIN, str(error) or "stopped")]
    refused = next((vector.reason for vector in again.values() if isinstance(vector, TextFailure)), "")
    cosines = {
        item.id: cosine(np.frombuffer(item.vector, np.float32), vector)
        for item in sample
        if not isinstance(vector := again[item.text], TextFailure)
    }
    if not cosines:
        return [_not_checked(_AGAIN, refused)]
    wrong = [
        WrongDocument(id_, f"a cosine of at least {LEAST_COSINE}", f"a cosine of {value:.6f}")
        for id_, value in cosines.items()
        if value < LEAST_COSINE
    ]
    detail = f"least cosine {min(cosines.values()):.6f}"
    return [_checked(_AGAIN, len(cosines), wrong, detail, len(cosines) / max(population, len(sample)))]


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
        if error.transient or error.unauthorized:
            return _not_checked(_FOUND, str(error))
        return CheckResult(_FOUND, False, len(sample), len(sample), 0.0, str(error))
    missed = [item.id for item, answer in zip(doubtful, answers, strict=True) if not _is_found_exactly(item, answer)]
    detail = f"not found: {', '.join(missed)}" if missed else ""
    wrong = [WrongDocument(id_, "found by its own vector", "not found") for id_ in missed]
    return _checked(_FOUND, len(sample), wrong, detail, len(sample) / max(population, len(sample)))


def check_found_while_written(
    server: Typesense, name: str, field_name: str, sample: Sequence[Sampled], population: int
) -> CheckResult:
    """As `check_found`, without what the application, which may be writing on, has changed or deleted meanwhile.

    That is a few of a sample, at most: where more than half of it does not stand as it was sampled, that is told.
    """
    check = check_found(server, name, field_name, sample, population)
    if check.passed is not False:
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
