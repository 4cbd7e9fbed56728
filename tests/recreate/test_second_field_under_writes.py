"""A second field is filled while an application writes and searches, until it switches and the run is finished."""

from __future__ import annotations

import json
import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from migration.strategies.second_field.mark import next_of
from tests.forkserver import start_module
from tests.providers import OpenAIStandIn
from tests.world import MODULE, World, as_float32, made_up, openai, text_of

NAME, OLD, NEW = "context_stores", "prompt_embedding", "prompt_embedding_v2"
DIMENSIONS, TARGET = 64, 128


@dataclass
class Application:
    """Writes a document and searches, again and again, by one field and its model; then by the next one.

    Attributes:
        world: the server.
        provider: of the new model.
        documents: as they stand, vectors aside, by what was acknowledged.
        uses: the field that it writes and searches by.
        searched: how often, by field.
        wrong: searches that were not answered, or not by the field's own vectors.
    """

    world: World
    provider: OpenAIStandIn
    documents: dict[str, dict[str, Any]]
    uses: str = OLD
    searched: dict[str, int] = field(default_factory=lambda: {OLD: 0, NEW: 0})
    wrong: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)
    switching: threading.Lock = field(default_factory=threading.Lock)

    def vector(self, text: str) -> list[float]:
        """Of a text, by the model that goes with the field."""
        if self.uses == NEW:
            return [float(x) for x in self.provider.vector_for(text, dimensions=TARGET)]
        pick = np.random.default_rng(abs(hash(text)))
        return [round(float(x), 6) for x in pick.normal(size=DIMENSIONS)]

    def write(self) -> None:
        """Add, change and delete documents."""
        chance = random.Random(1)  # noqa: S311 - repeatable, not secret
        with httpx.Client(base_url=self.world.url, headers={"X-TYPESENSE-API-KEY": self.world.key}) as http:
            number = 0
            while not self.ended.wait(0.02):
                number += 1
                kind = chance.choice(["add", "change", "delete"]) if number % 3 else "add"
                id_ = f"w{number}" if kind == "add" else chance.choice(sorted(self.documents)[20:])
                path = f"/collections/{NAME}/documents"
                with self.switching:
                    if kind == "delete":
                        http.delete(f"{path}/{id_}").raise_for_status()
                        self.documents.pop(id_)
                        continue
                    like = self.documents[id_] if kind == "change" else next(iter(self.documents.values()))
                    document = {**like, "id": id_, "prompt_text": f"what was written at {number}?"}
                    line = document | {self.uses: self.vector(document["prompt_text"])}
                    action = "create" if kind == "add" else "update"
                    answer = http.post(f"{path}/import", params={"action": action}, content=json.dumps(line))
                    assert answer.json()["success"], answer.text
                    self.documents[id_] = document

    def search(self, known: dict[str, list[float]]) -> None:
        """Look for documents by their own vectors in the field: they are nearest, and in its own space."""
        with httpx.Client(base_url=self.world.url, headers={"X-TYPESENSE-API-KEY": self.world.key}) as http:
            ids = sorted(known)
            while not self.ended.wait(0.005):
                with self.switching:
                    by, id_ = self.uses, random.choice(ids)  # noqa: S311
                    text = self.documents[id_]["prompt_text"]
                    vector = known[id_] if by == OLD else self.vector(text)
                    query = f"{by}:([{','.join(map(repr, vector))}], k:5)"
                    search = {"collection": NAME, "q": "*", "vector_query": query, "include_fields": "id"}
                    (answer,) = http.post("/multi_search", json={"searches": [search]}).json()["results"]
                    self.searched[by] += 1
                    hits = {hit["document"]["id"]: hit["vector_distance"] for hit in answer.get("hits", [])}
                    if abs(hits.get(id_, 1.0)) > 1e-3:
                        self.wrong.append(f"{by}: {id_} not among {answer}"[:300])


def test_no_search_meets_two_models_and_nothing_that_is_written_is_lost(
    world: World, provider: OpenAIStandIn, tmp_path: Path
) -> None:
    world.fill(made_up(questions=400), DIMENSIONS)
    standing = world.documents(NAME)
    # These the application leaves alone, so that a search knows what must come up.
    known = {id_: standing[id_][OLD] for id_ in sorted(standing)[:20]}
    bare = {id_: {k: v for k, v in document.items() if k != OLD} for id_, document in standing.items()}
    application = Application(world, provider, bare)
    threads = [
        threading.Thread(target=application.write),
        threading.Thread(target=application.search, args=(known,)),
    ]
    environment = world.environment(**openai(provider, TARGET))
    world.home.parent.mkdir(parents=True, exist_ok=True)
    out, err = tmp_path / "out.txt", tmp_path / "err.txt"
    status: list[int] = []
    arguments = ["--collections", NAME, "--into", "{field}_v2", "--follow", "1"]

    def follow() -> None:
        status.append(start_module(MODULE, arguments, environment, world.home.parent, out, err).wait())

    run = threading.Thread(target=follow)
    try:
        for thread in threads:
            thread.start()
        run.start()
        deadline = time.monotonic() + 60
        while (mark := next_of(world.schema(NAME))) is None or mark.phase != "waiting":
            assert time.monotonic() < deadline, err.read_text()
            time.sleep(0.1)
        while not (late := _lacking(world)) and time.monotonic() < deadline:
            time.sleep(0.02)  # The application still writes by the old field alone.
        assert late
        with application.switching:
            while _lacking(world):
                assert time.monotonic() < deadline, err.read_text()
                time.sleep(0.1)  # The run follows.
            application.uses = NEW
        time.sleep(0.3)
        done = world.run("finish", "--yes", module="migration")
        assert done.status == 0, done.text
        run.join(30)
        assert status == [0], err.read_text()
    finally:
        application.ended.set()
        for thread in threads:
            thread.join(30)
        run.join(60)
    assert application.wrong == []
    assert min(application.searched.values()) > 10
    now = world.documents(NAME)
    assert now.keys() == application.documents.keys()
    for id_, document in now.items():
        expected = provider.vector_for(text_of(NAME, document), dimensions=TARGET).tobytes()
        assert as_float32(document.pop(NEW)) == expected, id_
        assert document == application.documents[id_]


def _lacking(world: World) -> list[str]:
    return [id_ for id_, document in world.documents(NAME).items() if NEW not in document]
