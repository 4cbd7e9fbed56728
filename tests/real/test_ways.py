"""Each way to migrate, and the way back from it."""

from __future__ import annotations

import pytest

from tests.real.corner import NEW, OLD, Corner

WAYS = {
    "in place": (OLD, ()),
    "rebuild": (OLD, ("--strategy", "rebuild")),
    "recreate": (NEW, ()),
    "alter": (NEW, ("--strategy", "alter")),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_note_gets_the_target_vector_nothing_else_changes_and_all_of_it_can_be_taken_back(
    corner: Corner, way: str
) -> None:
    dimensions, arguments = WAYS[way]
    done = corner.run(*arguments, dimensions=dimensions)
    assert done.status == 0, done.text
    assert corner.way().replace("_", " ") == way
    eligible = sum(not note["draft"] for note in corner.filled.values())
    assert done.summary(corner.notes) == {
        "status": "completed",
        "count": eligible,
        "success": eligible,
        "failed": 0,
    }
    corner.check_migrated(dimensions)
    asked = corner.provider.requests
    corner.kai_migrate("rollback", "--yes")
    assert corner.provider.requests == asked
    corner.check_as_filled()
