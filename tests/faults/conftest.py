"""One bench for all fault tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.bench import Bench


@pytest.fixture(scope="session")
def shared_bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Server, proxy and provider, started once."""
    with Bench(tmp_path_factory.mktemp("bench")) as bench:
        yield bench


@pytest.fixture(scope="session")
def shared_bench_29(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The same, where the server behaves as version 29."""
    with Bench(tmp_path_factory.mktemp("bench-29"), version=29) as bench:
        yield bench


@pytest.fixture(scope="session")
def shared_bench_lagging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The same, where all that is known of a cluster is a follower that lags."""
    with Bench(tmp_path_factory.mktemp("bench-lagging"), lags=True) as bench:
        yield bench


@pytest.fixture
def bench(shared_bench: Bench) -> Iterator[Bench]:
    """The small world as it was at first, and a new home."""
    shared_bench.fresh()
    yield shared_bench
    shared_bench.forget()
