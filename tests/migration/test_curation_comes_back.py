"""A collection that is gone comes back with its synonyms and curations, from either version to either version."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.providers import OpenAIStandIn
from tests.world import SETS, Document, Finished, World, made_up, openai

KAI_MIGRATE = "migration"
NAME = "instructions"
SYNONYMS: dict[str, Document] = {
    "money": {"synonyms": ["loan", "credit"]},
    "one": {"root": "eins", "synonyms": ["uno"]},
}
OVERRIDES: dict[str, Document] = {
    "pin": {"rule": {"query": "beds", "match": "exact"}, "includes": [{"id": "i1", "position": 1}]}
}

Curated = tuple[dict[str, Document], dict[str, Document]]


def fill(world: World) -> None:
    """The curated collection, among KAI's others."""
    world.fill(made_up(questions=5), 16)
    world.curate(NAME, SYNONYMS, OVERRIDES)


def back_up(world: World) -> tuple[Path, dict[str, Document], Curated]:
    """A backup of the curated collection: the folder, the documents, synonyms and overrides."""
    made = world.run("backup", "--collections", NAME, module=KAI_MIGRATE)
    assert made.status == 0, made.text
    (folder,) = world.home.glob(f"backups/backup-*/{NAME}")
    return folder, world.documents(NAME), world.curation(NAME)


def restore(world: World, folder: Path) -> Finished:
    """The backup back, to this server."""
    return world.run("restore", str(folder), "--yes", module=KAI_MIGRATE)


def test_sets_are_created_where_they_are_missing_and_never_overwritten(world: World) -> None:
    fill(world)
    folder, documents, curation = back_up(world)
    world.http.delete(f"/collections/{NAME}").raise_for_status()
    world.http.delete("/synonym_sets/words").raise_for_status()
    own = {"id": "others", "rule": {"query": "x", "match": "exact"}, "excludes": [{"id": "i2"}]}
    world.http.put("/curation_sets/pins", json={"items": [own]}).raise_for_status()
    done = restore(world, folder)
    assert done.status == 0, done.text
    assert "the curation set 'pins' on the server is not as it is in the backup; it was left as it is" in done.text
    assert "'words'" not in done.text
    assert world.documents(NAME) == documents
    assert {kind: world.schema(NAME)[kind] for kind in SETS} == {kind: [name] for kind, name in SETS.items()}
    synonyms, overrides = world.curation(NAME)
    assert synonyms == curation[0]
    assert list(overrides) == ["others"]
    assert "typesense=30" in world.run("show", "latest", module=KAI_MIGRATE).out


@pytest.mark.parametrize("back", [False, True], ids=["29 to 30", "30 to 29"])
def test_a_backup_of_one_version_comes_back_on_the_other(world_29: World, world: World, back: bool) -> None:
    source, target = (world, world_29) if back else (world_29, world)
    fill(source)
    folder, documents, curation = back_up(source)
    connections = made_up(questions=5)["database_connections"]
    target.fill({"database_connections": connections, "context_stores": [], NAME: []}, 16)
    target.http.delete(f"/collections/{NAME}").raise_for_status()
    for _ in range(2):  # The second time what the first one made is there.
        done = restore(target, folder)
        assert done.status == 0, done.text
        assert "left as it is" not in done.text
        assert target.documents(NAME) == documents
        assert target.curation(NAME) == curation
        if not back:
            names = {"synonym_sets": [f"{NAME}_synonyms_index"], "curation_sets": [f"{NAME}_curations_index"]}
            assert {kind: target.schema(NAME)[kind] for kind in SETS} == names
        target.http.delete(f"/collections/{NAME}").raise_for_status()


def test_what_version_29_cannot_have_is_refused_before_anything_is_changed(world_29: World, world: World) -> None:
    fill(world)
    more = {"id": "money", "synonyms": ["gold"], "stem": True}
    world.http.put("/synonym_sets/more", json={"items": [more]}).raise_for_status()
    world.http.patch(f"/collections/{NAME}", json={"synonym_sets": ["words", "more"]}).raise_for_status()
    folder, _, _ = back_up(world)
    done = restore(world_29, folder)
    assert done.status == 2, done.text
    assert "the item 'money' of the synonym set 'more' has stem" in done.text
    assert "the item 'money' of the synonym set 'more' has the id of another one of 'words'" in done.text
    assert world_29.http.get("/collections").json() == []


def test_a_backup_without_a_set_that_the_server_lacks_too_is_refused_before_anything_is_changed(
    world: World,
) -> None:
    fill(world)
    folder, _, _ = back_up(world)
    (folder / "synonym_sets.jsonl").write_bytes(b"")
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"].pop("synonym_sets.jsonl")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    world.http.delete(f"/collections/{NAME}").raise_for_status()
    world.http.delete("/synonym_sets/words").raise_for_status()
    world.http.delete("/curation_sets/pins").raise_for_status()
    done = restore(world, folder)
    assert done.status == 2, done.text
    assert (
        "the synonym set 'words', which the collection names, is neither on the server nor in the backup" in done.text
    )
    assert NAME not in {schema["name"] for schema in world.http.get("/collections").json()}
    assert world.http.get("/curation_sets").json() == []


def test_a_way_back_by_recreating_keeps_the_sets_and_is_refused_while_one_of_them_is_gone(
    world: World, provider: OpenAIStandIn
) -> None:
    fill(world)
    before, curation = world.documents(NAME), world.curation(NAME)
    migrated = world.run("--collections", NAME, **openai(provider, 32))
    assert migrated.status == 0, migrated.text
    world.http.delete("/curation_sets/pins").raise_for_status()
    there = world.documents(NAME)
    refused = world.run("rollback", "--yes", module=KAI_MIGRATE)
    assert refused.status == 2, refused.text
    assert "PUT /curation_sets/pins" in refused.text
    assert world.documents(NAME) == there
    world.curate(NAME, SYNONYMS, OVERRIDES)
    back = world.run("rollback", "--yes", module=KAI_MIGRATE)
    assert back.status == 0, back.text
    assert (world.documents(NAME), world.curation(NAME)) == (before, curation)
    assert {kind: world.schema(NAME)[kind] for kind in SETS} == {kind: [name] for kind, name in SETS.items()}
