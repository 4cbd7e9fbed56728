"""What was acknowledged is there after `kill -9`, and nothing is there by halves."""

from __future__ import annotations

import json
import random
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from kai.sandbox.app import create_app
from kai.sandbox.errors import ApiError
from kai.sandbox.log import Log
from kai.sandbox.store import LOG_NAME, VERSIONS, Store
from tests.sandbox.conftest import (
    ADMIN_KEY,
    QUESTIONS,
    export_documents,
    import_documents,
)
from tests.sandbox.server import RunningSandbox

Json = dict[str, Any]

PAGE = 50
HIDE_ALL = {"query": "*", "match": "exact"}


def vector(number: int, version: int) -> list[float]:
    return [float(number), float(version), 0.5, 0.25]


@pytest.mark.parametrize("seed", range(3))
def test_every_acknowledged_write_survives_a_kill_in_the_middle_of_imports(tmp_path: Path, seed: int) -> None:
    acknowledged: dict[str, list[float]] = {}
    sent: dict[str, list[list[float]]] = {}
    with RunningSandbox(tmp_path / "data") as server:
        headers = {"x-typesense-api-key": server.api_key}
        with httpx.Client(base_url=server.url, headers=headers, timeout=10) as client:
            client.post("/collections", json={**QUESTIONS, "fields": QUESTIONS["fields"][:3]})
            random.seed(seed)
            killer = threading.Timer(random.uniform(0.1, 0.4), server.process.kill)  # noqa: S311
            killer.start()
            try:
                for step in range(100_000):
                    first = (step % 20) * PAGE
                    documents: list[Json] = [
                        {"id": f"q{number}", "embedding": vector(number, step)} for number in range(first, first + PAGE)
                    ]
                    for document in documents:
                        sent.setdefault(document["id"], []).append(document["embedding"])
                    answers = import_documents(client, "questions", documents, "emplace")
                    assert answers == [{"success": True}] * PAGE
                    acknowledged |= {document["id"]: document["embedding"] for document in documents}
            except httpx.TransportError:
                pass
            killer.join()
            server.restart()

            stored = {item["id"]: item["embedding"] for item in export_documents(client, "questions")}

    assert acknowledged
    assert set(acknowledged) <= set(stored)
    for document_id, embedding in stored.items():
        # The write that was under way may or may not be there, an older one may not.
        assert embedding in sent[document_id]
        newest = sent[document_id].index(embedding)
        assert newest >= sent[document_id].index(acknowledged.get(document_id, embedding))


def everything(client: TestClient) -> Json:
    """The whole visible state."""
    names = [item["name"] for item in client.get("/collections").json()]
    return {
        "collections": client.get("/collections").json(),
        "documents": {name: export_documents(client, name) for name in names},
        "internal": client.get("/collections/questions/documents/q2").json(),
        "aliases": client.get("/aliases").json(),
        "keys": client.get("/keys").json(),
        "synonyms": client.get("/collections/questions/synonyms").json(),
        "overrides": client.get("/collections/questions/overrides").json(),
        "synonym sets": client.get("/synonym_sets").json(),
        "curation sets": client.get("/curation_sets").json(),
    }


def fill(client: TestClient) -> None:
    """A little of everything that can be stored."""
    import_documents(
        client,
        "questions",
        [{"id": f"q{n}", "db_id": "db2", "embedding": [n, 0, 0, 1e-9]} for n in range(5)],
    )
    client.delete("/collections/questions/documents/q0")
    import_documents(client, "questions", [{"id": "q3", "embedding": None, "rank": 7}], "update")
    synonym, override = {"synonyms": ["x", "y"]}, {"rule": HIDE_ALL, "excludes": [{"id": "q1"}]}
    # Each version knows one of the two ways and answers 404 to the other.
    client.put("/collections/questions/synonyms/a", json=synonym)
    client.put("/collections/questions/overrides/b", json=override)
    client.put("/synonym_sets/words", json={"items": [synonym | {"id": "a"}]})
    client.put("/curation_sets/hidden", json={"items": [override | {"id": "b"}]})
    client.patch("/collections/questions", json={"synonym_sets": ["words"], "curation_sets": ["hidden"]})
    client.put("/aliases/live", json={"collection_name": "questions"})
    client.post("/keys", json={"description": "d", "actions": ["*"], "collections": ["*"], "value": "v1234"})
    client.patch("/collections/questions", json={"metadata": {"model": {"name": "m"}}})
    client.patch("/collections/questions", json={"fields": [{"name": "rank", "drop": True}]})


def test_a_restart_changes_nothing(questions: TestClient, tmp_path: Path, version: int) -> None:
    fill(questions)
    before = everything(questions)

    app = create_app(tmp_path / "data", ADMIN_KEY, version=version)
    with TestClient(app, headers={"x-typesense-api-key": ADMIN_KEY}) as again:
        assert everything(again) == before
        import_documents(again, "questions", [{"id": "new"}])
        assert app.state.store.collections["questions"].documents[5].id == "new"


def test_a_snapshot_is_a_folder_to_start_on(questions: TestClient, tmp_path: Path, version: int) -> None:
    fill(questions)
    before = everything(questions)

    answer = questions.post("/operations/snapshot", params={"snapshot_path": str(tmp_path / "snapshot")})

    assert answer.json() == {"success": True}
    app = create_app(tmp_path / "snapshot", ADMIN_KEY, version=version)
    with TestClient(app, headers={"x-typesense-api-key": ADMIN_KEY}) as copy:
        assert everything(copy) == before


@pytest.mark.parametrize("version", VERSIONS[-1:])
def test_a_log_of_much_superfluous_history_is_rewritten_at_start(
    questions: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kai.sandbox.store.SUPERFLUOUS_RECORDS", 300)
    fill(questions)
    for step in range(400):
        import_documents(questions, "questions", [{"id": "q1", "embedding": vector(1, step)}], "update")
    before = everything(questions)
    path = tmp_path / "data" / LOG_NAME
    size = path.stat().st_size

    app = create_app(tmp_path / "data", ADMIN_KEY)
    with TestClient(app, headers={"x-typesense-api-key": ADMIN_KEY}) as again:
        assert path.stat().st_size < size / 10
        assert everything(again) == before
        import_documents(again, "questions", [{"id": "q1", "rank": 1}], "update")
    assert Store(tmp_path / "data").collections["questions"].get("q1") is not None


def test_a_record_torn_by_a_kill_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = Log(path)
    log.append(["one"], b"1")
    log.append(["two"], b"2")
    log.close()
    whole = path.read_bytes()

    for torn in (b'["three"', b'["three"]\t[0.1,', b"x" * 200_000):
        path.write_bytes(whole + torn)
        assert list(Log(path).read()) == [(["one"], (b"1",)), (["two"], (b"2",))]
        assert path.read_bytes() == whole


def test_a_store_that_was_not_closed_can_be_opened(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create_collection({"name": "a", "fields": [{"name": "t", "type": "string"}]})
    with (tmp_path / LOG_NAME).open("ab") as file:
        file.write(b'["drop","a"]')

    assert list(Store(tmp_path).collections) == ["a"]


def test_a_store_that_was_closed_logs_nothing_more(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.close()

    with pytest.raises(ApiError, match="Not Ready or Lagging"):
        store.create_collection({"name": "a", "fields": [{"name": "t", "type": "string"}]})

    assert not Store(tmp_path).collections


def test_health_is_answered_again_and_again_while_a_long_import_is_under_way(tmp_path: Path) -> None:
    numbers = ",".join("0.123456" for _ in range(768))
    body = "\n".join(f'{{"id":"{number}","v":[{numbers}]}}' for number in range(3000))
    fields = [{"name": "v", "type": "float[]", "num_dim": 768}]
    with RunningSandbox(tmp_path / "data") as server:
        headers = {"x-typesense-api-key": server.api_key}
        with httpx.Client(base_url=server.url, headers=headers, timeout=30) as client:
            client.post("/collections", json={"name": "a", "fields": fields})
            answers: list[httpx.Response] = []
            thread = threading.Thread(
                target=lambda: answers.append(client.post("/collections/a/documents/import", content=body))
            )
            thread.start()
            meanwhile = 0
            with httpx.Client(base_url=server.url, timeout=30) as other:
                while thread.is_alive():
                    assert other.get("/health").json() == {"ok": True}
                    meanwhile += thread.is_alive()
            thread.join()
    assert {json.loads(line)["success"] for line in answers[0].text.splitlines()} == {True}
    assert meanwhile >= 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_stops_without_an_error_when_told_to(tmp_path: Path, number: signal.Signals) -> None:
    with RunningSandbox(tmp_path / "data") as server:
        server.process.send_signal(number)
        assert server.process.wait(5) == 0


def test_writers_and_readers_do_not_get_in_each_others_way(tmp_path: Path) -> None:
    with (
        RunningSandbox(tmp_path / "data") as server,
        httpx.Client(base_url=server.url, headers={"x-typesense-api-key": server.api_key}, timeout=30) as client,
    ):
        client.post("/collections", json={**QUESTIONS, "fields": QUESTIONS["fields"][:3]})
        drop = {"fields": [{"name": "rank", "drop": True}]}
        add = {"fields": [{"name": "rank", "type": "int32", "optional": True}]}

        def write(first: int) -> None:
            for step in range(10):
                documents: list[Json] = [
                    {"id": f"q{number}", "embedding": vector(number, step)} for number in range(first, first + 40)
                ]
                import_documents(client, "questions", documents, "emplace")

        def delete() -> None:
            for number in range(0, 40, 2):
                client.delete(f"/collections/questions/documents/q{number}")

        def alter() -> None:
            for _ in range(5):
                assert client.patch("/collections/questions", json=drop).status_code == 200
                assert client.patch("/collections/questions", json=add).status_code == 200

        def read() -> None:
            nearest = {"collection": "questions", "q": "*", "vector_query": "embedding:([1,2,3,4], k:5)"}
            for _ in range(20):
                export_documents(client, "questions")
                answer = client.post("/multi_search", json={"searches": [nearest]}).json()["results"][0]
                assert "hits" in answer or "vector query index" in answer["error"]

        with ThreadPoolExecutor() as pool:
            tasks = [pool.submit(write, first) for first in (0, 20, 60)]
            tasks += [pool.submit(task) for task in (delete, alter, read)]
        for task in tasks:
            task.result()

        stored = {item["id"] for item in export_documents(client, "questions")}
        assert stored >= {f"q{number}" for number in range(40, 100)}
        server.kill()
        server.restart()
        assert {item["id"] for item in export_documents(client, "questions")} == stored
