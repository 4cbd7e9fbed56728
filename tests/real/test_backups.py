"""Backups by hand and of a run, restored."""

from __future__ import annotations

import pytest

from tests.real.corner import NEW, OLD, Corner


def backup_of(corner: Corner, run: str) -> str:
    """The folder of the notes' backup of a run."""
    (folder,) = corner.world.home.glob(f"backups/{run}/{corner.notes}")
    return str(folder)


def test_vectors_that_a_run_backed_up_are_restored_into_the_standing_collection(corner: Corner) -> None:
    assert corner.run(dimensions=OLD).status == 0
    corner.kai_migrate("restore", backup_of(corner, "openai-*"), "--yes")
    corner.check_as_filled()


@pytest.mark.parametrize("way", ["gone", "of another length"])
def test_a_whole_collection_is_restored_and_the_references_to_it_lead_where_they_led(corner: Corner, way: str) -> None:
    corner.kai_migrate("backup")
    if way == "gone":
        corner.world.http.delete(f"/collections/{corner.notes}").raise_for_status()
    else:
        assert corner.run("--strategy", "alter", "--no-backup", dimensions=NEW).status == 0
    corner.kai_migrate("restore", backup_of(corner, "backup-*"), "--yes")
    corner.check_as_filled()
