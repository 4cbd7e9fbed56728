"""An application that writes as KAI does while its collection is migrated, and remembers what was acknowledged."""

from __future__ import annotations

import random
import threading
from collections import Counter
from types import TracebackType
from typing import Final, Self

import httpx
import numpy as np

from tests.real.corner import OLD, Corner, without_vector
from tests.world import Document

_PAUSE: Final = 1 / 12
"""Seconds between two writes."""


class Writer:
    """Inserts, changes and deletes notes inside a `with` block, from its own thread.

    Like KAI it lists the collections before every write and embeds by its old settings: what it inserts or changes
    has a vector of the old model and length, and is given up where the server refuses that.

    Attributes:
        expected: what must stand there after the writes that were acknowledged, vectors aside.
        acknowledged: how many of each kind were.
        refused: how many were not.
    """

    def __init__(self, corner: Corner, seed: int = 1) -> None:
        self.expected = {id_: without_vector(note) for id_, note in corner.filled.items()}
        self.acknowledged: Counter[str] = Counter()
        self.refused = 0
        self._corner = corner
        self._pick = random.Random(seed)  # noqa: S311
        self._numbers = np.random.default_rng(seed)
        self._own: list[str] = []
        self._stopping = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="application")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        if error is None and self._error is not None:
            raise self._error

    def _work(self) -> None:
        world, number = self._corner.world, 0
        try:
            with httpx.Client(base_url=world.url, headers=world.http.headers, timeout=120) as http:
                while not self._stopping.wait(_PAUSE):
                    number += 1
                    known = http.get("/collections").raise_for_status().json()
                    assert self._corner.notes in {schema["name"] for schema in known}
                    self._write(http, number)
        except BaseException as error:
            self._error = error

    def _write(self, http: httpx.Client, number: int) -> None:
        documents = f"/collections/{self._corner.notes}/documents"
        vector = [float(x) for x in self._numbers.normal(size=OLD)]
        kind = self._pick.choices(("insert", "change", "delete"), (5, 4, 2))[0]
        if kind == "delete" and self._own:
            # Only notes that nothing refers to: the server deletes what refers to a deleted one.
            id_ = self._own.pop(self._pick.randrange(len(self._own)))
            if self._took("delete", http.delete(f"{documents}/{id_}")):
                del self.expected[id_]
        elif kind == "change":
            id_ = self._pick.choice(sorted(self.expected))
            text = f"changed in write {number}"
            if self._took("change", http.patch(f"{documents}/{id_}", json={"text": text, "vector": vector})):
                self.expected[id_] = self.expected[id_] | {"text": text}
        else:
            note: Document = {
                "id": f"w{number}",
                "topic_id": f"t{number % 3}",
                "title": f"written {number}",
                "text": f"while it was migrated, {number}",
                "draft": False,
            }
            if self._took("insert", http.post(documents, json=note | {"vector": vector})):
                self.expected[note["id"]] = note
                self._own.append(note["id"])

    def _took(self, kind: str, answer: httpx.Response) -> bool:
        if answer.is_success:
            self.acknowledged[kind] += 1
        else:
            assert answer.status_code == 400 and "dimensions" in answer.text, answer.text
            self.refused += 1
        return answer.is_success
