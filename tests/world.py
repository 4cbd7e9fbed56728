"""KAI's collections in a running sandbox, a provider, and the command line: what whole-run tests are made of."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import orjson

from kai.address import canonical_address
from tests.forkserver import Running, start_module
from tests.hurry import hurried
from tests.inside import run_module
from tests.providers.standin import StandIn

REPOSITORY = Path(__file__).parent.parent
SHARED = REPOSITORY.parent / "shared"
DATA = SHARED / "data"

MODULE = "migration.embedding_migration"
SETS = {"synonym_sets": "words", "curation_sets": "pins"}
EMBEDDING_FIELDS = {"context_stores": "prompt_embedding", "instructions": "instruction_embedding"}

Document = dict[str, Any]


def field(name: str, kind: str = "string", **attributes: Any) -> dict[str, Any]:
    """One field of a schema."""
    return {"name": name, "type": kind, **attributes}


def kai_schemas(dimensions: int | None) -> list[dict[str, Any]]:
    """The three KAI collections that matter, embedding fields of so many dimensions."""
    vector: dict[str, Any] = {"optional": True} | ({"num_dim": dimensions} if dimensions else {})
    connection = field("db_connection_id", reference="database_connections.id")
    return [
        {
            "name": "database_connections",
            "enable_nested_fields": True,
            "fields": [
                field("alias"),
                field("description", optional=True),
                field("dialect"),
                field("connection_uri"),
                field("schemas", "string[]"),
                field("metadata", "object", optional=True),
                field("created_at"),
            ],
        },
        {
            "name": "context_stores",
            "enable_nested_fields": True,
            "fields": [
                connection,
                field("prompt_text"),
                field("prompt_text_ner"),
                field("entities", "string[]"),
                field("labels", "string[]"),
                field("prompt_embedding", "float[]", **vector),
                field("sql"),
                field("metadata", "object", optional=True),
                field("created_at"),
            ],
        },
        {
            "name": "instructions",
            "enable_nested_fields": True,
            "fields": [
                connection,
                field("condition"),
                field("rules"),
                field("instruction_embedding", "float[]", **vector),
                field("is_default", "bool"),
                field("metadata", "object", optional=True),
                field("created_at"),
            ],
        },
    ]


def made_up(questions: int = 300, instructions: int = 12, seed: int = 1) -> dict[str, list[Document]]:
    """KAI-shaped documents in words of our own; every tenth question repeats another one's text."""
    pick = random.Random(seed)  # noqa: S311
    things = [
        "bicycles",
        "loans",
        "members",
        "repairs",
        "visits",
        "invoices",
        "beds",
        "books",
        "routes",
        "tours",
    ]
    verbs = ["sold", "returned", "opened", "closed", "lost", "counted", "moved", "planned"]
    connections = [
        {
            "id": f"db{number}",
            "alias": f"db{number}",
            "dialect": "postgresql",
            "connection_uri": "postgresql://localhost/x",
            "schemas": ["public"],
            "created_at": "2026-01-01T00:00:00",
        }
        for number in range(3)
    ]
    texts = [
        f"how many {pick.choice(things)} were {pick.choice(verbs)} in week {number % 53} of branch {number}?"
        for number in range(questions)
    ]
    stores = [
        {
            "id": f"q{number}",
            "db_connection_id": f"db{number % 3}",
            "prompt_text": texts[number - 5] if number % 10 == 9 else texts[number],
            "prompt_text_ner": "how many things?",
            "entities": [str(number)],
            "labels": ["number"],
            "sql": f"SELECT count(*) FROM t{number}",
            "metadata": {"n": number, "deep": {"x": [1, 2], "y": "ü"}},
            "created_at": "2026-01-01T00:00:00",
        }
        for number in range(questions)
    ]
    rules = [
        {
            "id": f"i{number}",
            "db_connection_id": f"db{number % 3}",
            "condition": f"when someone asks about {pick.choice(things)} {number}",
            "rules": f"use the table of {pick.choice(things)}",
            "is_default": number % 4 == 3,
            "created_at": "2026-01-01T00:00:00",
        }
        for number in range(instructions)
    ]
    return {"database_connections": connections, "context_stores": stores, "instructions": rules}


def real_text() -> dict[str, list[Document]]:
    """The real text in KAI's shape, where it is at hand."""
    names = ("database_connections", "context_stores", "instructions")
    return {name: [json.loads(line) for line in (DATA / f"{name}.jsonl").open()] for name in names}


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that ended."""

    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Everything that it printed."""
        return self.out + self.err

    def summary(self, collection: str) -> dict[str, Any]:
        """The collection's line of the summary."""
        found = re.findall(rf"^{collection}: (\{{.*\}})$", self.out, re.MULTILINE)
        return dict(eval(found[-1], {"__builtins__": {}}))  # noqa: S307 - a dict literal that we printed


class World:
    """A server's documents, and the means to look at them without the code under test.

    Attributes:
        in_a_hurry: whether runs wait no longer than they must where nobody else writes (`tests.hurry`).
    """

    def __init__(self, url: str, key: str, home: Path, *, in_a_hurry: bool = True) -> None:
        self.url, self.key, self.home = url, key, home
        self.in_a_hurry = in_a_hurry
        self._begun = 0
        self.http = httpx.Client(base_url=url, headers={"X-TYPESENSE-API-KEY": key}, timeout=60)

    def close(self) -> None:
        """Close the connections."""
        self.http.close()

    def clear(self) -> None:
        """Remove every alias and collection."""
        for alias in self.http.get("/aliases").json()["aliases"]:
            self.http.delete(f"/aliases/{alias['name']}")
        for schema in self.http.get("/collections").json():
            self.http.delete(f"/collections/{schema['name']}")
        for kind in SETS if self.has_sets else ():
            for each in self.http.get(f"/{kind}").json():
                self.http.delete(f"/{kind}/{each['name']}").raise_for_status()

    @property
    def has_sets(self) -> bool:
        """Whether synonyms and curations are in sets of the server, as from version 30 on."""
        return self.http.get("/synonym_sets").is_success

    def curate(self, name: str, synonyms: Mapping[str, Document], overrides: Mapping[str, Document]) -> None:
        """Give a collection these synonyms and overrides by id: its own, or by the sets `words` and `pins`."""
        path = f"/collections/{quote(name)}"
        if not self.has_sets:
            for kind, parts in (("synonyms", synonyms), ("overrides", overrides)):
                for id_, body in parts.items():
                    self.http.put(f"{path}/{kind}/{quote(id_)}", json=body).raise_for_status()
            return
        for (kind, set_name), parts in zip(SETS.items(), (synonyms, overrides), strict=True):
            items = [{"id": id_, **body} for id_, body in parts.items()]
            self.http.put(f"/{kind}/{set_name}", json={"items": items}).raise_for_status()
        self.http.patch(path, json={kind: [set_name] for kind, set_name in SETS.items()}).raise_for_status()

    def curation(self, name: str) -> tuple[dict[str, Document], dict[str, Document]]:
        """The collection's synonyms and overrides by id, wherever they are."""
        if self.has_sets:
            schema = self.schema(name)
            sets = [[self.http.get(f"/{kind}/{each}").json() for each in schema[kind]] for kind in SETS]
            found = [[item for each in some for item in each["items"]] for some in sets]
        else:
            found = [self.http.get(f"/collections/{name}/{kind}").json()[kind] for kind in ("synonyms", "overrides")]
        synonyms, overrides = ({part["id"]: part for part in parts} for parts in found)
        return synonyms, overrides

    def fill(
        self, documents: Mapping[str, Sequence[Document]], dimensions: int | None, *, old_vectors: bool = True
    ) -> None:
        """Create KAI's collections with these documents, each eligible one with a made-up old vector."""
        numbers = np.random.default_rng(5)
        for schema in kai_schemas(dimensions):
            name = schema["name"]
            self.http.post("/collections", json=schema).raise_for_status()
            embedding = EMBEDDING_FIELDS.get(name)
            vectors = numbers.normal(size=(len(documents[name]), dimensions or 8)).round(6).tolist()
            self.import_(
                name,
                (
                    {**document, embedding: vector}
                    if embedding and old_vectors and not document.get("is_default")
                    else document
                    for document, vector in zip(documents[name], vectors, strict=True)
                ),
            )

    def import_(self, name: str, documents: Iterable[Document], action: str = "create") -> None:
        """Import documents; every one must be taken."""
        lines = [orjson.dumps(document) for document in documents]
        for start in range(0, len(lines), 500):
            body = b"\n".join(lines[start : start + 500])
            answer = self.http.post(f"/collections/{name}/documents/import", params={"action": action}, content=body)
            answer.raise_for_status()
            bad = [line for line in answer.text.splitlines() if json.loads(line)["success"] is not True]
            assert not bad, bad[:3]

    def schema(self, name: str) -> dict[str, Any]:
        """The collection's schema."""
        answer = self.http.get(f"/collections/{name}")
        answer.raise_for_status()
        return dict(answer.json())

    def documents(self, name: str) -> dict[str, Document]:
        """Every document by id."""
        answer = self.http.get(f"/collections/{name}/documents/export")
        answer.raise_for_status()
        return {d["id"]: d for d in map(orjson.loads, filter(None, answer.content.split(b"\n")))}

    def state(
        self, names: Iterable[str] = ("context_stores", "instructions", "database_connections")
    ) -> dict[str, Any]:
        """Everything that could change: schemas and documents."""
        return {name: (self.schema(name), self.documents(name)) for name in names}

    @property
    def address(self) -> str:
        """The server's address as ledger and locks know it."""
        return canonical_address(self.url.removeprefix("http://"))

    def environment(self, **variables: str) -> dict[str, str]:
        """A clean environment that points at this server."""
        address = httpx.URL(self.url)
        return {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "PYTHONPATH": str(REPOSITORY),
            "TMPDIR": tempfile.gettempdir(),  # Runs see each other's locks there, wherever they run.
            "TYPESENSE_HOST": address.host,
            "TYPESENSE_PORT": str(address.port or {"http": 80, "https": 443}[address.scheme]),
            "TYPESENSE_PROTOCOL": address.scheme.upper(),
            "TYPESENSE_API_KEY": self.key,
            "TYPESENSE_TIMEOUT": "2",
            "MIGRATION_HOME": str(self.home),
            **variables,
        }

    def run(self, *arguments: str, module: str = MODULE, **variables: str) -> Finished:
        """Run the command line to its end, as `python -m` would, in this process."""
        self.home.parent.mkdir(parents=True, exist_ok=True)
        with hurried() if self.in_a_hurry else contextlib.nullcontext():
            return Finished(*run_module(module, arguments, self.environment(**variables), self.home.parent))

    def start(self, *arguments: str, module: str = MODULE, **variables: str) -> Running:
        """Start the command line in a process of its own, waiting as long as it does for users; the caller ends it."""
        folder = self.home.parent
        folder.mkdir(parents=True, exist_ok=True)
        self._begun += 1
        out, err = (folder / f"{name}-{self._begun}.txt" for name in ("stdout", "stderr"))
        return start_module(module, arguments, self.environment(**variables), folder, out, err, hurry=False)

    def fresh_interpreter(self, *arguments: str, module: str = MODULE, **variables: str) -> Finished:
        """Run the command line to its end in an interpreter of its own, with nothing loaded."""
        self.home.parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            env=self.environment(**variables),
            cwd=self.home.parent,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)


def openai(provider: StandIn, dimensions: int = 64, model: str = "text-embedding-3-small") -> dict[str, str]:
    """The variables that choose an OpenAI stand-in."""
    return {
        "EMBEDDING_FAMILY": "openai",
        "EMBEDDING_MODEL": model,
        "EMBEDDING_DIMENSIONS": str(dimensions),
        "OPENAI_API_KEY": provider.key,
        "OPENAI_API_BASE": provider.api_base,
    }


def text_of(name: str, document: Document) -> str:
    """The text that KAI embeds, written down a second time, apart from the code under test."""
    return document["prompt_text"] if name == "context_stores" else f"{document['condition']}, {document['rules']}"


def eligible(name: str, documents: Mapping[str, Document]) -> Iterator[tuple[str, Document]]:
    """The documents that KAI embeds."""
    return ((id_, d) for id_, d in documents.items() if name != "instructions" or not d["is_default"])


def as_float32(vector: Sequence[float] | None) -> bytes | None:
    """The vector as Typesense compares it."""
    return None if vector is None else np.asarray(vector, np.float32).tobytes()
