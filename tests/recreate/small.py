"""A small world with everything that a recreate could lose: attributes, joins, aliases, metadata, curation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from migration.strategies.context import MigrationOptions
from tests.providers.standin import StandIn
from tests.providers.vectors import vector_for
from tests.world import SETS, Document, World, as_float32, field, openai

NAME, LINKS, SOURCES = "notes", "links", "sources"
OLD_DIMENSIONS = 16
DELETED = ("n3", "n4", "n11")
"""Their sequence numbers are missing, so that a recreated collection gives the others different ones."""
NOWHERE = "nowhere"
"""A note that is never there."""
MODEL = "text-embedding-3-small"

COLLECTIONS_FILE = """
[notes]
embedding_field = "vector"
template = "{title}: {text}"
filter_by = "draft:=false"
"""


def schemas(dimensions: int = OLD_DIMENSIONS, *, late: bool = False, **vector: Any) -> list[dict[str, Any]]:
    """The collections; `vector` changes the embedding field's attributes.

    Where links may be `late`, one of their references is asynchronous.
    """
    return [
        {"name": SOURCES, "fields": [field("label")]},
        {
            "name": NAME,
            "enable_nested_fields": True,
            "symbols_to_index": ["+"],
            "token_separators": ["-"],
            "metadata": {"owner": {"team": "search"}, "revision": 7},
            "fields": [
                field("source_id", reference=f"{SOURCES}.id"),
                field("title", infix=True, stem=True, locale="en"),
                field("text"),
                field("draft", "bool", facet=True),
                field("rank", "int32", range_index=True, optional=True),
                field(
                    "vector",
                    "float[]",
                    **{
                        "num_dim": dimensions,
                        "optional": True,
                        "vec_dist": "ip",
                        "hnsw_params": {"M": 8, "ef_construction": 100},
                        **vector,
                    },
                ),
                field("properties", "object", optional=True),
            ],
        },
        {
            "name": LINKS,
            "fields": [
                field("note_id", reference=f"{NAME}.id"),
                field("others", "string[]", reference=f"{NAME}.id", optional=True, async_reference=late),
            ],
        },
    ]


def notes(count: int = 40, *, all_with_vector: bool = False) -> list[Document]:
    """Documents with and without a vector, outside the filter, with attributes that the schema does not know."""
    numbers = np.random.default_rng(3)
    made: list[Document] = []
    for number in range(count):
        note: Document = {
            "id": f"n{number}",
            "source_id": f"s{number % 3}",
            "title": f"note {number}",
            "text": f"what was said about the {('roof', 'garden', 'cellar', 'door')[number % 4]} in week {number}",
            "draft": number % 5 == 4,
            "unknown": {"to the schema": [number, None, "ü"]},
            "vector": [round(float(x), 6) for x in numbers.normal(size=OLD_DIMENSIONS)],
        }
        if number % 3:
            note["rank"] = number
            note["properties"] = {"deep": {"n": number, "list": [0.5, 2.5]}}
        if number in (7, 8) and not all_with_vector:
            note["vector"] = None if number == 7 else note.pop("vector") and None
        made.append({key: value for key, value in note.items() if value is not None or key != "vector"})
    return made


class SmallWorld:
    """Notes that refer to sources, and links that refer to notes, on a server.

    Attributes:
        world: the server.
        provider: whose vectors are right.
        expected: the notes as they must be, vectors aside.
        is_required: whether every note must have a vector.
    """

    def __init__(self, world: World, provider: StandIn, folder: Path) -> None:
        self.world = world
        self.provider = provider
        self.folder = folder
        self.expected: dict[str, Document] = {}
        self._vector: dict[str, Any] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / "collections.toml"
        self.file.write_text(COLLECTIONS_FILE)

    @property
    def is_required(self) -> bool:
        return not self._vector.get("optional", True)

    def fill(self, count: int = 40, *, late: bool = False, **vector: Any) -> None:
        """Everything from the beginning; `late` links also name a note that is not there."""
        self._vector = vector
        self.world.clear()
        http = self.world.http
        for schema in schemas(late=late, **vector):
            http.post("/collections", json=schema).raise_for_status()
        self.world.import_(SOURCES, [{"id": f"s{number}", "label": f"source {number}"} for number in range(3)])
        everything = notes(count, all_with_vector=self.is_required)
        self.world.import_(NAME, everything)
        for document_id in DELETED:
            http.delete(f"/collections/{NAME}/documents/{document_id}").raise_for_status()
        self.expected = {note["id"]: note for note in everything if note["id"] not in DELETED}
        ids = list(self.expected)
        self.world.import_(
            LINKS,
            [
                {
                    "id": f"l{number}",
                    "note_id": id_,
                    "others": [ids[number // 2], ids[-1 - number], *([NOWHERE] if late else [])],
                }
                for number, id_ in enumerate(ids)
            ],
        )
        http.put("/aliases/current", json={"collection_name": NAME}).raise_for_status()
        override = {"rule": {"query": "door", "match": "exact"}, "includes": [{"id": "n1", "position": 1}]}
        self.world.curate(NAME, {"houses": {"synonyms": ["roof", "house"]}}, {"doors": override})

    def write_orphan(self, document_id: str) -> None:
        """A note whose source is gone, which the server still has and no copy of the collection takes."""
        note = {key: value for key, value in self.expected["n2"].items() if key != "vector"}
        self.world.import_(SOURCES, [{"id": "s9", "label": "for a moment"}])
        self.world.import_(NAME, [{**note, "id": document_id, "source_id": "s9"}])
        # Dropped whole, so that the server does not delete what refers there.
        self.world.http.delete(f"/collections/{SOURCES}").raise_for_status()
        self.world.http.post("/collections", json=schemas()[0]).raise_for_status()
        self.world.import_(SOURCES, [{"id": f"s{number}", "label": f"source {number}"} for number in range(3)])

    def options(self, **more: Any) -> MigrationOptions:
        """Of a run over the notes."""
        return MigrationOptions(collections=(NAME,), collections_file=self.file, **more)

    def environment(self, dimensions: int, home: Path, model: str = MODEL) -> dict[str, str]:
        """Of a run to this target."""
        chosen = openai(self.provider, dimensions, model)
        return self.world.environment(**chosen) | {"MIGRATION_HOME": str(home)}

    def arguments(self, *more: str) -> list[str]:
        """Of the command line."""
        return ["--collections", NAME, "--collections-file", str(self.file), *more]

    def check(
        self,
        dimensions: int,
        model: str = MODEL,
        *,
        documents: dict[str, Document] | None = None,
        links: bool = True,
        kept: str = "",
    ) -> None:
        """Everything is there, right, and nothing is left behind."""
        expected = self.expected if documents is None else documents
        check_documents(self.world, expected, dimensions, model, is_required=self.is_required)
        self.check_schema(dimensions)
        if links:
            assert wrong_joins(self.world) == {}
        names = {schema["name"] for schema in self.world.http.get("/collections").json()}
        assert names == {SOURCES, NAME, LINKS} | ({kept} if kept else set())
        assert self.world.http.get("/aliases").json()["aliases"] == [{"name": "current", "collection_name": NAME}]
        synonyms, overrides = self.world.curation(NAME)
        assert {id_: part["synonyms"] for id_, part in synonyms.items()} == {"houses": ["roof", "house"]}
        assert list(overrides) == ["doors"]
        if self.world.has_sets:
            schema = self.world.schema(NAME)
            assert {kind: schema[kind] for kind in SETS} == {kind: [name] for kind, name in SETS.items()}
            assert [[s["name"] for s in self.world.http.get(f"/{kind}").json()] for kind in SETS] == [
                ["words"],
                ["pins"],
            ]

    def check_schema(self, dimensions: int) -> None:
        """The schema is what it was but for `num_dim`; metadata too, but for the model's signature."""
        schema = self.world.schema(NAME)
        wanted = schemas(dimensions, **self._vector)[1]
        metadata = dict(schema["metadata"])
        metadata.pop("embedding", None)
        assert metadata == wanted["metadata"]
        fields = {f["name"]: f for f in schema["fields"]}
        for spec in wanted["fields"]:
            found = fields.pop(spec["name"])
            assert {key: found.get(key) for key in spec} == spec
            assert {**found, **spec} == found
        assert all(name.startswith("properties.") for name in fields)
        for key in ("symbols_to_index", "token_separators", "enable_nested_fields"):
            assert schema[key] == wanted[key]

    def untouched(self) -> None:
        """The notes are exactly as they were filled in, and nothing else is there."""
        now = self.world.documents(NAME)
        assert list(now) == list(self.expected)
        for id_, document in now.items():
            assert document == {k: v for k, v in self.expected[id_].items() if k != "vector" or v is not None}
        self.check_schema(OLD_DIMENSIONS)
        assert "kai_migration" not in self.world.schema(NAME)["metadata"]
        assert {s["name"] for s in self.world.http.get("/collections").json()} == {SOURCES, NAME, LINKS}
        assert wrong_joins(self.world) == {}


def text_of(note: Document) -> str:
    """What is embedded of a note, written down a second time."""
    return f"{note['title']}: {note['text']}"


def check_documents(
    world: World,
    expected: dict[str, Document],
    dimensions: int,
    model: str = MODEL,
    *,
    written: bool = False,
    is_required: bool = False,
) -> None:
    """These notes and no others stand there, each eligible one with exactly the target's vector.

    Where a vector `is_required`, those outside the filter may have it, too, instead of their own. Where an
    application has `written`, the order is its own, and so are vectors of documents outside the filter.
    """
    now = world.documents(NAME)
    assert set(now) == set(expected)
    assert written or list(now) == list(expected)
    for id_, document in now.items():
        vector = document.pop("vector", None)
        assert document == {key: value for key, value in expected[id_].items() if key != "vector"}
        wanted = vector_for(text_of(document), model=model, dimensions=dimensions).tobytes()
        if not document["draft"]:
            assert as_float32(vector) == wanted, id_
        elif is_required:
            assert as_float32(vector) in (wanted, as_float32(expected[id_].get("vector"))), id_
        elif dimensions == OLD_DIMENSIONS:
            # Come back to the old length before the drop, it has what it had; after the drop it has none.
            assert vector in (None, expected[id_].get("vector")), id_
        else:
            assert vector is None or written, id_


def wrong_joins(world: World) -> dict[str, Any]:
    """Links whose joins lead to other notes than they name: id -> (what they name, where they lead)."""
    wrong = {}
    page = world.http.get(
        f"/collections/{LINKS}/documents/search",
        params={"q": "*", "per_page": 250, "include_fields": f"*,${NAME}(id)"},
    )
    page.raise_for_status()
    for hit in page.json()["hits"]:
        link = hit["document"]
        joined = link.get(NAME)
        found = json.dumps(joined, ensure_ascii=False)
        named = [id_ for id_ in (link["note_id"], *link.get("others", [])) if id_ != NOWHERE]
        if any(json.dumps(name, ensure_ascii=False) not in found for name in named):
            wrong[link["id"]] = (named, joined)
    return wrong
