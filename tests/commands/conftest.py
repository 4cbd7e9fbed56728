"""The command line in this process, and ledgers on both databases for it to read."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from migration.__main__ import cli
from tests.ledger.conftest import ledger, ledger_url, postgresql_server, postgresql_url
from tests.providers import OpenAIStandIn
from tests.sandbox.server import RunningSandbox
from tests.world import World, made_up, openai

__all__ = ["ledger", "ledger_url", "postgresql_server", "postgresql_url"]

VARIABLES = ("EMBEDDING_", "OPENAI_", "GOOGLE_", "OLLAMA_", "TYPESENSE_", "MIGRATION_")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command printed, `out` of it to standard output, and its exit status."""

    status: int
    text: str
    out: str

    @property
    def json(self) -> Any:
        """The one JSON document that it printed."""
        return json.loads(self.out)


Invoke = Callable[..., Answer]


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Call `kai-migrate` with these arguments and variables, and no others."""
    import os

    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(VARIABLES):
            monkeypatch.delenv(name)

    def call(*arguments: str, **variables: str) -> Answer:
        result = CliRunner().invoke(cli, arguments, env={"MIGRATION_HOME": str(tmp_path / "home"), **variables})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Answer(result.exit_code, result.output, result.stdout)

    return call


@contextlib.contextmanager
def migrated_world(
    sandbox: RunningSandbox, folder: Path, provider: OpenAIStandIn, *, questions: int
) -> Iterator[World]:
    """A server with nothing but so many questions, embedded by the stand-in's small model at 64 dimensions."""
    world = World(sandbox.url, sandbox.api_key, folder / "work" / "home")
    world.clear()
    world.fill(made_up(questions=questions), 64)
    assert world.run(**openai(provider)).status == 0
    yield world
    world.close()


@pytest.fixture
def ask(invoke: Invoke, ledger_url: str) -> Invoke:
    """The same over the ledger of the fixture `ledger`."""

    def call(*arguments: str, **variables: str) -> Answer:
        return invoke(*arguments, MIGRATION_LEDGER_URL=ledger_url, **variables)

    return call
