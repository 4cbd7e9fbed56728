"""A server with KAI's collections, and providers, for the tests of whole runs."""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from shutil import disk_usage, rmtree
from tempfile import mkdtemp
from typing import Final

import hypothesis
import pytest

from kai.sandbox.store import Store
from tests.faults.seed import VARIABLE, fault_seed
from tests.providers import OpenAIStandIn
from tests.providers.http import HTTPServer
from tests.sandbox.server import RunningSandbox
from tests.shortcuts import (
    collect_garbage_seldom,
    compile_statements_once,
    leave_certificates_unread,
    leave_the_collector_alone,
    look_for_no_cookies,
)
from tests.world import World

LEFT_OUT = "starts a server or a process"
_IN_MEMORY: Final = Path("/dev/shm")  # noqa: S108
_PLENTY: Final = 4_000_000_000
"""Bytes: ten times as many as the tests have been seen to need."""
WHOLE_RUNS = ("alias", "cluster", "faults", "real", "recreate")
"""Folders in which every test does."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The choice of `make test-fast`."""
    parser.addoption("--fast", action="store_true", help="skip every test that starts a server or a process")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Settle what all workers are to have in common, before there are any: the seed of the random faults, and folders.

    All that is temporary is in memory where there is plenty of it, as the tests wait for the disk a twentieth of their
    time, and is gone at the end; `--basetemp` leaves it on the disk.
    """
    is_worker = hasattr(config, "workerinput")
    if not (is_worker or config.option.basetemp) and _IN_MEMORY.is_dir() and disk_usage(_IN_MEMORY).free > _PLENTY:
        folder = Path(mkdtemp(prefix="kai-tests-", dir=_IN_MEMORY))
        folder.chmod(0o711)  # PostgreSQL is run by another user where the tests are root's.
        config.add_cleanup(partial(rmtree, folder, ignore_errors=True))
        config.option.basetemp, temporary = str(folder / "pytest"), folder / "tmp"
        temporary.mkdir()
        os.environ["TMPDIR"] = str(temporary)
    if not is_worker:
        # Beside the other workers, threads that wait for the next product of matrices only take their time.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    collect_garbage_seldom()
    try:
        fault_seed()
    except ValueError:
        raise pytest.UsageError(f"{VARIABLE}={os.environ[VARIABLE]}: neither a number nor `random`") from None
    # No example is late on a busy machine; and a run without a word about its seed is one that can be repeated.
    hypothesis.settings.register_profile("ours", deadline=None, derandomize=VARIABLE not in os.environ)
    hypothesis.settings.load_profile("ours")


def pytest_collection_finish() -> None:
    """Have the collector leave alone what every test shares."""
    gc.freeze()


def pytest_report_header() -> str:
    """Say which combinations of faults this run tries."""
    return f"faults: {VARIABLE}={fault_seed()} ({VARIABLE}=random draws another)"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what --fast left out."""
    skipped = terminalreporter.getreports("skipped")
    left_out = Counter(str(Path(report.location[0]).parent) for report in skipped if LEFT_OUT in report.longreprtext)
    if left_out:
        folders = ", ".join(f"{folder} ({count})" for folder, count in sorted(left_out.items()))
        folders += f", all of tests/{{{','.join(WHOLE_RUNS)}}}"
        terminalreporter.write_line(f"left out, because it {LEFT_OUT}: {folders}; `make test` runs everything")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With --fast, do not even load what would be skipped to the last test."""
    is_left_out = collection_path.parent == Path(__file__).parent and collection_path.name in WHOLE_RUNS
    return True if is_left_out and config.getoption("--fast") else None


@pytest.fixture(scope="session", autouse=True)
def nothing_started(request: pytest.FixtureRequest) -> Iterator[None]:
    """With --fast, whatever would start a server or a process skips its test instead."""

    def leave_out(*_args: object, **_options: object) -> None:
        pytest.skip(LEFT_OUT)

    with pytest.MonkeyPatch.context() as patch:
        if request.config.getoption("--fast"):
            for start in ("subprocess.Popen.__init__", "os.fork", "multiprocessing.process.BaseProcess.start"):
                patch.setattr(start, leave_out)
            patch.setattr(HTTPServer, "start", leave_out)
            patch.setattr(Store, "__init__", leave_out)  # The sandbox is a server within this process, too.
        yield


@pytest.fixture(scope="session", autouse=True)
def shortcuts() -> Iterator[None]:
    """Of runs in this process, and in forks of it."""
    with pytest.MonkeyPatch.context() as patch:
        leave_the_collector_alone(patch)
        leave_certificates_unread(patch)
        look_for_no_cookies(patch)
        compile_statements_once(patch)
        yield


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


@pytest.fixture(scope="session")
def sandbox_29(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSandbox]:
    """The same as version 29, where synonyms and curations are each collection's own."""
    with RunningSandbox(tmp_path_factory.mktemp("sandbox-29") / "data", version=29) as sandbox:
        yield sandbox


@pytest.fixture
def world_29(sandbox_29: RunningSandbox, tmp_path: Path) -> Iterator[World]:
    """An empty server of version 29, with the same home as `world`."""
    made = World(sandbox_29.url, sandbox_29.api_key, tmp_path / "work" / "home")
    made.clear()
    yield made
    made.close()


@pytest.fixture
def provider() -> Iterator[OpenAIStandIn]:
    """An OpenAI-compatible provider without faults."""
    with OpenAIStandIn() as stand_in:
        yield stand_in
