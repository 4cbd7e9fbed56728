"""The documents of a benchmark, and the collection that they are in."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import numpy as np
import orjson

from benchmarks.processes import BenchmarkError, Server

FIELD: Final = "embedding"
SECOND: Final = "embedding_v2"
TEMPLATE: Final = "{question}"
PAGE: Final = 250
_SQL: Final = """
    SELECT extract(week FROM ordered_on) AS week, count(*), avg(delivered_on - due_on)
    FROM orders WHERE delivered_on > due_on GROUP BY week HAVING customer_id = """
_DISTINCT_VECTORS: Final = 2_000
"""Made-up vectors that differ; they are repeated, so that making them takes no time beside using them."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A collection of the benchmark's own on a server.

    Attributes:
        server: where it is.
        name: of the collection.
        documents: how many it has.
        dimensions: of the vectors that it is to have.
        stored: of those that it has.
        http: connections to the server, key included.
    """

    server: Server
    name: str
    documents: int
    dimensions: int
    stored: int
    http: httpx.Client

    @property
    def alias(self) -> str:
        """A name that leads to the collection once `point_alias` has made it."""
        return f"{self.name}_alias"

    def point_alias(self) -> None:
        """Make the alias."""
        self.http.put(f"/aliases/{self.alias}", json={"collection_name": self.name}).raise_for_status()

    def question(self, number: int) -> str:
        """The text of a document: about 20 tokens, no two alike."""
        return (
            f"How many orders of customer {number} were delivered late in week {number % 53}, "
            f"and by how many days on average?"
        )

    def create(self, dimensions: int) -> None:
        """Create the collection, without documents."""
        fields: list[dict[str, Any]] = [
            {"name": "question", "type": "string"},
            {"name": "sql", "type": "string", "index": False, "optional": True},
            {"name": "created_at", "type": "string"},
            self.vector_field(dimensions),
        ]
        self.http.post("/collections", json={"name": self.name, "fields": fields}).raise_for_status()

    def vector_field(self, dimensions: int, name: str = FIELD) -> dict[str, Any]:
        """The field of the embedding, or a second one, of vectors of this length."""
        return {"name": name, "type": "float[]", "num_dim": dimensions, "optional": True}

    def change_fields(self, fields: list[dict[str, Any]]) -> None:
        """Change the schema, and return when that is done."""
        self.http.patch(f"/collections/{self.name}", json={"fields": fields}).raise_for_status()

    def beside(self, word: str) -> Scene:
        """Another collection on the server, whose name has this word behind it."""
        return replace(self, name=f"{self.name}_{word}")

    def delete(self) -> None:
        """Delete the collection, if it is there."""
        self.http.delete(f"/collections/{self.name}")

    def clear(self) -> None:
        """Delete the collection, its alias, and whatever has come up under a name that begins with its own."""
        self.http.delete(f"/aliases/{self.alias}")
        for found in self.http.get("/collections").json():
            if found["name"].startswith(self.name):
                self.http.delete(f"/collections/{found['name']}")

    def export(self, *, without: str = "") -> None:
        """Read every document, perhaps without one of its fields."""
        params = {"exclude_fields": without} if without else {}
        with self.http.stream("GET", f"/collections/{self.name}/documents/export", params=params) as answer:
            answer.raise_for_status()
            for _ in answer.iter_raw():
                pass

    def search(self, field: str = FIELD) -> None:
        """Search by a vector: the first time after writes, the sandbox makes its index."""
        vector = ",".join(["0.5"] * self.dimensions)
        search = {"collection": self.name, "q": "*", "per_page": 1, "vector_query": f"{field}:([{vector}])"}
        self.http.post("/multi_search", json={"searches": [search]}).raise_for_status()

    def fill(self) -> None:
        """Create the documents, with vectors of no model."""
        for lines in self.whole_lines(1, self.stored):
            self.import_body(b"\n".join(lines), "create")

    def whole_lines(self, seed: int, dimensions: int) -> Iterator[list[bytes]]:
        """Lines of imports that create every document, a page at a time."""
        numbers = iter(range(self.documents))
        for lines in self.update_lines(seed, dimensions):
            created: list[bytes] = []
            for line in lines:
                number = next(numbers)
                rest = {
                    "question": self.question(number),
                    "sql": f"{_SQL}{number}",
                    "created_at": "2026-02-09T09:00:00",
                }
                created.append(b"".join((line[:-1], b",", orjson.dumps(rest)[1:])))
            yield created

    def update_lines(self, seed: int, dimensions: int | None = None, field: str = FIELD) -> Iterator[list[bytes]]:
        """Lines of imports that give every document another vector, a page at a time."""
        numbers = np.random.default_rng(seed).standard_normal((_DISTINCT_VECTORS, dimensions or self.dimensions))
        numbers /= np.linalg.norm(numbers, axis=1, keepdims=True)
        vectors = [orjson.dumps(v, option=orjson.OPT_SERIALIZE_NUMPY) for v in numbers.astype(np.float32)]
        for start in range(0, self.documents, PAGE):
            yield [
                b'{"id":"%d","%s":%s}' % (number, field.encode(), vectors[number % _DISTINCT_VECTORS])
                for number in range(start, min(start + PAGE, self.documents))
            ]

    def import_body(self, body: bytes, action: str) -> None:
        """One import request; every line must be taken."""
        answer = self.http.post(f"/collections/{self.name}/documents/import", params={"action": action}, content=body)
        answer.raise_for_status()
        if b'"success":false' in answer.content:
            raise BenchmarkError(f"the server refuses documents: {answer.text[:300]}")

    def collections_file(self, folder: Path, name: str = "") -> Path:
        """What `--collections-file` needs to know of this collection, or of an alias of it."""
        file = folder / "collections.toml"
        described = f'[{name or self.name}]\nembedding_field = "{FIELD}"\ntemplate = "{TEMPLATE}"\n'
        file.write_text(described, encoding="utf-8")
        return file

    def environment(self) -> dict[str, str]:
        """The variables that lead to the server."""
        parts = urlsplit(self.server.url)
        return {
            "TYPESENSE_HOST": parts.hostname or "",
            "TYPESENSE_PORT": str(parts.port or (443 if parts.scheme == "https" else 80)),
            "TYPESENSE_PROTOCOL": parts.scheme,
            "TYPESENSE_API_KEY": self.server.key,
        }


@contextlib.contextmanager
def scene(server: Server, documents: int, dimensions: int, stored: int | None = None) -> Iterator[Scene]:
    """A filled collection under a name that nobody else has; gone when the block ends.

    Its vectors have the length `stored`, and are to have `dimensions`; the same where nothing is said.
    """
    name = f"benchmark_{os.getpid()}_{time.time_ns() // 1_000_000}_{documents}x{dimensions}"
    headers = {"X-TYPESENSE-API-KEY": server.key}
    with httpx.Client(base_url=server.url, headers=headers, timeout=600) as http:
        made = Scene(server, name, documents, dimensions, stored or dimensions, http)
        made.create(made.stored)
        try:
            made.fill()
            yield made
        finally:
            made.clear()
