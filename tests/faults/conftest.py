"""One bench for all fault tests, and the seed of the random ones where everybody sees it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.faults.bench import Bench
from tests.faults.combinations import COUNT, SEED


@pytest.fixture(scope="session")
def shared_bench() -> Iterator[Bench]:
    """Server, proxy and provider, started once."""
    with Bench() as bench:
        yield bench


@pytest.fixture
def bench(shared_bench: Bench) -> Iterator[Bench]:
    """The small world as it was at first, and a new home."""
    shared_bench.fresh()
    yield shared_bench
    shared_bench.forget()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say by which seed the combinations were drawn."""
    again = "" if "FAULTS_SEED" in os.environ else f"; FAULTS_SEED={SEED} draws the same again"
    terminalreporter.write_line(f"faults: {COUNT} combinations of seed {SEED}{again}")
