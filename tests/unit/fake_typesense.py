"""A collection in memory, with as much of `kai.typesense.Typesense` as a strategy asks of it; no server, no thread."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson
import tenacity

from kai.typesense import ImportAnswer, Schema, TypesenseError


class FakeTypesense:
    """One collection.

    Attributes:
        fields: of its schema.
        documents: by id, the oldest first.
        before_alter: called before each alter with its number, from 1: what an application does in that moment.
        before_import: the same for each import.
        alters: how many alters there were.
        imports: how many imports.
    """

    address = "http://fake:8108"
    lags = False
    lag = 0.0
    patience = 5.0

    def __init__(self, fields: Sequence[dict[str, Any]], documents: Mapping[str, dict[str, Any]]) -> None:
        self.fields = list(fields)
        self.documents = {id_: {"id": id_, **document} for id_, document in documents.items()}
        self.before_alter: Callable[[int], object] = lambda _: None
        self.before_import: Callable[[int], object] = lambda _: None
        self.alters = self.imports = 0

    def settle(self) -> None:
        """Nothing lags."""

    def backoff(self) -> tenacity.wait.wait_base:
        """At once."""
        return tenacity.wait_none()

    def pause(self, seconds: float) -> None:
        """Nothing need be waited for."""

    @contextlib.contextmanager
    def unstoppable(self) -> Iterator[None]:
        """Nobody stops anything."""
        yield

    def collection(self, name: str) -> Schema | None:
        """Its schema."""
        return {"name": name, "fields": self.fields, "num_documents": len(self.documents)}

    def count(self, name: str, filter_by: str = "") -> int:
        """All of its documents."""
        return len(self.documents)

    def schema_changes(self) -> list[dict[str, Any]]:
        """None under way."""
        return []

    def alter_fields(self, name: str, changes: Sequence[dict[str, Any]]) -> None:
        """Drop and add; refused while a document has a vector of another length, as the server does."""
        self.alters += 1
        self.before_alter(self.alters)
        dropped = {change["name"] for change in changes if change.get("drop")}
        added = [change for change in changes if not change.get("drop")]
        for new in added:
            values = [document.get(new["name"]) for document in self.documents.values()]
            if any(value is not None and len(value) != new["num_dim"] for value in values):
                raise TypesenseError("Schema change is incompatible with the documents already stored", status=400)
        self.fields = [known for known in self.fields if known["name"] not in dropped] + added

    def search(
        self, name: str, parameters: Mapping[str, Any], read: Callable[[bytes], Any] = orjson.loads
    ) -> dict[str, Any]:
        """A page of its documents, the newest first, or those of the ids that the filter names."""
        found = list(reversed(self.documents.values()))
        if wanted := parameters.get("filter_by"):
            named = re.findall("`([^`]*)`", wanted)
            found = [document for document in found if document["id"] in named]
        size = int(parameters["per_page"])
        first = (int(parameters.get("page", 1)) - 1) * size
        hits = [{"document": each} for each in found[first : first + size]]
        answer: dict[str, Any] = read(orjson.dumps({"found": len(found), "hits": hits}))
        return answer

    def export_lines(self, name: str, parameters: Mapping[str, str] | None = None) -> Iterator[bytes]:
        """All of its documents."""
        yield from [orjson.dumps(document) for document in self.documents.values()]

    def import_lines(
        self, name: str, lines: Sequence[bytes], action: str, *, whole: bool = False
    ) -> list[ImportAnswer]:
        """Update what is there; null takes a value away."""
        assert action == "update"
        self.imports += 1
        self.before_import(self.imports)
        return [self._update(orjson.loads(line)) for line in lines]

    def _update(self, change: dict[str, Any]) -> ImportAnswer:
        if change["id"] not in self.documents:
            return ImportAnswer(success=False, code=404, error=f"Could not find a document with id: {change['id']}")
        merged = self.documents[change["id"]] | change
        self.documents[change["id"]] = {key: value for key, value in merged.items() if value is not None}
        return ImportAnswer(success=True)
