"""Stopping, pausing and watching a run that is under way."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.forkserver import Running
from tests.providers import OpenAIStandIn
from tests.sandbox.server import RunningSandbox
from tests.world import World, made_up, openai

DOCUMENTS = 2000


def status(world: World) -> dict[str, Any]:
    """The status file of the run; empty before there is one."""
    files = list(world.home.glob("runs/*/status.json"))
    return dict(json.loads(files[0].read_text())) if files else {}


def wait_until(true: Callable[[], bool], what: str) -> None:
    """Wait for something to become true; fail if it never does."""
    deadline = time.monotonic() + 120
    while not true():
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not happen")
        time.sleep(0.02)


@pytest.fixture
def slow(provider: OpenAIStandIn) -> OpenAIStandIn:
    """A provider that takes a third of a second for each request."""
    provider.latency = 0.3
    return provider


def begun(world: World, provider: OpenAIStandIn, *options: str) -> Running:
    """A run in a process of its own, its first page done."""
    world.fill(made_up(questions=DOCUMENTS, instructions=4), 16)
    process = world.start("--collections", "context_stores", "--concurrency", "1", *options, **openai(provider, 16))
    wait_until(lambda: status(world).get("done", 0) > 0, "the first page")
    return process


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_pages_in_hand_and_the_next_goes_on(
    world: World, slow: OpenAIStandIn, sent: signal.Signals
) -> None:
    process = begun(world, slow)
    process.send_signal(sent)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "goes on where this one ended" in err
    assert "'status': 'interrupted'" in out
    assert "Traceback" not in err
    paid = len(slow.embedded)
    assert paid < DOCUMENTS
    slow.latency = 0.0
    done = world.run("--collections", "context_stores", **openai(slow, 16))
    assert done.status == 0, done.text
    texts = {document["prompt_text"] for document in world.documents("context_stores").values()}
    # Nothing twice: the distinct texts, two probes, and the samples at the beginning and in the verification.
    assert len(slow.embedded) <= len(texts) + 2 + 10 + 10
    assert len(list(world.home.glob("runs/*"))) == 1


def test_a_signal_ends_the_run_also_while_it_waits_for_typesense(slow: OpenAIStandIn, tmp_path: Path) -> None:
    with RunningSandbox(tmp_path / "data") as sandbox:
        alone = World(sandbox.url, sandbox.api_key, tmp_path / "work" / "home")
        process = begun(alone, slow, "--patience", "600")
        sandbox.kill()
        time.sleep(3 * slow.latency)  # The page in hand is embedded, and cannot be written.
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        assert process.returncode == 130, err
        assert "Traceback" not in err
        alone.close()


@pytest.mark.parametrize("way", ["file", "signal"])
def test_a_paused_run_does_nothing_until_it_is_told_to_go_on(world: World, slow: OpenAIStandIn, way: str) -> None:
    process = begun(world, slow)
    pause = world.home / "pause"
    if way == "file":
        pause.touch()
    else:
        process.send_signal(signal.SIGUSR1)
    wait_until(lambda: status(world)["paused"] is True, "the pause")
    time.sleep(2 * slow.latency)  # What was under way comes to its end.
    before = slow.requests
    time.sleep(2 * slow.latency)
    assert slow.requests == before
    assert process.poll() is None
    slow.latency = 0.0
    if way == "file":
        pause.unlink()
    else:
        process.send_signal(signal.SIGUSR1)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "Paused." in err
    assert "Going on." in err


def test_the_status_file_tells_the_truth(world: World, slow: OpenAIStandIn) -> None:
    process = begun(world, slow)
    facts = status(world)
    assert facts["phase"] == "migrating"
    assert facts["collection"] == "context_stores"
    assert facts["total"] == DOCUMENTS
    assert facts["done"] % 250 == 0
    assert facts["failed"] == 0
    assert facts["pid"] == process.pid
    assert facts["documents_per_second"] > 0
    assert facts["seconds_left"] > 0
    assert facts["requests"] >= facts["done"] // 250
    slow.latency = 0.0
    process.communicate(timeout=60)
    facts = status(world)
    assert facts["phase"] == "done"
    assert facts["tokens"] > 0
    assert facts["spent_usd"] > 0


def test_a_second_run_on_a_collection_is_refused_and_told_which_run_holds_it(world: World, slow: OpenAIStandIn) -> None:
    process = begun(world, slow)
    world.home = world.home.parent / "another-home"
    done = world.run("--collections", "context_stores", **openai(slow, 16))
    assert done.status == 2, done.text
    assert "is held by run openai-text-embedding-3-small-16-" in done.err
    assert str(process.pid) in done.err
    process.kill()
    process.communicate()
    slow.latency = 0.0
    assert world.run("--collections", "context_stores", **openai(slow, 16)).status == 0
