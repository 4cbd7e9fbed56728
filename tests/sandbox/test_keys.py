"""Who may do what."""

from __future__ import annotations

import time
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.sandbox.conftest import ADMIN_KEY

Json = dict[str, Any]

FORBIDDEN = {"message": "Forbidden - a valid `x-typesense-api-key` header must be sent."}


def status(client: TestClient, key: str, method: str, path: str, **more: Any) -> int:
    code: int = client.request(method, path, headers={"x-typesense-api-key": key}, **more).status_code
    return code


def make_key(client: TestClient, actions: list[str], collections: list[str], **more: Any) -> str:
    body = {"description": "a test", "actions": actions, "collections": collections, **more}
    value: str = client.post("/keys", json=body).json()["value"]
    return value


def test_health_needs_no_key_and_everything_else_does(questions: TestClient) -> None:
    assert status(questions, "", "GET", "/health") == 200
    for method, path in (("GET", "/collections"), ("GET", "/debug"), ("DELETE", "/collections/questions")):
        response = questions.request(method, path, headers={"x-typesense-api-key": "wrong"})
        assert (response.status_code, response.json()) == (401, FORBIDDEN)
    assert status(questions, ADMIN_KEY, "GET", "/collections") == 200


def test_the_key_may_be_a_query_parameter(questions: TestClient) -> None:
    del questions.headers["x-typesense-api-key"]
    assert questions.get("/collections", params={"x-typesense-api-key": ADMIN_KEY}).status_code == 200


@pytest.mark.parametrize(
    ("actions", "allowed"),
    [
        (["documents:search"], {"search"}),
        (["documents:*"], {"search", "export", "import"}),
        (["*"], {"search", "export", "import", "list"}),
        (["documents:export", "collections:list"], {"export", "list"}),
    ],
)
def test_a_key_allows_its_actions_only(questions: TestClient, actions: list[str], allowed: set[str]) -> None:
    key = make_key(questions, actions, ["*"])
    documents = "/collections/questions/documents"

    codes = {
        "search": status(questions, key, "GET", f"{documents}/search", params={"q": "*"}),
        "export": status(questions, key, "GET", f"{documents}/export"),
        "import": status(questions, key, "POST", f"{documents}/import", content=b""),
        "list": status(questions, key, "GET", "/collections"),
    }

    assert codes == {name: 200 if name in allowed else 401 for name in codes}


def test_a_key_allows_its_collections_only(questions: TestClient) -> None:
    key = make_key(questions, ["documents:search"], ["quest.*"])
    searches = [{"collection": name, "q": "*"} for name in ("questions", "database_connections")]

    def search(name: str) -> int:
        return status(questions, key, "GET", f"/collections/{name}/documents/search", params={"q": "*"})

    assert search("questions") == 200
    assert search("database_connections") == 401
    assert status(questions, key, "POST", "/multi_search", json={"searches": searches[:1]}) == 200
    assert status(questions, key, "POST", "/multi_search", json={"searches": searches}) == 401


def test_an_expired_or_deleted_key_allows_nothing(questions: TestClient) -> None:
    expired = make_key(questions, ["*"], ["*"], expires_at=int(time.time()) - 1)
    assert status(questions, expired, "GET", "/collections") == 401

    key = make_key(questions, ["*"], ["*"])
    assert status(questions, key, "GET", "/collections") == 200
    key_id = questions.get("/keys").json()["keys"][-1]["id"]
    assert questions.delete(f"/keys/{key_id}").json() == {"id": key_id}
    assert status(questions, key, "GET", "/collections") == 401


def test_a_listed_key_is_not_shown_whole(questions: TestClient) -> None:
    key = make_key(questions, ["*"], ["*"])

    listed = questions.get("/keys").json()["keys"][0]

    assert listed["value_prefix"] == key[:4]
    assert key not in questions.get("/keys").text


def test_secrets_of_a_server_side_model_are_masked_but_survive_a_clone(questions: TestClient) -> None:
    secret = "sk-abcdefghij"
    config = {"model_name": "openai/m", "api_key": secret}
    embed = {"from": ["text"], "model_config": config}
    fields = [
        {"name": "text", "type": "string"},
        {"name": "v", "type": "float[]", "num_dim": 4, "embed": embed},
    ]
    created = questions.post("/collections", json={"name": "own", "fields": fields})

    clone = questions.post("/collections", params={"src_name": "own"}, json={"name": "clone"})

    assert secret not in created.text + clone.text + questions.get("/collections").text
    assert clone.json()["fields"][1]["embed"]["model_config"]["api_key"] == "sk-ab********"
