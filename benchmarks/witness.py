"""An application that searches and writes while a migration is under way, and keeps account of what it got.

It embeds by the old model and by the new one at once, and counts a moment as good if one of the two finds every
document of a sample at its own place: an application that switches at the right moment would never have been without a
right answer. What mixes two models, or lacks documents, is good by neither.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx
import orjson

from benchmarks.processes import PROVIDER_KEY, Provider
from benchmarks.scene import FIELD, Scene

_SAMPLE: Final = 6
_BETWEEN_SEARCHES: Final = 0.01
_SAME_PLACE: Final = 1e-3
WRITES_A_SECOND: Final = 40


@dataclass(frozen=True, slots=True)
class Account:
    """What an application met.

    Attributes:
        searches: how often it asked.
        longest_wrong_seconds: longest time from one moment with right answers to the next.
        written: documents whose creation was acknowledged.
        refused: documents that the server did not take.
        lost: acknowledged documents that are not there at the end.
    """

    searches: int
    longest_wrong_seconds: float
    written: int
    refused: int
    lost: int


class Witness:
    """Searches and writes until it is told to stop.

    Args:
        where: the collection, filled.
        name: by which the application knows it.
        fields: by which it searches with the old model, and with the new one.
        old, new: vectors of the sample by document id.
    """

    def __init__(
        self,
        where: Scene,
        name: str,
        fields: tuple[str, str],
        old: Mapping[str, Sequence[float]],
        new: Mapping[str, Sequence[float]],
    ) -> None:
        self._where, self._name = where, name
        of_each = zip(fields, (old, new), strict=True)
        self._questions = [[(field, question) for question in by.items()] for field, by in of_each]
        self._ended = threading.Event()
        self._searches = self._refused = 0
        self._longest = 0.0
        self._written: list[str] = []
        self._threads = [threading.Thread(target=each) for each in (self._search, self._write)]

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Search and write while the block runs."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._ended.set()
            for thread in self._threads:
                thread.join()

    def account(self) -> Account:
        """What it met, and what is there now."""
        answer = self._where.http.get(
            f"/collections/{self._name}/documents/export", params={"include_fields": "id", "filter_by": ""}
        )
        there = {orjson.loads(line)["id"] for line in answer.content.splitlines() if line}
        lost = len(set(self._written) - there)
        return Account(self._searches, self._longest, len(self._written), self._refused, lost)

    def _search(self) -> None:
        good_at = time.monotonic()
        with self._connection() as http:
            while not self._ended.wait(_BETWEEN_SEARCHES):
                begun = time.monotonic()
                is_good = any(self._is_right(http, questions) for questions in self._questions)
                self._searches += 1
                if is_good:
                    self._longest = max(self._longest, begun - good_at)
                    good_at = time.monotonic()
        self._longest = max(self._longest, time.monotonic() - good_at)

    def _is_right(self, http: httpx.Client, questions: Sequence[tuple[str, tuple[str, Sequence[float]]]]) -> bool:
        """Whether each document of the sample is found at its own place."""
        searches = [
            {
                "collection": self._name,
                "q": "*",
                "per_page": 5,
                "include_fields": "id",
                "vector_query": f"{field}:([{','.join(map(repr, vector))}], k:5)",
            }
            for field, (_, vector) in questions
        ]
        try:
            results = http.post("/multi_search", json={"searches": searches}).json()["results"]
            found = [
                {hit["document"]["id"]: hit["vector_distance"] for hit in result.get("hits", ())} for result in results
            ]
        except (httpx.HTTPError, KeyError, ValueError):
            return False
        return all(abs(hits.get(id_, 1.0)) < _SAME_PLACE for hits, (_, (id_, _)) in zip(found, questions, strict=True))

    def _write(self) -> None:
        number = 0
        with self._connection() as http:
            while not self._ended.wait(1 / WRITES_A_SECOND):
                number += 1
                document = {"id": f"written-{number}", "question": f"What was asked {number}?", "created_at": "now"}
                try:
                    answer = http.post(f"/collections/{self._name}/documents", json=document)
                except httpx.HTTPError:
                    continue  # Whether it was taken nobody knows.
                if answer.status_code == httpx.codes.CREATED:
                    self._written.append(document["id"])
                else:
                    self._refused += 1

    def _connection(self) -> httpx.Client:
        return httpx.Client(
            base_url=self._where.server.url, headers={"X-TYPESENSE-API-KEY": self._where.server.key}, timeout=60
        )


def sample_of(where: Scene, provider: Provider) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Some documents' vectors as they stand, and as the new model makes them, by id."""
    step = max(1, where.documents // _SAMPLE)
    ids = [str(number) for number in range(0, where.documents, step)][:_SAMPLE]
    standing: list[dict[str, Any]] = [
        where.http.get(f"/collections/{where.name}/documents/{id_}").json() for id_ in ids
    ]
    answer = httpx.post(
        f"{provider.base}/embeddings",
        headers={"Authorization": f"Bearer {PROVIDER_KEY}"},
        json={
            "model": "text-embedding-3-small",
            "input": [each["question"] for each in standing],
            "dimensions": where.dimensions,
            "encoding_format": "float",
        },
        timeout=60,
    )
    answer.raise_for_status()
    new = [each["embedding"] for each in answer.json()["data"]]
    return {each["id"]: each[FIELD] for each in standing}, dict(zip(ids, new, strict=True))
