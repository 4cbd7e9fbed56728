"""A server with KAI's collections, and providers, for the tests of whole runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.providers import OpenAIStandIn
from tests.sandbox.server import RunningSandbox
from tests.world import World


@pytest.fixture(scope="session")
def shared_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSandbox]:
    """One server for every test that does not kill it; tests clear it."""
    with RunningSandbox(tmp_path_factory.mktemp("sandbox") / "data") as sandbox:
        yield sandbox


@pytest.fixture
def world(shared_sandbox: RunningSandbox, tmp_path: Path) -> Iterator[World]:
    """An empty server and a home of its own."""
    made = World(shared_sandbox.url, shared_sandbox.api_key, tmp_path / "work" / "home")
    made.clear()
    yield made
    made.close()


@pytest.fixture
def provider() -> Iterator[OpenAIStandIn]:
    """An OpenAI-compatible provider without faults."""
    with OpenAIStandIn() as stand_in:
        yield stand_in
