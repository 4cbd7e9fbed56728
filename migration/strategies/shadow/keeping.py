"""What a recreate leaves beside the new collection: the old one where it is wanted, documents that could not come."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import orjson

from kai.typesense import Schema, Typesense
from migration.backup.shelf import folder_name
from migration.strategies.context import Rejected
from migration.strategies.shadow.copying import copy_everything
from migration.strategies.shadow_state import clone, own_metadata, role_of, set_role

_BETWEEN = "__before_"


def kept_name(name: str, run: str) -> str:
    """The name under which a run keeps the previous collection."""
    return f"{name}{_BETWEEN}{run}"


def keep_collection(server: Typesense, name: str, kept: str, run: str) -> dict[str, str]:
    """Copy a collection as it is; the copy is marked as `kept` until the caller takes the mark away.

    Returns:
        Id -> the server's words, for documents that could not be copied.
    """
    clone(server, name, kept)
    set_role(server, kept, own_metadata(server.collection(name) or {}), "kept", run)
    return copy_everything(server, name, kept)


def remove_unfinished_copies(server: Typesense, everything: Sequence[Schema], name: str) -> None:
    """Remove what a run that died while it kept the old collection left of its copy."""
    for schema in everything:
        if str(schema["name"]).startswith(f"{name}{_BETWEEN}") and role_of(schema) == "kept":
            server.delete_collection(str(schema["name"]))


def refused_file(home: Path, run: str, name: str) -> Path:
    """Where a run puts the documents of a collection that could not come."""
    return home / "runs" / run / f"refused-{folder_name(name)}.jsonl"


def write_refused(file: Path, refused: Mapping[str, Rejected]) -> None:
    """Add documents and the server's words to a file that only its owner can read; durable."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "ab") as stream:
        for each in refused.values():
            stream.write(orjson.dumps({"reason": each.reason, "document": orjson.loads(each.line)}) + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
