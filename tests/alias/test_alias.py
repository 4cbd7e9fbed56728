"""A new collection takes the place of the live one behind its aliases; `finish` and the way back end it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.alias.corner import BASE, NEW, OLD, OLD_DIMENSIONS, OTHER_ALIAS, Corner, written
from tests.killing import Ended, run_command_forked, run_forked

TARGET = 32


def migrate(corner: Corner, folder: Path, dimensions: int = TARGET, *, home: str = "home", **options: object) -> Ended:
    """A run by alias to its end."""
    return run_forked(corner.options(**options), corner.environment(dimensions, folder / home), folder / "run")


def command(corner: Corner, folder: Path, *arguments: str, home: str = "home", dimensions: int = TARGET) -> Ended:
    """`kai-migrate` with these arguments."""
    given = [*arguments, "--yes", "--collections-file", str(corner.file)]
    return run_command_forked(given, corner.environment(dimensions, folder / home), folder / "run")


def run_of(ended: Ended) -> str:
    """The run's name, by its note."""
    return ended.text.split("`kai-migrate finish ")[-1].split("`")[0]


@pytest.mark.parametrize(("version", "dimensions"), [("corner", TARGET), ("corner_29", OLD_DIMENSIONS)])
def test_every_alias_leads_to_the_new_collection_and_the_old_one_stands_until_it_is_finished(
    request: pytest.FixtureRequest, tmp_path: Path, version: str, dimensions: int
) -> None:
    corner: Corner = request.getfixturevalue(version)
    done = migrate(corner, tmp_path, dimensions)
    assert done.status == 0, done.text
    corner.check_swapped(dimensions)
    assert "Verification: PASS" in done.text
    environment = corner.environment(dimensions, tmp_path / "home")
    for asked in (["verify"], ["explain", "articles", "n5"], ["history"], ["show", "latest"]):
        arguments = [*asked, *(["--collections-file", str(corner.file)] if asked[0] in ("verify", "explain") else [])]
        told = run_command_forked(arguments, environment, tmp_path / "run")
        assert told.status == 0, told.text
        print(told.text)
    ended = command(corner, tmp_path, "finish", dimensions=dimensions)
    assert ended.status == 0, ended.text
    corner.check_finished(dimensions)
    back = command(corner, tmp_path, "rollback", run_of(done), dimensions=dimensions)
    assert back.status == 2, back.text
    assert "kai-migrate restore" in back.text
    restored = back.text.split("`kai-migrate restore ")[1].split("`")[0]
    assert command(corner, tmp_path, "restore", restored, dimensions=dimensions).status == 0
    corner.check_contents_are_old(OLD)


@pytest.mark.parametrize(("version", "dimensions"), [("corner_29", TARGET), ("corner", OLD_DIMENSIONS)])
def test_the_way_back_leads_the_aliases_back_and_carries_what_was_written_since(
    request: pytest.FixtureRequest, tmp_path: Path, version: str, dimensions: int
) -> None:
    corner: Corner = request.getfixturevalue(version)
    done = migrate(corner, tmp_path, dimensions)
    assert done.status == 0, done.text
    changed = {key: value for key, value in corner.expected["n5"].items() if key != "vector"} | {"text": "newer"}
    corner.world.import_(OTHER_ALIAS, [written(1), changed], "upsert")
    corner.world.http.delete(f"/collections/{OTHER_ALIAS}/documents/n6").raise_for_status()
    ended = command(corner, tmp_path, "rollback", run_of(done), dimensions=dimensions)
    assert ended.status == 0, ended.text
    assert "3 documents that were written or deleted since" in ended.text
    assert "have no vector of the earlier model" in ended.text
    expected = corner.expected | {"w1": written(1), "n5": changed}
    del expected["n6"]
    corner.check_back(expected)
    again = command(corner, tmp_path, "rollback", run_of(done), dimensions=dimensions)
    assert (again.status, "taken back already" in again.text) == (2, True)


def test_it_is_listed_with_what_ends_it_and_another_machine_ends_it(corner: Corner, tmp_path: Path) -> None:
    done = migrate(corner, tmp_path)
    environment = corner.environment(TARGET, tmp_path / "elsewhere")
    listed = run_command_forked(["list"], environment, tmp_path / "run")
    assert f"kai-migrate finish {run_of(done)}" in listed.text
    assert command(corner, tmp_path, "finish", home="elsewhere").status == 0
    corner.check_finished(TARGET)
    assert {NEW} == corner.names()
    assert BASE not in corner.names()
