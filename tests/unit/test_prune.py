"""What may go out of a ledger: never what explains a vector that stands, is unfinished, or leads back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import migration.ledger.runs
from migration.backup import BackupWriter, list_backups
from migration.ledger import (
    Call,
    CheckResult,
    DocumentRecord,
    FailureRecord,
    Ledger,
    LedgerError,
    MetricsRecord,
    RunRecord,
)
from migration.ledger.records import RunKind
from migration.ledger.schema import metadata
from migration.operations.prune import Prunable, find_model, prunable, prune
from migration.strategies.refusals import Refused

SERVER = "search:8108"
SCHEMA = {"name": "notes", "fields": [{"name": "vector", "type": "float[]", "num_dim": 2}]}


class Past:
    """A ledger with backups on the disk, and the runs that it is told of."""

    def __init__(self, ledger: Ledger, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ledger, self.home, self._patch = ledger, home, monkeypatch
        self.model = ledger.register_model(family="openai", model="small", dimensions=2, fingerprint="f")

    def ran(
        self,
        name: str,
        kind: RunKind = "migrate",
        *,
        days_ago: float = 0,
        state: Any = "completed",
        reverts: RunRecord | None = None,
        collection: str = "notes",
        carried_by: int = 0,
        backup: bool = True,
        **call: Any,
    ) -> RunRecord:
        """A run over one collection that began so long ago; `carried_by` documents have its vectors."""
        moment = datetime.now(UTC) - timedelta(days=days_ago)
        self._patch.setattr(migration.ledger.runs, "now", lambda: moment)
        run = self.ledger.start_run(
            name,
            kind,
            model_id=self.model.id if kind == "migrate" else None,
            source={"server": SERVER, "collections": [collection]},
            reverts=reverts.id if reverts else None,
            call=Call(options=call),
        )
        path = self._backed_up(name, collection) if backup else None
        item = self.ledger.start_collection(run.id, collection, "in place", backup_path=path)
        self.ledger.update_collection(item, done=5, state=state)
        self.ledger.record_failures(run.id, collection, [FailureRecord("x", "embed", "why")])
        self.ledger.record_verification(run.id, collection, "PASS", [CheckResult("documents", True, 5)])
        self.ledger.record_metrics(run.id, MetricsRecord(seconds=1))
        rows = [
            DocumentRecord(f"{name} {number}", b"t" * 32, b"v" * 32, self.model.id, run.id)
            for number in range(carried_by)
        ]
        self.ledger.record_documents(SERVER, collection, rows)
        folder = self.home / "runs" / name
        folder.mkdir(parents=True)
        (folder / "status.json").touch()
        self._patch.undo()
        return self.ledger.finish_run(run.id, state)

    def _backed_up(self, name: str, collection: str) -> str:
        with BackupWriter.open(
            self.home, name, collection, kind="vectors", embedding_field="vector", server=SERVER, schema=SCHEMA
        ) as backup:
            backup.add_vectors([("1", [0.0, 1.0], None)])
            backup.close(complete=True)
        return str(backup.folder)

    def plan(self, **conditions: Any) -> Prunable:
        return prunable(self.ledger, self.home, **conditions)

    def prune(self, **conditions: Any) -> Prunable:
        return prune(self.ledger, self.home, self.plan(**conditions), **conditions)

    @property
    def runs(self) -> list[str]:
        return [run.name for run in self.ledger.runs()]

    @property
    def backups(self) -> list[str]:
        return sorted({each.run for each in list_backups(self.home)}, reverse=True)


@pytest.fixture
def past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Past]:
    with Ledger.open(None, tmp_path) as ledger:
        yield Past(ledger, tmp_path, monkeypatch)


def rows_about_runs(ledger: Ledger) -> dict[str, int]:
    tables = [table for table in metadata.sorted_tables if "run_id" in table.c]
    with ledger._reading() as connection:
        return {table.name: len(connection.execute(table.select()).all()) for table in tables}


def test_old_runs_go_with_everything_about_them_and_their_backups(past: Past) -> None:
    past.ran("a", days_ago=200)
    past.ran("b", days_ago=100)
    past.ran("c", days_ago=10, carried_by=3)
    done = past.prune(older_than=timedelta(days=90))
    assert [run.name for run in done.runs] == ["a", "b"]
    assert past.runs == past.backups == ["c"]
    assert set(rows_about_runs(past.ledger).values()) == {1}
    assert [path.name for path in (past.home / "runs").iterdir()] == ["c"]
    assert past.prune(older_than=timedelta(days=90)).runs == ()


def test_the_newest_are_kept_and_both_conditions_must_be_met(past: Past) -> None:
    for number in range(5):
        past.ran(str(number), days_ago=100 - 20 * number)
    assert [run.name for run in past.plan(keep=2).runs] == ["0", "1", "2"]
    assert [run.name for run in past.plan(keep=2, older_than=timedelta(days=70)).runs] == ["0", "1"]
    assert past.plan(keep=5).runs == ()
    assert [run.name for run in past.plan(older_than=timedelta(days=999_999)).runs] == []
    with pytest.raises(Refused, match="--keep, --older-than: give at least one"):
        past.plan()
    assert len(past.runs) == 5, "a look removes nothing"


def test_of_a_run_whose_vectors_stand_the_backup_alone_goes(past: Past) -> None:
    past.ran("a", carried_by=2)
    past.ran("b")
    past.ran("c")
    done = past.prune(keep=1)
    assert done.spared == {"a": "2 documents carry its vectors"}
    assert past.runs == ["c", "a"]
    assert past.backups == ["c"]
    assert past.ledger.documents(SERVER, "notes", ["a 0"])["a 0"].run_id is not None


@pytest.mark.parametrize("state", ["running", "stopped", "interrupted"])
def test_an_unfinished_run_stays_with_its_backup_and_so_does_what_was_done_upon_it(past: Past, state: str) -> None:
    past.ran("before")
    past.ran("unfinished", state=state)
    past.ran("upon it")
    past.ran("elsewhere", collection="others")
    past.ran("last", collection="others")
    done = past.prune(keep=1)
    assert done.spared == {
        "unfinished": f"it did not come to its end ({state})",
        "upon it": "it must be taken back before run unfinished can be",
    }
    assert past.runs == ["last", "upon it", "unfinished"]
    assert past.backups == ["upon it", "unfinished", "last"]


def test_a_run_and_the_one_that_undoes_it_stay_or_go_together(past: Past) -> None:
    gone = past.ran("gone")
    past.ran("its way back", "rollback", reverts=gone)
    undone = past.ran("undone")
    past.ran("way back", "rollback", reverts=undone, carried_by=1)
    past.ran("last", collection="others")
    done = past.prune(keep=1)
    assert past.runs == ["last", "way back", "undone"]
    assert done.spared["undone"] == "it is undone by run way back, which stays"


def test_what_an_unfinished_way_back_reads_stays(past: Past) -> None:
    undone = past.ran("undone")
    restored = past.ran("restored", collection="others")
    (folder,) = [each.folder for each in list_backups(past.home) if each.run == restored.name]
    past.ran("way back", "rollback", reverts=undone, state="interrupted")
    past.ran("restore", "restore", collection="others", state="interrupted", file=str(folder.absolute()))
    done = past.prune(keep=0)
    assert done.spared["undone"] == "a rollback of it did not come to its end"
    assert {"undone", "restored"} <= set(past.backups)


def test_a_rollback_that_begins_while_somebody_thinks_it_over_keeps_what_it_needs(past: Past) -> None:
    undone = past.ran("undone")
    past.ran("old", collection="others")
    plan = past.plan(keep=0)
    past.ran("way back", "rollback", reverts=undone, state="running")
    done = prune(past.ledger, past.home, plan, keep=0)
    assert [run.name for run in done.runs] == ["old"]
    assert past.backups == ["way back", "undone"]


def test_what_is_needed_is_not_removed_whoever_asks(past: Past) -> None:
    explaining = past.ran("explaining", carried_by=1)
    running = past.ran("running", state="running")
    undone = past.ran("undone")
    way_back = past.ran("way back", "rollback", reverts=undone)
    free = past.ran("free")
    for needed in (explaining, running, undone, way_back):
        with pytest.raises(LedgerError, match=r"nothing was removed: run .* is needed by now"):
            past.ledger.delete_runs([free.id, needed.id])
    assert len(past.runs) == 5
    past.ledger.delete_runs([undone.id, way_back.id, free.id])
    assert past.runs == ["running", "explaining"]


def test_a_folder_with_documents_that_could_not_be_copied_stays(past: Past) -> None:
    past.ran("a")
    kept = past.home / "runs" / "a" / "rejected.jsonl"
    kept.touch()
    past.prune(keep=0)
    assert kept.exists()


def test_a_model_goes_only_when_nothing_carries_it_and_no_run_is_left_of_it(past: Past) -> None:
    past.ran("a", carried_by=1)
    model = find_model(past.ledger, "openai/small/2")
    with pytest.raises(LedgerError, match="documents carry it; `kai-migrate models` says which"):
        past.ledger.delete_model(model)
    past.ledger.forget_collection(SERVER, "notes")
    with pytest.raises(LedgerError, match="the ledger has runs to it, the latest a; remove them first"):
        past.ledger.delete_model(model)
    past.prune(keep=0)
    past.ledger.delete_model(model)
    assert past.ledger.models() == []


def test_a_model_is_named_so_that_it_is_the_only_one(past: Past) -> None:
    past.ledger.register_model(family="openai", model="small", dimensions=3, fingerprint="g")
    with pytest.raises(Refused, match=r"several are called 'small'; name one by its fingerprint: [fg] "):
        find_model(past.ledger, "small")
    with pytest.raises(Refused, match="no model 'large'"):
        find_model(past.ledger, "large")
    assert find_model(past.ledger, "g").dimensions == 3
