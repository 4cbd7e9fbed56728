"""A vector field that was taken out comes back, whatever an application writes while nothing checks its length."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, Final

import pytest

from kai.typesense import TypesenseError
from migration.strategies import refill
from migration.strategies.context import Outcome
from migration.strategies.refill import Refill
from migration.strategies.task import Task
from tests.unit.fake_typesense import FakeTypesense

OLD: Final = 2
NEW: Final = 3
WANTED: Final = {"name": "vector", "type": "float[]", "num_dim": NEW, "optional": False}


class Told:
    """A console that remembers its warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        """Remember it."""
        self.warnings.append(text)

    def detail(self, text: str) -> None:
        """Of no interest."""


def emptied(documents: int = 100) -> FakeTypesense:
    """A collection whose vector field is out of the schema, and the values out of its documents."""
    return FakeTypesense([{"name": "text", "type": "string"}], {f"n{number}": {} for number in range(documents)})


def add(server: FakeTypesense, **schema: Any) -> Told:
    """Let the field come back; what the operator was told."""
    told = Told()
    collection = SimpleNamespace(embedding_field="vector")
    plan: Any = SimpleNamespace(
        name="notes", collection=collection, schema=schema, old_dimensions=OLD, new_dimensions=NEW
    )
    context: Any = SimpleNamespace(server=server, console=told, control=SimpleNamespace(stopped=threading.Event()))
    source: Any = SimpleNamespace(fingerprint="x")
    with ExitStack() as stack:
        Refill(Task(context, plan, source, Outcome(), "", stack))._add(dict(WANTED))
    return told


def test_it_comes_back_optional_for_nothing_has_a_value_yet() -> None:
    server = emptied()
    add(server)
    assert server.fields[-1] == WANTED | {"optional": True}
    assert server.alters == 1


@pytest.mark.parametrize("times", [1, 3, 7])
def test_a_new_document_with_a_vector_of_the_old_length_is_emptied_and_it_is_tried_again(times: int) -> None:
    server = emptied()

    def write(number: int) -> None:
        if number <= times:
            server.documents[f"new{number}"] = {"id": f"new{number}", "vector": [0.5] * OLD}

    server.before_alter = write
    add(server)
    assert server.alters == times + 1
    assert server.fields[-1]["num_dim"] == NEW
    assert not any("vector" in document for document in server.documents.values())


def test_a_vector_of_the_new_length_is_left_alone() -> None:
    server = emptied()
    server.documents["n99"]["vector"] = [0.5] * NEW
    add(server)
    assert server.documents["n99"]["vector"] == [0.5] * NEW


@pytest.mark.parametrize(("schema", "tries"), [({}, 5), ({"default_sorting_field": "rank"}, 1)])
def test_an_old_document_that_was_written_is_found_by_looking_through_all_of_them(
    schema: dict[str, str], tries: int
) -> None:
    server = emptied()
    server.documents["n0"]["vector"] = [0.5] * OLD
    add(server, **schema)
    assert server.alters == tries
    assert "vector" not in server.documents["n0"]


def test_the_operator_is_told_once_that_an_application_keeps_it_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refill, "_BETWEEN_TRIES", 0.0)
    server = emptied()

    def write(number: int) -> None:
        if number <= 2 * refill._TRIES_BEFORE_A_WORD:
            server.documents["n99"]["vector"] = [0.5] * OLD

    server.before_alter = write
    told = add(server)
    assert len(told.warnings) == 1
    assert "keeps writing vectors of another length into 'notes'" in told.warnings[0]


def test_another_refusal_is_nothing_to_try_again() -> None:
    server = emptied()

    def refuse(_: int) -> None:
        raise TypesenseError("the field is no good", status=400)

    server.before_alter = refuse
    with pytest.raises(TypesenseError, match="no good"):
        add(server)
    assert server.alters == 1
