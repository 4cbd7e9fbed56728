"""References are sequence numbers, with all that follows from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from kai.sandbox.store import Store
from tests.sandbox.conftest import DATABASES, export_documents, found_ids, import_documents

Json = dict[str, Any]

ALIAS = {"include_fields": "id,$database_connections(alias)"}


def joined_aliases(client: TestClient) -> dict[str, str | None]:
    """Question id -> alias of the database that it is joined to."""
    exported = export_documents(client, "questions", **ALIAS)
    return {document["id"]: document.get("database_connections", {}).get("alias") for document in exported}


def recreate_databases(client: TestClient, documents: list[Json]) -> None:
    client.delete("/collections/database_connections")
    client.post("/collections", json=DATABASES)
    import_documents(client, "database_connections", documents)


def add_questions(client: TestClient) -> None:
    answers = import_documents(client, "questions", [{"id": "q1", "db_id": "db1"}, {"id": "q2", "db_id": "db2"}])
    assert answers == [{"success": True}, {"success": True}]


def test_a_join_shows_the_referenced_document_in_search_and_export(questions: TestClient) -> None:
    add_questions(questions)

    assert joined_aliases(questions) == {"q1": "sales", "q2": "stock"}
    response = questions.get(
        "/collections/questions/documents/search",
        params={"q": "*", "include_fields": "$database_connections(*)"},
    )
    assert [hit["document"] for hit in response.json()["hits"]] == [
        {"id": "q2", "db_id": "db2", "database_connections": {"id": "db2", "alias": "stock"}},
        {"id": "q1", "db_id": "db1", "database_connections": {"id": "db1", "alias": "sales"}},
    ]


def test_a_filter_may_ask_for_the_referenced_document(questions: TestClient) -> None:
    add_questions(questions)

    by_alias = "$database_connections(alias:=stock)"
    assert found_ids(questions, "questions", filter_by=by_alias) == ["q2"]
    assert [item["id"] for item in export_documents(questions, "questions", filter_by=by_alias)] == ["q2"]


def test_a_filter_may_ask_for_the_referring_documents(questions: TestClient) -> None:
    add_questions(questions)

    assert found_ids(questions, "database_connections", filter_by="$questions(id:=q2)") == ["db2"]


def test_recreating_the_referenced_collection_joins_the_wrong_documents_silently(
    questions: TestClient,
) -> None:
    add_questions(questions)

    recreate_databases(questions, [{"id": "db2", "alias": "stock"}, {"id": "db1", "alias": "sales"}])

    assert joined_aliases(questions) == {"q1": "stock", "q2": "sales"}
    assert found_ids(questions, "questions", filter_by="$database_connections(alias:=stock)") == ["q1"]
    assert found_ids(questions, "questions", filter_by="db_id:=db1") == ["q1"]


def test_an_update_with_its_own_reference_value_repairs_a_join(questions: TestClient) -> None:
    add_questions(questions)
    recreate_databases(questions, [{"id": "db2", "alias": "stock"}, {"id": "db1", "alias": "sales"}])

    import_documents(questions, "questions", [{"id": "q1", "db_id": "db1"}, {"id": "q2", "db_id": "db2"}], "update")

    assert joined_aliases(questions) == {"q1": "sales", "q2": "stock"}


def test_an_update_without_the_reference_leaves_the_wrong_join(questions: TestClient) -> None:
    add_questions(questions)
    recreate_databases(questions, [{"id": "db2", "alias": "stock"}, {"id": "db1", "alias": "sales"}])

    import_documents(questions, "questions", [{"id": "q1", "text": "new"}], "update")
    import_documents(questions, "questions", [{"id": "q2", "embedding": [1, 2, 3, 4]}], "update")

    assert joined_aliases(questions) == {"q1": "stock", "q2": "sales"}


def test_changing_a_field_of_the_referenced_collection_leaves_the_joins_right(
    questions: TestClient,
) -> None:
    add_questions(questions)

    changed = questions.patch(
        "/collections/database_connections",
        json={"fields": [{"name": "note", "type": "string", "optional": True}]},
    )

    assert changed.status_code == 200
    assert joined_aliases(questions) == {"q1": "sales", "q2": "stock"}


def test_sequence_numbers_are_not_given_out_twice(questions: TestClient) -> None:
    questions.delete("/collections/database_connections/documents/db2")
    import_documents(questions, "database_connections", [{"id": "db3", "alias": "new"}])
    import_documents(questions, "questions", [{"id": "q3", "db_id": "db3"}])

    shown = questions.get("/collections/questions/documents/q3").json()

    assert shown == {
        "id": "q3",
        "db_id": "db3",
        ".ref": ["db_id_sequence_id"],
        "db_id_sequence_id": 2,
    }


def test_deleting_a_referenced_document_deletes_those_that_refer_to_it(questions: TestClient) -> None:
    add_questions(questions)

    deleted = questions.delete("/collections/database_connections/documents", params={"filter_by": "alias:=sales"})

    assert deleted.json() == {"num_deleted": 1}
    assert found_ids(questions, "questions") == ["q2"]


def test_dropping_the_referenced_collection_keeps_those_that_refer_to_it(questions: TestClient) -> None:
    add_questions(questions)

    questions.delete("/collections/database_connections")

    assert found_ids(questions, "questions") == ["q2", "q1"]


def test_an_async_reference_waits_for_its_target(questions: TestClient) -> None:
    field = {"name": "db_id", "type": "string", "reference": "database_connections.id"}
    questions.post("/collections", json={"name": "late", "fields": [field | {"async_reference": True}]})
    import_documents(questions, "late", [{"id": "1", "db_id": "db9"}])
    assert export_documents(questions, "late", **ALIAS) == [{"id": "1"}]

    import_documents(questions, "database_connections", [{"id": "db9", "alias": "arrived"}])

    joined = {"id": "1", "database_connections": {"alias": "arrived"}}
    assert export_documents(questions, "late", **ALIAS) == [joined]


def add_waiting_questions(client: TestClient) -> None:
    """A collection `late` that refers to both databases and to one that is not there yet."""
    field = {"name": "db_id", "type": "string", "reference": "database_connections.id", "async_reference": True}
    client.post("/collections", json={"name": "late", "fields": [field]})
    import_documents(client, "late", [{"id": f"q{n}", "db_id": f"db{n}"} for n in (1, 2, 9)])


def test_a_document_that_comes_back_under_another_number_is_refused(questions: TestClient, tmp_path: Path) -> None:
    add_waiting_questions(questions)

    questions.delete("/collections/database_connections")
    questions.post("/collections", json=DATABASES)
    back: list[Json] = [{"id": "db2", "alias": "stock"}, {"id": "db9", "alias": "new"}]
    answers = import_documents(questions, "database_connections", back)

    assert [answer["success"] for answer in answers] == [False, True]
    assert "Document `id: q2` already has a reference to document `1`" in answers[0]["error"]
    searched = {"q": "*", "include_fields": "id,$database_connections(alias)"}
    led_nowhere = questions.get("/collections/late/documents/search", params=searched | {"filter_by": "id:=q1"})
    assert (led_nowhere.status_code, "sequence ID: 0" in led_nowhere.json()["message"]) == (404, True)
    assert questions.get("/collections/database_connections").json()["num_documents"] == 2
    # What was refused has used up its number, after a restart as well.
    assert Store(tmp_path / "data").collections["database_connections"].get("db9").seq == 1  # type: ignore[union-attr]


def test_renewing_a_reference_while_its_target_is_missing_lets_the_target_come_back(questions: TestClient) -> None:
    add_waiting_questions(questions)

    questions.delete("/collections/database_connections")
    import_documents(questions, "late", [{"id": f"q{n}", "db_id": f"db{n}"} for n in (1, 2)], "update")
    questions.post("/collections", json=DATABASES)
    back: list[Json] = [{"id": "db2", "alias": "stock"}, {"id": "db1", "alias": "sales"}]
    answers = import_documents(questions, "database_connections", back)

    assert answers == [{"success": True}] * 2
    exported = export_documents(questions, "late", **ALIAS)
    joined = {document["id"]: document.get("database_connections", {}).get("alias") for document in exported}
    assert joined == {"q1": "sales", "q2": "stock", "q9": None}


def test_an_export_goes_on_where_a_join_leads_nowhere(questions: TestClient) -> None:
    add_waiting_questions(questions)
    questions.delete("/collections/database_connections")
    questions.post("/collections", json=DATABASES)

    lines = questions.get("/collections/late/documents/export", params=ALIAS).text.splitlines()

    assert lines[0].startswith("Error while getting seq_id of `q1`: ")
    assert lines[2] == '{"id":"q9"}'


def test_joining_a_collection_that_is_not_referred_to_is_refused(questions: TestClient) -> None:
    questions.post("/collections", json={"name": "apart", "fields": [{"name": "a", "type": "string"}]})

    filtered = {"q": "*", "filter_by": "$apart(a:=x)"}
    response = questions.get("/collections/questions/documents/search", params=filtered)

    assert response.status_code == 400
    assert "No reference field found" in response.json()["message"]
