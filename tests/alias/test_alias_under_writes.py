"""The application writes and searches through the alias throughout: not a write is lost, no search unanswered.

`WRITER_SEEDS=20` tries that many seeds.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import httpx
import pytest

from tests.alias.corner import ALIAS, NEW, OLD, OLD_DIMENSIONS, OTHER_ALIAS, Corner, written
from tests.alias.test_alias import command, run_of
from tests.killing import run_watched
from tests.providers.vectors import vector_for
from tests.recreate.small import MODEL, text_of
from tests.recreate.writer import Writer, schema_of
from tests.world import Document, as_float32

TARGET = 32
SEEDS = int(os.environ.get("WRITER_SEEDS", "2"))


class Searcher:
    """Searches by the alias every few milliseconds, in a process of its own, and keeps every answer.

    Args:
        url, key: the server.
        journal: a file for its account.
    """

    def __init__(self, url: str, key: str, journal: Path) -> None:
        self._url, self._key, self._journal = url, key, journal
        context = multiprocessing.get_context("fork")
        self._stopping: Event = context.Event()
        self._process = context.Process(target=self._work, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._process.start()

    def stop(self) -> list[tuple[int, list[Document]]]:
        """End; status and documents of each answer."""
        self._stopping.set()
        self._process.join(30)
        assert self._process.exitcode == 0
        return [tuple(json.loads(line)) for line in self._journal.read_text().splitlines()]

    def _work(self) -> None:
        headers = {"X-TYPESENSE-API-KEY": self._key}
        params: dict[str, str | int] = {"q": "*", "filter_by": "draft:=false", "per_page": 50}
        with httpx.Client(base_url=self._url, headers=headers) as http, self._journal.open("w") as journal:
            while not self._stopping.is_set():
                answer = http.get(f"/collections/{ALIAS}/documents/search", params=params)
                found = [hit["document"] for hit in answer.json()["hits"]] if answer.is_success else []
                journal.write(json.dumps([answer.status_code, found]) + "\n")
                time.sleep(0.004)


def models_of(answer: list[Document]) -> set[str]:
    """By which models the vectors of an answer are: the target's, or whatever stood there before."""
    with_vector = [document for document in answer if document.get("vector")]
    return {
        "new"
        if as_float32(document["vector"])
        == vector_for(text_of(document), model=MODEL, dimensions=len(document["vector"])).tobytes()
        else "old"
        for document in with_vector
    }


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("dimensions", [TARGET, OLD_DIMENSIONS])
def test_every_search_by_the_alias_is_answered_and_by_one_model_only(
    corner: Corner, tmp_path: Path, dimensions: int
) -> None:
    corner.fill(count=300)
    searcher = Searcher(corner.world.url, corner.world.key, tmp_path / "answers.jsonl")
    searcher.start()
    ended = run_watched(corner.options(), corner.environment(dimensions, tmp_path / "home"), tmp_path, apart=True)
    time.sleep(0.1)
    answers = searcher.stop()
    assert ended.status == 0, ended.text
    assert {status for status, _ in answers} == {200}
    models = [models_of(found) for _, found in answers]
    print(f"{len(answers)} searches: {models.count({'old'})} by the old model, {models.count({'new'})} by the new one")
    assert [found for found in models if len(found) != 1] == []
    # The old one, then the new one, and never back.
    in_order = [next(iter(found)) for found in models]
    assert in_order == sorted(in_order, reverse=True)
    assert set(in_order) == {"old", "new"}


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_that_the_application_wrote_is_lost_and_nothing_that_it_deleted_is_back(
    request: pytest.FixtureRequest, tmp_path: Path, seed: int
) -> None:
    corner: Corner = request.getfixturevalue(("corner", "corner_29")[seed % 2])
    corner.fill(count=(40, 300, 700)[seed % 3])
    writer = Writer(
        corner.world.url,
        corner.world.key,
        corner.expected,
        schema=schema_of("wrong dimensions", TARGET),
        seed=seed,
        journal=tmp_path / "writes.jsonl",
        pause=(0.002, 0.01, 0.03)[seed % 3],
        name=ALIAS,
    )
    writer.start()
    environment = corner.environment(TARGET, tmp_path / "home")
    ended = run_watched(corner.options(), environment, tmp_path / "run", apart=True)
    account, created = writer.stop()
    # 1: documents were still changing when the last pass ended.
    assert ended.status in (0, 1), ended.text
    assert not created
    now = corner.world.documents(NEW)
    for document in now.values():
        document.pop("vector", None)
    expected = writer.expected(account)
    print(f"seed {seed}: {len(account)} writes, exit {ended.status}")
    assert now == expected, ended.text

    again = run_watched(corner.options(), environment, tmp_path / "run")
    assert again.status == 0, again.text
    corner.check_swapped(TARGET, documents=expected, written=True)


@pytest.mark.usefixtures("warm")
def test_what_is_written_by_the_old_collections_own_name_is_carried_over_before_it_may_go(
    corner: Corner, tmp_path: Path
) -> None:
    environment = corner.environment(TARGET, tmp_path / "home")
    ended = run_watched(corner.options(), environment, tmp_path / "run", apart=True)
    assert ended.status == 0, ended.text
    newer = {key: value for key, value in corner.expected["n5"].items() if key != "vector"} | {"text": "by the alias"}
    corner.world.import_(OTHER_ALIAS, [newer], "upsert")
    late = [written(1), *({**corner.expected[id_], "text": "by its own name"} for id_ in ("n5", "n6"))]
    corner.world.import_(OLD, [{k: v for k, v in note.items() if k != "vector"} for note in late], "upsert")
    for name, id_ in ((OLD, "n12"), (NEW, "n13")):
        corner.world.http.delete(f"/collections/{name}/documents/{id_}").raise_for_status()

    refused = command(corner, tmp_path, "finish")
    assert refused.status == 2, refused.text
    assert "4 documents of 'notes' were written or deleted since" in refused.text
    again = run_watched(corner.options(strategy="auto"), environment, tmp_path / "run")
    assert again.status == 0, again.text
    assert "were written to in 'notes' and, by an alias, in 'notes__2', whose content stands: n5" in again.text
    changed = {**corner.expected["n6"], "text": "by its own name"}
    corner.expected |= {"w1": written(1), "n5": newer, "n6": changed}
    del corner.expected["n12"], corner.expected["n13"]
    corner.check_swapped(TARGET)
    assert command(corner, tmp_path, "finish", run_of(ended)).status == 0
    corner.check_finished(TARGET)


@pytest.mark.usefixtures("warm")
def test_what_is_written_between_the_look_at_a_document_and_its_change_or_deletion_stands(
    corner: Corner, tmp_path: Path
) -> None:
    environment = corner.environment(TARGET, tmp_path / "home")
    ended = run_watched(corner.options(), environment, tmp_path / "run", apart=True)
    assert ended.status == 0, ended.text
    old = {id_: {k: v for k, v in corner.expected[id_].items() if k != "vector"} for id_ in ("n5", "n6", "n7")}
    corner.world.import_(OLD, [{**note, "text": "by its own name"} for note in old.values()], "upsert")
    for id_ in ("n12", "n13"):
        corner.world.http.delete(f"/collections/{OLD}/documents/{id_}").raise_for_status()
    patches = [
        (f"POST /collections/{NEW}/documents/import?action=update&return_doc=true", {"id": "n5", "text": "first"}),
        # Once more while the change is undone, and now another field.
        (f"POST /collections/{NEW}/documents/import?action=update&return_doc=true", {"id": "n5", "title": "second"}),
        (f"DELETE /collections/{NEW}/documents/n12", {"id": "n12", "text": "third"}),
    ]
    upsert = {**old["n6"], "title": "whole"}

    def write(_: int, name: str) -> None:
        if patches and name == patches[0][0]:
            headers = {"X-TYPESENSE-API-KEY": corner.world.key}
            with httpx.Client(base_url=f"{corner.world.url}/collections/{ALIAS}", headers=headers) as http:
                part = patches.pop(0)[1]
                http.patch(f"/documents/{part['id']}", json=part).raise_for_status()
                if len(patches) == 2:
                    http.post("/documents", params={"action": "upsert"}, json=upsert).raise_for_status()

    again = run_watched(corner.options(strategy="auto"), environment, tmp_path / "run", at_request=write)
    assert again.status == 0, again.text
    assert "were written to in 'notes' and, by an alias, in 'notes__2', whose content stands: n12, n5, n6" in again.text
    corner.expected["n5"] = {**corner.expected["n5"], "text": "first", "title": "second"}
    corner.expected["n6"] = upsert
    corner.expected["n7"] = {**old["n7"], "text": "by its own name"}
    corner.expected["n12"] = {**corner.expected["n12"], "text": "third"}
    del corner.expected["n13"]
    corner.check_swapped(TARGET)
