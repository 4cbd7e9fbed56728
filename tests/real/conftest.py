"""The server under test, and a corner of it for each test."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.providers import OpenAIStandIn
from tests.real.corner import Corner, Server, names_on
from tests.sandbox.server import RunningSandbox
from tests.world import World

_SMALL, _LARGE = 60, 500
"""Documents of each test in the sandbox and on a real server."""
_ALTER_SECONDS = "0.2"
"""How long a change of schema takes in the sandbox: long enough for something to happen meanwhile."""


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server that the environment names, or a sandbox; tells what earlier runs left on it."""
    url, key = (os.environ.get(f"TYPESENSE_TEST_{name}", "") for name in ("URL", "API_KEY"))
    if bool(url) != bool(key):
        pytest.fail("TYPESENSE_TEST_URL and TYPESENSE_TEST_API_KEY are needed together", pytrace=False)
    documents = int(os.environ.get("TYPESENSE_TEST_DOCUMENTS") or (_LARGE if url else _SMALL))
    if url:
        named = Server(url.rstrip("/"), key, documents)
        tell_leftovers(named)
        yield named
    else:
        data = tmp_path_factory.mktemp("server") / "data"
        with RunningSandbox(data, "--alter-seconds", _ALTER_SECONDS) as sandbox:
            yield Server(sandbox.url, sandbox.api_key, documents, in_a_hurry=True)


@pytest.fixture
def corner(server: Server, provider: OpenAIStandIn, tmp_path: Path) -> Iterator[Corner]:
    """A corner with everything in it, removed at the end however the test ends."""
    made = Corner(server, provider, tmp_path / "work")
    try:
        made.fill()
        yield made
    finally:
        made.remove()


def tell_leftovers(server: Server) -> None:
    """Warn of what stands on the server under a name of these tests."""
    with contextlib.closing(World(server.url, server.key, Path())) as world:
        left = names_on(world)
    if left:
        warnings.warn(
            f"earlier runs of these tests, or one under way, left on {server.url}: {', '.join(left)}", stacklevel=2
        )
