"""Kill -9 between every two requests; after each restart everything is there and right, and nothing is left.

`KILL_SWEEP=all` tries every combination of circumstances at every request; without it each request gets one
of them, in turn. Where the collection is away, the application creates it every other time, with the right
dimensions or with wrong ones, before the restart.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

from tests.killing import Moment, run_forked
from tests.recreate.small import MODEL, NAME, OLD_DIMENSIONS, SmallWorld, schemas
from tests.world import Document

TARGET = 32
ALL = os.environ.get("KILL_SWEEP") == "all"


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Which side of the request, where the restart happens, and what it wants."""

    moment: Moment
    same_machine: bool
    dimensions: int
    model: str

    def __str__(self) -> str:
        return f"{self.moment}, {'same' if self.same_machine else 'another'} machine, {self.dimensions}, {self.model}"


MOMENTS: tuple[Moment, ...] = ("before", "after")
TARGETS = [(TARGET, MODEL), (24, MODEL), (TARGET, "text-embedding-3-large"), (OLD_DIMENSIONS, MODEL)]
EVERY = [Circumstances(moment, same, *target) for target, same, moment in product(TARGETS, (True, False), MOMENTS)]
# The usual restart more often than the strange ones.
IN_TURN = [EVERY[0], EVERY[3], EVERY[1], EVERY[2], EVERY[4], EVERY[3], EVERY[1], EVERY[11], EVERY[2], EVERY[12]]


def create_as_the_application_does(small: SmallWorld, dimensions: int) -> dict[str, Document]:
    """The application finds its collection missing, creates it, and writes a new and a changed note.

    The changed one is refused where an asynchronous reference still has the number that it had.
    """
    changed = {key: value for key, value in small.expected["n5"].items() if key != "vector"} | {"text": "newer"}
    new = {"id": "new", "source_id": "s1", "title": "new", "text": "written while it was away", "draft": False}
    small.world.http.post("/collections", json=schemas(dimensions)[1]).raise_for_status()
    small.world.import_(NAME, [{**new, "vector": [0.5] * dimensions}])
    answer = small.world.http.post(f"/collections/{NAME}/documents/import", content=json.dumps(changed)).json()
    assert answer["success"] or "already has a reference to" in answer["error"]
    return {"new": new} | ({"n5": changed} if answer["success"] else {})


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("circumstances", EVERY if ALL else [None], ids=str)
def test_killed_between_any_two_requests_and_started_again_it_comes_to_the_same_end(
    small: SmallWorld, tmp_path: Path, circumstances: Circumstances | None
) -> None:
    number = 0
    while True:
        number += 1
        small.fill(late=True)
        chosen = circumstances or IN_TURN[number % len(IN_TURN)]
        home = tmp_path / f"{number}"
        killed = run_forked(
            small.options(),
            small.environment(TARGET, home / "one"),
            home,
            kill_at=number,
            moment=chosen.moment,
        )
        if not killed.killed:
            assert killed.status == 0, killed.text
            assert number == len(killed.requests) + 1
            small.check(TARGET)
            break
        where = f"request {number} ({chosen}): {killed.requests[-1]}"
        environment = small.environment(
            chosen.dimensions, home / ("one" if chosen.same_machine else "other"), chosen.model
        )
        expected = dict(small.expected)
        if number % 2 and small.world.http.get(f"/collections/{NAME}").status_code == 404:
            expected |= create_as_the_application_does(small, TARGET if number % 4 == 1 else OLD_DIMENSIONS)
        again = run_forked(small.options(), environment, home)
        assert again.status == 0, f"{where}\n{killed.text}\n{again.text}"
        try:
            # What the application created first comes first.
            in_order = {id_: expected[id_] for id_ in small.world.documents(NAME) if id_ in expected}
            small.check(chosen.dimensions, chosen.model, documents=in_order | expected)
        except BaseException:
            print(where, killed.text, again.text, *again.requests, sep="\n")
            raise
    print(f"killed at each of {number - 1} requests ({circumstances or 'in turn'})")
    assert number > 60
