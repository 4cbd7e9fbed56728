"""Kill -9 between the requests of a run; after each restart everything is there and right, and nothing is left.

`KILL_SWEEP=all` tries every combination of circumstances at every request. Without it each way is killed at some of
its requests, drawn with the circumstances from the seed of the faults (`FAULT_SEED=random` draws others). Where
the collection is away, the application creates it every other time, with the right dimensions or with wrong ones,
before the restart; where only its vector field is away, the application writes vectors of the old length.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, product
from pathlib import Path

import pytest

from kai.settings import ChosenStrategy
from migration.strategies.shadow_state import unfinished_refill
from tests.faults.seed import fault_seed
from tests.killing import MOMENTS, Ended, Moment, run_watched
from tests.recreate.small import LINKS, MODEL, NAME, OLD_DIMENSIONS, SmallWorld, schemas
from tests.world import Document

TARGET = 32
ALL = os.environ.get("KILL_SWEEP") == "all"


@dataclass(frozen=True, slots=True)
class Way:
    """How the run that is killed migrates: by which strategy, to which length, and at every how many requests it dies.

    Attributes:
        optional: whether a document may be without a vector.
        every: an odd number, so that odd and even requests come in turn.
    """

    strategy: ChosenStrategy
    dimensions: int
    optional: bool
    every: int

    @property
    def stays(self) -> bool:
        """Whether the collection itself is never dropped."""
        return self.strategy != "auto"

    @property
    def targets(self) -> list[tuple[int, str]]:
        """What a restart may want: the same, another length, another model, and a length that changes the way."""
        other = TARGET if self.dimensions == OLD_DIMENSIONS else OLD_DIMENSIONS
        return [(self.dimensions, MODEL), (24, MODEL), (self.dimensions, "text-embedding-3-large"), (other, MODEL)]


WAYS = {
    "recreate": Way("auto", TARGET, optional=True, every=13),
    "alter": Way("alter", TARGET, optional=True, every=7),
    "alter, required": Way("alter", TARGET, optional=False, every=7),
    "rebuild": Way("rebuild", OLD_DIMENSIONS, optional=True, every=7),
    "rebuild, required": Way("rebuild", OLD_DIMENSIONS, optional=False, every=7),
}


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Which side of the request, and the restart: where, how, and what it wants.

    Attributes:
        insists: whether the restart names the strategy again.
        target: which of the way's targets the restart has.
    """

    moment: Moment
    same_machine: bool
    insists: bool
    target: int


EVERY = [Circumstances(*each) for each in product(MOMENTS, (True, False), (True, False), range(4))]


def kills(name: str, circumstances: Circumstances | None) -> Iterator[tuple[int, Circumstances]]:
    """At which requests to kill, and how to go on from there: some, drawn from the seed, or all with the same."""
    if circumstances is not None:
        yield from ((number, circumstances) for number in count(1))
    every = WAYS[name].every
    chance = random.Random(f"{fault_seed()} {name}")  # noqa: S311 - repeatable, not secret
    for number in count(1 + chance.randrange(every), every):
        # The usual restart more often than the strange ones.
        yield number, chance.choice([each for each in EVERY if each.target == 0 or chance.random() < 0.3])


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


def write_while_the_field_is_away(small: SmallWorld) -> dict[str, Document]:
    """The application writes a new and a changed note, both with vectors as it knows them."""
    changed = {**small.expected["n5"], "text": "newer", "vector": [0.25] * OLD_DIMENSIONS}
    new = {"id": "new", "source_id": "s1", "title": "new", "text": "written without a field", "draft": False}
    small.world.import_(NAME, [{**new, "vector": [0.5] * OLD_DIMENSIONS}, changed], "upsert")
    return {"new": new, "n5": changed}


def what_the_application_writes(small: SmallWorld, number: int) -> dict[str, Document]:
    """Between the kill and the restart: what stands there differently then."""
    found = small.world.http.get(f"/collections/{NAME}")
    if found.status_code == 404:
        if number % 2 == 0:
            return {}
        return create_as_the_application_does(small, TARGET if number % 4 == 1 else OLD_DIMENSIONS)
    if any(field["name"] == "vector" for field in found.json()["fields"]):
        return {}
    return write_while_the_field_is_away(small)


def length_of(small: SmallWorld) -> int | None:
    """Of the vectors in the field as it is; None where the field is out, or the collection."""
    found = small.world.http.get(f"/collections/{NAME}")
    fields = {field["name"]: field for field in found.json()["fields"]} if found.is_success else {}
    return fields["vector"]["num_dim"] if "vector" in fields else None


def is_marked(small: SmallWorld) -> bool:
    """Whether any start must go on with the emptying and filling that was begun."""
    found = small.world.http.get(f"/collections/{NAME}")
    return found.is_success and unfinished_refill(found.json()) is not None


def check_it_stood_throughout(small: SmallWorld, created_at: int, *runs: Ended) -> None:
    """The collection was never recreated, so that no reference to it had to be renewed."""
    assert small.world.schema(NAME)["created_at"] == created_at
    written = [request for run in runs for request in run.requests if not request.startswith("GET ")]
    assert not [request for request in written if f"/collections/{LINKS}" in request]
    assert f"DELETE /collections/{NAME}" not in written


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("circumstances", EVERY if ALL else [None], ids=str)
@pytest.mark.parametrize("name", WAYS)
def test_killed_between_any_two_requests_and_started_again_it_comes_to_the_same_end(
    small: SmallWorld, small_29: SmallWorld, tmp_path: Path, name: str, circumstances: Circumstances | None
) -> None:
    way = WAYS[name]
    for tried, (number, chosen) in enumerate(kills(name, circumstances)):
        here = (small, small_29)[tried // 2 % 2]
        here.fill(late=True, optional=way.optional)
        created_at = here.world.schema(NAME)["created_at"]
        home = tmp_path / f"{number}"
        options, environment = here.options(strategy=way.strategy), here.environment(way.dimensions, home / "one")
        killed = run_watched(options, environment, home, kill_at=number, moment=chosen.moment)
        if not killed.killed:
            assert killed.status == 0, killed.text
            assert number > len(killed.requests)
            here.check(way.dimensions)
            if way.stays:
                check_it_stood_throughout(here, created_at, killed)
            break
        dimensions, model = way.targets[chosen.target]
        environment = here.environment(dimensions, home / ("one" if chosen.same_machine else "other"), model)
        is_begun, standing = is_marked(here), length_of(here)
        expected = here.expected | what_the_application_writes(here, number)
        again = run_watched(here.options(strategy=way.strategy if chosen.insists else "auto"), environment, home)
        try:
            assert again.status == 0
            # What the application created first comes first.
            in_order = {id_: expected[id_] for id_ in here.world.documents(NAME) if id_ in expected}
            here.check(dimensions, model, documents=in_order | expected)
            if way.stays and (is_begun or chosen.insists or dimensions == standing):
                check_it_stood_throughout(here, created_at, killed, again)
        except BaseException as error:
            error.add_note(f"request {number} of {name} ({chosen}): {killed.requests[-1]}")
            print(killed.text, again.text, *again.requests, sep="\n")
            raise
    print(f"{name}: killed at {tried} requests ({circumstances or 'drawn'})")
    assert tried > (60 if circumstances else 5)


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("late", [False, True], ids=["", "asynchronous references"])
def test_killed_while_the_collection_is_away_another_machine_finishes_it(
    small: SmallWorld, tmp_path: Path, late: bool
) -> None:
    small.fill(late=late)
    whole = run_watched(small.options(), small.environment(TARGET, tmp_path / "whole"), tmp_path / "whole")
    drop = whole.requests.index(f"DELETE /collections/{NAME}") + 1
    stands = whole.requests.index(f"POST /collections?src_name={NAME}__shadow") + 1
    places: list[tuple[int, Moment]] = [(drop, "after"), ((drop + stands) // 2, "before"), (stands, "before")]
    for number, moment in places:
        small.fill(late=late)
        home = tmp_path / f"{number}"
        killed = run_watched(
            small.options(), small.environment(TARGET, home / "one"), home, kill_at=number, moment=moment
        )
        assert killed.killed
        assert small.world.http.get(f"/collections/{NAME}").status_code == 404
        again = run_watched(small.options(), small.environment(TARGET, home / "other"), home)
        assert again.status == 0, again.text
        small.check(TARGET)
