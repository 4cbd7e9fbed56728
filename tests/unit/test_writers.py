"""Which runs wrote to a collection after another one, and which of them still stand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from migration.backup.manifest import MANIFEST
from migration.ledger import DocumentRecord, Ledger, RunRecord
from migration.ledger.records import RunKind, Strategy
from migration.operations.runs.writers import Writers, refuse_another_server, refuse_out_of_order, why_superseded
from migration.strategies.refusals import Refused

SERVER = "search:8108"
NOTES = "notes"


class Past:
    """A ledger, and the runs that it is told of, one after the other."""

    def __init__(self, ledger: Ledger, home: Path) -> None:
        self.ledger, self.home = ledger, home

    def ran(
        self,
        name: str,
        kind: RunKind = "migrate",
        *,
        reverts: RunRecord | None = None,
        model: str = "",
        state: Any = "completed",
        server: str = SERVER,
        collection: str = NOTES,
        strategy: Strategy = "in place",
        backup: bool = True,
    ) -> RunRecord:
        """A run over one collection, with its backup on the disk; by default it came to its end."""
        run = self.ledger.start_run(
            name,
            kind,
            model_id=self.model(model) if model else None,
            source={"server": server, "collections": [collection]},
            parameters={"backup": backup},
            reverts=reverts.id if reverts else None,
        )
        path = self.backup_of(name) if backup and strategy != "skipped" else None
        row = self.ledger.start_collection(run.id, collection, strategy, backup_path=str(path) if path else None)
        if path:
            path.mkdir()
            (path / MANIFEST).touch()
        self.ledger.update_collection(row, done=10, state="skipped" if strategy == "skipped" else state)
        return self.ledger.finish_run(run.id, state)

    def backup_of(self, name: str) -> Path:
        """Where the backup of this run is."""
        return self.home / name

    def model(self, name: str) -> str:
        """The id of the model of this name."""
        return self.ledger.register_model(family="local", model=name, dimensions=2, fingerprint=name).id

    def carry(self, model: str, *ids: str) -> None:
        """Let these documents carry a vector of this model."""
        rows = [DocumentRecord(id_, b"t" * 32, b"v" * 32, self.model(model)) for id_ in ids]
        self.ledger.record_documents(SERVER, NOTES, rows)

    @property
    def writers(self) -> Writers:
        """What the ledger says now."""
        return Writers(self.ledger, SERVER)

    def after(self, run: RunRecord) -> list[str]:
        """The names of the runs that stand on this one."""
        return [each.name for each in self.writers.after(run, NOTES)]


@pytest.fixture
def past(tmp_path: Path) -> Iterator[Past]:
    with Ledger.open(None, tmp_path / "home") as ledger:
        yield Past(ledger, tmp_path)


# -- what stands on a run ------------------------------------------------------------------------------------


def test_what_wrote_to_the_collection_later_stands_on_a_run_the_latest_first(past: Past) -> None:
    first = past.ran("first")
    past.ran("second")
    past.ran("third", "restore")
    assert past.after(first) == ["third", "second"]


def test_what_wrote_elsewhere_or_nothing_at_all_does_not_stand_on_a_run(past: Past) -> None:
    first = past.ran("first")
    past.ran("of another collection", collection="others")
    past.ran("of another server", server="elsewhere:8108")
    past.ran("skipped", strategy="skipped", backup=False)
    past.ran("by hand", "backup")
    assert past.after(first) == []


def test_a_run_without_a_backup_stands_on_an_earlier_one_all_the_same(past: Past) -> None:
    first = past.ran("first")
    past.ran("second", backup=False)
    assert past.after(first) == ["second"]


def test_a_run_and_its_rollback_cancel_out(past: Past) -> None:
    first = past.ran("first")
    second = past.ran("second")
    past.ran("back", "rollback", reverts=second)
    assert past.after(first) == []


def test_a_rollback_of_an_earlier_run_stands_on_a_later_one(past: Past) -> None:
    first = past.ran("first")
    second = past.ran("second")
    past.ran("back", "rollback", reverts=first)
    assert past.after(second) == ["back"]


# -- what took a run back ------------------------------------------------------------------------------------


def test_a_run_is_undone_by_the_rollback_that_came_to_its_end(past: Past) -> None:
    first = past.ran("first")
    past.ran("died", "rollback", reverts=first, state="stopped")
    assert past.writers.undone_by(first, NOTES) is None
    back = past.ran("back", "rollback", reverts=first, state="partial")
    assert past.writers.undone_by(first, NOTES) == back
    assert past.writers.undone_by(first, "others") is None


def test_a_run_stands_again_once_its_rollback_was_rolled_back(past: Past) -> None:
    first = past.ran("first")
    back = past.ran("back", "rollback", reverts=first)
    forth = past.ran("forth", "rollback", reverts=back)
    assert past.writers.undone_by(first, NOTES) is None
    assert past.writers.undone_by(back, NOTES) == forth


# -- in which order to go back ---------------------------------------------------------------------------------


def test_a_run_is_refused_to_be_taken_back_before_later_ones_which_are_named_in_order(past: Past) -> None:
    first = past.ran("first")
    second = past.ran("second")
    third = past.ran("third")
    with pytest.raises(Refused, match=r"2 later runs wrote .* after run first; .* in this order: third, second, first"):
        refuse_out_of_order(past.writers, first, [NOTES])
    with pytest.raises(Refused, match=r"1 later run wrote .* in this order: third, second"):
        refuse_out_of_order(past.writers, second, [NOTES])
    assert refuse_out_of_order(past.writers, third, [NOTES]) == []
    assert refuse_out_of_order(past.writers, first, ["others"]) == []


def test_a_later_run_that_can_never_be_taken_back_is_told_and_no_reason_to_refuse(past: Past) -> None:
    first = past.ran("first")
    past.ran("second", backup=False)
    (warning,) = refuse_out_of_order(past.writers, first, [NOTES])
    assert warning.startswith("Run second wrote to 'notes' later and has no backup")


def test_a_later_run_whose_backup_was_removed_is_no_reason_to_refuse(past: Past) -> None:
    first = past.ran("first")
    past.ran("second")
    (past.backup_of("second") / MANIFEST).unlink()
    (warning,) = refuse_out_of_order(past.writers, first, [NOTES])
    assert warning.startswith("Run second wrote to 'notes' later and has no backup")


# -- what stands among the vectors that came back -----------------------------------------------------------------


def test_documents_that_only_a_later_run_without_a_backup_wrote_mix_with_those_that_came_back(past: Past) -> None:
    first = past.ran("first", model="a")
    past.ran("second", model="b", backup=False)
    past.carry("a", "1", "2")
    past.carry("b", "3")
    assert past.writers.mixture(first, NOTES) == [
        "1 documents of 'notes' still carry vectors of run second; its backup is not there; migrate again to have one "
        "model"
    ]


def test_documents_of_an_unfinished_run_before_the_one_taken_back_are_told_with_the_way_back(past: Past) -> None:
    past.ran("first", model="a", state="stopped")
    second = past.ran("second", model="b")
    past.carry("a", "1")
    past.carry("c", "2", "3")
    assert past.writers.mixture(second, NOTES) == [
        "1 documents of 'notes' still carry vectors of run first; roll it back too: kai-migrate rollback first"
    ]


def test_a_collection_of_one_model_is_no_mixture(past: Past) -> None:
    past.ran("first", model="a", state="stopped")
    second = past.ran("second", model="b")
    past.carry("a", "1", "2")
    assert past.writers.mixture(second, NOTES) == []


def test_a_run_that_came_to_its_end_before_leaves_no_mixture(past: Past) -> None:
    past.ran("first", model="a")
    second = past.ran("second", model="b")
    past.carry("a", "1")
    past.carry("c", "2")
    assert past.writers.mixture(second, NOTES) == []


# -- whether a run's vectors should stand still --------------------------------------------------------------------


def test_a_run_that_was_rolled_back_is_superseded(past: Past) -> None:
    first = past.ran("first", model="a")
    past.ran("back", "rollback", reverts=first)
    assert why_superseded(past.writers, first, NOTES) == "run first was rolled back by back"


def test_a_run_is_superseded_by_another_model_and_not_by_its_own_again(past: Past) -> None:
    first = past.ran("first", model="a")
    past.ran("again", model="a")
    assert why_superseded(past.writers, first, NOTES) == ""
    past.ran("other", model="b")
    assert why_superseded(past.writers, first, NOTES) == "run other wrote to 'notes' after run first"
    assert why_superseded(past.writers, first, "others") == ""


def test_a_restored_backup_supersedes_whatever_model_it_is_of(past: Past) -> None:
    first = past.ran("first", model="a")
    past.ran("restored", "restore")
    assert why_superseded(past.writers, first, NOTES) == "run restored wrote to 'notes' after run first"


def test_a_run_over_another_server_is_refused_with_both_addresses(past: Past) -> None:
    first = past.ran("first")
    refuse_another_server(first, SERVER)
    with pytest.raises(Refused, match=r"run first was over the server search:8108, and these name elsewhere:8108"):
        refuse_another_server(first, "elsewhere:8108")
