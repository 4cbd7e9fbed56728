"""RESTORE.md, followed to the letter with zstd and curl."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from kai.typesense_curation import NOTHING, Curation
from migration.backup import BackupWriter, Kind
from migration.backup.guide import creatable
from tests.backup.making import FIELD, SCHEMA
from tests.world import SETS, World

NAME = "things é"

needs_tools = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in ("zstd", "curl", "split", "tac")), reason="needs zstd, curl, split, tac"
)


def _fill(world: World) -> dict[str, dict[str, Any]]:
    schema = creatable({**SCHEMA, "name": NAME})
    world.http.post("/collections", json=schema).raise_for_status()
    documents: list[dict[str, Any]] = [
        {"id": "a", "text": "one", FIELD: [0.1, 1e-7], "extra": {"kept": [1, "ü"]}},
        {"id": 'b "quoted" \\ /é', "text": "two", FIELD: [1, -2.5]},
        {"id": "c", "text": "no vector"},
    ]
    world.import_(NAME, documents)
    world.curate(
        NAME,
        {
            "money made": {"synonyms": ["revenue", "income"]},
            "50% 'é'": {"root": "eins", "synonyms": ["one"]},
        },
        {"pin": {"rule": {"query": "one", "match": "exact"}, "includes": [{"id": "a", "position": 1}]}},
    )
    return world.documents(NAME)


def _curation(world: World) -> Curation:
    own = [tuple(parts.values()) for parts in world.curation(NAME)]
    sets = [({"name": name, "items": list(items)},) for name, items in zip(SETS.values(), own, strict=True)]
    return Curation((), (), *sets) if world.has_sets else Curation(*own)


def _open(world: World, kind: Kind) -> BackupWriter:
    return BackupWriter.open(
        world.home,
        "run",
        NAME,
        kind=kind,
        embedding_field=FIELD,
        server=world.url.removeprefix("http://"),
        schema=world.schema(NAME),
        curation=_curation(world) if kind == "documents" else NOTHING,
    )


def _commands(folder: Path) -> list[str]:
    return re.findall(r"```sh\n(.*?)```", (folder / "RESTORE.md").read_text(), re.DOTALL)


def _follow(world: World, folder: Path, commands: Sequence[str]) -> str:
    script = "\n".join(commands).replace("export TYPESENSE_API_KEY=...", "")
    done = subprocess.run(
        ["/bin/sh"],
        input=script,
        cwd=folder,
        env={**os.environ, "TYPESENSE_API_KEY": world.key, "no_proxy": "*"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


@needs_tools
def test_old_vectors_come_back_although_the_new_ones_were_backed_up_again(world: World) -> None:
    before = _fill(world)
    new = {id_: [5.0, 6.0] for id_ in before}
    with _open(world, "vectors") as writer:
        writer.add_vectors([(id_, document.get(FIELD), None) for id_, document in before.items()])
        world.import_(NAME, [{"id": id_, FIELD: vector} for id_, vector in new.items()], "update")
        writer.add_vectors([(id_, vector, None) for id_, vector in new.items()])
        writer.close(complete=True)
    assert world.documents(NAME) != before
    output = _follow(world, writer.folder, _commands(writer.folder)[:2])
    assert world.documents(NAME) == before
    assert "success" not in output


@needs_tools
@pytest.mark.parametrize(("server", "in_parts"), [("world", False), ("world", True), ("world_29", True)])
def test_a_whole_collection_comes_back_with_schema_synonyms_and_curations(
    request: pytest.FixtureRequest, server: str, in_parts: bool
) -> None:
    world: World = request.getfixturevalue(server)
    before = _fill(world)
    schema = world.schema(NAME)
    curation = world.curation(NAME)
    with _open(world, "documents") as writer:
        writer.add([json.dumps(document).encode() for document in before.values()])
        # The application changed it while the backup was made: its newest content is what comes back.
        later = {**next(iter(before.values())), "text": "later"}
        writer.add([json.dumps(later).encode()])
        writer.close(complete=True)
    head, *others = _commands(writer.folder)
    sets, (delete, create, at_once, parts, *put) = (others[:2], others[2:]) if world.has_sets else ([], others)
    assert len([*sets, *put]) == 2
    _follow(world, writer.folder, [head, delete])
    # One set is gone, another stands with items of its own by now, and stays as it is.
    kept = {"items": [{"id": "other", "rule": {"query": "x", "match": "exact"}, "excludes": [{"id": "c"}]}]}
    if world.has_sets:
        world.http.delete("/synonym_sets/words").raise_for_status()
        world.http.put("/curation_sets/pins", json=kept).raise_for_status()
    assert world.http.get(f"/collections/{NAME}").status_code == 404
    output = _follow(world, writer.folder, [head, *sets, create, parts if in_parts else at_once, *put])
    assert world.documents(NAME) == {**before, later["id"]: later}
    after = world.schema(NAME)
    assert {**after, "created_at": 0} == {**schema, "created_at": 0}
    synonyms, overrides = world.curation(NAME)
    assert synonyms == curation[0]
    assert list(overrides) == (["other"] if world.has_sets else ["pin"])
    assert output.count('"success":false') == 0


def test_the_schema_to_create_from_has_nothing_that_the_server_adds() -> None:
    schema = {**SCHEMA, "fields": [{"name": "id", "type": "string"}, *SCHEMA["fields"]]}
    made = creatable(schema)
    assert made == {name: SCHEMA[name] for name in SCHEMA if name not in ("created_at", "num_documents")}


def test_an_odd_server_or_collection_cannot_slip_a_command_into_the_guide(tmp_path: Path) -> None:
    evil = "x'; touch pwned; '$(touch pwned)`touch pwned`"
    odd = evil + "\nNAMES\ntouch pwned"
    with BackupWriter.open(
        tmp_path,
        evil,
        evil,
        kind="vectors",
        embedding_field=evil,
        server=evil,
        schema={**SCHEMA, "synonym_sets": [odd]},
        curation=Curation(({"id": odd},), (), ({"name": odd, "items": []},)),
    ) as writer:
        pass
    for command in _commands(writer.folder):
        subprocess.run(["/bin/sh"], input=command.replace("curl", "true"), cwd=writer.folder, text=True, check=False)
    assert not (writer.folder / "pwned").exists()
