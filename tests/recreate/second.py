"""The notes of the small world with a second field beside the first: the commands, and what must hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.killing import Ended, run_command_watched
from tests.recreate.small import NAME, OLD_DIMENSIONS, SmallWorld, schemas
from tests.world import Document, as_float32

TARGET = 32
NEW = "vector_v2"
INTO = ("run", "--collections", NAME, "--into", "{field}_v2")
FINISH, BACK = ("finish", "--yes"), ("rollback", "--yes")


def run(
    small: SmallWorld, home: Path, arguments: tuple[str, ...], *, variables: dict[str, str] | None = None, **how: Any
) -> Ended:
    """One command on a machine with this home."""
    more = ("--collections-file", str(small.file))
    return run_command_watched([*arguments, *more], small.environment(TARGET, home) | (variables or {}), home, **how)


def check_serves(small: SmallWorld, old: dict[str, Document], fields: tuple[str, ...]) -> None:
    """In each of the fields stand its vectors and no others; in other fields nothing does at the end."""
    now = small.world.documents(NAME)
    assert list(now) == list(old)
    for id_, document in now.items():
        rest = {key: value for key, value in document.items() if key not in ("vector", NEW)}
        assert rest == {key: value for key, value in old[id_].items() if key != "vector"}
        if "vector" in fields:
            assert document.get("vector") == old[id_].get("vector"), id_
        if NEW in fields:
            expected = small.provider.vector_for(f"{document['title']}: {document['text']}", dimensions=TARGET)
            wanted = None if document["draft"] else expected.tobytes()
            assert as_float32(document.get(NEW)) == wanted, id_


def check_at_the_end(small: SmallWorld, old: dict[str, Document], fields: tuple[str, ...]) -> None:
    """The fields of the end have their vectors, and nothing else of the collection has changed."""
    check_serves(small, old, fields)
    now = small.world.documents(NAME)
    assert not [id_ for id_, document in now.items() if {"vector", NEW} - set(fields) & document.keys()]
    schema = small.world.schema(NAME)
    wanted = {each["name"]: each for each in schemas()[1]["fields"] if each["name"] != "vector"}
    found = {each["name"]: each for each in schema["fields"]}
    vectors = {name: found[name].get("num_dim") for name in ("vector", NEW) if name in found}
    assert vectors == {name: OLD_DIMENSIONS if name == "vector" else TARGET for name in fields}
    assert wanted.keys() <= found.keys()
    assert [s["name"] for s in small.world.http.get("/collections").json() if "__" in s["name"]] == []
