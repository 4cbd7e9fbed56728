"""The small world, and a test process that has everything imported, so that its forks need not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from migration.cli.run import run as migrate
from tests.providers import OpenAIStandIn
from tests.recreate.small import SmallWorld
from tests.sandbox.server import RunningSandbox
from tests.world import World


@pytest.fixture(scope="session")
def warm(shared_sandbox: RunningSandbox, tmp_path_factory: pytest.TempPathFactory) -> None:
    """One run in this very process: its imports are then paid for all forks."""
    folder = tmp_path_factory.mktemp("warm")
    world = World(shared_sandbox.url, shared_sandbox.api_key, folder / "home")
    with OpenAIStandIn() as provider:
        small = SmallWorld(world, provider, folder)
        small.fill()
        with patch.dict(os.environ, small.environment(32, world.home), clear=True):
            assert migrate(small.options()) == 0
    world.close()


@pytest.fixture
def small(world: World, provider: OpenAIStandIn, tmp_path: Path) -> Iterator[SmallWorld]:
    """The small world, filled."""
    made = SmallWorld(world, provider, tmp_path / "small")
    made.fill()
    yield made


@pytest.fixture
def small_29(world_29: World, provider: OpenAIStandIn, tmp_path: Path) -> SmallWorld:
    """The small world on version 29, filled."""
    made = SmallWorld(world_29, provider, tmp_path / "small")
    made.fill()
    return made
