"""Which run is gone on with by the next one that is to do the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from migration.ledger import Ledger, ModelRecord
from migration.operations.runs.execute import unfinished

NOTES = {"server": "search:8108", "collections": ["notes"]}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(None, tmp_path) as opened:
        yield opened


@pytest.fixture
def model(ledger: Ledger) -> ModelRecord:
    return ledger.register_model(family="local", model="wordllama", dimensions=2, fingerprint="f1")


def test_a_migration_that_died_or_was_stopped_is_gone_on_with(ledger: Ledger, model: ModelRecord) -> None:
    run = ledger.start_run("first", "migrate", model_id=model.id, source=NOTES)
    assert unfinished(ledger, "migrate", NOTES, model=model.id) == run
    for state in ("stopped", "interrupted"):
        run = ledger.finish_run(run.id, state)
        assert unfinished(ledger, "migrate", NOTES, model=model.id) == run


def test_a_run_that_came_to_its_end_is_not_gone_on_with(ledger: Ledger, model: ModelRecord) -> None:
    run = ledger.start_run("first", "migrate", model_id=model.id, source=NOTES)
    ledger.finish_run(run.id, "partial")
    assert unfinished(ledger, "migrate", NOTES, model=model.id) is None


def test_a_run_to_another_model_or_over_other_collections_is_not_gone_on_with(
    ledger: Ledger, model: ModelRecord
) -> None:
    ledger.start_run("first", "migrate", model_id=model.id, source=NOTES)
    assert unfinished(ledger, "migrate", NOTES, model="another") is None
    more = {**NOTES, "collections": ["notes", "others"]}
    assert unfinished(ledger, "migrate", more, model=model.id) is None
    assert unfinished(ledger, "migrate", {**NOTES, "server": "elsewhere:8108"}, model=model.id) is None


def test_only_the_last_run_over_the_collections_is_gone_on_with(ledger: Ledger, model: ModelRecord) -> None:
    first = ledger.start_run("first", "migrate", model_id=model.id, source=NOTES)
    later = ledger.start_run("second", "migrate", model_id=model.id, source=NOTES)
    ledger.finish_run(later.id, "completed")
    assert first.state == "running"
    assert unfinished(ledger, "migrate", NOTES, model=model.id) is None


def test_a_rollback_is_gone_on_with_by_one_of_the_same_run_alone(ledger: Ledger, model: ModelRecord) -> None:
    one, other = (ledger.start_run(name, "migrate", model_id=model.id, source=NOTES) for name in ("one", "other"))
    back = ledger.start_run("back", "rollback", source=NOTES, reverts=one.id)
    assert unfinished(ledger, "rollback", NOTES, reverts=one.id) == back
    assert unfinished(ledger, "rollback", NOTES, reverts=other.id) is None
    assert unfinished(ledger, "restore", NOTES) is None
