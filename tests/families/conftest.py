"""One provider of each family, and of the two wire formats of OpenAI-compatible servers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import responses

from tests.providers import GoogleStandIn, OllamaStandIn, OpenAIStandIn, StandIn

STAND_INS: dict[str, Callable[..., StandIn]] = {
    "openai": OpenAIStandIn,
    "openai sending numbers": functools.partial(OpenAIStandIn, ignores_base64=True),
    "google": GoogleStandIn,
    "ollama": OllamaStandIn,
}


@pytest.fixture(autouse=True)
def downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[responses.RequestsMock]:
    """tiktoken, with nothing cached, downloads its vocabulary with requests: that fails the test."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        mock.add_passthru("http://127.0.0.1:")  # a stand-in
        yield mock


@pytest.fixture(params=STAND_INS)
def make_provider(request: pytest.FixtureRequest) -> Iterator[Callable[..., StandIn]]:
    """Start the family's stand-in with options of the test's own."""
    running: list[StandIn] = []

    def start(**options: object) -> StandIn:
        running.append(STAND_INS[request.param](**options).start())
        return running[-1]

    yield start
    for stand_in in running:
        stand_in.stop()


@pytest.fixture
def provider(make_provider: Callable[..., StandIn]) -> StandIn:
    """The family's stand-in without any faults."""
    return make_provider()
