"""Documents read with their vectors left as text are the documents that reading everything gives."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kai.raw_vectors import read_line, read_search
from kai.typesense import TypesenseError
from migration.documents.fetch import Document

FIELD = "embedding"

names = st.one_of(st.just(FIELD), st.just(f'"{FIELD}":[1,2]'), st.just(f'\\"{FIELD}'), st.text(max_size=8))
numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.integers(-(2**63), 2**64 - 1),
    st.sampled_from([0.0, -0.0, 1e-45, 1e-5, 3.4e38, 1e300, -1e-300]),
)
vectors = st.lists(numbers, max_size=6)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    numbers,
    st.text(),
    st.sampled_from([f'"{FIELD}":[1,2]', f'{{"{FIELD}":[1,2]}}', f'\\"{FIELD}\\":[1]', "]", "[", '"', "\\"]),
)
values = st.recursive(
    st.one_of(scalars, vectors),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=8,
)
embeddings = st.one_of(
    vectors, st.none(), st.lists(vectors, max_size=2), st.lists(scalars, max_size=3), values, st.just([None])
)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    found = draw(st.dictionaries(names, values, max_size=4))
    if draw(st.booleans()):
        found[FIELD] = draw(embeddings)
    return dict(draw(st.permutations(list(found.items()))))


def written(value: Any, *, spaced: bool) -> bytes:
    """JSON in the server's compact form, or in one that it does not use."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 if spaced else 0)


def in_full(document: dict[str, Any]) -> dict[str, Any]:
    """The document with its embedding as numbers, as bytes that tell -0.0 from 0.0 and 1 from 1.0."""
    plain = dict(document)
    if isinstance(plain.get(FIELD), bytes):
        plain[FIELD] = orjson.loads(plain[FIELD])
    return {name: repr(value) for name, value in plain.items()}


@given(documents(), st.booleans())
@example({"text": f'","{FIELD}":[1,2],"x":"', FIELD: [0.5]}, False)
@example({"nested": {FIELD: [1.0]}, FIELD: [0.5]}, False)
@example({"nested": {FIELD: [1.0]}}, False)
@example({"nested": [{FIELD: [1.0]}, {FIELD: [2.0]}], FIELD: None}, False)
@example({FIELD: [[1.0], [2.0]]}, False)
@example({FIELD: ["]", "["]}, False)
@example({FIELD: []}, False)
def test_a_line_reads_as_in_full(document: dict[str, Any], spaced: bool) -> None:
    line = written(document, spaced=spaced)
    assert in_full(read_line(line, FIELD)) == in_full(orjson.loads(line))


@given(st.lists(documents(), max_size=4), st.booleans(), values)
def test_a_search_reads_as_in_full(found: list[dict[str, Any]], several: bool, beside: Any) -> None:
    answer: Any = {"found": len(found), "hits": [{"document": document, "highlight": beside} for document in found]}
    body = written({"results": [answer, {"code": 404, "error": "x"}]} if several else answer, spaced=False)
    read = read_search(body, FIELD)
    read = read["results"][0] if several else read
    expected = orjson.loads(body)
    expected = expected["results"][0] if several else expected
    assert [in_full(hit.pop("document")) for hit in read["hits"]] == [
        in_full(hit.pop("document")) for hit in expected["hits"]
    ]
    assert repr(read) == repr(expected)


@given(st.text(min_size=1, max_size=6).filter(lambda name: name != "id"), vectors.filter(bool))
def test_any_field_name(name: str, vector: list[float]) -> None:
    line = orjson.dumps({"id": "1", name: vector})
    assert read_line(line, name)[name] in (orjson.dumps(vector), orjson.loads(orjson.dumps(vector)))


def test_the_usual_line_is_cut_and_the_text_is_the_servers() -> None:
    line = b'{"a":{"b":"]"},"embedding":[0.1,-1.50,1E-7,-0.0],"id":"1"}'
    assert read_line(line, FIELD) == {"a": {"b": "]"}, "embedding": b"[0.1,-1.50,1E-7,-0.0]", "id": "1"}


def test_the_same_key_twice_is_left_to_the_parser() -> None:
    assert read_line(b'{"embedding":[1.5],"embedding":[2.5]}', FIELD) == {"embedding": [2.5]}
    assert read_line(b'{"embedding":[1.5],"embedding":null}', FIELD) == {"embedding": None}


@pytest.mark.parametrize(
    "line", [b'{"id":"1","embedding":[0.1,0.', b'{"id":"1","embedding":[0.1]', b'{"embedding":[0.1]}}', b"", b"{"]
)
def test_what_is_no_json_is_refused(line: bytes) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        read_line(line, FIELD)
    with pytest.raises(orjson.JSONDecodeError):
        read_search(line, FIELD)


@pytest.mark.parametrize("line", [b"[]", b'["embedding:",[1]]', b'"x"', b"1", b"null"])
def test_what_is_no_object_is_refused(line: bytes) -> None:
    with pytest.raises(TypeError):
        read_line(line, FIELD)


@pytest.mark.parametrize("answer", [[], None, 1, {}, {"hits": None}, {"hits": [1]}, {"results": 1}, {"hits": [{}]}])
def test_an_answer_of_another_form_comes_as_it_is(answer: Any) -> None:
    assert read_search(orjson.dumps(answer), FIELD) == answer
    odd = {FIELD: [1.5], "answer": answer}
    assert read_search(orjson.dumps(odd), FIELD) == odd


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_a_documents_vector_is_the_servers_numbers(vector: list[float]) -> None:
    document = Document("1", {}, orjson.dumps(vector))
    assert document.vector is not None
    assert document.vector.tolist() == vector
    assert document.vector_bytes() == struct.pack(f"={len(vector)}f", *vector)


@given(st.lists(st.floats(-3e38, 3e38), min_size=1))
def test_float32_is_rounded_as_numpy_rounds(vector: list[float]) -> None:
    assert Document("1", {}, orjson.dumps(vector)).vector_bytes() == np.array(vector).astype(np.float32).tobytes()


def test_a_vector_that_cannot_be_read_is_the_servers_fault() -> None:
    document = Document("1", {}, b"[1..2]")
    with pytest.raises(TypesenseError, match="'1'"):
        document.vector_bytes()
