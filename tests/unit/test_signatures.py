"""What a collection's metadata says of the models of its vector fields, one signature a field."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kai.typesense_schemas import handed_on, serving_field, signature_of, signed

NAMES = ("one", "two", "three")


def schema_of(embedding: Any, *fields: str) -> dict[str, Any]:
    """A collection with these vector fields, whose metadata says this."""
    metadata = {"embedding": embedding} if embedding is not None else None
    return {
        "name": "notes",
        "metadata": metadata,
        "fields": [{"name": name, "type": "float[]", "num_dim": 4} for name in fields],
    }


def signature(model: str, **more: Any) -> dict[str, Any]:
    """As a run writes it."""
    return {"family": "openai", "model": model, "fingerprint": model, **more}


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.booleans(), st.integers()), max_size=8))
def test_each_field_says_what_was_said_of_it_last(steps: list[tuple[str, bool, int]]) -> None:
    schema = schema_of({"owner": "others"}, *NAMES)
    last: dict[str, dict[str, Any]] = {}
    for name, is_kept, number in steps:
        said = signature(f"m{number}", field=name) if is_kept else None
        schema["metadata"]["embedding"] = signed(schema, name, said)
        last[name] = said or {}
        found = {each: signature_of(schema, each) for each in last}
        assert {each: {k: v for k, v in f.items() if k != "owner"} for each, f in found.items()} == last
        assert schema["metadata"]["embedding"]["owner"] == "others"


def test_what_an_older_version_has_written_is_of_the_field_that_serves() -> None:
    schema = schema_of(signature("old"), "one")
    assert signature_of(schema, "one")["model"] == "old"
    schema = schema_of(signed(schema, "two", signature("new", field="two"), beside=True), "one", "two")
    assert signature_of(schema, "one")["model"] == "old"
    assert signature_of(schema, "two")["model"] == "new"


def test_a_field_that_took_anothers_place_is_found_by_every_name_that_it_had() -> None:
    schema = schema_of(signature("first") | {"owner": "others"}, "one")
    for before, after in (("one", "two"), ("two", "three")):
        schema = schema_of(signed(schema, after, signature(after, field=after), beside=True), before, after)
        schema = schema_of(handed_on(schema, before, after), after)
        assert signature_of(schema, after)["model"] == after
        assert signature_of(schema)["owner"] == "others"
    assert [serving_field(schema, name) for name in (*NAMES, "four")] == ["three", "three", "three", "four"]


def test_going_back_and_forth_leaves_no_name_behind() -> None:
    schema = schema_of(signature("first"), "one")
    schema = schema_of(signed(schema, "two", signature("second", field="two"), beside=True), "one", "two")
    schema = schema_of(handed_on(schema, "one", "two"), "two")
    schema = schema_of(signed(schema, "one", signature("first", field="one"), beside=True), "two", "one")
    schema = schema_of(handed_on(schema, "two", "one"), "one")
    assert signature_of(schema, "one")["model"] == "first"
    assert serving_field(schema, "two") == "one"
    assert "fields" not in schema["metadata"]["embedding"]


def test_what_is_not_ours_is_nothing() -> None:
    for foreign in ("words", ["a"], {"fields": ["a"]}, {"fields": {"one": "x"}}):
        assert signature_of(schema_of(foreign, "one"), "one") == {}
