"""Requests that are refused, broken off, or acted upon without an answer; a server that dies and comes back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import pytest

from kai.settings import ChosenStrategy
from tests.killing import Ended, impatient, run_watched
from tests.providers import OpenAIStandIn
from tests.recreate import second
from tests.recreate.proxy import TROUBLES, Proxy, Trouble, at_random, once_for_every_kind
from tests.recreate.small import MODEL, NAME, OLD_DIMENSIONS, SmallWorld, schemas
from tests.recreate.writer import windows
from tests.sandbox.server import RunningSandbox
from tests.world import World

TARGET = 32
SEEDS = int(os.environ.get("TROUBLE_SEEDS", "3"))
pytestmark = pytest.mark.usefixtures("warm")


WAYS: dict[ChosenStrategy, int] = {"auto": TARGET, "alter": TARGET, "rebuild": OLD_DIMENSIONS}
"""The length of the new vectors, by the strategy that is asked for."""


def run(small: SmallWorld, proxy: Proxy, folder: Path, strategy: ChosenStrategy = "auto") -> Ended:
    """A run through the proxy."""
    environment = small.environment(WAYS[strategy], folder / "home") | {"TYPESENSE_PORT": str(proxy.port)}
    with impatient():
        return run_watched(small.options(strategy=strategy), environment, folder)


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("strategy", WAYS)
def test_each_kind_of_call_may_fail_once(
    small: SmallWorld, tmp_path: Path, strategy: ChosenStrategy, trouble: Trouble
) -> None:
    with Proxy(small.world.url, once_for_every_kind(trouble)) as proxy:
        ended = run(small, proxy, tmp_path, strategy)
    assert ended.status == 0, ended.text
    assert proxy.troubles == len(set(proxy.kinds)) - 1
    small.check(WAYS[strategy])


@pytest.mark.parametrize(("seed", "strategy"), list(zip(range(SEEDS), cycle(WAYS))))
def test_a_fifth_of_all_calls_may_fail(small: SmallWorld, tmp_path: Path, seed: int, strategy: ChosenStrategy) -> None:
    with Proxy(small.world.url, at_random(seed, 0.2)) as proxy:
        ended = run(small, proxy, tmp_path, strategy)
    assert ended.status == 0, ended.text
    assert proxy.troubles
    small.check(WAYS[strategy])


@pytest.mark.parametrize("trouble", [*TROUBLES, None])
def test_a_second_field_is_filled_finished_and_taken_back_though_calls_fail(
    small: SmallWorld, tmp_path: Path, trouble: Trouble | None
) -> None:
    old = small.world.documents(NAME)
    both = ("vector", second.NEW)
    steps = [(second.INTO, both), (second.BACK, ("vector",)), (second.INTO, both)]
    steps += [(second.FINISH, (second.NEW,)), (second.BACK, both)]
    script: Callable[[int, str], Trouble | None]
    with Proxy(small.world.url, lambda number, kind: script(number, kind)) as proxy:
        at = {"TYPESENSE_PORT": str(proxy.port), "MIGRATION_HOME": str(tmp_path / "home")}
        for number, (command, fields) in enumerate(steps):
            script = once_for_every_kind(trouble) if trouble else at_random(number, 0.2)
            with impatient():
                ended = second.run(small, tmp_path, command, variables=at)
            assert ended.status == 0, ended.text
            second.check_at_the_end(small, old, fields)
        assert proxy.troubles > len(steps)


@pytest.mark.parametrize("dimensions", [OLD_DIMENSIONS, TARGET], ids=["wrong dimensions", "right dimensions"])
def test_the_answer_to_the_drop_is_lost_and_the_application_creates_the_name_at_once(
    small: SmallWorld, tmp_path: Path, dimensions: int
) -> None:
    new = {"id": "new", "source_id": "s1", "title": "new", "text": "written while it was away", "draft": False}
    changed = {key: value for key, value in small.expected["n5"].items() if key != "vector"} | {"text": "newer"}

    def create(_: int, kind: str) -> None:
        if kind == f"DELETE /collections/{NAME}":
            small.world.http.post("/collections", json=schemas(dimensions)[1]).raise_for_status()
            small.world.import_(NAME, [{**new, "vector": [0.5] * dimensions}, changed])

    lost = once_for_every_kind("lost")
    with Proxy(
        small.world.url, lambda number, kind: lost(number, kind) if kind.startswith("DELETE") else None, after=create
    ) as proxy:
        ended = run(small, proxy, tmp_path)
    assert ended.status == 0, ended.text
    assert proxy.kinds.count(f"DELETE /collections/{NAME}") == 1
    documents = {**small.expected, "n5": changed, "new": new}
    now = small.world.documents(NAME)
    small.check(TARGET, documents={id_: documents[id_] for id_ in now} | documents)
    assert windows(ended.text, 0)


def test_what_is_written_while_the_drop_is_not_answered_is_not_dropped(small: SmallWorld, tmp_path: Path) -> None:
    new = {"id": "late", "source_id": "s1", "title": "late", "text": "written at the last moment", "draft": False}

    def refuse_the_first(_: int, kind: str) -> Trouble | None:
        if kind != f"DELETE /collections/{NAME}" or "late" in small.world.documents(NAME):
            return None
        small.world.import_(NAME, [new])
        return "reset"

    with Proxy(small.world.url, refuse_the_first) as proxy:
        ended = run(small, proxy, tmp_path)
        assert ended.status == 3, ended.text
        assert "was written to while Typesense did not answer" in ended.text
        assert "late" in small.world.documents(NAME)
        ended = run(small, proxy, tmp_path)
    assert ended.status == 0, ended.text
    assert len(small.world.documents(NAME)["late"]["vector"]) == TARGET


@pytest.fixture
def own(provider: OpenAIStandIn, tmp_path: Path) -> Iterator[tuple[SmallWorld, RunningSandbox]]:
    """A server that may be killed, and the small world on it."""
    with RunningSandbox(tmp_path / "data") as sandbox:
        world = World(sandbox.url, sandbox.api_key, tmp_path / "home")
        small = SmallWorld(world, provider, tmp_path / "small")
        small.fill()
        yield small, sandbox
        world.close()


@pytest.mark.parametrize("at", ["/collections/notes__shadow/documents/import", "DELETE /collections/notes"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_server_that_dies_and_comes_back_is_waited_for(
    own: tuple[SmallWorld, RunningSandbox], tmp_path: Path, at: str, moment: str
) -> None:
    small, sandbox = own
    died: list[str] = []

    def die(_: int, kind: str) -> None:
        if at in kind and not died:
            died.append(kind)
            sandbox.kill()
            sandbox.start()

    script = once_for_every_kind("lost") if moment == "after" else lambda _number, _kind: None
    with Proxy(
        small.world.url,
        lambda number, kind: script(number, kind) if at in kind else None,
        before=die if moment == "before" else None,
        after=die if moment == "after" else None,
    ) as proxy:
        ended = run(small, proxy, tmp_path)
    assert died
    assert ended.status == 0, ended.text
    small.check(TARGET, MODEL)
