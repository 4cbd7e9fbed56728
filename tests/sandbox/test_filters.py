"""`filter_by`: parsing against its own printed form, evaluation against a naive reading of the tree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kai.sandbox.collection import Collection
from kai.sandbox.errors import ApiError
from kai.sandbox.filters import And, Condition, Filter, Join, Or, parse_filter
from kai.sandbox.matching import matching_documents
from kai.sandbox.store import Store
from kai.sandbox.writes import Writer

Json = dict[str, Any]

WORDS = ["red", "green", "a b", "x&&y", "(z)", "1,2", "c:d", "$e", "[f]", "", "true"]
OPERATORS_OF: dict[str, list[str]] = {
    "id": ["", "=", "!="],
    "name": ["=", "!="],
    "rank": ["", "=", "!=", ">", ">=", "<", "<="],
    "price": ["", "=", "!=", ">", ">=", "<", "<="],
    "flag": ["", "=", "!="],
    "tags": ["=", "!="],
}

words = st.sampled_from([word for word in WORDS if word])
numbers = st.integers(-3, 3)
prices = st.sampled_from([-1.5, 0.0, 0.5, 2.0])


def texts_of(field: str) -> st.SearchStrategy[str]:
    """Values as they stand in a filter, without backticks."""
    if field == "rank":
        return numbers.map(str)
    if field == "price":
        return prices.map(str)
    if field == "flag":
        return st.sampled_from(["true", "false"])
    return st.sampled_from(["1", "2", "3", "9"]) if field == "id" else words


@st.composite
def conditions(draw: st.DrawFn) -> Condition:
    field = draw(st.sampled_from(sorted(OPERATORS_OF)))
    operator = draw(st.sampled_from(OPERATORS_OF[field]))
    values = draw(st.lists(texts_of(field), min_size=1, max_size=3))
    return Condition(field, operator, tuple(values))


def combined(parts: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
    several = st.lists(parts, min_size=2, max_size=3).map(tuple)
    return several.map(And) | several.map(Or)


trees: st.SearchStrategy[Filter] = st.recursive(conditions(), combined, max_leaves=8)

documents = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "name": words,
            "rank": numbers,
            "price": prices,
            "flag": st.booleans(),
            "tags": st.lists(words, max_size=3),
        },
    ),
    max_size=5,
)


def printed(tree: Filter) -> str:
    """The tree as `filter_by` text, every value in backticks."""
    if isinstance(tree, Condition):
        values = [f"`{value}`" for value in tree.values]
        value = values[0] if len(values) == 1 else f"[{', '.join(values)}]"
        return f"{tree.field}:{tree.operator} {value}"
    if isinstance(tree, Join):
        return f"${tree.collection}({printed(tree.filter)})"
    sign = " && " if isinstance(tree, And) else "||"
    return sign.join(f"({printed(part)})" for part in tree.parts)


def holds(tree: Filter, document: Json) -> bool:
    """What the tree says of one document, read literally."""
    if isinstance(tree, And):
        return all(holds(part, document) for part in tree.parts)
    if isinstance(tree, Or):
        return any(holds(part, document) for part in tree.parts)
    assert isinstance(tree, Condition)
    if tree.operator == "!=":
        return not holds(Condition(tree.field, "=", tree.values), document)
    value = document.get(tree.field)
    present = value if isinstance(value, list) else [] if value is None else [value]
    return any(compares(tree.operator, element, text) for element in present for text in tree.values)


def compares(operator: str, value: Any, text: str) -> bool:
    if isinstance(value, bool):
        return value == (text == "true")
    if isinstance(value, str):
        return value == text
    number = float(text)
    outcomes: dict[str, bool] = {
        "": value == number,
        "=": value == number,
        ">": value > number,
        ">=": value >= number,
        "<": value < number,
        "<=": value <= number,
    }
    return outcomes[operator]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder: Path = tmp_path_factory.mktemp("filters")
    return Store(folder)


def filled(store: Store, contents: list[Json]) -> Collection:
    if "things" in store.collections:
        store.drop_collection("things")
    kinds = {"name": "string", "rank": "int32", "price": "float", "flag": "bool", "tags": "string[]"}
    collection = store.create_collection(
        {
            "name": "things",
            "fields": [{"name": name, "type": kind, "optional": True} for name, kind in kinds.items()],
        }
    )
    writer = Writer(store, collection, "create")
    for number, document in enumerate(contents, start=1):
        writer.write_attributes({"id": str(number), **document})
    return collection


@settings(deadline=None)
@given(tree=trees)
def test_a_printed_filter_is_parsed_to_the_tree_it_came_from(tree: Filter) -> None:
    assert parse_filter(printed(tree)) == tree


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(tree=trees, contents=documents)
def test_a_filter_finds_the_documents_of_which_it_holds(store: Store, tree: Filter, contents: list[Json]) -> None:
    collection = filled(store, contents)

    found = [item.id for item in matching_documents(store, collection, printed(tree))]

    expected = [
        str(number) for number, document in enumerate(contents, start=1) if holds(tree, {"id": str(number), **document})
    ]
    assert found == expected


@settings(deadline=None)
@given(text=st.text(alphabet="ab:=!<>&|()[]`$, 1.", max_size=20))
def test_any_text_is_parsed_or_refused_with_400(text: str) -> None:
    try:
        parse_filter(text)
    except ApiError as error:
        assert error.status == 400


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a:=b", Condition("a", "=", ("b",))),
        ("a: b c ", Condition("a", "", ("b c",))),
        ("a:!=b", Condition("a", "!=", ("b",))),
        ("a:>= 3", Condition("a", ">=", ("3",))),
        ("a:[1, 2]", Condition("a", "", ("1", "2"))),
        ("a:=[`x,y`,z]", Condition("a", "=", ("x,y", "z"))),
        ("a:=`p && q`", Condition("a", "=", ("p && q",))),
        ("m.n:1", Condition("m.n", "", ("1",))),
        (
            "a:1 || b:2 && c:3",
            Or(
                (Condition("a", "", ("1",)), And((Condition("b", "", ("2",)), Condition("c", "", ("3",))))),
            ),
        ),
        ("a:1&&b:2", And((Condition("a", "", ("1",)), Condition("b", "", ("2",))))),
        ("$c(a:=1)", Join("c", Condition("a", "=", ("1",)))),
    ],
)
def test_the_forms_that_occur_are_parsed(text: str, tree: Filter) -> None:
    assert parse_filter(text) == tree


@pytest.mark.parametrize("text", ["a", "a:1 &&", "(a:1", "a:1)", "&& a:1", "a:[1", "a:=`x", "$c(a:1", "a b:1"])
def test_malformed_filters_are_refused(text: str) -> None:
    with pytest.raises(ApiError, match="Could not parse the filter query"):
        parse_filter(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rank:=x", "Error with filter field `rank`: Not an int32."),
        ("price:>x", "Error with filter field `price`: Not a float."),
        ("flag:=1", "Value of filter field `flag`: must be `true` or `false`."),
        ("other:=1", "Could not find a filter field named `other` in the schema."),
        ("rank:", "Error with filter field `rank`: Filter value cannot be empty."),
    ],
)
def test_values_that_do_not_fit_the_field_are_refused(store: Store, text: str, message: str) -> None:
    collection = filled(store, [])
    with pytest.raises(ApiError) as refused:
        matching_documents(store, collection, text)
    assert (refused.value.status, refused.value.message) == (400, message)


def test_ranges_prefixes_and_loose_matches_are_understood(store: Store) -> None:
    collection = filled(store, [{"name": "Red Apple", "rank": 1}, {"name": "Green apple", "rank": 5}])

    def ids(text: str) -> list[str]:
        return [item.id for item in matching_documents(store, collection, text)]

    assert ids("rank:1..4") == ["1"]
    assert ids("rank:[0..1, 5]") == ["1", "2"]
    assert ids("name:apple") == ["1", "2"]
    assert ids("name:apple red") == ["1"]
    assert ids("name:=Red Apple") == ["1"]
    assert ids("name:app*") == ["1", "2"]
    assert ids("name:=Red*") == ["1"]
    assert ids("name:!red") == ["2"]
    assert ids("id:*") == ["1", "2"]
