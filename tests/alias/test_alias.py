"""A new collection takes the place of the live one behind its aliases; `finish` and the way back end it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.alias.corner import BASE, NEW, OLD, OLD_DIMENSIONS, OTHER_ALIAS, Corner, written
from tests.killing import Ended, run_command_watched, run_watched
from tests.providers.vectors import vector_for
from tests.recreate.small import MODEL, text_of
from tests.world import as_float32

TARGET = 32
pytestmark = pytest.mark.usefixtures("warm")


def migrate(corner: Corner, folder: Path, dimensions: int = TARGET, *, home: str = "home", **options: object) -> Ended:
    """A run by alias to its end."""
    return run_watched(corner.options(**options), corner.environment(dimensions, folder / home), folder / "run")


def command(corner: Corner, folder: Path, *arguments: str, home: str = "home", dimensions: int = TARGET) -> Ended:
    """`kai-migrate` with these arguments."""
    given = [*arguments, "--yes", "--collections-file", str(corner.file)]
    return run_command_watched(given, corner.environment(dimensions, folder / home), folder / "run")


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
    for asked, answer in ((["verify"], "notes__2: PASS"), (["explain", "articles", "n5"], "notes__2/n5: current")):
        told = run_command_watched([*asked, "--collections-file", str(corner.file)], environment, tmp_path / "run")
        assert (told.status, answer in told.text) == (0, True), told.text
    ended = command(corner, tmp_path, "finish", dimensions=dimensions)
    assert ended.status == 0, ended.text
    corner.check_finished(dimensions)
    back = command(corner, tmp_path, "rollback", run_of(done), dimensions=dimensions)
    assert back.status == 2, back.text
    assert "kai-migrate restore" in back.text
    restored = back.text.split("`kai-migrate restore ")[1].split("`")[0]
    assert command(corner, tmp_path, "restore", restored, dimensions=dimensions).status == 0
    corner.check_contents_are_old(OLD)


@pytest.mark.parametrize(("version", "is_configured"), [("corner_29", False), ("corner", True)])
def test_the_way_back_leads_the_aliases_back_and_carries_what_was_written_since(
    request: pytest.FixtureRequest, tmp_path: Path, version: str, *, is_configured: bool
) -> None:
    corner: Corner = request.getfixturevalue(version)
    before = migrate(corner, tmp_path, OLD_DIMENSIONS, strategy="auto")
    assert before.status == 0, before.text
    corner.expected = corner.world.documents(OLD)
    done = migrate(corner, tmp_path)
    assert done.status == 0, done.text
    changed = {key: value for key, value in corner.expected["n5"].items() if key != "vector"} | {"text": "newer"}
    known = written(2, **{key: corner.expected["n12"][key] for key in ("title", "text")})
    corner.world.import_(OTHER_ALIAS, [written(1), known, changed], "upsert")
    corner.world.http.delete(f"/collections/{OTHER_ALIAS}/documents/n6").raise_for_status()
    dimensions = OLD_DIMENSIONS if is_configured else TARGET
    ended = command(corner, tmp_path, "rollback", run_of(done), dimensions=dimensions)
    assert ended.status == 0, ended.text
    assert "4 documents that were written or deleted since" in ended.text
    assert ("2 documents that were written since have no vector of the earlier model" in ended.text) != is_configured
    expected = corner.expected | {"w1": written(1), "w2": known, "n5": changed}
    del expected["n6"]
    corner.check_back(expected)
    vectors = {id_: as_float32(note.get("vector")) for id_, note in corner.world.documents(OLD).items()}
    for note in (written(1), known, changed):
        right = vector_for(text_of(note), model=MODEL, dimensions=OLD_DIMENSIONS).tobytes()
        assert vectors[note["id"]] == (right if is_configured or note is known else None), note["id"]
    again = command(corner, tmp_path, "rollback", run_of(done), dimensions=dimensions)
    assert (again.status, "taken back already" in again.text) == (2, True)


def test_it_is_listed_on_another_machine_and_compared_after_its_end(corner: Corner, tmp_path: Path) -> None:
    before = migrate(corner, tmp_path, OLD_DIMENSIONS, strategy="auto")
    assert before.status == 0, before.text
    done = migrate(corner, tmp_path)
    assert done.status == 0, done.text
    elsewhere = corner.environment(TARGET, tmp_path / "elsewhere")
    listed = run_command_watched(["list"], elsewhere, tmp_path / "run")
    assert f"kai-migrate finish {run_of(done)}" in listed.text
    assert command(corner, tmp_path, "finish", run_of(done)).status == 0
    corner.check_finished(TARGET)
    # The vectors of the collection that is gone are in the backup.
    runs = (f"openai-{MODEL}-{dimensions}" for dimensions in (OLD_DIMENSIONS, TARGET))
    compared = run_command_watched(["compare", *runs], corner.environment(TARGET, tmp_path / "home"), tmp_path / "run")
    assert compared.status == 0, compared.text
    assert "not available" not in compared.text
    assert "30 documents" in compared.text


def test_what_a_dead_run_built_is_removed_by_one_that_goes_another_way(corner: Corner, tmp_path: Path) -> None:
    def at_request(_number: int, name: str) -> None:
        if name.startswith(f"POST /collections/{BASE}/documents/import"):
            os.kill(os.getpid(), signal.SIGKILL)

    environment = corner.environment(TARGET, tmp_path / "home")
    assert run_watched(corner.options(), environment, tmp_path / "run", at_request=at_request).killed
    assert corner.names() == {OLD, NEW, BASE}
    done = run_watched(corner.options(strategy="alter"), environment, tmp_path / "run")
    assert done.status == 0, done.text
    assert corner.names() == {OLD}
    corner.check_contents(OLD, corner.expected, TARGET)


def test_a_document_that_the_earlier_schema_does_not_take_keeps_the_new_collection_until_it_is_mended(
    corner: Corner, tmp_path: Path
) -> None:
    corner.fill(optional=False)
    done = migrate(corner, tmp_path)
    assert done.status == 0, done.text
    late = written(1, vector=[0.5] * TARGET)
    corner.world.import_(OTHER_ALIAS, [late])
    stopped = command(corner, tmp_path, "rollback", run_of(done))
    assert stopped.status == 3, stopped.text
    assert "1 documents cannot be carried back, 'w1' among them" in stopped.text
    assert set(corner.aliases().values()) == {OLD}
    assert corner.names() == {OLD, NEW, BASE}
    corner.world.http.delete(f"/collections/{NEW}/documents/w1").raise_for_status()
    again = command(corner, tmp_path, "rollback", run_of(done))
    assert again.status == 0, again.text
    corner.check_back()
