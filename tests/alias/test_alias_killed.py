"""Kill -9 between the requests of a run by alias, of its end, and of its way back; the next start finishes each.

The application writes through the alias in the very moment before the first alias is moved, and between the kill and
the next start. `KILL_SWEEP=all` kills at every request, in every circumstance.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, product
from pathlib import Path

import pytest

from tests.alias.corner import ALIAS, NEW, OLD, OLD_DIMENSIONS, OTHER_ALIAS, Corner, written
from tests.alias.test_alias import command, run_of
from tests.faults.seed import fault_seed
from tests.killing import MOMENTS, Ended, Moment, run_command_watched, run_watched
from tests.world import Document

TARGET = 32
ALL = os.environ.get("KILL_SWEEP") == "all"


@dataclass(frozen=True, slots=True)
class Circumstances:
    """On which side of a request it is killed, where it is started again, and whether the length changes."""

    moment: Moment
    same_machine: bool
    dimensions: int


EVERY = [Circumstances(*each) for each in product(MOMENTS, (True, False), (TARGET, OLD_DIMENSIONS))]


def kills(what: str, every: int, circumstances: Circumstances | None) -> Iterator[tuple[int, Circumstances]]:
    """At which requests to kill, and how to go on from there: some, drawn from the seed, or all with the same."""
    if circumstances is not None:
        yield from ((number, circumstances) for number in count(1))
    chance = random.Random(f"{fault_seed()} alias {what}")  # noqa: S311 - repeatable, not secret
    for number in count(1 + chance.randrange(every), every):
        yield number, chance.choice(EVERY)


def bare(note: Document, **changes: object) -> Document:
    """A note without its vector, changed."""
    return {key: value for key, value in note.items() if key != "vector"} | changes


class Application:
    """What it writes by the alias, in its order; each once.

    Attributes:
        expected: the notes as they must be, vectors aside.
    """

    def __init__(self, corner: Corner, folder: Path) -> None:
        self._corner = corner
        self._wrote = folder / "wrote-at-the-swap"
        self.expected = dict(corner.expected)

    def at_request(self, _number: int, name: str) -> None:
        """Right before the first alias is moved it writes once more to the old collection. In the run's process."""
        if name.startswith("PUT /aliases/") and not self._wrote.exists():
            self._wrote.touch()
            self._write("at the swap", 1)

    def write_meanwhile(self) -> None:
        """Between two starts."""
        if self._wrote.exists():
            self._expect("at the swap", 1)
        self._write("meanwhile", 2)
        self._expect("meanwhile", 2)

    def expect_all(self) -> None:
        """Where nothing was killed."""
        assert self._wrote.exists()
        self._expect("at the swap", 1)

    def _changed(self, text: str, number: int) -> list[Document]:
        # The first is changed at both moments.
        ids = ("n5", f"n{15 + number}", f"n{20 + number}")
        return [written(number), *(bare(self._corner.expected[id_], text=text) for id_ in ids)]

    def _write(self, text: str, number: int) -> None:
        world = self._corner.world
        world.import_(OTHER_ALIAS, self._changed(text, number), "upsert")
        world.http.delete(f"/collections/{ALIAS}/documents/n{30 + number}").raise_for_status()

    def _expect(self, text: str, number: int) -> None:
        self.expected |= {note["id"]: note for note in self._changed(text, number)}
        self.expected.pop(f"n{30 + number}", None)


def sweep(
    corners: tuple[Corner, Corner],
    folder: Path,
    what: str,
    every: int,
    circumstances: Circumstances | None,
    one: Callable[[Corner, Path, int, Circumstances], Ended],
) -> int:
    """Kill one after the other, on either version in turn, until it is not killed any more; how many were."""
    for tried, (number, chosen) in enumerate(kills(what, every, circumstances)):
        corner = corners[tried % 2]
        corner.fill()
        try:
            killed = one(corner, folder / f"{number}", number, chosen)
        except BaseException as error:
            error.add_note(f"request {number} of {what}, {chosen}, {'29' if tried % 2 else '30'}")
            raise
        if not killed.killed:
            assert killed.status == 0, killed.text
            break
    print(f"{what}: killed at {tried} requests ({circumstances or 'drawn'})")
    return tried


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("circumstances", EVERY if ALL else [None], ids=str)
def test_killed_between_any_two_requests_it_is_gone_on_with_and_no_write_is_lost(
    corner: Corner, corner_29: Corner, tmp_path: Path, circumstances: Circumstances | None
) -> None:
    def one(here: Corner, folder: Path, number: int, chosen: Circumstances) -> Ended:
        folder.mkdir()
        application = Application(here, folder)
        environment = here.environment(chosen.dimensions, folder / "one")
        at_request, moment = application.at_request, chosen.moment
        killed = run_watched(here.options(), environment, folder, kill_at=number, moment=moment, at_request=at_request)
        if killed.killed:
            application.write_meanwhile()
            environment = here.environment(chosen.dimensions, folder / ("one" if chosen.same_machine else "other"))
            again = run_watched(here.options(), environment, folder, at_request=at_request)
            assert again.status == 0, f"{killed.text}\n{again.text}"
        if "w1" not in application.expected:
            application.expect_all()
        here.check_swapped(chosen.dimensions, documents=application.expected, written=True)
        return killed

    tried = sweep((corner, corner_29), tmp_path, "run", 11, circumstances, one)
    assert tried > (60 if circumstances else 5)


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("circumstances", EVERY if ALL else [None], ids=str)
@pytest.mark.parametrize("way", ["finish", "rollback"])
def test_killed_between_any_two_requests_the_end_and_the_way_back_are_gone_on_with(
    corner: Corner, corner_29: Corner, tmp_path: Path, way: str, circumstances: Circumstances | None
) -> None:
    def one(here: Corner, folder: Path, number: int, chosen: Circumstances) -> Ended:
        done = run_watched(here.options(), here.environment(chosen.dimensions, folder / "one"), folder)
        assert done.status == 0, done.text
        expected = dict(here.expected)
        changed = [written(3), bare(here.expected["n5"], text="newer")]
        if way == "rollback":
            here.world.import_(ALIAS, changed, "upsert")
            here.world.http.delete(f"/collections/{ALIAS}/documents/n6").raise_for_status()
            expected |= {note["id"]: note for note in changed}
            del expected["n6"]
        arguments = [way, run_of(done), "--yes", "--collections-file", str(here.file)]
        environment = here.environment(chosen.dimensions, folder / "one")
        killed = run_command_watched(arguments, environment, folder, kill_at=number, moment=chosen.moment)
        if killed.killed:
            if way == "rollback" and here.aliases()[ALIAS] == OLD:
                # What is written to the collection that serves again is newer, and what is deleted stays deleted.
                again = bare(here.expected["n12"], text="newest")
                here.world.import_(ALIAS, [again, written(4)], "upsert")
                here.world.http.delete(f"/collections/{ALIAS}/documents/n7").raise_for_status()
                expected |= {"n12": again, "w4": written(4)}
                del expected["n7"]
            standing = here.names()
            home = "one" if chosen.same_machine or standing in ({OLD}, {NEW}) else "other"
            ended = command(here, folder, way, run_of(done), home=home, dimensions=chosen.dimensions)
            if standing in ({OLD}, {NEW}) and ended.status == 2:
                assert "take" in ended.text or "finish" in ended.text, ended.text
            else:
                assert ended.status == 0, f"{killed.text}\n{ended.text}"
        if way == "rollback":
            here.check_back(expected)
        else:
            here.check_finished(chosen.dimensions)
        return killed

    tried = sweep((corner, corner_29), tmp_path, way, 11, circumstances, one)
    assert tried > (30 if circumstances else 2)
