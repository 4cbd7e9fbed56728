"""A sandbox inside the test process, and the two collections that most tests need."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from kai.sandbox.app import create_app
from kai.sandbox.store import VERSIONS

Json = dict[str, Any]
Client = httpx.Client | TestClient
"""A client of a server in another process, or of one in this."""

ADMIN_KEY = "admin-key"

DATABASES: Json = {
    "name": "database_connections",
    "fields": [{"name": "alias", "type": "string"}],
}
QUESTIONS: Json = {
    "name": "questions",
    "fields": [
        {"name": "text", "type": "string", "optional": True},
        {"name": "rank", "type": "int32", "optional": True},
        {"name": "embedding", "type": "float[]", "num_dim": 4, "optional": True},
        {
            "name": "db_id",
            "type": "string",
            "reference": "database_connections.id",
            "optional": True,
        },
    ],
}


@pytest.fixture(params=VERSIONS, ids=lambda version: f"typesense-{version}")
def version(request: pytest.FixtureRequest) -> int:
    """The version of Typesense behaved as; parametrize a test over `version` where it means one."""
    chosen: int = request.param
    return chosen


@pytest.fixture
def sandbox(tmp_path: Path, version: int) -> Iterator[TestClient]:
    """A client, with the admin key, of an empty sandbox."""
    app = create_app(tmp_path / "data", ADMIN_KEY, version=version)
    with TestClient(app, headers={"x-typesense-api-key": ADMIN_KEY}) as client:
        yield client


@pytest.fixture
def questions(sandbox: TestClient) -> TestClient:
    """The same with the collections `database_connections` (of db1 and db2) and `questions` (empty)."""
    assert sandbox.post("/collections", json=DATABASES).status_code == 201
    assert sandbox.post("/collections", json=QUESTIONS).status_code == 201
    databases: list[Json] = [{"id": "db1", "alias": "sales"}, {"id": "db2", "alias": "stock"}]
    import_documents(sandbox, "database_connections", databases)
    return sandbox


def import_documents(
    client: Client, collection: str, documents: list[Json], action: str = "create", **params: str
) -> list[Json]:
    """Import and return the parsed answer lines."""
    body = "\n".join(json.dumps(document) for document in documents)
    response = client.post(
        f"/collections/{collection}/documents/import", params={"action": action, **params}, content=body
    )
    assert response.status_code == 200, response.text
    return [json.loads(line) for line in response.text.splitlines()]


def export_documents(client: Client, collection: str, **params: str) -> list[Json]:
    """Export and return the parsed documents."""
    response = client.get(f"/collections/{collection}/documents/export", params=params)
    assert response.status_code == 200, response.text
    return [json.loads(line) for line in response.text.splitlines()]


def found_ids(client: Client, collection: str, **params: str) -> list[str]:
    """The ids that a search for everything finds, in its order."""
    response = client.get(f"/collections/{collection}/documents/search", params={"q": "*", **params})
    assert response.status_code == 200, response.text
    return [hit["document"]["id"] for hit in response.json()["hits"]]
