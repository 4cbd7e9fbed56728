"""What is decided about a collection by what was seen of it, and with which words it is refused."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from kai.typesense import Schema, TypesenseError
from migration.strategies.context import MigrationOptions
from migration.strategies.planning.decision import plan_of
from migration.strategies.refusals import Refused
from migration.strategies.second_field.mark import NEXT, NextField
from migration.strategies.shadow_state import MARK, REFILLING, Mark
from tests.unit.inspected import TARGET, inspected

SHADOW = Mark("notes", "run-1", "building", TARGET, 8, "vector", None)
BESIDE = NextField("vector_v2", "vector", "run-1", "waiting", TARGET)
REFILL = {"role": REFILLING, "run": "run-1", "phase": "filling", "field": {"name": "vector"}, "old_dimensions": 4}
UNLISTED = TypesenseError("Forbidden", status=401)


def notes(
    *fields: dict[str, Any], name: str = "notes", documents: int = 6_000, metadata: dict[str, Any] | None = None
) -> Schema:
    """A collection with a vector field of four dimensions, and more fields."""
    vector = {"name": "vector", "type": "float[]", "num_dim": 4, "optional": True}
    text = {"name": "text", "type": "string"}
    found = {"name": name, "num_documents": documents, "fields": [text, vector, *fields]}
    return found | ({"metadata": metadata} if metadata else {})


def shadow(phase: Any) -> Schema:
    return notes(name="notes__shadow", metadata={MARK: asdict(replace(SHADOW, phase=phase))})


RECREATE = MigrationOptions(strategy="recreate")
ALIAS = MigrationOptions(strategy="alias")
INTO = MigrationOptions(into="{field}_v2")


def refusal(options: MigrationOptions, schema: Schema, *others: Schema, **seen: Any) -> str:
    with pytest.raises(Refused) as refused:
        plan_of(inspected(schema, *others, **seen), options)
    return str(refused.value)


def test_a_recreate_does_not_touch_a_collection_of_the_shadow_s_name_that_somebody_else_made() -> None:
    said = refusal(RECREATE, notes(), notes(name="notes__shadow"), dimensions=8)
    assert said == ("a collection 'notes__shadow' is there that this tool did not make; rename or delete it first")


def test_a_collection_that_refers_to_itself_is_not_recreated() -> None:
    said = refusal(RECREATE, notes({"name": "up", "type": "string", "reference": "notes.id"}), dimensions=8)
    assert said.startswith("collection 'notes' refers to itself by up: ")
    assert said.endswith("use --strategy alter")


def test_where_reads_lag_a_recreate_could_lose_writes_unless_that_is_allowed_or_the_drop_is_done() -> None:
    said = refusal(RECREATE, notes(), dimensions=8, lagging="reads lag")
    assert said.startswith("TYPESENSE_HOST, TYPESENSE_PORT: reads lag; a recreate of 'notes' could lose")
    lagging = inspected(notes(), dimensions=8, lagging="reads lag")
    assert plan_of(lagging, replace(RECREATE, allow_lag=True)).strategy == "recreate"
    dropped = replace(lagging, schema=shadow("cutting over"), shadow=shadow("cutting over"))
    assert plan_of(dropped, RECREATE).strategy == "recreate"


@pytest.mark.parametrize("dimensions", [4, 8])
def test_an_alias_is_moved_only_where_one_leads_to_the_collection(dimensions: int) -> None:
    assert "no alias leads to it" in refusal(ALIAS, notes(), dimensions=dimensions)
    found = plan_of(inspected(notes(), asked="live", aliases={"live": "notes"}, dimensions=dimensions), ALIAS)
    assert (found.strategy, found.successor) == ("alias", "notes__2")


def test_a_key_that_may_not_list_the_aliases_is_told_of_only_where_they_are_needed() -> None:
    seen = inspected(notes(), aliases=UNLISTED)
    with pytest.raises(TypesenseError) as refused:
        plan_of(seen, ALIAS)
    assert refused.value is UNLISTED
    found = plan_of(seen, MigrationOptions())
    assert found.strategy == "in place"
    assert [way.strategy for way in found.ways] == ["into", "in place", "rebuild"]


def test_a_second_field_is_named_by_the_option_or_by_the_description_or_it_is_asked_for() -> None:
    assert "give --into FIELD" in refusal(MigrationOptions(strategy="into"), notes())
    for options, next_field in ((INTO, ""), (MigrationOptions(), "{field}_v2")):
        found = plan_of(inspected(notes(), next_field=next_field), options)
        assert (found.strategy, found.collection.embedding_field, found.beside) == ("into", "vector_v2", "vector")
    elsewhere = inspected(notes(), next_field="{field}_v2")
    assert plan_of(elsewhere, MigrationOptions(strategy="rebuild")).strategy == "rebuild"


@pytest.mark.parametrize(
    ("into", "words"),
    [
        ("vector", "'vector' is the embedding field of collection 'notes' already"),
        ("text", "there is a field of this name"),
        ("a.b", "inside an object"),
        ("id", "Typesense takes no such name"),
        (" v", "Typesense takes no such name"),
        ("v*", "Typesense takes no such name"),
    ],
)
def test_a_second_field_has_a_name_of_its_own_that_the_server_takes(into: str, words: str) -> None:
    said = refusal(MigrationOptions(into=into), notes())
    assert said.startswith("--into: ")
    assert words in said


@pytest.mark.parametrize(
    ("standing", "into", "words"),
    [
        (BESIDE, "another", "has a second field already: run run-1 fills the field 'vector_v2' beside 'vector'"),
        (replace(BESIDE, phase="contracting"), "vector_v2", "'vector' is being taken out; give `kai-migrate finish"),
        (replace(BESIDE, phase="withdrawing"), "vector_v2", "'vector_v2' is being taken out; give `kai-migrate roll"),
        (replace(BESIDE, fingerprint="another"), "vector_v2", "filled with another model's vectors"),
    ],
)
def test_a_second_field_that_stands_is_gone_on_with_by_the_same_migration_alone(
    standing: NextField, into: str, words: str
) -> None:
    assert words in refusal(MigrationOptions(into=into), notes(metadata={NEXT: asdict(standing)}))
    same = plan_of(inspected(notes(metadata={NEXT: asdict(BESIDE)})), MigrationOptions(into="vector_v2"))
    assert (same.strategy, same.ways) == ("into", ())


def test_what_a_dead_run_has_left_is_finished_before_a_second_field_is_begun() -> None:
    assert "a rebuild of 'notes' is not finished" in refusal(INTO, notes(metadata={MARK: REFILL}))
    dropped = replace(inspected(notes(), shadow("cutting over")), schema=shadow("cutting over"))
    with pytest.raises(Refused, match="run that migration again without --into"):
        plan_of(dropped, INTO)


def test_what_was_begun_can_only_be_gone_on_with_so_that_no_other_way_is_open() -> None:
    refilled = plan_of(inspected(notes(metadata={MARK: REFILL})), RECREATE)
    assert (refilled.strategy, refilled.ways) == ("rebuild", ())
    assert "run run-1 took the vector field out and did not finish; this run does" in refilled.hazards


@pytest.mark.parametrize(("length", "said"), [(8, "this run goes on from there"), (4, "which removes it")])
def test_a_shadow_that_a_dead_run_left_is_of_use_to_the_same_migration_alone(length: int, said: str) -> None:
    found = plan_of(inspected(notes(), shadow("building"), dimensions=length), MigrationOptions())
    assert found.hazards[0].startswith("run run-1 left a shadow behind (building); ")
    assert found.hazards[0].endswith(said)


def test_while_one_collection_stands_in_another_s_place_only_the_run_that_put_it_there_goes_on() -> None:
    waiting = notes(name="notes__2", metadata={MARK: asdict(replace(SHADOW, phase="waiting"))})
    found = plan_of(inspected(notes(), waiting), MigrationOptions())
    assert (found.strategy, found.is_swapped, found.successor, found.ways) == ("alias", True, "notes__2", ())
    assert refusal(INTO, notes(), waiting).startswith("--into: collection 'notes__2' took the place of 'notes'")
