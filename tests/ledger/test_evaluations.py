"""What the ledger keeps of evaluations."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from migration.ledger import EvaluationRecord, Ledger
from migration.ledger.upgrade import downgrade, upgrade

ONE = EvaluationRecord(
    at=datetime(2026, 11, 20, 15, 30, tzinfo=UTC),
    source="localhost:8108",
    collection="articles",
    field="vector",
    old_model="openai/small/512",
    new_model="openai/org/large/1024",
    questions=200,
    questions_from="file",
    searched=2000,
    metrics={"differences": {"ndcg@10": {"mean": 0.1, "low": 0.05, "high": 0.15}}},
    verdict="GO",
    rule={"metric": "ndcg", "k": 10},
)
LATER = replace(
    ONE, at=ONE.at + timedelta(days=1), collection="notes", new_model="local/l2/64", run="run-1", verdict="NO-GO"
)


def test_evaluations_come_out_as_they_went_in_the_latest_first_and_by_what_is_asked_for(ledger: Ledger) -> None:
    ledger.record_evaluations([ONE, LATER])
    assert ledger.evaluations() == [LATER, ONE]
    assert ledger.evaluations(1) == [LATER]
    assert ledger.evaluations(collection="articles") == [ONE]
    assert ledger.evaluations(since=LATER.at) == [LATER]
    for name in ("org/large", "openai/org/large", "openai/org/large/1024"):
        assert ledger.evaluations(1, model=name) == [ONE], name
    assert ledger.evaluations(model="large") == []
    assert ledger.evaluations(between=("openai/small/512", "local/l2/64")) == [LATER]
    assert ledger.models() == []  # What was only evaluated is no model that a run has used.


def test_going_back_to_an_older_ledger_drops_them_and_nothing_else(ledger_url: str, tmp_path: Path) -> None:
    with Ledger.open(ledger_url, tmp_path) as ledger:
        ledger.record_evaluations([ONE])
        kept = ledger.start_run("first", "migrate")
    downgrade(ledger_url, "0006")
    upgrade(ledger_url)
    with Ledger.open(ledger_url, tmp_path) as ledger:
        assert (ledger.evaluations(), ledger.runs()) == ([], [kept])


def test_what_looks_like_a_key_does_not_reach_the_ledger(ledger: Ledger) -> None:
    ledger.record_evaluations([replace(ONE, rule={"metric": "ndcg", "k": 10, "api_key": "sk-1"})])
    assert ledger.evaluations()[0].rule["api_key"] == "***"
