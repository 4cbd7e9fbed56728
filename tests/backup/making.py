"""Backups for the tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from kai.typesense_curation import NOTHING, Curation
from migration.backup import BackupWriter, Kind

T = TypeVar("T")

FIELD = "embedding"
SCHEMA: dict[str, Any] = {
    "name": "things",
    "created_at": 1795192632,
    "num_documents": 3,
    "default_sorting_field": "",
    "enable_nested_fields": True,
    "fields": [
        {"name": "text", "type": "string", "facet": False},
        {"name": FIELD, "type": "float[]", "num_dim": 2, "optional": True},
    ],
    "metadata": {"owner": "tests"},
}


def write(
    home: Path,
    *,
    run: str = "run",
    collection: str = "things",
    kind: Kind = "vectors",
    schema: Mapping[str, Any] = SCHEMA,
    curation: Curation = NOTHING,
    server: str = "localhost:8108",
    free_space_needed: int = 0,
) -> BackupWriter:
    """A writer of a small collection's backup."""
    return BackupWriter.open(
        home,
        run,
        collection,
        kind=kind,
        embedding_field=FIELD,
        server=server,
        schema=schema,
        curation=curation,
        free_space_needed=free_space_needed,
    )


def flat(pages: Iterable[list[T]]) -> list[T]:
    """All that is on the pages."""
    return [each for page in pages for each in page]
