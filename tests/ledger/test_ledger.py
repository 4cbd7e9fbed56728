"""What the ledger remembers of models, runs, failures, verifications and metrics."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from migration.ledger import (
    CheckResult,
    CollectionUse,
    FailureRecord,
    Ledger,
    LedgerError,
    MetricsRecord,
    ModelRecord,
    RunRecord,
)
from tests.ledger.conftest import delete_model, document


def test_a_model_is_registered_once_for_each_fingerprint(ledger: Ledger) -> None:
    values: dict[str, Any] = {
        "family": "google", "model": "gemini-embedding-001", "dimensions": 768,
        "task_type": "RETRIEVAL_QUERY", "tool_source": "langchain",
    }  # fmt: skip
    first = ledger.register_model(fingerprint="abc", tool_version="1.0", **values)
    again = ledger.register_model(fingerprint="abc", tool_version="1.1", **values)
    other = ledger.register_model(fingerprint="def", tool_version="1.1", **values)
    assert UUID(first.id)
    assert again == replace(first, tool_version="1.1", last_used_at=again.last_used_at)
    assert again.last_used_at >= first.last_used_at
    assert first.first_used_at.tzinfo is not None
    assert other.id != first.id
    assert ledger.find_model("abc") == again == ledger.find_model(first.id)
    assert ledger.find_model("xyz") is None


def test_models_come_with_the_documents_that_carry_them(ledger: Ledger, model: ModelRecord) -> None:
    newer = ledger.register_model(family="openai", model="small", dimensions=512, fingerprint="f2")
    ledger.record_documents("host:1", "b", [document(str(n), model_id=model.id) for n in range(3)])
    ledger.record_documents("host:1", "a", [document("1", model_id=model.id), document("2")])
    ledger.record_documents("host:2", "a", [document("1", model_id=newer.id)])
    uses = {use.model.id: use for use in ledger.models()}
    assert uses[model.id].collections == (CollectionUse("host:1", "a", 1), CollectionUse("host:1", "b", 3))
    assert uses[model.id].documents == 4
    assert uses[newer.id].documents == 1
    assert [use.model.id for use in ledger.models()] == [newer.id, model.id]


def test_deleting_a_model_deletes_no_data(ledger: Ledger, model: ModelRecord, run: RunRecord) -> None:
    known = document("one", model_id=model.id, run_id=run.id)
    ledger.record_documents("host:1", "c", [known])
    delete_model(ledger, model)
    assert ledger.models() == []
    assert ledger.find_run() == replace(run, model_id=None)
    left = ledger.documents("host:1", "c", ["one"])["one"]
    assert (left.model_id, left.run_id, left.text_hash) == (None, run.id, known.text_hash)


def test_deleting_a_run_deletes_no_data(ledger: Ledger, model: ModelRecord, run: RunRecord) -> None:
    rollback = ledger.start_run("back", "rollback", reverts=run.id)
    ledger.record_documents("host:1", "c", [document("one", model_id=model.id, run_id=run.id)])
    ledger.start_collection(run.id, "c", "in place")
    ledger.record_failures(run.id, "c", [FailureRecord("two", "embed", "why")])
    ledger.record_verification(run.id, "c", "PASS", [])
    ledger.record_metrics(run.id, MetricsRecord(seconds=1))
    assert rollback.reverts_run_id == run.id
    with ledger._writing() as connection:
        connection.exec_driver_sql(f"DELETE FROM runs WHERE id = '{run.id}'")
        for name in ("collection_runs", "failures", "verification_results", "metrics"):
            rows = connection.exec_driver_sql(f"SELECT run_id FROM {name}").all()
            assert rows == [(None,)], name
    assert ledger.documents("host:1", "c", ["one"])["one"].run_id is None
    assert ledger.documents("host:1", "c", ["one"])["one"].model_id == model.id
    assert ledger.find_run("back") == replace(rollback, reverts_run_id=None)


def test_a_run_is_found_by_name_alias_id_and_unambiguous_beginning(ledger: Ledger) -> None:
    first = ledger.start_run("openai-small-768-20261120-153000", "migrate", alias="spring")
    second = ledger.start_run("openai-small-768-20261121-090000", "backup")
    assert ledger.find_run(first.name) == ledger.find_run("spring") == ledger.find_run(first.id) == first
    assert ledger.find_run("openai-small-768-20261121") == second
    assert ledger.find_run() == ledger.find_run("latest") == second
    assert ledger.find_run(kinds=["migrate", "restore"]) == first
    assert ledger.find_run("openai", kinds=["backup"]) == second
    assert ledger.find_run("winter") is None
    assert ledger.find_run("OPENAI-small-768-20261121") is None
    assert ledger.find_run("openai%") is None
    with pytest.raises(LedgerError, match=f"'openai': {second.name}, {first.name}; write more"):
        ledger.find_run("openai")
    assert [run.id for run in ledger.runs()] == [second.id, first.id]
    assert [run.id for run in ledger.runs(limit=1)] == [second.id]


def test_the_latest_run_is_the_one_begun_last_even_when_the_clock_goes_back(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.start_run("before", "migrate")
    monkeypatch.setattr("migration.ledger.runs.now", lambda: datetime.now(UTC) - timedelta(days=1))
    after = ledger.start_run("after", "migrate")
    assert ledger.find_run() == after
    assert [run.name for run in ledger.runs()] == ["after", "before"]
    monkeypatch.setattr("migration.ledger.runs.now", lambda: datetime.now(UTC) - timedelta(days=2))
    assert ledger.finish_run(after.id, "completed").seconds == 0.0


def test_an_alias_is_given_once(ledger: Ledger) -> None:
    first = ledger.start_run("one", "migrate", alias="best")
    for alias in ("best", "one"):
        with pytest.raises(LedgerError, match=f"the alias '{alias}' belongs to run one already"):
            ledger.start_run("two", "migrate", alias=alias)
    with pytest.raises(LedgerError, match="'latest' always names the latest run"):
        ledger.start_run("two", "migrate", alias="latest")
    assert ledger.runs() == [first]


def test_two_runs_begun_in_the_same_second_get_different_names(ledger: Ledger) -> None:
    names = [ledger.start_run("same", "migrate").name for _ in range(3)]
    assert names == ["same", "same-2", "same-3"]
    assert ledger.find_run("same") == ledger.runs()[-1]


def test_a_run_ends_and_is_taken_up_again(ledger: Ledger, run: RunRecord) -> None:
    assert run.seconds is None
    ended = ledger.finish_run(run.id, "interrupted", {"done": 3})
    assert (ended.state, ended.totals) == ("interrupted", {"done": 3})
    assert ended.seconds is not None
    assert ended.seconds >= 0
    taken_up = ledger.resume_run(run.id)
    assert (taken_up.state, taken_up.finished_at, taken_up.totals) == ("running", None, {"done": 3})
    with pytest.raises(LedgerError, match="no run with the id"):
        ledger.finish_run("00000000-0000-0000-0000-000000000000", "completed")


def test_a_collection_remembers_how_far_it_got(ledger: Ledger, run: RunRecord) -> None:
    first = ledger.start_collection(
        run.id, "b", "recreate", old_dimensions=768, new_dimensions=1536, eligible=10, backup_path="b.jsonl"
    )
    ledger.start_collection(run.id, "a", "skipped")
    ledger.update_collection(first, done=4, failed=1)
    running, skipped = ledger.collection_runs(run.id)
    assert (running.collection, running.strategy, running.state) == ("b", "recreate", "running")
    assert (running.old_dimensions, running.new_dimensions, running.eligible) == (768, 1536, 10)
    assert (running.done, running.failed) == (4, 1)
    assert running.finished_at is None
    assert (skipped.state, skipped.eligible) == ("skipped", 0)
    assert skipped.finished_at is not None
    ledger.update_collection(first, state="completed", downtime_seconds=0.25, incomplete_seconds=1.5)
    ledger.update_collection(first)
    done = ledger.collection_runs(run.id)[0]
    assert (done.state, done.downtime_seconds, done.incomplete_seconds, done.done) == ("completed", 0.25, 1.5, 4)
    assert done.finished_at is not None
    with pytest.raises(LedgerError, match="no collection run"):
        ledger.update_collection("00000000-0000-0000-0000-000000000000", done=1)


def test_failures_are_kept_until_the_document_succeeds(ledger: Ledger, run: RunRecord) -> None:
    ledger.record_failures(run.id, "b", [FailureRecord("1", "embed", "x"), FailureRecord("2", "embed", "x")])
    ledger.record_failures(run.id, "b", [FailureRecord("1", "import", "nul \0 and " + "long " * 1000)])
    ledger.record_failures(run.id, "a", [FailureRecord("9", "fetch", "gone")])
    ledger.record_failures(run.id, "a", [])
    first, second, third = ledger.failures(run.id)
    assert (first.collection, second.document_id, third.document_id) == ("a", "1", "2")
    assert second.stage == "import"
    assert "\0" not in second.reason
    assert len(second.reason) == 1000
    assert second.run_id == run.id
    assert second.at is not None
    assert len(ledger.failures(run.id, "b")) == 2
    assert len(ledger.failures(run.id, limit=1)) == 1
    assert ledger.clear_failure(run.id, "b", "1") == 1
    assert ledger.clear_failure(run.id, "b", ["1", "2"]) == 1
    assert ledger.clear_failure(run.id, "b", []) == 0
    assert ledger.failures(run.id) == [first]


def test_verifications_keep_every_check_with_its_numbers(ledger: Ledger, run: RunRecord) -> None:
    checks = [CheckResult("count", True, 6145), CheckResult("cosine", False, 100, 3, 0.95, "below 0.999")]
    recorded = ledger.record_verification(run.id, "c", "FAIL", checks)
    assert ledger.verifications(run.id) == [recorded]
    assert recorded.checks == tuple(checks)
    assert ledger.record_verification(None, "c", "PASS", []).run_id is None


def test_metrics_are_kept_for_the_run_and_for_each_collection(ledger: Ledger, run: RunRecord) -> None:
    ledger.record_metrics(run.id, MetricsRecord("c", documents_per_second=10.5, tokens=2**40))
    ledger.record_metrics(run.id, MetricsRecord(cost_usd=0.5))
    ledger.record_metrics(run.id, MetricsRecord(cost_usd=0.75, requests=7))
    assert ledger.metrics(run.id) == [
        MetricsRecord(cost_usd=0.75, requests=7),
        MetricsRecord("c", documents_per_second=10.5, tokens=2**40),
    ]


def test_the_history_joins_all_of_a_run(ledger: Ledger, model: ModelRecord, run: RunRecord) -> None:
    ledger.start_collection(run.id, "c", "in place")
    ledger.record_failures(run.id, "c", [FailureRecord("1", "embed", "x")])
    ledger.record_metrics(run.id, MetricsRecord("c", seconds=1))
    ledger.record_metrics(run.id, MetricsRecord(seconds=2))
    ledger.record_verification(run.id, "c", "FAIL", [])
    ledger.record_verification(run.id, "d", "PASS", [])
    bare = ledger.start_run("bare", "backup")
    latest, first = ledger.history()
    assert (latest.run, latest.model, latest.collections, latest.failures) == (bare, None, (), 0)
    assert (latest.verdict, latest.metrics) == (None, MetricsRecord())
    assert first.run == run
    assert first.model is not None
    assert first.model.id == model.id
    assert [entry.collection for entry in first.collections] == ["c"]
    assert (first.failures, first.verdict, first.metrics.seconds) == (1, "FAIL", 2)
    ledger.record_verification(run.id, "c", "PASS", [])  # checked again, and now it is right
    assert ledger.history()[1].verdict == "PASS"
    assert len(ledger.history(limit=1)) == 1


def test_nothing_that_looks_like_a_key_is_stored(ledger_url: str, tmp_path: Path) -> None:
    with Ledger.open(ledger_url, tmp_path) as ledger:
        run = ledger.start_run(
            "run",
            "migrate",
            parameters={"openai_api_key": "sk-secret", "batch": 64, "max_tokens": 5, "api_key": None},
            source={"server": "http://admin:sk-secret@host:1", "nodes": [{"X-TYPESENSE-API-KEY": "sk-secret"}]},
        )
        ledger.finish_run(run.id, "refused", {"password": "sk-secret"})
        kept = ledger.find_run()
    assert kept is not None
    assert "sk-secret" not in repr(kept)
    assert kept.parameters == {"openai_api_key": "***", "batch": 64, "max_tokens": 5, "api_key": None}
    assert kept.source["server"] == "http://***@host:1"


def test_json_takes_what_parameters_hold(ledger: Ledger) -> None:
    values: Any = {"path": Path("backups"), "nan": float("nan"), 7: ("a", "b"), "text": "nul \0", "none": None}
    ledger.start_run("run", "migrate", parameters=values)
    kept = ledger.find_run()
    assert kept is not None
    assert kept.parameters == {
        "path": "backups", "nan": None, "7": ["a", "b"], "text": "nul \0", "none": None,
    }  # fmt: skip
