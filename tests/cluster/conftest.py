"""A cluster with KAI's collections, whole at the beginning of each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.clustered import Clustered, eventually
from tests.providers import OpenAIStandIn
from tests.sandbox.server import RunningCluster


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    """One cluster for all tests."""
    with RunningCluster(tmp_path_factory.mktemp("cluster") / "data") as cluster:
        yield cluster


@pytest.fixture
def clustered(running: RunningCluster, provider: OpenAIStandIn, tmp_path: Path) -> Iterator[Clustered]:
    """Every node alive, one of them leading, and nothing in them."""
    for number in range(running.size):
        if running.state(number) is None:
            running.start_node(number)
    eventually(lambda: sorted(running.state(n) or 9 for n in range(running.size)) == [1, 4, 4])
    made = Clustered(running, provider, tmp_path / "work" / "home")
    made.clear()
    yield made
    made.close()
