"""A server that says that it has done something, and does not show it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from kai.typesense import Schema, Typesense, TypesenseError
from kai.typesense_schemas import set_dimensions
from migration.strategies.shadow_state import clone


class Forgetful:
    """Answers every change with success and carries out none before it was asked `after` times."""

    patience = 0.5
    lags = False

    def __init__(self, after: int) -> None:
        self.asked = 0
        self.after = after

    def settle(self) -> None:
        """Nothing lags."""

    def collection(self, name: str) -> Schema | None:
        """The clone once it is there; the source always."""
        if name == "clone" and self.asked < self.after:
            return None
        dimensions = 128 if self.asked >= self.after else 64
        return {"name": name, "fields": [{"name": "v", "type": "float[]", "num_dim": dimensions}]}

    def clone_collection(self, _source: str, name: str) -> Schema:
        """Says that it did."""
        self.asked += 1
        return {"name": name}

    def alter_fields(self, _name: str, _fields: list[dict[str, Any]]) -> None:
        """Says that it did."""
        self.asked += 1

    def metrics(self) -> dict[str, Any]:
        """Figures that are none."""
        return {"system_memory_total_bytes": None, "system_memory_used_bytes": "1"}


def test_a_clone_that_does_not_show_is_given_up_in_the_end() -> None:
    server = Forgetful(after=1_000_000)
    with pytest.raises(TypesenseError, match="'clone'"):
        clone(cast(Typesense, server), "source", "clone")
    assert server.asked < 10


def test_a_length_that_does_not_show_is_given_up_in_the_end() -> None:
    server = Forgetful(after=1_000_000)
    with pytest.raises(TypesenseError, match="128 dimensions"):
        set_dimensions(cast(Typesense, server), "source", "v", 128)
    assert server.asked < 10


def test_what_shows_at_the_second_time_is_enough() -> None:
    server = cast(Typesense, Forgetful(after=2))
    assert clone(server, "source", "clone")["name"] == "clone"
    set_dimensions(server, "source", "v", 128)


def test_figures_that_are_none_say_nothing_of_the_memory() -> None:
    assert Typesense.free_memory(cast(Typesense, Forgetful(after=0))) is None
