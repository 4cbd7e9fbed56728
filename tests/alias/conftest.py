"""Notes behind aliases, on either version of the server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.alias.corner import Corner
from tests.providers import OpenAIStandIn
from tests.recreate.conftest import warm
from tests.world import World

__all__ = ["warm"]


@pytest.fixture
def corner(world: World, provider: OpenAIStandIn, tmp_path: Path) -> Corner:
    """Filled."""
    made = Corner(world, provider, tmp_path / "corner")
    made.fill()
    return made


@pytest.fixture
def corner_29(world_29: World, provider: OpenAIStandIn, tmp_path: Path) -> Corner:
    """Filled, on version 29."""
    made = Corner(world_29, provider, tmp_path / "corner")
    made.fill()
    return made
