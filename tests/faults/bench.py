"""A small world behind a faulty proxy, a scripted provider, and runs inside this process, one after the other."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self
from unittest.mock import patch

from migration.cli.run import run as migrate
from migration.ledger import Ledger
from migration.strategies.context import MigrationOptions
from tests.faults.provider import PlannedAnswer, ScriptedProvider
from tests.faults.proxy import FaultyProxy
from tests.faults.script import Planned, Script
from tests.hurry import unencumbered
from tests.inside import run_inside
from tests.sandbox.server import RunningCluster, RunningSandbox
from tests.world import Document, Finished, World, made_up, openai

DIMENSIONS: Final = 12
PATIENT: Final = 5.0
"""Seconds of patience that outlast every passing fault, on a busy machine too."""
IMPATIENT: Final = 0.15
TIME_OUT: Final = 0.4
"""Seconds after which a call that is not answered is given up, in place of the product's minute."""
LAG: Final = 0.03
"""Seconds by which the follower lags, where one is read; a run assumes four times as much, not half a second."""
SMALL: Final = made_up(questions=40, instructions=24)
COLLECTIONS: Final = ("context_stores", "instructions")
PREVIOUS: Final = {"embedding": {"model": "the-previous-model"}, "owner": "the application"}


class Bench:
    """Everything a run needs, with faults in all places.

    Attributes:
        world: to look at the server past the proxy.
        before: every document as it was before any run, by collection and id.
        home: MIGRATION_HOME of the runs to come.

    Args:
        folder: an empty one, for server and homes.
        version: of Typesense that the server behaves as.
        lags: whether a follower of a cluster is read, and all that is known; the world is looked at through its leader.
    """

    def __init__(self, folder: Path, version: int = 30, *, lags: bool = False) -> None:
        self._version = version
        self._lags = lags
        self.folder = folder
        self._stack = contextlib.ExitStack()
        self._homes = 0
        self._touched: set[str] = set()

    def __enter__(self) -> Self:
        stack = self._stack
        address, leader, key = self._start()
        self.proxy = stack.enter_context(FaultyProxy(address, key))
        self.provider = ScriptedProvider()
        stack.enter_context(self.provider)
        self.world = World(leader, key, self.folder)
        stack.callback(self.world.close)
        stack.enter_context(patch("kai.typesense_connection.MINIMUM_READ_TIMEOUT", TIME_OUT))
        stack.enter_context(patch("migration.operations.setup.PROVIDER_TIMEOUT", 10 * TIME_OUT))
        stack.enter_context(patch("kai.typesense_connection._ASSUMED_LAG", 4 * LAG))
        self.fill(SMALL)
        return self

    def _start(self) -> tuple[str, str, str]:
        """Start the server: the address to run against, the one to look at, and the key."""
        if not self._lags:
            sandbox = self._stack.enter_context(RunningSandbox(self.folder / "data", version=self._version))
            return sandbox.url, sandbox.url, sandbox.api_key
        cluster = self._stack.enter_context(RunningCluster(self.folder / "data", lag=LAG))
        leader = cluster.leader()
        follower = next(url for number, url in enumerate(cluster.nodes) if number != leader)
        return follower, cluster.nodes[leader or 0], cluster.api_key

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def fill(self, documents: Mapping[str, Sequence[Document]]) -> None:
        """Begin with other documents."""
        self._documents = documents
        self.before: dict[str, dict[str, Document]] = {}
        self._refill()

    def fresh(self) -> None:
        """The world as it was at first, and a new home."""
        self.proxy.reset(Script())
        self.provider.script()
        self.provider.constant_from = None
        self._homes += 1
        self.home = self.folder / f"home-{self._homes}" / "kai"
        self.home.mkdir(mode=0o700, parents=True)
        if self._homes % 5:  # else the run makes its ledger itself
            shutil.copyfile(self._empty_ledger(), self.home / "ledger.sqlite")
            (self.home / "ledger.sqlite").chmod(0o600)
        counts = {schema["name"]: schema["num_documents"] for schema in self.world.http.get("/collections").json()}
        if any(counts.get(name) != len(self.before[name]) for name in COLLECTIONS):
            self._refill()
        else:
            self._restore(self._touched)
        self._touched.clear()
        if self._lags:
            time.sleep(8 * LAG)  # What was put back is to show where it is read.

    def _empty_ledger(self) -> Path:
        """A ledger without entries: making one takes longer than a run."""
        folder = self.folder / "empty"
        if not folder.exists():
            Ledger.open(None, folder).close()
        return folder / "ledger.sqlite"

    def _refill(self) -> None:
        self.world.clear()
        self.world.fill(self._documents, DIMENSIONS)
        if not self.before:
            self.before = {name: self.world.documents(name) for name in COLLECTIONS}
        self._restore(COLLECTIONS)

    def _restore(self, names: Iterable[str]) -> None:
        for name in names:
            self.world.import_(name, self.before[name].values(), "upsert")
            self.world.http.patch(f"/collections/{name}", json={"metadata": PREVIOUS}).raise_for_status()

    def forget(self) -> None:
        """Remove the home."""
        shutil.rmtree(self.home.parent, ignore_errors=True)

    def environment(self) -> dict[str, str]:
        """Of a run: the server behind the proxy, and the provider."""
        return self.world.environment(**openai(self.provider, DIMENSIONS)) | {
            "TYPESENSE_PORT": str(self.proxy.port),
            "TYPESENSE_TIMEOUT": str(TIME_OUT),
            "MIGRATION_HOME": str(self.home),
        }

    def run(
        self,
        faults: Sequence[Planned] = (),
        answers: Sequence[PlannedAnswer] = (),
        *,
        collections: Sequence[str] = ("context_stores",),
        patience: float = PATIENT,
        script: Script | None = None,
        **options: Any,
    ) -> Finished:
        """One run to its end, with these faults of Typesense and these of the provider."""
        self._touched.update(collections)
        self.proxy.reset(script or Script(faults))
        self.provider.script(*answers)
        wanted = MigrationOptions(collections=tuple(collections), patience=patience, **options)
        with unencumbered():
            return Finished(*run_inside(lambda: migrate(wanted), self.environment(), self.home.parent))
