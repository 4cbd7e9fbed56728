"""One start is enough: the leader of a cluster may die at any moment of a run, wherever the run was pointed at."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from migration.strategies.context import MigrationOptions
from tests.cluster.clustered import NAME, OLD_DIMENSIONS, Clustered
from tests.killing import Moment, run_watched

ALL = bool(os.environ.get("KAI_ALL_MOMENTS"))
"""Kill at each write, not at some of them."""
OTHER_DIMENSIONS = 32
WAYS = {
    "in place": (OLD_DIMENSIONS, ()),
    "rebuild": (OLD_DIMENSIONS, ("--strategy", "rebuild")),
    "alter": (OTHER_DIMENSIONS, ("--strategy", "alter")),
    "recreate": (OTHER_DIMENSIONS, ()),
}
SOME = {"in place": 2, "rebuild": 4, "alter": 5, "recreate": 10}
"""A write in the middle of each way."""
KILLS = [(way, place) for way in WAYS for place in (range(1, 30) if ALL else [SOME[way]])]


def test_a_run_pointed_at_a_follower_reads_and_writes_at_the_leader(clustered: Clustered) -> None:
    clustered.fill()
    done = clustered.migrate(OTHER_DIMENSIONS, **clustered.nodes)
    assert done.status == 0, done.text
    assert "--allow-lag" not in done.text
    clustered.check(OTHER_DIMENSIONS)


@pytest.mark.parametrize(("way", "place"), KILLS)
def test_the_leader_may_die_at_any_write(clustered: Clustered, way: str, place: int) -> None:
    dimensions, arguments = WAYS[way]
    clustered.fill()
    clustered.kill_leader(place)
    done = clustered.migrate(dimensions, *arguments, **clustered.nodes)
    assert done.status == 0, done.text
    clustered.check(dimensions)
    clustered.check_killed(is_certain=not ALL)


@pytest.mark.parametrize(("way", "place"), KILLS if ALL else [("recreate", 10)])
def test_the_leader_may_die_where_only_a_follower_is_known(clustered: Clustered, way: str, place: int) -> None:
    dimensions, arguments = WAYS[way]
    clustered.fill()
    clustered.kill_leader(place)
    done = clustered.migrate(dimensions, "--allow-lag", *arguments)
    assert done.status == 0, done.text
    clustered.check(dimensions)
    clustered.check_killed(is_certain=not ALL)


@pytest.mark.parametrize("behind", ["a load balancer", "a follower"])
def test_the_field_is_altered_where_reads_lag(clustered: Clustered, behind: str) -> None:
    clustered.fill()
    address = clustered.cluster.balancer if behind == "a load balancer" else clustered.follower
    done = clustered.migrate(OTHER_DIMENSIONS, "--strategy", "alter", address=address)
    assert done.status == 0, done.text
    clustered.check(OTHER_DIMENSIONS)


@pytest.mark.parametrize(("place", "moment"), [(16, "before"), (21, "after"), (28, "before")])
def test_killed_at_a_lagging_follower_the_next_start_finishes(
    clustered: Clustered, tmp_path: Path, place: int, moment: Moment
) -> None:
    clustered.fill()
    options = MigrationOptions(collections=(NAME,), strategy="alter")
    environment = clustered.environment(OTHER_DIMENSIONS)
    # How often the collection is looked at until a follower shows what was done, depends on the machine.
    how: Any = {"kill_at": place, "moment": moment, "uncounted": f"GET /collections/{NAME}"}
    assert run_watched(options, environment, tmp_path / "killed", **how).killed
    again = run_watched(options, environment, tmp_path / "again")
    assert again.status == 0, again.text
    clustered.check(OTHER_DIMENSIONS)


def test_what_is_written_at_the_leader_is_not_lost_while_a_lagging_follower_is_read(clustered: Clustered) -> None:
    clustered.fill()
    with clustered.written_to() as written:
        done = clustered.migrate(OTHER_DIMENSIONS, "--strategy", "alter")
    # 1: documents were still changing when the last pass ended.
    assert done.status in (0, 1), done.text
    assert written
    again = clustered.migrate(OTHER_DIMENSIONS)
    assert again.status == 0, again.text
    clustered.check(OTHER_DIMENSIONS)


@pytest.mark.parametrize("behind", ["a load balancer", "a follower"])
def test_a_recreate_is_refused_where_reads_lag(clustered: Clustered, behind: str) -> None:
    clustered.fill()
    address = clustered.cluster.balancer if behind == "a load balancer" else clustered.follower
    done = clustered.migrate(OTHER_DIMENSIONS, address=address)
    assert done.status == 2, done.text
    assert "--strategy alter" in done.err
    assert "--allow-lag" in done.err
    clustered.check_untouched()


@pytest.mark.parametrize("place", range(1, 12) if ALL else [3, 8])
def test_the_leader_may_die_while_a_second_field_is_filled_and_finished(clustered: Clustered, place: int) -> None:
    clustered.fill()
    clustered.kill_leader(place)
    done = clustered.migrate(OTHER_DIMENSIONS, "--into", "second", **clustered.nodes)
    assert done.status == 0, done.text
    done = clustered.finish(**clustered.nodes)
    assert done.status == 0, done.text
    clustered.check(OTHER_DIMENSIONS, "second")
    clustered.check_killed(is_certain=not ALL)


def test_a_second_field_is_filled_and_finished_where_reads_lag(clustered: Clustered) -> None:
    clustered.fill()
    for done in (clustered.migrate(OTHER_DIMENSIONS, "--into", "second"), clustered.finish()):
        assert done.status == 0, done.text
    clustered.check(OTHER_DIMENSIONS, "second")
