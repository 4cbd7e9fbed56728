"""What a run has built beside what serves is found by its marks, and is not searched before it is whole."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from migration.assessment.evaluation.built import NothingBuilt, find_built
from migration.strategies.second_field.mark import NEXT, NextField, Phase
from migration.strategies.shadow_state import MARK, Mark
from migration.strategies.shadow_state import Phase as ShadowPhase


def schema(name: str, documents: int = 100, **metadata: Any) -> dict[str, Any]:
    fields = [{"name": "vector", "type": "float[]", "num_dim": 4}]
    return {"name": name, "fields": fields, "num_documents": documents, "metadata": metadata}


def mark(phase: ShadowPhase = "building") -> dict[str, Any]:
    return {MARK: asdict(Mark("notes", "run-1", phase, "f", 8, "vector", None))}


def second(phase: Phase) -> dict[str, Any]:
    return {NEXT: asdict(NextField("vector_v2", "vector", "run-1", phase, "f"))}


def test_a_shadow_is_compared_with_what_serves() -> None:
    found = find_built([schema("notes"), schema("notes__shadow", **mark())], "notes", "vector")
    assert (found.old["name"], found.old_field, found.new, found.new_field) == (
        "notes", "vector", "notes__shadow", "vector",
    )  # fmt: skip
    assert (found.run, found.fingerprint) == ("run-1", "f")


@pytest.mark.parametrize(("asked", "phase"), [("notes", "building"), ("notes__2", "waiting")])
def test_a_successor_is_compared_with_what_it_replaces_before_and_after_the_swap(
    asked: str, phase: ShadowPhase
) -> None:
    found = find_built([schema("notes"), schema("notes__2", **mark(phase))], asked, "vector")
    assert (found.old["name"], found.new) == ("notes", "notes__2")


def test_a_second_field_is_compared_with_the_one_that_serves() -> None:
    found = find_built([schema("notes", **second("waiting"))], "notes", "vector_v2")
    assert (found.old["name"], found.old_field, found.new, found.new_field) == ("notes", "vector", "notes", "vector_v2")


@pytest.mark.parametrize(
    ("everything", "words"),
    [
        ([schema("notes")], "nothing is built beside 'vector' of 'notes'; a run with --rehearse or --hold"),
        ([schema("notes"), schema("notes__2")], "nothing is built beside"),
        ([schema("notes"), schema("notes__shadow", 40, **mark())], "'notes__shadow' has 40 of the 100 documents"),
        ([schema("notes"), schema("notes__2", 98, **mark())], "'notes__2' has 98 of the 100 documents"),
        ([schema("notes"), schema("notes__2", **mark("reverted"))], "nothing is built beside"),
        ([schema("notes"), schema("notes__shadow", **mark("cutting over"))], "run run-1 is cutting 'notes' over"),
        ([schema("notes__2", **mark("waiting"))], "nothing is built beside"),
        ([schema("notes", **second("filling"))], "run run-1 has not filled the field 'vector_v2'"),
    ],
)
def test_what_is_not_there_or_not_whole_is_told_with_what_would_build_it(
    everything: list[dict[str, Any]], words: str
) -> None:
    with pytest.raises(NothingBuilt) as refused:
        find_built(everything, str(everything[0]["name"]), "vector")
    assert str(refused.value).startswith(words)
