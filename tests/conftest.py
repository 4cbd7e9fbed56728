"""A server with KAI's collections, and providers, for the tests of whole runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.seed import VARIABLE, fault_seed
from tests.providers import OpenAIStandIn
from tests.sandbox.server import RunningSandbox
from tests.world import World


def pytest_configure() -> None:
    """Settle the seed of the random faults before there are any workers, so that all of them have the same."""
    try:
        fault_seed()
    except ValueError:
        raise pytest.UsageError(f"{VARIABLE}={os.environ[VARIABLE]}: neither a number nor `random`") from None


def pytest_report_header() -> str:
    """Say which combinations of faults this run tries."""
    return f"faults: {VARIABLE}={fault_seed()} ({VARIABLE}=random draws another)"


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
