"""Schema changes: refused, instant, slow, interrupted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from kai.sandbox.app import create_app
from tests.sandbox.conftest import (
    ADMIN_KEY,
    DATABASES,
    QUESTIONS,
    Client,
    export_documents,
    found_ids,
    import_documents,
)
from tests.sandbox.server import STOP_SECONDS, RunningSandbox

Json = dict[str, Any]

ALTER_SECONDS = 1.5
DROP_AND_ADD = {
    "fields": [
        {"name": "embedding", "drop": True},
        {"name": "embedding", "type": "float[]", "num_dim": 4, "optional": True},
    ]
}


def field_names(client: Client, collection: str = "questions") -> list[str]:
    shown = client.get(f"/collections/{collection}").json()
    return [field["name"] for field in shown["fields"]]


def nearest(client: Client, vector: str) -> Json:
    search = {"collection": "questions", "q": "*", "vector_query": f"embedding:({vector}, k:1)"}
    answer: Json = client.post("/multi_search", json={"searches": [search]}).json()["results"][0]
    return answer


def test_dropped_values_stay_stored_may_be_anything_and_are_checked_when_the_field_returns(
    questions: TestClient,
) -> None:
    import_documents(questions, "questions", [{"id": "1", "embedding": [1, 2, 3, 4]}])

    questions.patch("/collections/questions", json={"fields": [{"name": "embedding", "drop": True}]})
    assert export_documents(questions, "questions") == [{"id": "1", "embedding": [1, 2, 3, 4]}]

    import_documents(questions, "questions", [{"id": "1", "embedding": "anything"}], "update")
    added = {"fields": [{"name": "embedding", "type": "float[]", "num_dim": 2, "optional": True}]}
    refused = questions.patch("/collections/questions", json=added)
    assert refused.status_code == 400
    assert refused.json()["message"].endswith("error: Field `embedding` must be an array.")
    assert "embedding" not in field_names(questions)

    import_documents(questions, "questions", [{"id": "1", "embedding": [0.5, 1]}], "update")
    assert questions.patch("/collections/questions", json=added).status_code == 200
    assert nearest(questions, "[0.5, 1]")["hits"][0]["document"]["id"] == "1"


def test_a_vector_field_is_emptied_and_filled_anew_under_its_name(questions: TestClient) -> None:
    longer = {"name": "embedding", "type": "float[]", "num_dim": 2, "optional": True}
    import_documents(questions, "questions", [{"id": "1", "embedding": [1, 2, 3, 4]}, {"id": "2"}])
    questions.patch("/collections/questions", json={"fields": [{"name": "embedding", "drop": True}]})
    gone = {"code": 400, "error": "Field `embedding` does not have a vector query index."}
    assert nearest(questions, "[1, 2, 3, 4]") == gone

    refused = questions.patch("/collections/questions", json={"fields": [longer]})
    assert (refused.status_code, refused.json()["message"]) == (
        400,
        "Schema change is incompatible with the type of documents already stored in this collection. "
        "error: Field `embedding` must have 2 dimensions.",
    )
    assert nearest(questions, "[1, 2]") == gone

    import_documents(questions, "questions", [{"id": "1", "embedding": None}], "update")
    assert questions.patch("/collections/questions", json={"fields": [longer]}).status_code == 200
    assert nearest(questions, "[1, 2]")["found"] == 0
    old = import_documents(questions, "questions", [{"id": "1", "embedding": [1, 2, 3, 4]}], "update")
    assert old == [{"code": 400, "error": "Field `embedding` must have 2 dimensions.", "success": False}]
    import_documents(questions, "questions", [{"id": "2", "embedding": [1, 2]}], "update")
    assert [hit["document"]["id"] for hit in nearest(questions, "[1, 2]")["hits"]] == ["2"]


def test_an_attribute_outside_the_schema_can_become_a_vector_field(questions: TestClient) -> None:
    import_documents(questions, "questions", [{"id": "1", "other": [1.5, 2]}, {"id": "2"}])

    added = {"fields": [{"name": "other", "type": "float[]", "num_dim": 2, "optional": True}]}
    assert questions.patch("/collections/questions", json=added).status_code == 200

    import_documents(questions, "questions", [{"id": "2", "other": [3, 4]}], "update")
    assert export_documents(questions, "questions") == [
        {"id": "1", "other": [1.5, 2]},
        {"id": "2", "other": [3, 4]},
    ]


def test_a_required_field_cannot_be_added_where_documents_lack_it(questions: TestClient) -> None:
    import_documents(questions, "questions", [{"id": "1"}])

    refused = questions.patch("/collections/questions", json={"fields": [{"name": "needed", "type": "string"}]})

    assert refused.status_code == 400
    assert "Field `needed` has been declared in the schema" in refused.json()["message"]


@pytest.fixture
def slow(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[RunningSandbox, httpx.Client]]:
    """A server whose schema changes take `ALTER_SECONDS`, or as long as asked for, holding a question with a vector."""
    seconds = getattr(request, "param", ALTER_SECONDS)
    with (
        RunningSandbox(tmp_path / "data", "--alter-seconds", str(seconds)) as server,
        httpx.Client(base_url=server.url, headers={"x-typesense-api-key": server.api_key}, timeout=30) as client,
    ):
        client.post("/collections", json=DATABASES)
        client.post("/collections", json=QUESTIONS)
        import_documents(client, "questions", [{"id": "1", "text": "a", "embedding": [1, 2, 3, 4]}])
        yield server, client


def changes(client: httpx.Client) -> list[Json]:
    running: list[Json] = client.get("/operations/schema_changes").json()
    return running


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def start_change(server: RunningSandbox, client: httpx.Client, change: Json = DROP_AND_ADD) -> None:
    """Begin a change with a client that gives up long before it is done."""
    with pytest.raises(httpx.ReadTimeout):
        httpx.patch(
            f"{server.url}/collections/questions",
            headers={"x-typesense-api-key": server.api_key},
            json=change,
            timeout=0.1,
        )
    assert changes(client)


def test_a_slow_change_goes_on_without_its_client_while_everything_else_is_answered(
    slow: tuple[RunningSandbox, httpx.Client],
) -> None:
    server, client = slow
    start_change(server, client)

    assert set(changes(client)[0]) == {"collection", "validated_docs", "altered_docs"}
    assert "embedding" in field_names(client)
    assert nearest(client, "[1,2,3,4]") == {
        "code": 400,
        "error": "Field `embedding` does not have a vector query index.",
    }
    second = client.patch("/collections/questions", json=DROP_AND_ADD)
    assert second.status_code == 422
    assert second.json() == {"message": "Another collection update operation is in progress."}
    assert client.get("/health").json() == {"ok": True}
    assert found_ids(client, "questions", q="a", query_by="text") == ["1"]
    assert len(export_documents(client, "questions")) == 1
    import_documents(client, "database_connections", [{"id": "db1", "alias": "x"}])
    assert changes(client)

    until(lambda: changes(client) == [])
    assert nearest(client, "[1,2,3,4]")["found"] == 1


def test_a_field_that_is_only_dropped_is_searched_until_the_change_is_done(
    slow: tuple[RunningSandbox, httpx.Client],
) -> None:
    server, client = slow
    start_change(server, client, {"fields": [{"name": "embedding", "drop": True}]})

    assert nearest(client, "[1,2,3,4]")["found"] == 1

    until(lambda: changes(client) == [])
    assert nearest(client, "[1,2,3,4]")["code"] == 400


def test_a_write_to_a_collection_waits_for_its_schema_change(
    slow: tuple[RunningSandbox, httpx.Client],
) -> None:
    server, client = slow
    start_change(server, client)

    answers = import_documents(client, "questions", [{"id": "2"}])

    assert answers == [{"success": True}]
    assert changes(client) == []


def test_a_change_of_an_empty_collection_is_done_while_a_slow_one_of_another_goes_on(
    slow: tuple[RunningSandbox, httpx.Client],
) -> None:
    server, client = slow
    start_change(server, client)

    changed = client.patch(
        "/collections/database_connections",
        json={"fields": [{"name": "note", "type": "string", "optional": True}]},
    )

    assert changed.status_code == 200
    assert [change["collection"] for change in changes(client)] == ["questions"]


def test_a_change_interrupted_by_a_kill_is_carried_out_again_after_the_restart(
    slow: tuple[RunningSandbox, httpx.Client],
) -> None:
    server, client = slow
    start_change(server, client)
    server.kill()
    server.restart()

    lagging = client.get("/collections/questions")
    assert lagging.status_code == 503
    assert lagging.json() == {"message": "Not Ready or Lagging"}
    until(lambda: client.get("/health").status_code == 200)

    waiting = threading.Thread(
        target=import_documents, args=(client, "questions", [{"id": "2", "embedding": [4, 3, 2, 1]}])
    )
    waiting.start()
    seen: list[bool] = []
    while changes(client):
        seen.append("embedding" in field_names(client))
        time.sleep(0.02)
    waiting.join()

    assert False in seen, "the field should have been gone for a while"
    assert seen[-1]
    assert field_names(client)[-1] == "embedding"
    assert nearest(client, "[4,3,2,1]")["hits"][0]["document"]["id"] == "2"
    assert client.patch("/collections/questions", json=DROP_AND_ADD).status_code == 200


@pytest.mark.parametrize("slow", [6 * STOP_SECONDS], indirect=True)
def test_a_server_told_to_stop_does_not_wait_for_a_slow_change(
    slow: tuple[RunningSandbox, httpx.Client],
) -> None:
    server, client = slow
    start_change(server, client)

    server.stop()

    assert server.process.returncode == 0, "it had to be killed"


def test_a_refused_change_interrupted_by_a_kill_is_refused_again_after_the_restart(
    slow: tuple[RunningSandbox, httpx.Client],
) -> None:
    server, client = slow
    longer = {"name": "embedding", "type": "float[]", "num_dim": 8, "optional": True}
    with pytest.raises(httpx.ReadTimeout):
        client.patch("/collections/questions", json={"fields": [DROP_AND_ADD["fields"][0], longer]}, timeout=0.1)
    server.kill()
    server.restart()

    until(lambda: client.get("/health").status_code == 200)
    until(lambda: changes(client) == [])

    assert "embedding" in field_names(client)
    assert nearest(client, "[1,2,3,4]")["found"] == 1


def test_a_server_that_starts_slowly_answers_503_for_a_while(tmp_path: Path) -> None:
    headers = {"x-typesense-api-key": ADMIN_KEY}
    with TestClient(create_app(tmp_path, ADMIN_KEY, lag_seconds=0.3), headers=headers) as client:
        assert client.get("/health").status_code == 503
        refused = client.get("/collections")
        assert (refused.status_code, refused.json()) == (503, {"message": "Not Ready or Lagging"})
        until(lambda: client.get("/collections").status_code == 200)


def test_nested_fields_found_while_a_change_waits_are_kept(sandbox: TestClient) -> None:
    fields = [{"name": "m", "type": "object", "optional": True}]
    sandbox.post("/collections", json={"name": "nested", "enable_nested_fields": True, "fields": fields})
    documents = [{"id": str(number), "m": {f"k{number % 50}": number}} for number in range(2000)]
    writer = threading.Thread(target=import_documents, args=(sandbox, "nested", documents))
    writer.start()

    added = {"fields": [{"name": "note", "type": "string", "optional": True}]}
    assert sandbox.patch("/collections/nested", json=added).status_code == 200

    writer.join()
    assert set(field_names(sandbox, "nested")) == {"m", "note", *(f"m.k{number}" for number in range(50))}


def test_a_required_field_that_a_stored_document_lacks_is_not_added(questions: TestClient) -> None:
    import_documents(questions, "questions", [{"id": "1"}])
    added = {"fields": [{"name": "other", "type": "float[]", "num_dim": 2}]}
    refused = questions.patch("/collections/questions", json=added)
    assert refused.status_code == 400
    assert "is not found in the documents already present in the collection" in refused.json()["message"]
    assert "other" not in field_names(questions)
