"""The paced sandbox waits as long as a real server was measured to take. The waiting itself is left out here."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from benchmarks import rates
from benchmarks.paced import Paced, paced_app
from kai.sandbox.app import create_app
from kai.sandbox.collection import Collection
from tests.sandbox.conftest import import_documents
from tests.sandbox.server import RunningSandbox

Json = dict[str, Any]

KEY = "key"
COUNT = 60


def field(name: str, dimensions: int) -> Json:
    return {"name": name, "type": "float[]", "num_dim": dimensions, "optional": True}


def collection_of(folder: Path, dimensions: int, stored: Json) -> Collection:
    """A collection with the vector field `vec`, and `plain` out of the schema, with `COUNT` documents like `stored`."""
    app = create_app(folder, KEY)
    with TestClient(app, headers={"x-typesense-api-key": KEY}) as client:
        fields = [field("vec", dimensions), field("plain", dimensions)]
        client.post("/collections", json={"name": "things", "fields": fields})
        import_documents(client, "things", [{"id": str(number), **stored} for number in range(COUNT)])
        client.patch("/collections/things", json={"fields": [{"name": "plain", "drop": True}]})
    found: Collection = app.state.store.collections["things"]
    return found


@pytest.mark.parametrize(
    ("dimensions", "holds", "written", "low", "high"),
    [
        pytest.param(768, ["vec"], "vec", 114, 116, id="rewrite"),
        pytest.param(1536, ["vec"], "vec", 50, 60, id="rewrite twice as long"),
        pytest.param(768, ["plain"], "vec", 950, 1_110, id="fill"),
        pytest.param(1536, [], "vec", 480, 530, id="fill twice as long"),
        pytest.param(768, ["plain"], "plain", 1_000, 1_100, id="plain value"),
    ],
)
def test_a_vector_takes_as_long_as_what_is_in_its_place_already_asks(
    tmp_path: Path, dimensions: int, holds: list[str], written: str, low: int, high: int
) -> None:
    vector = [0.5] * dimensions
    collection = collection_of(tmp_path, dimensions, dict.fromkeys(holds, vector))
    body = b"\n".join(json.dumps({"id": str(number), written: vector}).encode() for number in range(COUNT))

    assert low < COUNT / rates.write_seconds(collection, body) < high


def test_new_documents_single_updates_and_values_taken_out_have_rates_of_their_own(tmp_path: Path) -> None:
    vector = [0.5] * 768
    collection = collection_of(tmp_path, 768, {"vec": vector})

    def rate(document: Json, **more: str) -> float:
        return 1 / rates.write_seconds(collection, json.dumps(document).encode(), **more)

    assert 758 < rate({"id": "new", "vec": vector}) < 1_150
    assert rate({"vec": vector}, document_id="1") == pytest.approx(41)
    assert 2_300 < rate({"id": "1", "vec": None}) < 5_500
    assert rate({"id": "1", "text": "without a vector"}) == pytest.approx(8_000)
    assert rates.write_seconds(collection, b"\nno JSON") == 0


def test_a_schema_change_takes_as_long_as_what_is_stored_asks(tmp_path: Path) -> None:
    full = collection_of(tmp_path / "full", 768, {"vec": [0.5] * 768})
    empty = collection_of(tmp_path / "empty", 768, {"text": "a"})
    vec = full.fields["vec"]

    def for_6000(seconds: float) -> float:
        return seconds * 6_000 / COUNT

    assert 1.9 <= for_6000(rates.change_seconds(full, [])) < 2.1
    assert 6.0 < for_6000(rates.change_seconds(full, [vec])) < 6.6
    assert for_6000(rates.change_seconds(empty, [vec])) == pytest.approx(0.1)
    assert for_6000(rates.copy_seconds(full)) == pytest.approx(7.1)


def test_a_catch_up_and_deep_pages_take_their_time() -> None:
    line = json.dumps({"id": "x", "vec": [0.5] * 768}).encode() + b"\n"
    assert 0.150 < rates.export_seconds(line * 1_500) < 0.280
    assert rates.page_seconds(1, 250) == pytest.approx(0.015)
    assert rates.page_seconds(400, 250) == pytest.approx(0.068, rel=0.01)


def test_an_answer_is_held_back_and_everything_is_answered_as_without(tmp_path: Path) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    app = create_app(tmp_path, KEY)
    # So slow that the time of the sandbox itself does not count.
    paced = Paced(app, speed=0.000_01, sleep=sleep)
    with TestClient(paced, headers={"x-typesense-api-key": KEY}) as client:
        client.post("/collections", json={"name": "things", "fields": [field("vec", 4)]})
        assert waited == []
        steps: list[tuple[str, list[Json], str]] = [
            ("insert", [{"id": "1", "vec": [1, 2, 3, 4]}], "create"),
            ("rewrite", [{"id": "1", "vec": [4, 3, 2, 1]}], "update"),
            ("take out", [{"id": "1", "vec": None}], "update"),
            ("fill", [{"id": "1", "vec": [1, 1, 1, 1]}], "update"),
        ]
        for _, documents, action in steps:
            assert import_documents(client, "things", documents, action) == [{"success": True}]
        took = dict(zip((name for name, _, _ in steps), waited, strict=True))
        assert took["rewrite"] > 5 * took["fill"] > 5 * took["take out"]

        waited.clear()
        assert client.get("/collections/things/documents/export").text == '{"id":"1","vec":[1,1,1,1]}'
        assert client.get("/collections/things/documents/search", params={"q": "*"}).json()["found"] == 1
        assert client.post("/collections?src_name=things&copy_documents=true", json={"name": "copy"}).is_success
        assert len(waited) >= 3


def test_a_schema_change_is_going_on_for_its_time_and_a_second_one_is_refused_at_once(tmp_path: Path) -> None:
    collection_of(tmp_path, 4, {"vec": [1, 2, 3, 4]})
    paced = paced_app(tmp_path, KEY, speed=0.005)
    headers = {"x-typesense-api-key": KEY}

    async def twice() -> list[int]:
        transport = httpx.ASGITransport(paced)
        async with httpx.AsyncClient(transport=transport, base_url="http://paced", headers=headers) as client:
            drop = {"fields": [{"name": "vec", "drop": True}]}
            answers = await asyncio.gather(*(client.patch("/collections/things", json=drop) for _ in range(2)))
        return sorted(answer.status_code for answer in answers)

    assert asyncio.run(twice()) == [200, 422]


def test_it_can_be_started_as_any_sandbox(tmp_path: Path) -> None:
    with RunningSandbox(tmp_path, version=29, speed=100) as sandbox:
        headers = {"x-typesense-api-key": sandbox.api_key}
        assert httpx.get(f"{sandbox.url}/debug", headers=headers).json()["version"] == "29.0"
