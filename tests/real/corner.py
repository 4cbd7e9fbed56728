"""A corner of a server that belongs to one test: notes with vectors, and collections that refer to them.

Everything in it has a name that begins with the corner's prefix, so that a server on which others work may be
used. What the server holds is looked at over plain HTTP, without the code under test.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from tests.providers.standin import StandIn
from tests.world import Document, Finished, World, as_float32, field, openai

SCHEME: Final = "kaitest_"
"""What the name of every collection and alias of these tests begins with."""
OLD: Final = 64
"""Dimensions of the vectors that stand there first."""
NEW: Final = 96
"""Dimensions of the target where they change."""
NOWHERE: Final = "not-there-yet"
"""What one asynchronous reference leads to."""
_DELETED: Final = ("n3", "n4", "n11")
"""Their sequence numbers are missing, so that a recreated collection gives the others different ones."""
_DESCRIPTION: Final = """\
embedding_field = "vector"
template = "{title}: {text}"
filter_by = "draft:=false"
"""
_FOLLOWER: Final = 4
_LAG: Final = 1.0
"""Seconds after which a follower shows what was written through it; about half a second was seen."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where to test, and how large.

    Attributes:
        url: base address without a trailing slash.
        key: an API key for all actions.
        documents: notes of each corner.
        in_a_hurry: whether runs need not wait as they do on a real server.
    """

    url: str
    key: str
    documents: int
    in_a_hurry: bool = False


def names_on(world: World, beginning: str = SCHEME) -> list[str]:
    """The collections and aliases whose names begin like this."""
    collections = [schema["name"] for schema in world.http.get("/collections").raise_for_status().json()]
    aliases = [alias["name"] for alias in world.http.get("/aliases").raise_for_status().json()["aliases"]]
    return sorted(name for name in collections + aliases if name.startswith(beginning))


class Corner:
    """Topics, notes that refer to them, and links and mentions that refer to notes.

    Attributes:
        world: the server, and the command line.
        provider: whose vectors are right.
        notes: name of the embedded collection.
        links: name of the collection that refers to it.
        mentions: the same by asynchronous references, one of which leads nowhere yet.
        filled: the notes as they were filled in, vectors included.
    """

    def __init__(self, server: Server, provider: StandIn, folder: Path) -> None:
        self.world = World(server.url, server.key, folder / "home", in_a_hurry=server.in_a_hurry)
        self.provider = provider
        self.prefix = f"{SCHEME}{secrets.token_hex(4)}_"
        self.notes, self.links, self.mentions, self._topics, self._alias = (
            self.prefix + name for name in ("notes", "links", "mentions", "topics", "current")
        )
        self._documents = server.documents
        self.filled: dict[str, Document] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / "collections.toml"
        self.file.write_text(f"[{self.notes}]\n{_DESCRIPTION}")

    def fill(self) -> None:
        """Create everything; the server must have nothing of this prefix."""
        for schema in self._schemas():
            self.world.http.post("/collections", json=schema).raise_for_status()
        self.world.import_(self._topics, [{"id": f"t{number}", "name": f"topic {number}"} for number in range(3)])
        everything = made_up(self._documents)
        self.world.import_(self.notes, everything)
        for document_id in _DELETED:
            self.world.http.delete(f"/collections/{self.notes}/documents/{document_id}").raise_for_status()
        self.filled = {note["id"]: note for note in everything if note["id"] not in _DELETED}
        references = [{"id": f"to-{id_}", "note_id": id_} for id_ in self.filled]
        self.world.import_(self.links, references)
        self.world.import_(self.mentions, [*references, {"id": "early", "note_id": NOWHERE}])
        self.world.http.put(f"/aliases/{self._alias}", json={"collection_name": self.notes}).raise_for_status()
        self._schema = self.schema()
        assert self.documents() == self.filled
        self.check_surroundings()

    def remove(self) -> None:
        """Remove whatever has this prefix, aliases and shadows included, and close the connections."""
        self._settle()
        for name in names_on(self.world, self.prefix):
            path = "aliases" if name == self._alias else "collections"
            self.world.http.delete(f"/{path}/{name}").raise_for_status()
        self._settle()
        self.world.close()

    def run(self, *arguments: str, dimensions: int) -> Finished:
        """A migration of the notes to this length; any exit status."""
        return self.world.run(*self.arguments(*arguments), **openai(self.provider, dimensions))

    def arguments(self, *more: str) -> list[str]:
        """Of the migration's command line."""
        return ["--collections-file", str(self.file), *more]

    def environment(self, dimensions: int) -> dict[str, str]:
        """Of a migration to this length."""
        return self.world.environment(**openai(self.provider, dimensions))

    def kai_migrate(self, *arguments: str) -> Finished:
        """A command of `kai-migrate` that must succeed."""
        done = self.world.run(*arguments, "--collections-file", str(self.file), module="migration")
        assert done.status == 0, done.text
        return done

    def way(self) -> str:
        """By which strategy the latest run went."""
        shown = self.world.run("show", "latest", "--json", module="migration")
        assert shown.status == 0, shown.text
        return str(json.loads(shown.out)["collections"][0]["strategy"])

    # -- what stands there -----------------------------------------------------------------------------

    def documents(self) -> dict[str, Document]:
        """The notes by id."""
        self._settle()
        return self.world.documents(self.notes)

    def schema(self) -> dict[str, Any]:
        """What must not change of the notes' schema, vector length aside: fields by name, and settings."""
        self._settle()
        schema = self.world.schema(self.notes)
        settings = {name: schema[name] for name in ("default_sorting_field", "token_separators", "symbols_to_index")}
        metadata = {name: value for name, value in schema["metadata"].items() if name != "embedding"}
        return settings | {"metadata": metadata, "fields": {known["name"]: known for known in schema["fields"]}}

    def check_migrated(self, dimensions: int) -> None:
        """Every note is there in its order and as it was, each eligible one with exactly the target's vector."""
        now = self.documents()
        assert list(now) == list(self.filled)
        self.check_vectors(now, {id_: without_vector(note) for id_, note in self.filled.items()}, dimensions)
        for id_, note in self.filled.items():
            if note["draft"]:
                assert now[id_].get("vector") == (note["vector"] if dimensions == OLD else None), id_
        self._check_search(dimensions)
        self.check_standing(dimensions)

    def check_vectors(self, now: dict[str, Document], expected: dict[str, Document], dimensions: int) -> None:
        """These notes are the expected ones, each eligible one with exactly the vector of its own text."""
        assert now.keys() == expected.keys()
        for id_, document in now.items():
            assert without_vector(document) == expected[id_]
            if not document["draft"]:
                wanted = self.provider.vector_for(text_of(document), dimensions=dimensions)
                assert as_float32(document.get("vector")) == wanted.tobytes(), id_

    def check_as_filled(self) -> None:
        """The notes are what they were before any run, number for number."""
        assert self.documents() == self.filled
        self.check_standing(OLD)

    def check_standing(self, dimensions: int) -> None:
        """Schema, joins, alias and the names on the server are what they were, `num_dim` aside."""
        wanted = json.loads(json.dumps(self._schema))
        wanted["fields"]["vector"]["num_dim"] = dimensions
        assert self.schema() == wanted
        self.check_surroundings()

    def check_surroundings(self) -> None:
        """Every reference leads to the note that it names, the alias too, and there are no other collections."""
        self._settle()
        for name in (self.links, self.mentions):
            joined = self._joined(name)
            assert {id_: note for id_, (note, _) in joined.items() if note != NOWHERE} == {
                f"to-{id_}": id_ for id_ in self.filled
            }
            assert {id_: (n, f) for id_, (n, f) in joined.items() if f != (None if n == NOWHERE else n)} == {}
        assert self.world.http.get(f"/aliases/{self._alias}").json()["collection_name"] == self.notes
        mine = {self.notes, self.links, self.mentions, self._topics, self._alias}
        assert set(names_on(self.world, self.prefix)) == mine

    def _joined(self, name: str) -> dict[str, tuple[str, str | None]]:
        """Of each document that refers to a note: which it names, and which it is joined with."""
        found: dict[str, tuple[str, str | None]] = {}
        page = 0
        while len(found) == 250 * page:
            page += 1
            parameters = {
                "q": "*",
                "per_page": "250",
                "page": str(page),
                "include_fields": f"id,note_id,${self.notes}(id)",
            }
            answer = self.world.http.get(f"/collections/{name}/documents/search", params=parameters)
            for hit in answer.raise_for_status().json()["hits"]:
                document = hit["document"]
                found[document["id"]] = document["note_id"], document.get(self.notes, {}).get("id")
        return found

    def _check_search(self, dimensions: int) -> None:
        """The new model's vector of a note finds that note first."""
        eligible = [note for note in self.filled.values() if not note["draft"]]
        for note in (eligible[0], eligible[len(eligible) // 2], eligible[-1]):
            vector = self.provider.vector_for(text_of(note), dimensions=dimensions)
            query = f"vector:([{','.join(str(number) for number in vector)}], k: 5)"
            search = {"collection": self.notes, "q": "*", "vector_query": query, "exclude_fields": "vector"}
            answer = self.world.http.post("/multi_search", json={"searches": [search]}).raise_for_status().json()
            assert answer["results"][0]["hits"][0]["document"]["id"] == note["id"]

    def _settle(self) -> None:
        """Wait until a follower of a cluster shows what was written."""
        if self._follows:
            time.sleep(_LAG)

    @cached_property
    def _follows(self) -> bool:
        return bool(self.world.http.get("/debug").raise_for_status().json()["state"] == _FOLLOWER)

    def _schemas(self) -> list[dict[str, Any]]:
        vector = {"num_dim": OLD, "optional": True, "hnsw_params": {"M": 8, "ef_construction": 100}}
        return [
            {"name": self._topics, "fields": [field("name")]},
            {
                "name": self.notes,
                "token_separators": ["-"],
                "symbols_to_index": ["+"],
                "metadata": {"owner": {"team": "search"}},
                "fields": [
                    field("topic_id", reference=f"{self._topics}.id"),
                    field("title", infix=True),
                    field("text"),
                    field("draft", "bool", facet=True),
                    field("rank", "int32", range_index=True, optional=True),
                    field("vector", "float[]", **vector),
                ],
            },
            {"name": self.links, "fields": [field("note_id", reference=f"{self.notes}.id")]},
            {
                "name": self.mentions,
                "fields": [field("note_id", reference=f"{self.notes}.id", async_reference=True, optional=True)],
            },
        ]


def made_up(count: int) -> list[Document]:
    """Notes with an old vector and without, outside the filter too, and with what the schema does not know."""
    numbers = np.random.default_rng(7)
    made: list[Document] = []
    for number in range(count):
        note: Document = {
            "id": f"n{number}",
            "topic_id": f"t{number % 3}",
            "title": f"note {number}",
            "text": f"what was said about the {('roof', 'garden', 'cellar', 'door')[number % 4]} in week {number}",
            "draft": number % 5 == 4,
            "extra": {"words": ["ü", number], "share": 0.25},
        }
        if number % 3:
            note["rank"] = number
        if number % 7 or note["draft"]:
            note["vector"] = [round(float(x), 6) for x in numbers.normal(size=OLD)]
        made.append(note)
    return made


def text_of(note: Document) -> str:
    """What is embedded of a note, written down a second time, apart from the code under test."""
    return f"{note['title']}: {note['text']}"


def without_vector(note: Document) -> Document:
    """The note's other attributes."""
    return {name: value for name, value in note.items() if name != "vector"}
