"""An application that goes on writing while its collection is migrated, and keeps account of what was acknowledged.

It adds, changes and deletes documents at a random pace, in a process of its own. Like KAI it creates the
collection when it finds it missing, with its own idea of the dimensions.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import re
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, Literal

import httpx

from tests.recreate.small import NAME, OLD_DIMENSIONS, schemas
from tests.world import Document

Kind = Literal["add", "change", "delete"]
KINDS: tuple[Kind, ...] = ("add", "change", "delete")


Idea = Literal["wrong dimensions", "right dimensions", "another schema"]
"""What the application thinks the missing collection should be like."""
IDEAS: tuple[Idea, ...] = ("wrong dimensions", "right dimensions", "another schema")


def schema_of(idea: Idea, target: int) -> dict[str, Any]:
    """The collection as the application creates it, where `target` are the right dimensions."""
    schema = schemas(target if idea == "right dimensions" else OLD_DIMENSIONS)[1]
    if idea == "another schema":
        schema["fields"].append({"name": "extra", "type": "string", "optional": True})
    return schema


@dataclass(frozen=True, slots=True)
class Written:
    """One acknowledged write: what, when it was sent and answered (Unix time), and the whole document after it."""

    kind: Kind
    id: str
    sent: float
    answered: float
    document: Document | None


@dataclass(frozen=True, slots=True)
class Window:
    """A time that the run says it could not see: of new and deleted documents, and of changed ones."""

    since: float
    changes_since: float
    until: float

    def hides(self, write: Written) -> bool:
        """Whether this write may have been lost in it."""
        since = self.changes_since if write.kind == "change" else self.since
        return write.answered >= since and write.sent <= self.until


class Writer:
    """Writes from `start` to `stop`.

    Args:
        url, key: the server.
        documents: what stands there, vectors aside.
        schema: of the collection that it creates when it is missing.
        seed: of what it does.
        journal: a file for its account.
        pause: seconds between two writes, on average.
        name: by which it knows the collection, perhaps an alias.
    """

    def __init__(
        self,
        url: str,
        key: str,
        documents: dict[str, Document],
        *,
        schema: dict[str, Any],
        seed: int,
        journal: Path,
        pause: float = 0.004,
        name: str = NAME,
    ) -> None:
        self._name = name
        self._url, self._key = url, key
        self._standing = {id_: {k: v for k, v in d.items() if k != "vector"} for id_, d in documents.items()}
        self.before = dict(self._standing)
        self._schema = schema
        self._dimensions = next(field["num_dim"] for field in schema["fields"] if field["name"] == "vector")
        self._pick = random.Random(seed)  # noqa: S311
        self._journal = journal
        self._pause = pause
        context = multiprocessing.get_context("fork")
        self._stopping: Event = context.Event()
        self._process = context.Process(target=self._work, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._journal.write_text("")
        self._process.start()

    def stop(self) -> tuple[list[Written], int]:
        """End; every acknowledged write in its order, and how often the collection was created."""
        self._stopping.set()
        self._process.join(30)
        assert self._process.exitcode == 0, self._process.exitcode
        lines = [json.loads(line) for line in self._journal.read_text().splitlines()]
        return [Written(**line) for line in lines if line != "created"], lines.count("created")

    def expected(self, account: list[Written]) -> dict[str, Document]:
        """What must stand there after these writes."""
        standing = dict(self.before)
        for write in account:
            if write.document is None:
                standing.pop(write.id, None)
            else:
                standing[write.id] = write.document
        return standing

    # -- in the process --------------------------------------------------------------------------------

    def _work(self) -> None:
        number = 0
        headers = {"X-TYPESENSE-API-KEY": self._key}
        with (
            httpx.Client(base_url=self._url, headers=headers, timeout=60) as http,
            self._journal.open("a", buffering=1) as journal,
        ):
            while not self._stopping.is_set():
                number += 1
                kind = self._pick.choices(KINDS, (5, 5, 2))[0]
                ids = list(self._standing)
                if kind == "add" or not ids:
                    id_, document = f"w{number}", self._new(number)
                    kind = "add"
                else:
                    id_ = self._pick.choice(ids)
                    document = {**self._standing[id_], "text": f"changed in write {number}", "rank": number}
                sent = time.time()
                status = self._send(http, kind, id_, document)
                answered = time.time()
                if status == 404 and http.get(f"/collections/{self._name}").status_code == 404:
                    if http.post("/collections", json=self._schema).status_code == 201:
                        journal.write('"created"\n')
                    continue
                if status not in (200, 201):
                    continue
                if kind == "delete":
                    del self._standing[id_]
                else:
                    self._standing[id_] = document
                after = None if kind == "delete" else document
                journal.write(
                    json.dumps({"kind": kind, "id": id_, "sent": sent, "answered": answered, "document": after}) + "\n"
                )
                time.sleep(self._pick.expovariate(1 / self._pause))

    def _new(self, number: int) -> Document:
        return {
            "id": f"w{number}",
            "source_id": f"s{number % 3}",
            "title": f"written {number}",
            "text": f"while it was migrated, {number}",
            "draft": number % 7 == 0,
        }

    def _send(self, http: httpx.Client, kind: Kind, id_: str, document: Document) -> int:
        documents = f"/collections/{self._name}/documents"
        if kind == "delete":
            return http.delete(f"{documents}/{id_}").status_code
        if kind == "change" and self._pick.random() < 0.5:
            part = {"id": id_, "text": document["text"], "rank": document["rank"]}
            return http.patch(f"{documents}/{id_}", json=part).status_code
        body: dict[str, Any] = dict(document)
        if self._pick.random() < 0.5:
            body["vector"] = [0.25] * self._dimensions
        answer = http.post(documents, params={"action": "upsert"}, json=body)
        if answer.status_code == 400 and "dimensions" in answer.text:
            # Refused for its length: the application sends it without a vector.
            answer = http.post(documents, params={"action": "upsert"}, json=document)
        return answer.status_code


def windows(text: str, day: float) -> list[Window]:
    """The times that a run's output says it could not see; the clock's day is that of `day`."""
    midnight = day - day % 86400
    clock = r"(\d\d):(\d\d):(\d\d\.\d+)"
    found = []
    for match in re.finditer(rf"\(since {clock}(?: and {clock})?; dropped by {clock}\)", text):
        parts = match.groups()
        moments = [
            midnight + 3600 * int(h) + 60 * int(m) + float(s)
            for h, m, s in (parts[i : i + 3] for i in (0, 3, 6))
            if h is not None
        ]
        found.append(Window(moments[0], moments[1] if len(moments) == 3 else moments[0], moments[-1]))
    return found


def gap(text: str) -> float:
    """Seconds within which a document may have been written and deleted unseen, by a run's output."""
    return max((int(found) / 1000 for found in re.findall(r"unless both happened within (\d+) ms", text)), default=0.0)
