"""Notes behind two aliases, which nothing refers to, and what must be true of them after each step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from migration.strategies.context import MigrationOptions
from tests.providers.standin import StandIn
from tests.providers.vectors import vector_for
from tests.recreate.small import MODEL, NAME, OLD_DIMENSIONS, SOURCES, SmallWorld, notes, schemas, text_of
from tests.world import SETS, Document, World, as_float32

OLD, NEW, BASE = "notes", "notes__2", "notes__2__base"
ALIAS, OTHER_ALIAS = "articles", "current"

COLLECTIONS_FILE = """
[articles]
embedding_field = "vector"
template = "{title}: {text}"
filter_by = "draft:=false"
"""


class Corner(SmallWorld):
    """The small world without links, with two aliases."""

    def __init__(self, world: World, provider: StandIn, folder: Path) -> None:
        super().__init__(world, provider, folder)
        self.file.write_text(COLLECTIONS_FILE)

    def fill(self, count: int = 40, *, late: bool = False, **vector: Any) -> None:
        """Everything from the beginning."""
        super().fill(count, late=late, **vector)
        self.world.http.delete("/collections/links").raise_for_status()
        self.world.http.put(f"/aliases/{ALIAS}", json={"collection_name": OLD}).raise_for_status()
        assert NAME == OLD

    def options(self, **more: Any) -> MigrationOptions:
        """Of a run over the notes."""
        return MigrationOptions(collections=(ALIAS,), collections_file=self.file, **{"strategy": "alias"} | more)

    def names(self) -> set[str]:
        """Of all collections but the sources."""
        return {schema["name"] for schema in self.world.http.get("/collections").json()} - {SOURCES}

    def aliases(self) -> dict[str, str]:
        """Where each leads."""
        return {a["name"]: a["collection_name"] for a in self.world.http.get("/aliases").json()["aliases"]}

    def check_swapped(
        self,
        dimensions: int,
        model: str = MODEL,
        *,
        documents: dict[str, Document] | None = None,
        written: bool = False,
    ) -> None:
        """Both aliases lead to the whole new collection, and the old one stands as it was, but for its mark."""
        assert self.names() == {OLD, NEW, BASE}
        assert self.aliases() == {ALIAS: NEW, OTHER_ALIAS: NEW}
        expected = self.expected if documents is None else documents
        self.check_contents(NEW, expected, dimensions, model, written=written)
        self.check_schema_of(NEW, dimensions)
        self.check_schema_of(OLD, OLD_DIMENSIONS)
        self.check_curation(NEW)

    def check_finished(
        self, dimensions: int, model: str = MODEL, *, documents: dict[str, Document] | None = None
    ) -> None:
        """Nothing but the new collection is left, and no trace of the run but the model's signature."""
        assert self.names() == {NEW}
        assert self.aliases() == {ALIAS: NEW, OTHER_ALIAS: NEW}
        self.check_contents(NEW, self.expected if documents is None else documents, dimensions, model)
        self.check_schema_of(NEW, dimensions)
        self.check_curation(NEW)
        assert "kai_migration" not in self.world.schema(NEW)["metadata"]

    def check_back(self, documents: dict[str, Document] | None = None) -> None:
        """Nothing but the old collection is left, with the vectors that it had; others only where it has no such."""
        assert self.names() == {OLD}
        assert self.aliases() == {ALIAS: OLD, OTHER_ALIAS: OLD}
        expected = self.expected if documents is None else documents
        now = self.world.documents(OLD)
        assert set(now) == set(expected)
        for id_, document in now.items():
            wanted = {k: v for k, v in expected[id_].items() if k != "vector"}
            assert {k: v for k, v in document.items() if k != "vector"} == wanted
            if self.expected.get(id_) is expected[id_]:
                assert document.get("vector") == expected[id_].get("vector"), id_
        self.check_schema_of(OLD, OLD_DIMENSIONS)
        self.check_curation(OLD)
        assert "kai_migration" not in self.world.schema(OLD)["metadata"]

    def check_contents_are_old(self, name: str) -> None:
        """The notes stand there as they were filled in, vectors and all."""
        assert self.world.documents(name) == {
            id_: {k: v for k, v in note.items() if k != "vector" or v is not None}
            for id_, note in self.expected.items()
        }

    def check_contents(
        self, name: str, expected: dict[str, Document], dimensions: int, model: str = MODEL, *, written: bool = False
    ) -> None:
        """These notes and no others stand there, each eligible one with exactly the target's vector."""
        now = self.world.documents(name)
        assert set(now) == set(expected)
        for id_, document in now.items():
            vector = document.pop("vector", None)
            assert document == {key: value for key, value in expected[id_].items() if key != "vector"}
            if not document["draft"]:
                wanted = vector_for(text_of(document), model=model, dimensions=dimensions).tobytes()
                assert as_float32(vector) == wanted, id_
            elif dimensions == OLD_DIMENSIONS and not written:
                assert vector == expected[id_].get("vector"), id_
            else:
                assert vector is None or written or dimensions == OLD_DIMENSIONS, id_

    def check_schema_of(self, name: str, dimensions: int) -> None:
        """The schema is what it was but for `num_dim`; metadata too, but for the model's signature and our mark."""
        schema = self.world.schema(name)
        wanted = schemas(dimensions, **self._vector)[1]
        metadata = {k: v for k, v in schema["metadata"].items() if k not in ("embedding", "kai_migration")}
        assert metadata == wanted["metadata"]
        fields = {f["name"]: f for f in schema["fields"]}
        for spec in wanted["fields"]:
            found = fields.pop(spec["name"])
            assert {key: found.get(key) for key in spec} == spec
        assert all(field.startswith("properties.") for field in fields)
        for key in ("symbols_to_index", "token_separators", "enable_nested_fields"):
            assert schema[key] == wanted[key]

    def check_curation(self, name: str) -> None:
        """Synonyms and curations are there; nobody has made or removed a set."""
        synonyms, overrides = self.world.curation(name)
        assert {id_: part["synonyms"] for id_, part in synonyms.items()} == {"houses": ["roof", "house"]}
        assert list(overrides) == ["doors"]
        if self.world.has_sets:
            found = [[s["name"] for s in self.world.http.get(f"/{kind}").json()] for kind in SETS]
            assert found == [["words"], ["pins"]]


def written(number: int, **more: Any) -> Document:
    """A note that the application writes."""
    return {
        "id": f"w{number}",
        "source_id": f"s{number % 3}",
        "title": f"written {number}",
        "text": f"while it was migrated, {number}",
        "draft": False,
        **more,
    }


__all__ = ["ALIAS", "BASE", "NEW", "OLD", "OLD_DIMENSIONS", "OTHER_ALIAS", "Corner", "notes", "written"]
