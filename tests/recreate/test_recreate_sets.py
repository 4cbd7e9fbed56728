"""Typesense 30: a collection names sets of synonyms and curations, which the server keeps and others share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kai.settings import TypesenseSettings
from kai.typesense import Typesense
from kai.typesense_curation import SetKind
from migration.strategies.curation import hand_on, take_along
from migration.strategies.shadow_state import shadow_name
from tests.killing import Ended, run_command_watched, run_watched
from tests.recreate.small import NAME, OLD_DIMENSIONS, SmallWorld, check_documents
from tests.recreate.test_recreate_killed import create_as_the_application_does
from tests.world import SETS

TARGET = 32
KEY_WITHOUT_SETS = "a-key-without-sets"
NAMED = {kind: [name] for kind, name in SETS.items()}
pytestmark = pytest.mark.usefixtures("warm")


@pytest.fixture
def server(small: SmallWorld) -> Iterator[Typesense]:
    """A client of version 30, where the small world is."""
    port = int(small.world.url.rsplit(":", 1)[1])
    with Typesense(TypesenseSettings("127.0.0.1", port, api_key=small.world.key), patience=2) as client:
        yield client


def run(small: SmallWorld, folder: Path, dimensions: int = TARGET, key: str = "", **options: Any) -> Ended:
    """A run to this length, with a key of its own if one is given."""
    environment = small.environment(dimensions, folder / "home")
    return run_watched(small.options(**options), environment | ({"TYPESENSE_API_KEY": key} if key else {}), folder)


def sets_of(small: SmallWorld, name: str) -> dict[str, Any]:
    """The sets that a collection names."""
    schema = small.world.schema(name)
    return {kind: schema[kind] for kind in SETS}


def make_sets(small: SmallWorld, of: str, word: str) -> dict[SetKind, list[str]]:
    """Sets as an upgrade makes them of what a collection had, with this in them."""
    names: dict[SetKind, str] = {"synonym_sets": f"{of}_synonyms_index", "curation_sets": f"{of}_curations_index"}
    curation = {"id": word, "rule": {"query": word, "match": "exact"}, "excludes": [{"id": "n1"}]}
    items = {"synonym_sets": {"id": word, "synonyms": [word, "b"]}, "curation_sets": curation}
    for kind, name in names.items():
        small.world.http.put(f"/{kind}/{name}", json={"items": [items[kind]]}).raise_for_status()
    return {kind: [name] for kind, name in names.items()}


def limited_key(small: SmallWorld) -> str:
    """A key that may do everything with collections and documents, and nothing with sets."""
    body = {"description": "x", "actions": ["collections:*", "documents:*", "aliases:*"], "collections": ["*"]}
    small.world.http.post("/keys", json={**body, "value": KEY_WITHOUT_SETS})
    return KEY_WITHOUT_SETS


def test_a_recreate_keeps_the_sets_and_what_a_curation_hides_is_migrated(small: SmallWorld, tmp_path: Path) -> None:
    rule = {"query": "*", "match": "exact"}
    hidden = {"id": "doors", "rule": rule, "excludes": [{"id": id_} for id_ in list(small.expected)[3:9]]}
    small.world.http.put("/curation_sets/pins", json={"items": [hidden]}).raise_for_status()
    found = small.world.http.get(f"/collections/{NAME}/documents/search", params={"q": "*", "query_by": "title"})
    assert found.json()["found"] == len(small.expected) - 6
    ended = run(small, tmp_path, keep_old=True)
    assert ended.status == 0, ended.text
    assert "eprecat" not in ended.text
    (kept,) = [s["name"] for s in small.world.http.get("/collections").json() if "__before_" in s["name"]]
    small.check(TARGET, kept=kept)
    assert sets_of(small, kept) == NAMED
    assert len(small.world.documents(kept)) == len(small.expected)


@pytest.mark.parametrize("dimensions", [TARGET, OLD_DIMENSIONS])
def test_the_collection_that_the_application_creates_after_a_crash_gets_the_sets(
    small: SmallWorld, tmp_path: Path, dimensions: int
) -> None:
    journal = run(small, tmp_path / "whole").requests
    drop = next(number for number, name in enumerate(journal, 1) if name == f"DELETE /collections/{NAME}")
    small.fill()
    environment = small.environment(TARGET, tmp_path / "home")
    killed = run_watched(small.options(), environment, tmp_path, kill_at=drop, moment="after")
    assert killed.killed
    expected = small.expected | create_as_the_application_does(small, dimensions)
    assert sets_of(small, NAME) == {kind: [] for kind in SETS}
    again = run(small, tmp_path)
    assert again.status == 0, again.text
    small.check(TARGET, documents={id_: expected[id_] for id_ in small.world.documents(NAME)})


def test_a_shadow_that_an_upgrade_gave_sets_of_its_own_gets_those_of_the_live_collection(
    small: SmallWorld, server: Typesense, tmp_path: Path
) -> None:
    http = small.world.http
    killed = run_watched(small.options(), small.environment(TARGET, tmp_path / "home"), tmp_path, kill_at=30)
    shadow = shadow_name(NAME)
    assert killed.killed
    assert small.world.schema(shadow)["metadata"]["kai_migration"]["phase"] == "building"
    http.patch(f"/collections/{NAME}", json=make_sets(small, NAME, "live")).raise_for_status()
    http.patch(f"/collections/{shadow}", json=make_sets(small, shadow, "older")).raise_for_status()
    wanted = sets_of(small, NAME)
    ended = run(small, tmp_path)
    assert ended.status == 0, ended.text
    assert sets_of(small, NAME) == wanted
    check_documents(small.world, small.expected, TARGET)
    assert [list(parts) for parts in small.world.curation(NAME)] == [["live"], ["live"]]


@pytest.mark.parametrize("stands", [False, True], ids=["missing", "there"])
def test_the_successor_of_a_shadow_that_was_upgraded_gets_sets_of_its_own_name(
    small: SmallWorld, server: Typesense, stands: bool
) -> None:
    shadow = shadow_name(NAME)
    server.clone_collection(NAME, shadow)
    server.use_sets(shadow, make_sets(small, shadow, "a"))
    wanted = {"synonym_sets": [f"{NAME}_synonyms_index"], "curation_sets": [f"{NAME}_curations_index"]}
    if stands:
        make_sets(small, NAME, "newer")
    assert hand_on(server, shadow, NAME) == []
    assert sets_of(small, NAME) == wanted
    word = "newer" if stands else "a"
    assert [list(parts) for parts in small.world.curation(NAME)] == [[word], [word]]


def test_the_order_of_the_sets_is_taken_along_and_a_set_that_is_gone_keeps_no_collection_away(
    small: SmallWorld, server: Typesense
) -> None:
    http, shadow = small.world.http, shadow_name(NAME)
    server.clone_collection(NAME, shadow)
    http.put("/curation_sets/first", json={"items": []}).raise_for_status()
    http.patch(f"/collections/{NAME}", json={"curation_sets": ["first", "pins"]}).raise_for_status()
    take_along(server, NAME, shadow)
    assert sets_of(small, shadow) == {"synonym_sets": ["words"], "curation_sets": ["first", "pins"]}
    http.patch(f"/collections/{NAME}", json={"curation_sets": ["pins"]}).raise_for_status()
    http.delete("/curation_sets/first").raise_for_status()
    (note,) = hand_on(server, shadow, NAME)
    assert "Curation set `first` not found." in note


@pytest.mark.parametrize("kind", SETS)
def test_a_set_that_is_gone_and_still_named_is_refused_before_anything_is_changed(
    small: SmallWorld, tmp_path: Path, kind: str
) -> None:
    small.world.http.delete(f"/{kind}/{SETS[kind]}").raise_for_status()
    for backup, dry_run in ((True, False), (False, False), (True, True)):
        ended = run(small, tmp_path, backup=backup, dry_run=dry_run)
        assert ended.status == 2, ended.text
        assert f"set '{SETS[kind]}', which collection '{NAME}' names, is gone" in ended.text
        assert f"PUT /{kind}/{SETS[kind]}" in ended.text
    small.untouched()
    assert run(small, tmp_path, OLD_DIMENSIONS).status == 0


def test_a_key_without_rights_on_sets_is_refused_only_where_their_contents_are_needed(
    small: SmallWorld, tmp_path: Path
) -> None:
    key = limited_key(small)
    ended = run(small, tmp_path, key=key)
    assert ended.status == 2, ended.text
    assert "TYPESENSE_API_KEY" in ended.text
    assert "synonym_sets:* and curation_sets:*" in ended.text
    backup = ["backup", "--collections", NAME, "--collections-file", str(small.file)]
    environment = small.environment(TARGET, tmp_path / "home") | {"TYPESENSE_API_KEY": key}
    refused = run_command_watched(backup, environment, tmp_path)
    assert refused.status == 2, refused.text
    assert "synonym_sets:* and curation_sets:*" in refused.text
    small.untouched()
    ended = run(small, tmp_path, OLD_DIMENSIONS, key=key)
    assert ended.status == 0, ended.text
    assert "the server's version is not known" in ended.text
    ended = run(small, tmp_path, key=key, backup=False)
    assert ended.status == 0, ended.text
    small.check(TARGET)
