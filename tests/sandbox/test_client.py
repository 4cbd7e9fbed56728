"""The official client, unchanged, against a server that really runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import typesense
from typesense import exceptions

from tests.sandbox.conftest import QUESTIONS
from tests.sandbox.server import RunningSandbox

Json = dict[str, Any]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSandbox]:
    folder: Path = tmp_path_factory.mktemp("client")
    with RunningSandbox(folder / "data", "--sample", "--sample-num-dim", "4", version=29) as running:
        yield running


def client_with_key(server: RunningSandbox, key: str) -> Any:
    """The client; `Any`, for the calls of these tests are looser than its type hints."""
    node: Any = {"host": server.host, "port": server.port, "protocol": "http"}
    return typesense.Client({"nodes": [node], "api_key": key, "connection_timeout_seconds": 5, "num_retries": 0})


@pytest.fixture
def client(server: RunningSandbox) -> Any:
    return client_with_key(server, server.api_key)


def test_the_life_of_a_collection(client: Any) -> None:
    created = client.collections.create({**QUESTIONS, "name": "life", "fields": QUESTIONS["fields"][:3]})
    assert created["num_documents"] == 0
    documents = client.collections["life"].documents

    answers = documents.import_(
        [{"id": str(number), "text": f"number {number}", "embedding": [number, 1, 0, 0]} for number in range(5)],
        {"action": "create"},
    )
    assert answers == [{"success": True}] * 5
    documents.create({"id": "single", "text": "one more"})
    documents.upsert({"id": "single", "text": "replaced"})
    documents["single"].update({"embedding": [0, 0, 0, 1]})
    assert documents["single"].retrieve()["embedding"] == [0, 0, 0, 1]
    assert documents.search({"q": "replaced", "query_by": "text"})["found"] == 1
    assert documents.search({"q": "*", "filter_by": "id:[1,2]"})["found"] == 2
    assert [json.loads(line)["id"] for line in documents.export().splitlines()] == [*"01234", "single"]
    nearest = {"collection": "life", "q": "*", "vector_query": "embedding:([0,0,0,1], k:1)"}
    results = client.multi_search.perform({"searches": [nearest]}, {})["results"]
    assert results[0]["hits"][0]["document"]["id"] == "single"
    documents["single"].delete()
    assert documents.delete({"filter_by": "id:=0"}) == {"num_deleted": 1}
    client.collections["life"].update({"fields": [{"name": "embedding", "drop": True}]})
    client.aliases.upsert("alive", {"collection_name": "life"})
    assert client.collections["alive"].retrieve()["name"] == "life"
    client.collections["life"].synonyms.upsert("s", {"synonyms": ["a", "b"]})
    assert len(client.collections["life"].synonyms.retrieve()["synonyms"]) == 1
    client.collections["life"].overrides.upsert("o", {"rule": {"query": "x", "match": "exact"}})
    assert len(client.collections["life"].overrides.retrieve()["overrides"]) == 1
    client.aliases["alive"].delete()
    client.collections["life"].delete()
    with pytest.raises(exceptions.ObjectNotFound):
        client.collections["life"].retrieve()


def test_errors_become_the_exceptions_of_the_client(server: RunningSandbox, client: Any) -> None:
    with pytest.raises(exceptions.ObjectNotFound):
        client.collections["nowhere"].retrieve()
    with pytest.raises(exceptions.RequestMalformed):
        client.collections.create({"name": "bad", "fields": [{"name": "a", "type": "strange"}]})
    with pytest.raises(exceptions.ObjectAlreadyExists):
        client.collections.create({"name": "instructions", "fields": [{"name": "a", "type": "string"}]})
    with pytest.raises(exceptions.RequestUnauthorized):
        client_with_key(server, "wrong").collections.retrieve()


def test_health_and_operations(server: RunningSandbox, client: Any, tmp_path: Path) -> None:
    assert client.operations.is_healthy()
    assert client.debug.retrieve()["version"] == "29.0"
    assert client.operations.perform("snapshot", {"snapshot_path": str(tmp_path / "copy")}) == {"success": True}
    metrics = client.metrics.retrieve()
    assert int(metrics["system_memory_total_bytes"]) > int(metrics["system_memory_used_bytes"]) > 0


def test_the_sample_is_there_without_embeddings(client: Any) -> None:
    counts = {item["name"]: item["num_documents"] for item in client.collections.retrieve()}
    assert counts == {"database_connections": 3, "context_stores": 50, "instructions": 8}
    defaults = client.collections["instructions"].documents.search({"q": "*", "filter_by": "is_default:=true"})
    assert defaults["found"] == 2
    for line in client.collections["context_stores"].documents.export().splitlines():
        document = json.loads(line)
        assert "prompt_embedding" not in document
        assert len(document["entities"]) == len(document["labels"])
        assert "{" not in document["prompt_text"] + document["prompt_text_ner"]


def test_the_server_listens_on_this_machine_only_and_says_what_it_is(server: RunningSandbox) -> None:
    assert server.url.startswith("http://127.0.0.1:")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.2:{server.port}/health", timeout=2)
