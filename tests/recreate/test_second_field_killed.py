"""Kill -9 between the requests of a run that fills a second field, of its end, and of both ways back.

The field that serves is right at every moment; whatever is started again, here or on another machine, comes to the same
end. `KILL_SWEEP=all` kills at every request, on both sides of it; else at some, drawn from the seed of the faults.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, product
from pathlib import Path

import pytest

from tests.faults.seed import fault_seed
from tests.killing import MOMENTS, Moment
from tests.recreate.second import BACK, FINISH, INTO, NEW, check_at_the_end, check_serves, run
from tests.recreate.small import NAME, SmallWorld

ALL = os.environ.get("KILL_SWEEP") == "all"


@dataclass(frozen=True, slots=True)
class Step:
    """A command that is killed, after those that lead to it.

    Attributes:
        before: commands that came to their end.
        killed: the one that does not.
        fields: the fields that have vectors once it has.
        only_here: whether another machine cannot go on with it, as the backup is here.
    """

    before: tuple[tuple[str, ...], ...]
    killed: tuple[str, ...]
    fields: tuple[str, ...]
    only_here: bool = False


STEPS = {
    "fill": Step((), INTO, ("vector", NEW)),
    "finish": Step((INTO,), FINISH, (NEW,)),
    "back before the end": Step((INTO,), BACK, ("vector",)),
    "back after the end": Step((INTO, FINISH), BACK, ("vector", NEW), only_here=True),
    "finish the way back": Step((INTO, FINISH, BACK), FINISH, ("vector",)),
}


def kills(name: str) -> Iterator[tuple[int, Moment, bool]]:
    """At which request to kill, on which side of it, and whether the same machine goes on."""
    if ALL:
        for number in count(1):
            yield from ((number, *each) for each in product(MOMENTS, (True, False)))
    chance = random.Random(f"{fault_seed()} {name}")  # noqa: S311 - repeatable, not secret
    for number in count(1 + chance.randrange(9), 9):
        yield number, chance.choice(MOMENTS), chance.random() < 0.5


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("name", STEPS)
def test_killed_between_any_two_requests_and_started_again_it_comes_to_the_same_end(
    small: SmallWorld, small_29: SmallWorld, tmp_path: Path, name: str
) -> None:
    step = STEPS[name]
    for tried, (number, moment, is_same) in enumerate(kills(name)):
        here = (small, small_29)[tried % 2]
        here.fill()
        home = tmp_path / f"{number}-{moment}-{is_same}"
        old = here.world.documents(NAME)
        for arguments in step.before:
            assert (done := run(here, home / "one", arguments)).status == 0, done.text
        killed = run(here, home / "one", step.killed, kill_at=number, moment=moment)
        serves = ("vector",) if "vector" in step.fields and name != "back after the end" else (NEW,)
        if name == "finish the way back":
            serves = ("vector",)
        check_serves(here, old, serves)
        if not killed.killed:
            assert killed.status == 0, killed.text
            check_at_the_end(here, old, step.fields)
            break
        other = home / ("one" if is_same or step.only_here else "other")
        again = run(here, other, step.killed)
        try:
            assert again.status == 0 or "no run waits" in again.text, again.text
            check_at_the_end(here, old, step.fields)
        except BaseException as error:
            error.add_note(f"request {number} of {name} ({moment}, {other.name}): {killed.requests[-1]}")
            print(killed.text, again.text, *again.requests, sep="\n")
            raise
    assert tried > 1
