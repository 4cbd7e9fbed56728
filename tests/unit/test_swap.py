"""Whose place a collection may take, under which name, and what is sent where only a part of a document changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as some

from kai.sandbox.writes import _merge_patch
from kai.typesense import Schema, Typesense
from migration.documents.fetch import Document
from migration.strategies.alias.carry import change_line
from migration.strategies.alias.state import (
    find_pair,
    move_aliases,
    next_name,
    refuse_another_target,
)
from migration.strategies.planning.ways import objection
from migration.strategies.refusals import Refused
from migration.strategies.shadow_state import MARK, Mark
from tests.unit.inspected import inspected

OLD, NEW = "notes", "notes__2"
MARKED = Mark(OLD, "run-1", "waiting", "target", 4, "vector", None, aliases=["live"])


def schema(name: str, *fields: dict[str, Any], mark: Mark | None = None, documents: int = 0) -> Schema:
    """Of a collection, with a mark where it has one."""
    metadata = {"metadata": {MARK: asdict(mark)}} if mark else {}
    return {"name": name, "num_documents": documents, "fields": list(fields), **metadata}


class Aliases:
    """A server of which nothing is asked but its aliases.

    Attributes:
        before_next: what somebody else does right before the next alias is moved.
        moved: those that were moved, in order.
    """

    lags = False

    def __init__(self, aliases: dict[str, str]) -> None:
        self.standing = dict(aliases)
        self.before_next: dict[str, str | None] = {}
        self.moved: list[str] = []
        self.patience = 1.0

    def settle(self) -> None:
        """Nothing lags."""

    def aliases(self) -> dict[str, str]:
        """As they stand."""
        return dict(self.standing)

    def set_alias(self, name: str, collection: str) -> None:
        """Move one; somebody else is faster with others."""
        self.standing[name] = collection
        self.moved.append(name)
        for other, target in self.before_next.items():
            self.standing.pop(other, None)
            if target is not None:
                self.standing[other] = target
        self.before_next = {}


@pytest.mark.parametrize(
    ("name", "following"),
    [
        ("articles", "articles__2"),
        ("articles_v1", "articles_v1__2"),
        ("articles__2", "articles__3"),
        ("articles__9", "articles__10"),
        ("articles__two", "articles__two__2"),
        ("__2", "__2__2"),
    ],
)
def test_any_start_finds_the_same_name_for_what_is_built(name: str, following: str) -> None:
    assert next_name(name) == following


@pytest.mark.parametrize("asked", [OLD, NEW])
def test_what_waits_is_found_by_either_name(asked: str) -> None:
    pair = find_pair([schema(OLD), schema(NEW, mark=MARKED)], asked)
    assert pair is not None
    assert (pair.old, pair.new, pair.run, pair.is_swapped) == (OLD, NEW, "run-1", True)


def test_what_a_dead_run_has_built_is_known_again_and_what_somebody_else_made_is_not_touched() -> None:
    fields = {"name": "text", "type": "string"}
    live = schema(OLD, fields, documents=3)
    ours = find_pair([live, schema(NEW, fields, mark=replace(MARKED, phase="building"))], OLD)
    cloned = find_pair([live, schema(NEW, fields)], OLD)
    theirs = find_pair([live, schema(NEW, fields, documents=1)], OLD)
    assert [pair is not None and (pair.is_swapped, pair.is_foreign) for pair in (ours, cloned, theirs)] == [
        (False, False),
        (False, False),
        (False, True),
    ]
    assert find_pair([live], OLD) is None


@pytest.mark.parametrize(
    ("everything", "aliases", "lags", "words"),
    [
        ([schema(OLD)], {}, False, ["no alias leads to it", "--strategy alter", "--into"]),
        ([schema(OLD), schema("links", {"name": "note", "reference": "notes.id"})], None, False, ["'links' (note)"]),
        ([schema(OLD), schema("links", {"name": "note", "reference": "live.id"})], None, False, ["'links' (note)"]),
        ([schema(OLD, {"name": "up", "reference": "notes.id"})], None, False, ["refers to itself by up"]),
        ([schema(OLD), schema(NEW, documents=1)], None, False, ["'notes__2'", "rename or delete"]),
        ([schema(OLD), schema("notes__2__base")], None, False, ["'notes__2__base'", "rename or delete"]),
        ([schema(OLD)], None, True, ["--allow-lag", "name the nodes"]),
    ],
)
def test_a_collection_whose_place_no_other_can_take_is_refused_with_the_ways_that_keep_it(
    everything: Sequence[Schema], aliases: dict[str, str] | None, lags: bool, words: list[str]
) -> None:
    standing, lagging = {"live": OLD} if aliases is None else aliases, "reads lag" if lags else ""
    refused = objection(inspected(*everything, asked="live", aliases=standing, lagging=lagging), "alias")
    assert [word for word in words if word not in str(refused)] == []


def test_a_collection_behind_an_alias_that_nothing_refers_to_is_not_refused() -> None:
    assert objection(inspected(schema(OLD), aliases={"live": OLD}), "alias") is None
    lagging = inspected(schema(OLD), aliases={"live": OLD}, lagging="reads lag")
    assert objection(lagging, "alias", allow_lag=True) is None


@pytest.mark.parametrize(
    ("mark", "is_gone", "words"),
    [
        (replace(MARKED, fingerprint="another"), False, ["kai-migrate finish run-1", "kai-migrate rollback run-1"]),
        (replace(MARKED, phase="reverting"), False, ["kai-migrate rollback run-1"]),
        (MARKED, True, ["kai-migrate finish run-1"]),
    ],
)
def test_while_one_waits_no_other_migration_is_begun(mark: Mark, is_gone: bool, words: list[str]) -> None:
    pair = find_pair([schema(NEW, mark=mark), *([] if is_gone else [schema(OLD)])], NEW)
    assert pair is not None
    with pytest.raises(Refused) as refused:
        refuse_another_target(pair, "target")
    assert [word for word in words if word not in str(refused.value)] == []


def test_the_same_migration_goes_on_with_what_waits() -> None:
    pair = find_pair([schema(NEW, mark=MARKED), schema(OLD)], NEW)
    assert pair is not None
    assert refuse_another_target(pair, "target")["name"] == OLD


def test_every_alias_is_moved_one_that_came_late_too_and_one_that_somebody_has_moved_is_left() -> None:
    server = Aliases({"a": OLD, "b": OLD, "c": OLD, "elsewhere": "other"})
    server.before_next = {"c": "theirs", "d": OLD}
    noted: list[Sequence[str]] = []
    notes = move_aliases(cast(Typesense, server), ["a", "b", "c"], OLD, NEW, noted.append)
    assert server.standing == {"a": NEW, "b": NEW, "c": "theirs", "d": NEW, "elsewhere": "other"}
    assert noted == [["a", "b", "c", "d"]]
    assert len(notes) == 1
    assert "'c' leads to 'theirs' now" in notes[0]


VALUES = some.recursive(
    some.none() | some.integers(0, 3) | some.text("ab", max_size=2),
    lambda inner: some.lists(inner, max_size=2) | some.dictionaries(some.text("ab", max_size=1), inner, max_size=3),
    max_leaves=6,
)
DOCUMENTS = some.dictionaries(some.sampled_from("pqrs"), VALUES, max_size=4)


def stored(value: Any) -> Any:
    """As a server keeps it: no null in an object, be it within another."""
    if isinstance(value, dict):
        return {key: stored(each) for key, each in value.items() if each is not None}
    return value


@given(DOCUMENTS, DOCUMENTS)
def test_what_is_sent_of_a_changed_document_makes_of_the_one_that_stands_there_exactly_the_other(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    old, new = ({"id": "1", **stored(each)} for each in (before, after))
    sent = orjson.loads(change_line(Document("1", old, None), {**new, "vector": [1.0]}, "vector"))
    assert _merge_patch({**old, "vector": [0.5]}, sent) == {**new, "vector": [1.0]}
    assert {name for name in sent if name not in ("id", "vector")} == {
        name for name in old.keys() | new.keys() if old.get(name) != new.get(name)
    }


def test_a_document_that_is_to_have_no_vector_loses_the_one_that_it_has() -> None:
    assert orjson.loads(change_line(Document("1", {"id": "1"}, None), {"id": "1"}, "vector")) == {
        "id": "1",
        "vector": None,
    }
