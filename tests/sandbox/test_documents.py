"""Documents: how they are stored, checked, coerced, merged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from kai.sandbox.document import Document, raw_array
from kai.sandbox.store import Store
from tests.sandbox.conftest import export_documents, import_documents

Json = dict[str, Any]

keys = st.sampled_from(["a", "b", "vector", "vectors", "w", "z", 'quo"te', "é"])
values = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
vectors = st.lists(st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False), max_size=5)
layouts = st.lists(keys, unique=True, max_size=3).map(lambda names: tuple(sorted(names)))


def create(client: TestClient, *fields: Json, **more: Any) -> None:
    response = client.post("/collections", json={"name": "things", "fields": list(fields), **more})
    assert response.status_code == 201, response.text


@settings(deadline=None)
@given(attributes=st.dictionaries(keys, values), slots=st.dictionaries(keys, vectors), layout=layouts, later=layouts)
def test_a_document_shows_its_attributes_sorted_wherever_its_slots_are(
    attributes: Json, slots: dict[str, list[float]], layout: tuple[str, ...], later: tuple[str, ...]
) -> None:
    inside = {name: orjson.dumps(value) for name, value in slots.items() if name in layout}
    outside = {name: value for name, value in attributes.items() if name not in layout} | {"id": "x"}

    document = Document.build(0, outside, inside, layout, None)

    expected = outside | {name: slots[name] for name in inside}
    assert document.to_json() == orjson.dumps(expected, option=orjson.OPT_SORT_KEYS)
    lists_only = all(isinstance(outside.get(name, []), list) for name in later)
    if lists_only:
        assert document.with_layout(later).to_json() == document.to_json()


@settings(deadline=None)
@given(attributes=st.dictionaries(keys, values), vector=vectors, spaced=st.booleans(), name=keys)
def test_a_vector_is_cut_out_of_a_line_as_the_value_that_it_was(
    attributes: Json, vector: list[float], spaced: bool, name: str
) -> None:
    sent = attributes | {name: vector}
    line = json.dumps(sent, separators=None if spaced else (",", ":"), ensure_ascii=spaced).encode()

    raw = raw_array(line, name, vector)

    assert orjson.loads(raw) == vector
    assert b" " not in raw


def test_numbers_come_back_as_they_were_sent(questions: TestClient) -> None:
    line = '{"id": "1", "embedding": [1, -0.0, 1e-09, 0.020035515], "n": 1, "f": 1.0}'
    questions.post("/collections/questions/documents/import", content=line)

    exported = questions.get("/collections/questions/documents/export").text

    assert exported == '{"embedding":[1,-0.0,1e-09,0.020035515],"f":1.0,"id":"1","n":1}'


def test_an_update_merges_objects_and_null_removes(sandbox: TestClient) -> None:
    create(sandbox, {"name": "m", "type": "object", "optional": True}, enable_nested_fields=True)
    import_documents(sandbox, "things", [{"id": "1", "m": {"a": 1, "b": {"c": 2}}, "extra": 3}])

    changed: Json = {"id": "1", "m": {"b": {"d": 4}, "a": None}, "extra": None}
    import_documents(sandbox, "things", [changed], "update")

    assert export_documents(sandbox, "things") == [{"id": "1", "m": {"b": {"c": 2, "d": 4}}}]


def test_an_update_by_filter_changes_what_it_finds(questions: TestClient) -> None:
    import_documents(questions, "questions", [{"id": str(number), "rank": number} for number in range(4)])

    answer = questions.patch("/collections/questions/documents", params={"filter_by": "rank:>1"}, json={"text": "high"})

    assert answer.json() == {"num_updated": 2}
    assert [item.get("text") for item in export_documents(questions, "questions")] == [None, None, "high", "high"]


def test_a_document_without_an_id_is_given_its_number(questions: TestClient) -> None:
    answers = import_documents(questions, "questions", [{"text": "a"}, {"text": "b"}], return_id="true")
    assert [answer["id"] for answer in answers] == ["0", "1"]

    import_documents(questions, "questions", [{"id": "3", "text": "by hand"}])
    assert import_documents(questions, "questions", [{"text": "c"}], return_id="true")[0]["id"] == "4"
    assert len(export_documents(questions, "questions")) == 4


def test_values_that_are_not_stored_are_not_returned(sandbox: TestClient) -> None:
    create(sandbox, {"name": "secret", "type": "string", "store": False}, {"name": "kept", "type": "string"})
    import_documents(sandbox, "things", [{"id": "1", "secret": "s", "kept": "k"}])

    assert export_documents(sandbox, "things") == [{"id": "1", "kept": "k"}]


def test_nested_attributes_become_fields_that_can_be_searched(sandbox: TestClient) -> None:
    create(sandbox, {"name": "columns", "type": "object[]"}, enable_nested_fields=True)
    columns = [{"name": "id", "primary": True}, {"name": "price", "size": 8}]
    import_documents(sandbox, "things", [{"id": "1", "columns": columns}])

    shown = sandbox.get("/collections/things").json()["fields"]

    types = {field["name"]: field["type"] for field in shown}
    assert types == {
        "columns": "object[]",
        "columns.name": "string[]",
        "columns.primary": "bool[]",
        "columns.size": "int64[]",
    }
    found = sandbox.get("/collections/things/documents/search", params={"q": "*", "filter_by": "columns.name:=price"})
    assert found.json()["found"] == 1


def test_a_pattern_makes_fields_of_unknown_attributes(sandbox: TestClient) -> None:
    create(sandbox, {"name": ".*", "type": "auto"})
    import_documents(sandbox, "things", [{"id": "1", "n": 1, "f": 0.5, "s": "x", "v": [0.5], "l": ["a"]}])

    types = {field["name"]: field["type"] for field in sandbox.get("/collections/things").json()["fields"]}

    assert types == {".*": "auto", "n": "int64", "f": "float", "s": "string", "v": "float[]", "l": "string[]"}


@pytest.mark.parametrize(
    ("dirty_values", "sent", "stored"),
    [
        ("coerce_or_reject", "7", 7),
        ("coerce_or_reject", "x", "Field `rank` must be an int32."),
        ("coerce_or_drop", "x", None),
        ("coerce_or_drop", 2.5, 2),
        ("drop", "7", None),
        ("reject", "7", "Field `rank` must be an int32."),
        ("reject", 2**31, "Field `rank` must be an int32."),
        ("reject", True, "Field `rank` must be an int32."),
    ],
)
def test_dirty_values_are_treated_as_asked(questions: TestClient, dirty_values: str, sent: Any, stored: Any) -> None:
    documents: list[Json] = [{"id": "1", "rank": sent}]

    answer = import_documents(questions, "questions", documents, dirty_values=dirty_values)[0]

    if isinstance(stored, str):
        assert answer == {"code": 400, "error": stored, "success": False}
    else:
        assert answer == {"success": True}
        assert export_documents(questions, "questions")[0].get("rank") == stored


def test_a_failed_line_changes_nothing(questions: TestClient) -> None:
    import_documents(questions, "questions", [{"id": "1", "text": "a", "rank": 1, "embedding": [1, 2, 3, 4]}])
    wrong: list[Json] = [
        {"id": "1", "text": "b", "rank": "x"},
        {"id": "1", "text": "b", "embedding": [1, 2]},
        {"id": "1", "text": "b", "db_id": "nobody"},
    ]

    answers = import_documents(questions, "questions", wrong, "update")

    assert [answer["success"] for answer in answers] == [False, False, False]
    assert export_documents(questions, "questions") == [{"id": "1", "text": "a", "rank": 1, "embedding": [1, 2, 3, 4]}]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("[]", "Bad JSON: not a proper document."),
        ('{"id": 1}', "Document's `id` field should be a string."),
        ('{"id": ""}', "The `id` should not be empty."),
        ('{"id": "1", "embedding": [1, 2, 3, true]}', "Field `embedding` must be a array of float."),
    ],
)
def test_lines_that_are_no_documents_are_refused(questions: TestClient, line: str, error: str) -> None:
    response = questions.post("/collections/questions/documents/import", content=line)
    assert response.json() == {"code": 400, "error": error, "success": False}


def test_ids_may_hold_any_character(questions: TestClient) -> None:
    for document_id in ("a/b", "a b", "ü", "50%", "x?y#z"):
        import_documents(questions, "questions", [{"id": document_id, "text": document_id}])
        path = f"/collections/questions/documents/{json.dumps(document_id)[1:-1]}"
        quoted = path.replace("%", "%25").replace("?", "%3F").replace("#", "%23").replace("\\u00fc", "ü")
        assert questions.get(quoted).json()["text"] == document_id


def test_while_writes_are_skipped_everything_is_read_and_nothing_written(questions: TestClient, tmp_path: Path) -> None:
    import_documents(questions, "questions", [{"id": "1"}])

    assert questions.post("/config", json={"skip-writes": True}).status_code == 201

    documents = "/collections/questions/documents"
    refused = [
        questions.post(f"{documents}/import", content=b'{"id":"2"}'),
        questions.patch(f"{documents}/1", json={"rank": 2}),
        questions.delete(documents, params={"filter_by": "id:=1"}),
        questions.patch("/collections/questions", json={"metadata": {}}),
        questions.delete("/collections/questions"),
        questions.post("/collections", params={"src_name": "questions"}, json={"name": "copy"}),
        questions.put("/aliases/live", json={"collection_name": "questions"}),
    ]
    assert {(answer.status_code, answer.json()["message"]) for answer in refused} == {(422, "Skipping writes.")}
    assert export_documents(questions, "questions") == [{"id": "1"}]
    searches = {"searches": [{"collection": "questions", "q": "*"}]}
    assert questions.post("/multi_search", json=searches).json()["results"][0]["found"] == 1
    snapshot = {"snapshot_path": str(tmp_path / "snapshot")}
    assert questions.post("/operations/snapshot", params=snapshot).status_code == 201
    assert not Store(tmp_path / "data").skip_writes

    questions.post("/config", json={"skip-writes": False})
    assert import_documents(questions, "questions", [{"id": "2"}]) == [{"success": True}]
