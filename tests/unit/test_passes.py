"""Passes over a collection in memory: what they write, what they leave, when they end, and what an application does."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import numpy as np
import pytest

from kai.collections import EmbeddedCollection
from kai.models import EmbeddingSettings
from kai.typesense import Typesense
from kai.vectors import Vector
from migration.backup.lookup import OldVectors
from migration.embedding.embed import Embedder, TextFailure
from migration.ledger import Ledger, ModelRecord
from migration.runtime.console import SILENT
from migration.runtime.control import Control
from migration.runtime.meter import Meter
from migration.runtime.status import Status
from migration.strategies.context import MigrationOptions, Outcome, RunContext
from migration.strategies.passes import MOST_PASSES, Passes
from migration.strategies.plan import CollectionPlan
from migration.strategies.sources import UNDESCRIBED, Embedded, KnownModels, PutBack, VectorSource
from migration.strategies.task import Task
from tests.unit.fake_typesense import FakeTypesense

NOTES: Final = EmbeddedCollection("notes", "vector", "{text}")
FIELDS: Final[list[dict[str, Any]]] = [
    {"name": "text", "type": "string"},
    {"name": "vector", "type": "float[]", "num_dim": 3},
]
OLD: Final = [0.5, 0.25, 0.125]


def vector_of(text: str) -> list[float]:
    """The target's, of a text."""
    return [float(len(text)), 1.0, 2.0]


class Model:
    """A model that has a vector for each text but those that hold `refused`, and counts what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def embed(self, texts: Iterator[str], *, cache: str) -> dict[str, Vector | TextFailure]:
        """A vector for each."""
        wanted = sorted(set(texts))
        self.asked += wanted
        return {
            text: TextFailure("refused by its words") if "refused" in text else np.array(vector_of(text), np.float32)
            for text in wanted
        }

    def cut_from(self, _hashes: Sequence[bytes]) -> dict[bytes, int]:
        """None is."""
        return {}


class Backup:
    """Old vectors by id, all of them."""

    def __init__(self, vectors: Mapping[str, Sequence[float] | None], *, complete: bool = True) -> None:
        self._vectors = vectors
        self.complete = complete

    def get(self, ids: Sequence[str]) -> dict[str, array[float] | None]:
        """Those that it has."""
        found = {id_: self._vectors[id_] for id_ in ids if id_ in self._vectors}
        return {id_: None if vector is None else array("d", vector) for id_, vector in found.items()}


class World:
    """A collection of ten notes with old vectors, and what a run over it works with.

    Attributes:
        server: where the notes are.
        model: the target.
    """

    def __init__(self, ledger: Ledger, home: Path) -> None:
        documents = {f"n{number}": {"text": f"note {'!' * number}", "vector": OLD} for number in range(10)}
        self.server = FakeTypesense(FIELDS, documents)
        self.model = Model()
        self._ledger = ledger
        self._home = home
        self._known: ModelRecord = ledger.register_model(family="f", model="m", dimensions=3, fingerprint="x")
        self._run = ledger.start_run("a run", "migrate")
        self.control = Control()

    def again(self) -> None:
        """From here on it is another run."""
        self._run = self._ledger.start_run("another run", "migrate")

    def embedded(self, **options: Any) -> Embedded:
        """The target's vectors."""
        embedding = EmbeddingSettings("f", "m", 3)
        return Embedded(self._context(**options), NOTES, cast("Embedder", self.model), embedding, self._known)

    def put_back(
        self, vectors: Mapping[str, Sequence[float] | None], *, complete: bool = True, described: bool = True
    ) -> PutBack:
        """Old vectors."""
        backup = cast("OldVectors", Backup(vectors, complete=complete))
        collection = NOTES if described else EmbeddedCollection("notes", "vector", UNDESCRIBED)
        plan = cast("CollectionPlan", SimpleNamespace(name="notes", collection=collection, new_dimensions=3))
        return PutBack(self._context(), plan, "the run before", backup, KnownModels(None, ()))

    def run(self, source: VectorSource, limit: int | None = None, **options: Any) -> Outcome:
        """Passes until nothing is left to do."""
        schema = self.server.collection("notes") or {}
        plan = cast("CollectionPlan", SimpleNamespace(name="notes", collection=NOTES))
        with ExitStack() as stack:
            task = Task(self._context(**options), plan, source, Outcome(), "", stack)
            Passes(task, schema, limit=limit).run(len(self.server.documents))
        return task.outcome

    def vectors(self) -> dict[str, list[float] | None]:
        """What stands there."""
        return {id_: document.get("vector") for id_, document in self.server.documents.items()}

    def wanted(self) -> dict[str, list[float]]:
        """What should stand there after a migration."""
        return {id_: vector_of(document["text"]) for id_, document in self.server.documents.items()}

    def _context(self, **options: Any) -> RunContext:
        return RunContext(
            server=cast("Typesense", self.server),
            ledger=self._ledger,
            run=self._run,
            home=self._home,
            options=MigrationOptions(**options),
            meter=Meter(),
            control=self.control,
            console=SILENT,
            status=Status(None),
        )


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """One for all tests: making one takes longer than a run."""
    with Ledger.open(None, tmp_path_factory.mktemp("ledger")) as ledger:
        yield ledger


@pytest.fixture
def world(ledger: Ledger, tmp_path: Path) -> World:
    """Ten notes of which the ledger knows nothing."""
    ledger.forget_collection(FakeTypesense.address, "notes")
    return World(ledger, tmp_path)


def test_one_pass_writes_and_the_next_is_the_proof(world: World) -> None:
    outcome = world.run(world.embedded())
    assert (outcome.complete, outcome.passes, outcome.written, outcome.success) == (True, 2, 10, 10)
    assert world.vectors() == world.wanted()


def test_what_the_ledger_knows_to_be_right_is_neither_embedded_nor_written_again(world: World) -> None:
    world.run(world.embedded())
    world.model.asked.clear()
    world.again()
    outcome = world.run(world.embedded())
    assert (outcome.complete, outcome.passes, outcome.written, outcome.success) == (True, 1, 0, 10)
    assert world.model.asked == []


def test_with_force_what_is_right_is_embedded_again(world: World) -> None:
    world.run(world.embedded())
    world.model.asked.clear()
    world.again()
    world.run(world.embedded(force=True), force=True)
    assert len(world.model.asked) == 10


def test_a_vector_that_somebody_else_put_there_is_replaced_and_its_text_is_not_bought_twice(world: World) -> None:
    world.run(world.embedded())
    world.server.documents["n3"]["vector"] = OLD
    world.again()
    outcome = world.run(world.embedded())
    assert (outcome.written, outcome.success) == (1, 10)
    assert world.vectors() == world.wanted()


def test_a_text_that_changes_after_it_was_read_gets_the_vector_of_what_it_says_now(world: World) -> None:
    def change(number: int) -> None:
        if number == 1:
            world.server.documents["n3"]["text"] = "something else altogether"

    world.server.before_import = change
    outcome = world.run(world.embedded())
    assert (outcome.complete, outcome.application_wrote) == (True, True)
    assert world.vectors() == world.wanted()


def test_a_document_that_is_deleted_after_it_was_read_stays_deleted_and_is_no_failure(world: World) -> None:
    world.server.before_import = lambda _: world.server.documents.pop("n3", None)
    outcome = world.run(world.embedded())
    assert (outcome.complete, outcome.success, outcome.failures) == (True, 9, {})
    assert "n3" not in world.server.documents


def test_a_text_that_the_provider_refuses_keeps_its_old_vector_and_is_asked_for_once(world: World) -> None:
    world.server.documents["n3"]["text"] = "refused"
    outcome = world.run(world.embedded())
    assert (outcome.complete, outcome.success) == (True, 9)
    assert {id_: failure.reason for id_, failure in outcome.failures.items()} == {"n3": "refused by its words"}
    assert world.vectors()["n3"] == OLD
    assert world.model.asked.count("refused") == 1


def test_a_failure_that_is_mended_meanwhile_is_none_in_the_end(world: World) -> None:
    world.server.documents["n3"]["text"] = "refused"

    def mend(_: int) -> None:
        world.server.documents["n3"]["text"] = "accepted"

    world.server.before_import = mend
    outcome = world.run(world.embedded())
    assert (outcome.success, outcome.failures) == (10, {})
    assert world.vectors() == world.wanted()


def test_an_application_that_never_rests_ends_the_passes_and_is_told(world: World) -> None:
    def write(number: int) -> None:
        world.server.documents["n3"]["text"] = f"version {'.' * number}"

    world.server.before_import = write
    outcome = world.run(world.embedded())
    assert outcome.passes == MOST_PASSES
    assert outcome.changing == 1
    assert "were still changing" in outcome.notes[0]


@pytest.mark.parametrize("limit", [1, 4])
def test_no_more_than_the_limit_is_written_and_what_is_right_does_not_count(world: World, limit: int) -> None:
    first = world.run(world.embedded(), limit)
    second = world.run(world.embedded(), limit)
    assert (first.written, first.complete, first.limit_reached) == (limit, False, True)
    assert second.written == limit
    assert sum(vector != OLD for vector in world.vectors().values()) == 2 * limit


def test_a_run_that_is_to_stop_writes_nothing_more_and_is_not_complete(world: World) -> None:
    world.control.stop()
    outcome = world.run(world.embedded())
    assert (outcome.complete, outcome.written) == (False, 0)
    assert world.server.imports == 0


def test_going_back_puts_every_number_back_and_takes_away_what_was_not_there(world: World) -> None:
    before = {**world.vectors(), "n4": None}
    world.run(world.embedded())
    world.again()
    outcome = world.run(world.put_back(before))
    assert (outcome.complete, outcome.written, outcome.success, outcome.notes) == (True, 10, 10, [])
    assert world.vectors() == before


def test_going_back_again_writes_nothing(world: World) -> None:
    before = world.vectors()
    world.run(world.embedded())
    world.again()
    world.run(world.put_back(before))
    assert world.run(world.put_back(before)).written == 0


def test_what_was_added_since_keeps_its_vector_and_is_named(world: World) -> None:
    before = world.vectors()
    world.server.documents["new"] = {"id": "new", "text": "new", "vector": vector_of("new")}
    outcome = world.run(world.put_back(before))
    assert world.vectors() == {**before, "new": vector_of("new")}
    assert outcome.notes == ["1 documents were added since and have no old vector: new"]


def test_a_backup_that_is_not_complete_cannot_tell_what_was_added_since(world: World) -> None:
    before = {id_: vector for id_, vector in world.vectors().items() if id_ != "n3"}
    assert world.run(world.put_back(before, complete=False)).notes == []


def test_what_was_deleted_since_stays_deleted(world: World) -> None:
    before = world.vectors()
    del world.server.documents["n3"]
    outcome = world.run(world.put_back(before))
    assert (outcome.complete, outcome.success) == (True, 9)
    assert "n3" not in world.server.documents


def test_a_text_that_changed_since_gets_its_old_vector_and_is_named(world: World) -> None:
    before = world.vectors()
    world.run(world.embedded())
    world.server.documents["n3"]["text"] = "something else altogether"
    world.again()
    outcome = world.run(world.put_back(before))
    assert world.vectors() == before
    assert outcome.notes == ["1 documents have another text now than their old vector is of: n3"]


def test_a_collection_that_nobody_describes_goes_back_all_the_same(world: World) -> None:
    before = world.vectors()
    world.run(world.embedded())
    world.again()
    outcome = world.run(world.put_back(before, described=False))
    assert (outcome.complete, outcome.success) == (True, 10)
    assert world.vectors() == before
