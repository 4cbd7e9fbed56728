"""The benchmark works from end to end and stops what it started. Nothing here looks at how fast anything is.

Whole once, by the way that most migrations go; by others with the packages of what it measures loaded before.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks import measurements
from benchmarks.measurements import Options
from benchmarks.processes import Measured, Server
from tests.forkserver import start_module
from tests.sandbox.server import RunningSandbox

REPOSITORY = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "benchmarks.run"]
NOT_ITS_OWN = "not_the_benchmarks_own"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False
    )


def children_of(folder: Path) -> list[str]:
    """Command lines of processes that use this folder."""
    found = []
    for file in Path("/proc").glob("[0-9]*/environ"):
        try:
            if str(folder).encode() in file.read_bytes():
                found.append(file.with_name("cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


@dataclass(frozen=True, slots=True)
class Quick:
    """What a quick run on a given server came to.

    Attributes:
        facts: its figures.
        text: everything that it printed.
    """

    facts: dict[str, Any]
    text: str


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a collection that is not the benchmark's own."""
    with RunningSandbox(tmp_path_factory.mktemp("server")) as sandbox:
        headers = {"X-TYPESENSE-API-KEY": sandbox.api_key}
        schema = {"name": NOT_ITS_OWN, "fields": [{"name": "a", "type": "string"}]}
        httpx.post(f"{sandbox.url}/collections", json=schema, headers=headers).raise_for_status()
        yield Server(sandbox.url, sandbox.api_key)


def what_is_there(server: Server) -> tuple[list[str], object]:
    """Names of the collections, and the aliases."""
    with httpx.Client(base_url=server.url, headers={"X-TYPESENSE-API-KEY": server.key}) as http:
        return [schema["name"] for schema in http.get("/collections").json()], http.get("/aliases").json()["aliases"]


@pytest.fixture(scope="module")
def quick(given: Server) -> Quick:
    done = run(
        *("--quick", "--latency", "0.01", "--strategy", "auto", "--no-witness", "--json"),
        *("--typesense-url", given.url, "--typesense-key", given.key),
    )
    assert done.returncode == 0, done.stderr
    return Quick(json.loads(done.stdout), done.stdout + done.stderr)


def loaded_before(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str], statuses: Collection[int] = (0,)
) -> Measured:
    """As `measure`, without an interpreter that loads the packages, and so without figures."""
    clean = {"PATH": os.environ["PATH"], "HOME": str(folder), **environment}
    out, err = folder / "out.txt", folder / "err.txt"
    process = start_module(arguments[1], arguments[2:], clean, folder, out, err, hurry=False)
    output, errors = process.communicate(100)
    assert process.returncode in statuses, errors
    return Measured(1.0, 1.0, 1, output)


def test_the_figures_say_where_and_how_they_were_measured(quick: Quick) -> None:
    assert quick.facts["machine"].keys() == {"cpus", "python", "system", "server"}
    assert quick.facts["options"] == {
        "latency": 0.01,
        "concurrency": 4,
        "repeat": 1,
        "sample": 20,
        "strategies": ["auto"],
        "witness": False,
    }


def test_every_figure_is_there(quick: Quick) -> None:
    result = quick.facts["results"][0]
    assert (result["documents"], result["dimensions"]) == (500, 64)
    assert result["tool"].keys() == {
        "seconds",
        "startup_seconds",
        "documents_per_second",
        "requests",
        "peak_mb",
        "cpu_seconds",
        "startup_cpu_seconds",
        "cpu_ms_per_document",
    }
    assert result["floors"].keys() == {"embedding_seconds", "server_seconds", "seconds"}
    assert result["one_at_a_time"]["requests"] == 500
    assert result["ratio"] > 0
    assert result["load_before"] >= 0
    assert result["load_after"] >= 0


def test_each_way_is_watched_by_an_application(given: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurements, "measure", loaded_before)
    options = Options(latency=0.01, sample=20, strategies=("auto", "into", "alias"))
    results = measurements.measure_size(given, 300, 64, options, lambda _: None, starts=1)
    assert [result.strategy for result in results] == ["auto", "into", "alias"]
    assert all(result.witness and result.witness.searches for result in results)
    assert what_is_there(given) == ([NOT_ITS_OWN], [])


def test_the_requests_are_the_probe_one_a_page_and_at_most_one_for_a_check(quick: Quick) -> None:
    result = quick.facts["results"][0]
    assert 3 <= result["tool"]["requests"] <= 4


def test_on_a_given_server_it_leaves_nothing_and_touches_nothing_else(quick: Quick, given: Server) -> None:
    assert what_is_there(given) == ([NOT_ITS_OWN], [])
    assert given.key not in quick.text


def test_a_server_that_is_not_there_is_named_and_no_traceback() -> None:
    done = run("--quick", "--typesense-url", "http://127.0.0.1:1", "--typesense-key", "k")
    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found by /proc")
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_stops_everything_that_it_started(ending: signal.Signals, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "--documents", "100000", "--dimensions", "64"],
        cwd=REPOSITORY,
        env={**os.environ, "HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "start-up" in line:
            break
    time.sleep(0.5)  # so that provider and migration have begun
    assert len(children_of(tmp_path)) > 1
    process.send_signal(ending)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert children_of(tmp_path) == []
    assert list(tmp_path.glob("kai-benchmark-*")) == []
