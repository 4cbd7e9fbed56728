"""Which way a collection goes, and which ways its schema does not allow."""

from __future__ import annotations

from typing import Any

import pytest

from kai.collections import EmbeddedCollection
from kai.settings import ChosenStrategy
from migration.strategies.refusals import Strategy, decide, way_problem

CHOSEN: tuple[ChosenStrategy, ...] = ("auto", "recreate", "rebuild", "alter")
COLLECTION = EmbeddedCollection("notes", "vector", "{text}")


def schema(*more: dict[str, Any], **vector: Any) -> dict[str, Any]:
    """Of a collection with a vector field of these attributes, and more fields."""
    return {"name": "notes", "fields": [{"name": "vector", "type": "float[]", "num_dim": 4, **vector}, *more]}


@pytest.mark.parametrize(
    ("old", "chosen", "decided"),
    [
        (4, "auto", "in place"),
        (4, "recreate", "in place"),
        (4, "rebuild", "rebuild"),
        (4, "alter", "rebuild"),
        (8, "auto", "recreate"),
        (8, "recreate", "recreate"),
        (8, "rebuild", "alter"),
        (8, "alter", "alter"),
    ],
)
def test_the_way_follows_from_both_lengths_and_what_was_chosen(
    old: int, chosen: ChosenStrategy, decided: Strategy
) -> None:
    assert decide(old, 4, chosen) == decided


@pytest.mark.parametrize("chosen", CHOSEN)
def test_a_field_without_an_index_is_always_written_in_place(chosen: ChosenStrategy) -> None:
    assert decide(None, 4, chosen) == "in place"


@pytest.mark.parametrize("strategy", ["in place", "skipped", "create"])
def test_a_way_that_takes_no_field_out_is_never_in_trouble(strategy: Strategy) -> None:
    assert way_problem(COLLECTION, schema({"name": ".*", "type": "auto"}, embed={"from": ["text"]}), strategy) is None


@pytest.mark.parametrize("strategy", ["recreate", "rebuild", "alter"])
def test_a_field_that_the_server_fills_by_itself_is_not_taken_out(strategy: Strategy) -> None:
    assert "`embed` setting" in (way_problem(COLLECTION, schema(embed={"from": ["text"]}), strategy) or "")
    assert way_problem(COLLECTION, schema(), strategy) is None


@pytest.mark.parametrize("strategy", ["rebuild", "alter"])
@pytest.mark.parametrize(
    ("name", "kind", "finds"),
    [
        (".*", "auto", True),
        ("vec.*", "float[]", True),
        ("vector", "string*", True),
        ("(*", "auto", True),
        ("other_.*", "auto", False),
        ("text", "string", False),
    ],
)
def test_a_field_that_would_come_back_by_itself_is_not_taken_out(
    strategy: Strategy, name: str, kind: str, *, finds: bool
) -> None:
    found = schema({"name": name, "type": kind})
    assert (way_problem(COLLECTION, found, strategy) is not None) == finds
    assert way_problem(COLLECTION, found, "recreate") is None
