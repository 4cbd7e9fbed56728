"""Searching: paging, sorting, projection, vectors, hybrid ranking."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from kai.sandbox.store import VERSIONS
from tests.sandbox.conftest import export_documents, found_ids, import_documents

Json = dict[str, Any]

components = st.integers(-5, 5).map(float)


def search(client: TestClient, **params: Any) -> Json:
    sent = {"collection": "questions", "q": "*", **params}
    answer: Json = client.post("/multi_search", json={"searches": [sent]}).json()["results"][0]
    return answer


def ids(answer: Json) -> list[str]:
    return [hit["document"]["id"] for hit in answer["hits"]]


@pytest.fixture
def ten(questions: TestClient) -> TestClient:
    documents = [{"id": str(n), "rank": n % 3, "embedding": [1, n, 0, 0]} for n in range(10)]
    import_documents(questions, "questions", [*documents, {"id": "none"}])
    return questions


def test_pages_hold_every_document_once_newest_first(ten: TestClient) -> None:
    pages = [ids(search(ten, per_page=4, page=page)) for page in (1, 2, 3, 4)]
    assert pages == [["none", "9", "8", "7"], ["6", "5", "4", "3"], ["2", "1", "0"], []]


def test_sorting_puts_missing_values_last_either_way(ten: TestClient) -> None:
    assert found_ids(ten, "questions", sort_by="rank:asc", per_page="250")[:4] == ["9", "6", "3", "0"]
    assert found_ids(ten, "questions", sort_by="rank:desc", per_page="250")[:3] == ["8", "5", "2"]
    for direction in ("asc", "desc"):
        assert found_ids(ten, "questions", sort_by=f"rank:{direction}", per_page="250")[-1] == "none"


def test_the_default_sorting_field_orders_a_search(sandbox: TestClient) -> None:
    fields = [{"name": "rank", "type": "int32"}]
    sandbox.post("/collections", json={"name": "sorted", "fields": fields, "default_sorting_field": "rank"})
    import_documents(sandbox, "sorted", [{"id": "a", "rank": 2}, {"id": "b", "rank": 3}, {"id": "c", "rank": 1}])
    assert found_ids(sandbox, "sorted") == ["b", "a", "c"]


@pytest.mark.parametrize(
    ("params", "shown"),
    [
        ({"include_fields": "id,m.a"}, {"id": "1", "m": {"a": 1}}),
        ({"include_fields": "m"}, {"m": {"a": 1, "b": 2}}),
        ({"include_fields": "m*"}, {"m": {"a": 1, "b": 2}}),
        ({"exclude_fields": "m.a,embedding"}, {"id": "1", "m": {"b": 2}}),
        ({"include_fields": "id,embedding", "exclude_fields": "id"}, {"embedding": [1, 2, 3, 4]}),
    ],
)
def test_only_the_asked_for_part_of_a_document_is_shown(
    questions: TestClient, params: dict[str, str], shown: Json
) -> None:
    import_documents(questions, "questions", [{"id": "1", "embedding": [1, 2, 3, 4], "m": {"a": 1, "b": 2}}])
    assert export_documents(questions, "questions", **params) == [shown]
    assert [hit["document"] for hit in search(questions, **params)["hits"]] == [shown]


@pytest.mark.parametrize("version", VERSIONS[-1:])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    stored=st.lists(st.lists(components, min_size=4, max_size=4).filter(any), min_size=1, max_size=12),
    query=st.lists(components, min_size=4, max_size=4).filter(any),
    k=st.integers(1, 5),
)
def test_the_nearest_vectors_are_found(
    questions: TestClient, stored: list[list[float]], query: list[float], k: int
) -> None:
    questions.delete("/collections/questions/documents", params={"truncate": "true"})
    documents = [{"id": str(number), "embedding": vector} for number, vector in enumerate(stored)]
    import_documents(questions, "questions", documents)

    answer = search(questions, vector_query=f"embedding:({query}, k:{k})")

    def cosine_distance(vector: list[float]) -> float:
        return 1 - sum(a * b for a, b in zip(vector, query, strict=True)) / (math.hypot(*vector) * math.hypot(*query))

    expected = sorted(cosine_distance(vector) for vector in stored)[:k]
    found = [hit["vector_distance"] for hit in answer["hits"]]
    assert found == pytest.approx(expected, abs=1e-5)
    for hit in answer["hits"]:
        assert hit["vector_distance"] == pytest.approx(cosine_distance(hit["document"]["embedding"]), abs=1e-5)


def test_vector_search_sees_every_change(ten: TestClient) -> None:
    nearest = {"vector_query": "embedding:([0,0,0,1], k:1)"}
    assert search(ten, **nearest)["hits"][0]["vector_distance"] == 1

    import_documents(ten, "questions", [{"id": "4", "embedding": [0, 0, 0, 2]}], "update")
    assert ids(search(ten, **nearest)) == ["4"]
    ten.delete("/collections/questions/documents/4")
    assert ids(search(ten, **nearest)) != ["4"]
    import_documents(ten, "questions", [{"id": "new", "embedding": [0, 0, 0, 3]}])
    assert ids(search(ten, **nearest)) == ["new"]
    import_documents(ten, "questions", [{"id": "new", "embedding": None}], "update")
    assert ids(search(ten, **nearest)) != ["new"]


def test_a_vector_search_keeps_to_its_filter_and_its_threshold(ten: TestClient) -> None:
    near_zero = "embedding:([1,0,0,0], k:10, distance_threshold:0.5)"
    assert ids(search(ten, vector_query=near_zero)) == ["0", "1"]
    assert ids(search(ten, vector_query=near_zero, filter_by="rank:=1")) == ["1"]


def test_a_document_can_stand_for_a_query_vector(ten: TestClient) -> None:
    assert ids(search(ten, vector_query="embedding:([], id: 5, k:2)")) == ["6", "4"]


def test_inner_product_is_not_normalized(sandbox: TestClient) -> None:
    fields = [{"name": "v", "type": "float[]", "num_dim": 2, "vec_dist": "ip"}]
    sandbox.post("/collections", json={"name": "ip", "fields": fields})
    import_documents(sandbox, "ip", [{"id": "long", "v": [3, 3]}, {"id": "exact", "v": [1, 0]}])

    answer = search(sandbox, collection="ip", vector_query="v:([1,0], k:2)")

    assert [(hit["document"]["id"], hit["vector_distance"]) for hit in answer["hits"]] == [("long", -2), ("exact", 0)]


@pytest.mark.parametrize(
    "vector_query", ["embedding", "embedding:(1,2)", "embedding:([a,b,c,d])", "embedding:([1], k:x)"]
)
def test_malformed_vector_queries_are_refused(ten: TestClient, vector_query: str) -> None:
    assert search(ten, vector_query=vector_query) == {"code": 400, "error": "Malformed vector query string."}


def test_words_are_dropped_until_something_is_found(questions: TestClient) -> None:
    texts = {"a": "red apple pie", "b": "green apple", "c": "blue plum"}
    import_documents(questions, "questions", [{"id": key, "text": text} for key, text in texts.items()])

    def found(text: str) -> list[str]:
        return ids(search(questions, q=text, query_by="text"))

    assert found("apple") == ["b", "a"]
    assert found("apple red") == ["a"]
    assert found("app") == ["b", "a"]
    assert found("plum unknown") == ["c"]
    assert found("unknown") == []
