"""A run in place that is killed again and again comes to the same end, and pays for nothing twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from migration.strategies.context import MigrationOptions
from tests.killing import Ended, Moment, run_watched
from tests.providers import OpenAIStandIn
from tests.sandbox.server import RunningSandbox
from tests.world import World, as_float32, made_up, openai

DIMENSIONS = 32
NAME, FIELD = "context_stores", "prompt_embedding"
KILLS: list[tuple[int, Moment]] = [
    (9, "before"), (11, "after"), (12, "before"), (13, "after"), (14, "before"),
    (12, "after"), (15, "before"), (16, "after"), (18, "before"), (17, "after"),
]  # fmt: skip
CONCURRENCY = 2


@pytest.fixture
def own_world(tmp_path: Path) -> Iterator[World]:
    """A server of its own: its documents stay for the whole test."""
    with RunningSandbox(tmp_path / "data") as sandbox:
        world = World(sandbox.url, sandbox.api_key, tmp_path / "work" / "home")
        world.fill(made_up(questions=1500, instructions=4), DIMENSIONS)
        yield world
        world.close()


def test_a_run_killed_ten_times_finishes_and_pays_for_each_text_once(own_world: World) -> None:
    world = own_world
    before = world.documents(NAME)
    distinct = {document["prompt_text"] for document in before.values()}
    with OpenAIStandIn() as provider:
        environment = world.environment(**openai(provider, DIMENSIONS))

        def run(kill_at: int = 0, moment: Moment = "before", *, sample: int = 10) -> Ended:
            options = MigrationOptions(collections=(NAME,), concurrency=CONCURRENCY, patience=20, verify_sample=sample)
            return run_watched(options, environment, world.home.parent, kill_at=kill_at, moment=moment)

        killed = 0
        for kill_at, moment in KILLS:
            ended = run(kill_at, moment)
            killed += ended.killed
            assert ended.killed or ended.status == 0, ended.text
            check_nothing_is_wrong(world, provider, before)
        assert killed >= 5, "the runs ended before they were killed"
        ended = run()
        assert ended.status == 0, ended.text
        check_nothing_is_wrong(world, provider, before, done=True)

        paid = Counter(text for text in provider.embedded if text != "probe")
        assert paid.keys() == distinct
        in_flight = CONCURRENCY * 250 * killed
        sample = 2 * 10 * (len(KILLS) + 1)  # At the beginning and at the end of each.
        assert paid.total() <= len(distinct) + in_flight + sample

        sent = len(provider.embedded)
        assert run(sample=0).status == 0
        assert provider.embedded[sent:] == ["probe"]

        world.import_(NAME, [{"id": "q77", "prompt_text": "a question that was changed?"}], "update")
        sent = len(provider.embedded)
        assert run(sample=0).status == 0
        assert provider.embedded[sent:] == ["probe", "a question that was changed?"]


def check_nothing_is_wrong(
    world: World, provider: OpenAIStandIn, before: dict[str, dict[str, object]], *, done: bool = False
) -> None:
    """Every document is there, unchanged but for its vector, which is the old one or exactly the target's."""
    now = world.documents(NAME)
    assert list(now) == list(before)
    for id_, document in now.items():
        found, old = as_float32(document.pop(FIELD)), dict(before[id_])
        was = as_float32(old.pop(FIELD))  # type: ignore[arg-type]
        assert document == old
        target = provider.vector_for(document["prompt_text"], dimensions=DIMENSIONS).tobytes()
        assert found == target or (found == was and not done), id_
