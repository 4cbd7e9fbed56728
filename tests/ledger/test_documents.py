"""Which vector each document carries: round trips and paging."""

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from migration.ledger import DocumentRecord, Ledger, LedgerError, ModelRecord, RunRecord
from tests.ledger.conftest import delete_model, document, sha

_sources = itertools.count(1)

hashes = st.binary(min_size=32, max_size=32)
records = st.builds(
    DocumentRecord,
    document_id=st.text(max_size=40),
    text_hash=hashes,
    vector_hash=hashes,
    tenant=st.none() | st.text(max_size=20),
    content_hash=st.none() | hashes,
    embedded_at=st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(UTC)),
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(rows=st.lists(records, max_size=20, unique_by=lambda row: row.document_id))
def test_documents_come_back_as_they_were_recorded(ledger: Ledger, rows: Sequence[DocumentRecord]) -> None:
    source = f"host:{next(_sources)}"
    ledger.record_documents(source, "c", rows)
    expected = {row.document_id: row for row in rows}
    assert ledger.documents(source, "c", [*expected, "an unknown one"]) == expected
    assert {row.document_id: row for row in ledger.iterate_documents(source, "c", page=3)} == expected
    assert ledger.count_documents(source, "c") == len(expected)
    assert ledger.forget_documents(source, "c", list(expected)[:5]) == min(5, len(expected))
    assert ledger.count_documents(source, "c") == max(0, len(expected) - 5)


def test_recording_again_replaces_what_was_known(ledger: Ledger, model: ModelRecord, run: RunRecord) -> None:
    moment = datetime(2026, 11, 20, 15, 30, tzinfo=timezone(timedelta(hours=2)))
    first = document("one", tenant="t", content_hash=sha("x"), embedded_at=moment)
    ledger.record_documents("host:1", "c", [first])
    kept = ledger.documents("host:1", "c", ["one"])["one"]
    assert kept == first
    assert kept.embedded_at is not None
    assert kept.embedded_at.tzinfo is UTC
    second = document("one", text_hash=sha("new"), model_id=model.id, run_id=run.id, embedded_at=moment)
    ledger.record_documents("host:1", "c", [first, second])  # of two in a page, the last counts
    assert ledger.documents("host:1", "c", ["one"]) == {"one": second}
    ledger.record_documents("host:1", "c", [])


def test_documents_are_told_apart_by_server_and_collection(ledger: Ledger, model: ModelRecord) -> None:
    for source, collection in (("host:1", "a"), ("host:1", "b"), ("host:2", "a")):
        row = document("same", text_hash=sha(source + collection))
        ledger.record_documents(source, collection, [row])
    assert ledger.documents("host:2", "a", ["same"])["same"].text_hash == sha("host:2a")
    assert ledger.forget_documents("host:1", "a", ["same"]) == 1
    assert ledger.documents("host:1", "a", ["same"]) == {}
    assert ledger.count_documents("host:1", "b") == 1
    assert ledger.count_documents("host:1", "b", model.id) == 0
    assert ledger.count_documents("host:3", "b") == 0
    assert list(ledger.iterate_documents("host:3", "b")) == []


def test_a_time_left_out_means_now(ledger: Ledger) -> None:
    before = datetime.now(UTC)
    ledger.record_documents("host:1", "c", [document("one")])
    at = ledger.documents("host:1", "c", ["one"])["one"].embedded_at
    assert at is not None
    assert before <= at <= datetime.now(UTC)


def test_documents_of_an_unknown_model_or_run_are_refused_as_a_whole(ledger: Ledger) -> None:
    nobody = "00000000-0000-0000-0000-000000000000"
    for changes in ({"model_id": nobody}, {"run_id": nobody}):
        with pytest.raises(LedgerError, match="holds no model or run"):
            ledger.record_documents("host:1", "c", [document("one"), document("two", **changes)])
    assert ledger.count_documents("host:1", "c") == 0


def test_many_ids_are_asked_for_at_once(ledger: Ledger) -> None:
    rows = [document(str(number)) for number in range(2500)]
    ledger.record_documents("host:1", "c", rows)
    assert len(ledger.documents("host:1", "c", [row.document_id for row in rows])) == 2500
    assert ledger.forget_documents("host:1", "c", (row.document_id for row in rows)) == 2500


def test_documents_may_change_while_they_are_iterated(ledger: Ledger) -> None:
    ledger.record_documents("host:1", "c", [document(f"{number:03}") for number in range(50)])
    seen = []
    for row in ledger.iterate_documents("host:1", "c", page=10):
        seen.append(row.document_id)
        if len(seen) == 5:
            ledger.forget_documents("host:1", "c", ["020"])
            ledger.record_documents("host:1", "c", [document("035", tenant="new"), document("999")])
    assert "020" not in seen
    assert seen[-1] == "999"
    assert seen == sorted(set(seen))


def test_deleting_a_model_meanwhile_does_not_lend_its_number_to_another(
    ledger: Ledger, ledger_url: str, tmp_path: Path, model: ModelRecord
) -> None:
    ledger.record_documents("host:1", "c", [document("one", model_id=model.id)])
    with Ledger.open(ledger_url, tmp_path) as other_process:
        delete_model(other_process, model)
        other_process.register_model(family="openai", model="small", dimensions=512, fingerprint="f2")
    assert ledger.documents("host:1", "c", ["one"])["one"].model_id is None
    with pytest.raises(LedgerError, match=f"holds no model or run '{model.id}'"):
        ledger.record_documents("host:1", "c", [document("one", model_id=model.id)])


def test_a_sample_has_only_documents_of_the_model_and_disowned_ones_have_none(
    ledger: Ledger, model: ModelRecord, run: RunRecord
) -> None:
    other = ledger.register_model(family="local", model="other", dimensions=256, fingerprint="f2")
    for collection in ("a", "b"):
        rows = [document(f"m{n}", model_id=model.id, run_id=run.id) for n in range(20)]
        ledger.record_documents("host:1", collection, [*rows, document("o", model_id=other.id), document("n")])
    sample = ledger.sample_documents("host:1", "a", model.id, 5)
    assert len({record.document_id for record in sample}) == 5
    assert {record.model_id for record in sample} == {model.id}
    assert len(ledger.sample_documents("host:1", "a", model.id, 99)) == 20
    assert ledger.sample_documents("host:1", "nowhere", model.id, 99) == []

    ledger.disown_documents("host:1", "a", model.id)
    assert ledger.sample_documents("host:1", "a", model.id, 99) == []
    assert [ledger.count_documents("host:1", "a", each.id) for each in (model, other)] == [0, 1]
    assert ledger.count_documents("host:1", "b", model.id) == 20
    kept = ledger.documents("host:1", "a", ["m3"])["m3"]
    assert (kept.model_id, kept.run_id, kept.vector_hash) == (None, run.id, sha("m3"))


def test_a_model_that_the_ledger_does_not_hold_has_no_documents(ledger: Ledger) -> None:
    ledger.record_documents("host:1", "a", [document("n")])
    assert ledger.sample_documents("host:1", "a", "00000000-0000-0000-0000-000000000000", 9) == []
