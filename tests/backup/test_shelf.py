"""Listing and removing backups."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from migration.backup import Backup, BackupError, list_backups, prune
from tests.backup.making import write


def _make(home: Path, run: str, collection: str = "things", *, days_ago: float = 0.0) -> Path:
    with write(home, run=run, collection=collection) as writer:
        writer.add_vectors([("a", [1.0], None), ("b", None, None)])
        writer.close(complete=True)
    path = writer.folder / "manifest.json"
    manifest = orjson.loads(path.read_bytes())
    manifest["created"] = (datetime.now(UTC) - timedelta(days=days_ago)).isoformat()
    path.write_bytes(orjson.dumps(manifest))
    return writer.folder


def _runs(home: Path) -> list[str]:
    return [each.run for each in list_backups(home)]


def test_backups_are_listed_oldest_first_with_what_is_in_them(tmp_path: Path) -> None:
    _make(tmp_path, "new")
    _make(tmp_path, "old", "a/b", days_ago=3)
    old, new = list_backups(tmp_path)
    assert (old.run, old.collection, new.run, new.collection) == ("old", "a/b", "new", "things")
    assert (new.kind, new.records, new.complete) == ("vectors", 2, True)
    assert new.bytes == sum(path.stat().st_size for path in new.folder.iterdir())
    assert Backup.load(new.folder).manifest.run == "new"


def test_no_home_and_no_backups_are_an_empty_list(tmp_path: Path) -> None:
    assert list_backups(tmp_path / "nowhere") == []
    assert prune(tmp_path / "nowhere", keep=0) == []


def test_an_unfinished_backup_is_listed_with_the_records_it_has_so_far(tmp_path: Path) -> None:
    with write(tmp_path) as writer:
        writer.add_vectors([("a", [1.0], None)])
        (found,) = list_backups(tmp_path)
        assert (found.records, found.complete) == (1, False)


def test_a_backup_without_a_readable_manifest_is_listed_and_can_be_removed(tmp_path: Path) -> None:
    (_make(tmp_path, "run", "a/b") / "manifest.json").write_text("")
    (found,) = list_backups(tmp_path)
    assert (found.run, found.collection, found.kind, found.complete) == ("run", "a/b", None, False)
    assert [each.run for each in prune(tmp_path, runs=["run"])] == ["run"]
    assert list_backups(tmp_path) == []


def test_the_newest_runs_are_kept_with_all_their_collections(tmp_path: Path) -> None:
    for days in range(4):
        _make(tmp_path, f"run{days}", days_ago=days)
        _make(tmp_path, f"run{days}", "others", days_ago=days + 0.1)
    removed = prune(tmp_path, keep=2)
    assert sorted({each.run for each in removed}) == ["run2", "run3"] and len(removed) == 4
    assert sorted(set(_runs(tmp_path))) == ["run0", "run1"]
    assert sorted(path.name for path in (tmp_path / "backups").iterdir()) == ["run0", "run1"]


@pytest.mark.parametrize(
    ("conditions", "left"),
    [
        ({}, ["run3", "run2", "run1", "run0"]),
        ({"older_than_days": 2}, ["run1", "run0"]),
        ({"older_than_days": 2, "keep": 3}, ["run2", "run1", "run0"]),
        ({"keep": 0}, []),
        ({"runs": ["run0", "unknown"]}, ["run3", "run2", "run1"]),
        ({"runs": ["run0"], "keep": 1}, ["run3", "run2", "run1", "run0"]),
    ],
)
def test_only_what_meets_all_conditions_is_removed(
    tmp_path: Path, conditions: dict[str, int | list[str]], left: list[str]
) -> None:
    for days in range(4):
        _make(tmp_path, f"run{days}", days_ago=days + 0.5)
    before = _runs(tmp_path)
    removed = prune(tmp_path, **conditions)  # type: ignore[arg-type]
    assert _runs(tmp_path) == left
    assert sorted([*left, *(each.run for each in removed)]) == sorted(before)


def test_numbers_below_zero_are_refused(tmp_path: Path) -> None:
    _make(tmp_path, "run")
    with pytest.raises(ValueError, match="negative"):
        prune(tmp_path, keep=-1)
    with pytest.raises(ValueError, match="negative"):
        prune(tmp_path, older_than_days=-1)
    assert _runs(tmp_path) == ["run"]


def test_what_is_being_written_is_spared(tmp_path: Path) -> None:
    with write(tmp_path) as writer:
        assert prune(tmp_path, keep=0) == []
        writer.add_vectors([("a", [1.0], None)])
        writer.close(complete=True)
    assert len(prune(tmp_path, keep=0)) == 1


def test_links_are_neither_listed_nor_followed(tmp_path: Path) -> None:
    elsewhere = _make(tmp_path / "elsewhere", "precious")
    home = tmp_path / "home"
    inside = _make(home, "run")
    (home / "backups" / "linked").symlink_to(elsewhere.parent)
    (inside.parent / "linked").symlink_to(elsewhere)
    (inside / "linked").symlink_to(elsewhere)
    (home / "backups" / ".removed-linked").symlink_to(elsewhere.parent)
    assert _runs(home) == ["run"]
    prune(home, keep=0)
    assert _runs(home) == []
    Backup.load(elsewhere).verify()


def test_a_removal_that_was_interrupted_is_finished_by_the_next(tmp_path: Path) -> None:
    _make(tmp_path, "run").rename(tmp_path / "backups" / ".removed-1")
    assert _runs(tmp_path) == []
    prune(tmp_path)
    assert not (tmp_path / "backups" / ".removed-1").exists()


def test_what_cannot_be_removed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _make(tmp_path, "run")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(BackupError, match=f"{folder}.*Permission denied"):
        prune(tmp_path, keep=0)
