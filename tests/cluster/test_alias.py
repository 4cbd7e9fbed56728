"""A swap in a cluster: its leader may die at any moment, and where reads lag nothing is lost either."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cluster.clustered import OLD_DIMENSIONS, Clustered

ALL = bool(os.environ.get("KAI_ALL_MOMENTS"))
"""Kill at each write, not at one."""
ALIAS, NEW = "questions", "context_stores__2"


@pytest.fixture
def aliased(clustered: Clustered, tmp_path: Path) -> Clustered:
    """Filled, and known by an alias."""
    clustered.fill()
    clustered.give_alias(ALIAS, tmp_path)
    return clustered


@pytest.mark.parametrize("place", range(1, 30) if ALL else [9])
def test_the_leader_may_die_at_any_write_of_a_swap(aliased: Clustered, place: int) -> None:
    aliased.kill_leader(place)
    done = aliased.migrate(OLD_DIMENSIONS, "--strategy", "alias", **aliased.nodes)
    assert done.status == 0, done.text
    aliased.check(OLD_DIMENSIONS, successor=NEW)
    aliased.check_killed(is_certain=not ALL)


def test_what_is_written_by_the_alias_at_the_leader_is_not_lost_while_a_lagging_follower_is_read(
    aliased: Clustered,
) -> None:
    with aliased.written_to(ALIAS) as written:
        done = aliased.migrate(32, "--strategy", "alias", "--allow-lag")
    # 1: documents were still changing when the last pass ended.
    assert done.status in (0, 1), done.text
    assert written
    again = aliased.migrate(32, "--strategy", "alias", "--allow-lag")
    assert again.status == 0, again.text
    aliased.check(32, successor=NEW)
