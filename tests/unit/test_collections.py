"""Which collections a name stands for."""

from __future__ import annotations

import pytest

from kai.collections import load_collections, select_collections


@pytest.mark.parametrize("names", [[], ["all"], ["instructions", "all"]])
def test_what_not_every_kai_has_is_not_part_of_all(names: list[str]) -> None:
    chosen, unknown = select_collections(load_collections(), names)
    assert {each.name for each in chosen} == {"context_stores", "instructions"}
    assert unknown == []


def test_what_not_every_kai_has_is_taken_by_its_name() -> None:
    chosen, unknown = select_collections(load_collections(), ["all,skills", "kai_memories"])
    assert [each.name for each in chosen] == ["context_stores", "instructions", "skills", "kai_memories"]
    assert unknown == []


def test_the_newer_collections_have_the_texts_of_their_documents() -> None:
    known = load_collections()
    skill = {"name": "monthly report", "description": "Sums up a month.", "content": "long", "is_active": False}
    assert known["skills"].text_of(skill) == "monthly report: Sums up a month."
    assert known["kai_memories"].text_of({"key": "k", "value": "v", "content_text": "likes boats"}) == "likes boats"
