"""Synonym and curation sets, from version 30 on; what a collection had of its own before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from kai.sandbox.app import create_app
from tests.sandbox.conftest import ADMIN_KEY, QUESTIONS, export_documents, found_ids, import_documents

Json = dict[str, Any]

only_30 = pytest.mark.parametrize("version", [30])
HEADERS = {"x-typesense-api-key": ADMIN_KEY}
HIDE_1: Json = {"rule": {"query": "*", "match": "exact"}, "excludes": [{"id": "1"}]}
SAME: Json = {"synonyms": ["blazer", "coat"]}


def schema(client: TestClient, name: str) -> Json:
    answer: Json = client.get(f"/collections/{name}").json()
    return answer


def add_coats(client: TestClient) -> None:
    import_documents(client, "questions", [{"id": "1", "text": "red coat"}, {"id": "2", "text": "blue hat"}])


@only_30
def test_a_set_may_be_shared_and_outlives_the_collections_that_name_it(questions: TestClient) -> None:
    questions.put("/curation_sets/shared", json={"items": [HIDE_1 | {"id": "hide"}]})
    for name in ("questions", "database_connections"):
        assert questions.patch(f"/collections/{name}", json={"curation_sets": ["shared"]}).status_code == 200
    add_coats(questions)
    assert found_ids(questions, "questions") == ["2"]
    assert found_ids(questions, "questions", enable_overrides="false") == ["2"]
    assert found_ids(questions, "questions", enable_curations="false") == ["2", "1"]

    questions.delete("/collections/questions")

    assert schema(questions, "database_connections")["curation_sets"] == ["shared"]
    assert [item["name"] for item in questions.get("/curation_sets").json()] == ["shared"]


@only_30
def test_a_set_that_is_gone_fails_keyword_searches_and_no_others(questions: TestClient) -> None:
    questions.put("/synonym_sets/words", json={"items": [SAME | {"id": "coat"}]})
    questions.patch("/collections/questions", json={"synonym_sets": ["words"]})
    add_coats(questions)
    assert found_ids(questions, "questions", q="blazer", query_by="text") == ["1"]

    questions.delete("/synonym_sets/words")

    searched = {"q": "blazer", "query_by": "text"}
    answer = questions.get("/collections/questions/documents/search", params=searched)
    assert (answer.status_code, answer.json()) == (404, {"message": "Synonym index not found"})
    assert found_ids(questions, "questions") == ["2", "1"]
    assert len(export_documents(questions, "questions")) == 2


@pytest.mark.parametrize("version", [29])
def test_up_to_29_there_are_no_sets_and_a_clone_copies_no_documents(questions: TestClient) -> None:
    add_coats(questions)
    questions.put("/collections/questions/overrides/hide", json=HIDE_1)
    assert found_ids(questions, "questions") == ["2"]
    assert found_ids(questions, "questions", enable_curations="false") == ["2"]
    assert found_ids(questions, "questions", enable_overrides="false") == ["2", "1"]

    params = {"src_name": "questions", "copy_documents": "true"}
    copied = questions.post("/collections", params=params, json={"name": "copy"})

    assert copied.json()["num_documents"] == 0
    assert "synonym_sets" not in copied.json()
    assert questions.get("/synonym_sets").status_code == 404
    assert questions.patch("/collections/questions", json={"synonym_sets": []}).status_code == 400


@only_30
def test_a_copy_on_the_server_outlives_a_restart_and_is_joined_rightly(questions: TestClient, tmp_path: Path) -> None:
    import_documents(questions, "questions", [{"id": "gone"}, {"id": "1", "db_id": "db2", "embedding": [1, 2, 3, 4]}])
    questions.delete("/collections/questions/documents/gone")

    params = {"src_name": "questions", "copy_documents": "false"}
    assert questions.post("/collections", params=params, json={"name": "copy"}).json()["num_documents"] == 1

    with TestClient(create_app(tmp_path / "data", ADMIN_KEY), headers=HEADERS) as again:
        import_documents(again, "copy", [{"id": "2", "db_id": "db1"}])
        shown = export_documents(again, "copy", include_fields="id,embedding,$database_connections(alias)")
    assert shown == [
        {"id": "1", "embedding": [1, 2, 3, 4], "database_connections": {"alias": "stock"}},
        {"id": "2", "database_connections": {"alias": "sales"}},
    ]


@only_30
def test_a_key_for_collections_and_documents_may_not_see_sets(sandbox: TestClient) -> None:
    sandbox.put("/synonym_sets/words", json={"items": []})
    actions = {
        "narrow": ["collections:*", "documents:*"],
        "sets": ["synonym_sets:*"],
        "items": ["synonym_sets/items:*"],
    }
    for value, allowed in actions.items():
        key = {"description": value, "actions": allowed, "collections": ["*"], "value": value}
        sandbox.post("/keys", json=key)

    def status(key: str, path: str) -> int:
        return sandbox.get(path, headers={"x-typesense-api-key": key}).status_code

    assert [status(key, "/synonym_sets/words") for key in actions] == [401, 200, 401]
    assert [status(key, "/synonym_sets/words/items") for key in actions] == [401, 401, 200]
    assert status("sets", "/curation_sets") == 401


def test_what_29_wrote_is_carried_into_sets_of_30(tmp_path: Path) -> None:
    with TestClient(create_app(tmp_path, ADMIN_KEY, version=29), headers=HEADERS) as client:
        client.post("/collections", json={**QUESTIONS, "fields": QUESTIONS["fields"][:3]})
        client.put("/collections/questions/synonyms/coat", json=SAME)
        client.put("/collections/questions/overrides/hide", json=HIDE_1)
        client.post("/collections", params={"src_name": "questions"}, json={"name": "questions__shadow"})
        client.post("/collections", json={"name": "plain", "fields": [{"name": "a", "type": "string"}]})
        add_coats(client)

    for _ in range(2):
        with TestClient(create_app(tmp_path, ADMIN_KEY, version=30), headers=HEADERS) as client:
            for name in ("questions", "questions__shadow"):
                assert schema(client, name)["synonym_sets"] == [f"{name}_synonyms_index"]
                assert schema(client, name)["curation_sets"] == [f"{name}_curations_index"]
            assert schema(client, "plain")["synonym_sets"] == schema(client, "plain")["curation_sets"] == []
            assert len(client.get("/synonym_sets").json()) == len(client.get("/curation_sets").json()) == 2
            assert found_ids(client, "questions") == ["2"]
            assert found_ids(client, "questions", q="blazer", query_by="text") == ["1"]
