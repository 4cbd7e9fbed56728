"""A document's stored vector: the server's JSON as float32, whatever stands there."""

from __future__ import annotations

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kai.typesense import TypesenseError
from migration.documents.fetch import Document, Selection, _document

numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
)


def document(value: object) -> Document:
    return Document("d1", {"id": "d1"}, orjson.dumps(value))


@given(st.lists(numbers, max_size=20))
def test_numbers_become_float32_as_numpy_rounds_them_and_too_large_ones_infinite(given_numbers: list[float]) -> None:
    with np.errstate(over="ignore"):
        expected = np.array(given_numbers, np.float64).astype(np.float32).tobytes()
    assert document(given_numbers).vector_bytes() == expected
    assert list(document(given_numbers).vector or ()) == given_numbers


@given(values)
def test_whatever_stands_where_a_vector_should_be_stops_nothing(value: object) -> None:
    stored = document(value).vector_bytes()
    assert stored is None or isinstance(value, list)


@pytest.mark.parametrize("value", [["a"], [0.5, None], "text", {"a": 1}, 7])
def test_what_is_no_list_of_numbers_counts_as_no_vector_and_cannot_be_read_as_one(value: object) -> None:
    assert document(value).vector_bytes() is None
    with pytest.raises(TypesenseError, match="'d1' is not a list of numbers"):
        _ = document(value).vector


@given(values)
def test_whatever_a_search_finds_where_a_vector_should_be_is_read_as_a_document(value: object) -> None:
    stored = _document({"id": "d1", "v": value}, Selection("v")).vector_bytes()
    assert stored is None or isinstance(value, list)
