"""Sample data in KAI's shape, without embeddings: `--sample`, demonstrations, tests.

`DATABASE_CONNECTIONS`, `CONTEXT_STORES` and `INSTRUCTIONS` are the documents, `schemas` the collections they
go into. A demonstration fills `EMBEDDING_FIELDS` with vectors of the model it migrates away from.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from kai.sandbox import sample_data
from kai.sandbox.store import Store
from kai.sandbox.writes import Writer

Json = dict[str, Any]

DEFAULT_NUM_DIM = 128
CREATED_AT = "2026-02-09T09:00:00"
ENTITY = re.compile(r"\{([^|}]+)\|([^}]+)\}")

EMBEDDING_FIELDS = {
    "context_stores": "prompt_embedding",
    "instructions": "instruction_embedding",
}
"""Collection -> its embedding field."""


def _field(name: str, kind: str = "string", **more: Any) -> Json:
    return {"name": name, "type": kind, **more}


def schemas(num_dim: int = DEFAULT_NUM_DIM) -> list[Json]:
    """The collections as POST /collections takes them, referenced ones first; vectors of `num_dim`."""
    reference = _field("db_connection_id", reference="database_connections.id")
    metadata = _field("metadata", "object", optional=True)
    vector = {"optional": True, "num_dim": num_dim}
    fields = {
        "database_connections": [
            _field("id"),
            _field("alias"),
            _field("description", optional=True),
            _field("dialect"),
            _field("connection_uri"),
            _field("schemas", "string[]"),
            metadata,
            _field("created_at"),
        ],
        "context_stores": [
            _field("id"),
            reference,
            _field("prompt_text"),
            _field("prompt_text_ner"),
            _field("entities", "string[]"),
            _field("labels", "string[]"),
            _field("prompt_embedding", "float[]", **vector),
            _field("sql"),
            metadata,
            _field("created_at"),
        ],
        "instructions": [
            _field("id"),
            reference,
            _field("condition"),
            _field("rules"),
            _field("instruction_embedding", "float[]", **vector),
            _field("is_default", "bool"),
            metadata,
            _field("created_at"),
        ],
    }
    return [{"name": name, "enable_nested_fields": True, "fields": listed} for name, listed in fields.items()]


def _connection(database: str) -> Json:
    alias, dialect, description = sample_data.DATABASES[database]
    return {
        "id": database,
        "alias": alias,
        "description": description,
        "dialect": dialect,
        "connection_uri": f"{dialect}://localhost/{database}",
        "schemas": ["public"],
        "created_at": CREATED_AT,
    }


def _context(document_id: str, database: str, marked: str, sql: str) -> Json:
    entities: list[str] = []
    labels: list[str] = []

    def generalize(found: re.Match[str]) -> str:
        entity, label = found.groups()
        name = f"{label}{labels.count(label)}"
        entities.append(entity)
        labels.append(label)
        return name

    generalized = ENTITY.sub(generalize, marked)
    return {
        "id": document_id,
        "db_connection_id": database,
        "prompt_text": ENTITY.sub(r"\1", marked),
        "prompt_text_ner": generalized,
        "entities": entities,
        "labels": labels,
        "sql": sql,
        "metadata": {"source": "sample", "entities": len(entities)},
        "created_at": CREATED_AT,
    }


DATABASE_CONNECTIONS: list[Json] = [_connection(database) for database in sample_data.DATABASES]

CONTEXT_STORES: list[Json] = [
    _context(f"{database}-question-{number:02}", database, marked, sql)
    for database, questions in sample_data.QUESTIONS.items()
    for number, (marked, sql) in enumerate(questions, start=1)
]

INSTRUCTIONS: list[Json] = [
    {
        "id": f"{database}-instruction-{number:02}",
        "db_connection_id": database,
        "condition": condition,
        "rules": rules,
        "is_default": is_default,
        "created_at": CREATED_AT,
    }
    for number, (database, condition, rules, is_default) in enumerate(sample_data.INSTRUCTIONS, start=1)
]

DOCUMENTS: dict[str, list[Json]] = {
    "database_connections": DATABASE_CONNECTIONS,
    "context_stores": CONTEXT_STORES,
    "instructions": INSTRUCTIONS,
}
"""Collection -> its documents, referenced collections first."""


def load_sample(store: Store, *, num_dim: int = DEFAULT_NUM_DIM) -> None:
    """Create the sample collections in `store` and fill them; ApiError 409 if one of them exists."""
    for schema in schemas(num_dim):
        collection = store.create_collection(schema)
        with collection.gate, store.lock:
            writer = Writer(store, collection, "create")
            for document in DOCUMENTS[collection.name]:
                writer.write(orjson.dumps(document))
            store.log.commit()
