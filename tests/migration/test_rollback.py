"""The way back: what a run replaced stands again, bit for bit."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from kai import typesense_changes
from tests.killing import run_command_watched
from tests.providers import OpenAIStandIn
from tests.world import EMBEDDING_FIELDS, World, made_up, openai

KAI_MIGRATE = "migration"


def vectors(world: World) -> dict[str, dict[str, object]]:
    """Every vector by collection and id, as the server's JSON has it."""
    return {
        name: {id_: d.get(field) for id_, d in world.documents(name).items()}
        for name, field in EMBEDDING_FIELDS.items()
    }


def settled_at_once() -> None:
    """For a child: no alter of an earlier one is under way in the sandbox, so there is nothing to wait for."""
    patch.object(typesense_changes, "SETTLED", 0.0).start()


def test_a_rollback_can_be_rolled_back(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=60), 64)
    assert world.run(**openai(provider, 64)).status == 0
    migrated = vectors(world)
    assert world.run("rollback", "--yes", module=KAI_MIGRATE).status == 0
    assert vectors(world) != migrated
    assert world.run("rollback", "--yes", module=KAI_MIGRATE).status == 0
    assert vectors(world) == migrated


def test_migrating_again_after_a_rollback_pays_for_nothing(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=60), 64)
    assert world.run(**openai(provider, 64)).status == 0
    migrated = vectors(world)
    assert world.run("rollback", "--yes", module=KAI_MIGRATE).status == 0
    sent = len(provider.embedded)
    assert world.run(**openai(provider, 64)).status == 0
    assert vectors(world) == migrated
    assert provider.embedded[sent:] == ["probe"]


def test_deleted_documents_stay_deleted_and_added_and_changed_ones_are_named(
    world: World, provider: OpenAIStandIn
) -> None:
    world.fill(made_up(questions=60), 64)
    before = vectors(world)["context_stores"]
    assert world.run(**openai(provider, 64)).status == 0
    documents = world.documents("context_stores")
    world.http.delete("/collections/context_stores/documents/q3").raise_for_status()
    added = documents["q4"] | {"id": "added"}
    world.import_("context_stores", [added])
    world.import_("context_stores", [{"id": "q5", "prompt_text": "something else"}], "update")
    done = world.run("rollback", "--yes", module=KAI_MIGRATE)
    assert done.status == 0, done.text
    now = vectors(world)["context_stores"]
    assert "q3" not in now
    assert now["added"] == added["prompt_embedding"]
    assert {id_: v for id_, v in now.items() if id_ != "added"} == {id_: v for id_, v in before.items() if id_ != "q3"}
    assert "added since" in done.err and "added" in done.err
    assert "another text" in done.err and "q5" in done.err


def test_only_the_collections_that_are_named_go_back(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=60), 64)
    before = vectors(world)
    assert world.run(**openai(provider, 64)).status == 0
    migrated = vectors(world)
    assert world.run("rollback", "--collections", "instructions", "--yes", module=KAI_MIGRATE).status == 0
    assert vectors(world) == {"context_stores": migrated["context_stores"], "instructions": before["instructions"]}


def test_a_document_that_had_no_vector_has_none_again(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=60), 64, old_vectors=False)
    before = vectors(world)
    assert world.run(**openai(provider, 64)).status == 0
    assert world.run("rollback", "--yes", module=KAI_MIGRATE).status == 0
    assert vectors(world) == before


def test_without_a_terminal_a_rollback_needs_to_be_confirmed(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=20), 64)
    assert world.run(**openai(provider, 64)).status == 0
    migrated = vectors(world)
    done = world.run("rollback", module=KAI_MIGRATE)
    assert done.status == 2
    assert "--yes" in done.err
    assert vectors(world) == migrated


def test_a_damaged_backup_is_refused_before_anything_is_changed(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=60), 64)
    assert world.run(**openai(provider, 64)).status == 0
    migrated = vectors(world)
    file = next(world.home.glob("backups/*/context_stores/documents.jsonl.zst"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    done = world.run("rollback", "--yes", module=KAI_MIGRATE)
    assert done.status == 2, done.text
    assert "documents.jsonl.zst" in done.err
    assert vectors(world) == migrated


@pytest.mark.parametrize("name", ["nonsense", "openai-x"])
def test_an_unknown_run_is_refused(world: World, name: str) -> None:
    done = world.run("rollback", name, "--yes", module=KAI_MIGRATE)
    assert done.status == 2
    assert name in done.err


def test_restore_does_the_same_by_hand(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=60), 64)
    before = vectors(world)
    assert world.run("backup", module=KAI_MIGRATE).status == 0
    folders = sorted(world.home.glob("backups/backup-*/*"))
    assert [folder.name for folder in folders] == ["context_stores", "instructions"]
    assert world.run("--no-backup", **openai(provider, 64)).status == 0
    for folder in folders:
        done = world.run("restore", str(folder), "--yes", module=KAI_MIGRATE)
        assert done.status == 0, done.text
    assert vectors(world) == before


def test_verify_passes_after_a_run_and_fails_after_a_vector_was_overwritten(
    world: World, provider: OpenAIStandIn
) -> None:
    world.fill(made_up(questions=60), 64)
    assert world.run(**openai(provider, 64)).status == 0
    done = world.run("verify", module=KAI_MIGRATE, **openai(provider, 64))
    assert done.status == 0, done.text
    assert "context_stores: PASS" in done.out
    other = [float(x) for x in np.ones(64)]
    world.import_("context_stores", [{"id": "q7", "prompt_embedding": other}], "update")
    done = world.run("verify", module=KAI_MIGRATE, **openai(provider, 64))
    assert done.status == 1, done.text
    assert "context_stores: FAIL" in done.out
    assert "vectors as they were written: 59 of 60" in done.out


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"id": "q7", "sql": "SELECT 'something else'"}, "other fields unchanged: 59 of 60"),
        ({"id": "q7", "prompt_text": "another text"}, "texts as they were embedded: 59 of 60"),
        ({"id": "q7", "prompt_embedding": None}, "vectors there: 59 of 60"),
    ],
)
def test_verify_fails_for_whatever_is_not_as_it_was(
    world: World, provider: OpenAIStandIn, change: dict[str, object], check: str
) -> None:
    world.fill(made_up(questions=60), 64)
    assert world.run(**openai(provider, 64)).status == 0
    world.import_("context_stores", [change], "update")
    done = world.run("verify", module=KAI_MIGRATE, **openai(provider, 64))
    assert done.status == 1, done.text
    assert check in done.out


@pytest.mark.parametrize("dimensions", [64, 128])
def test_verify_passes_where_the_collection_has_a_second_vector_field(
    world: World, provider: OpenAIStandIn, dimensions: int
) -> None:
    world.fill(made_up(questions=60), 64)
    second = {"name": "sql_embedding", "type": "float[]", "num_dim": 4, "optional": True}
    world.http.patch("/collections/context_stores", json={"fields": [second]}).raise_for_status()
    documents = [{"id": f"q{n}", "sql_embedding": [1.0, 2.0, 3.0, n + 0.5]} for n in range(60)]
    world.import_("context_stores", documents, "update")
    only = ("--collections", "context_stores")
    done = world.run(*only, **openai(provider, dimensions))
    assert done.status == 0, done.text
    done = world.run("verify", module=KAI_MIGRATE, **openai(provider, dimensions))
    assert done.status == 0, done.text
    assert "other fields unchanged: 60 of 60" in done.out
    world.import_("context_stores", [{"id": "q7", "sql": "SELECT 'something else'"}], "update")
    done = world.run("verify", module=KAI_MIGRATE, **openai(provider, dimensions))
    assert "other fields unchanged: 59 of 60" in done.out


def test_backups_are_listed_and_pruned(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=20), 64)
    assert world.run(**openai(provider, 64)).status == 0
    listed = world.run("backups", module=KAI_MIGRATE)
    assert "context_stores" in listed.out
    assert world.run("backups", "--prune", module=KAI_MIGRATE).status == 2
    assert world.run("backups", "--prune", "--keep", "0", module=KAI_MIGRATE).status == 0
    assert "No backups." in world.run("backups", module=KAI_MIGRATE).out


def test_a_rollback_across_a_change_of_dimensions_recreates_the_collection(
    world: World, provider: OpenAIStandIn
) -> None:
    world.fill(made_up(), 64)
    world.curate("context_stores", {"money": {"synonyms": ["loan", "credit"]}}, {})
    before = world.state()
    assert world.run(**openai(provider, 128)).status == 0
    requests = provider.requests
    done = world.run("rollback", "--yes", module=KAI_MIGRATE)
    assert done.status == 0, done.text
    assert provider.requests == requests
    for name, (schema, documents) in before.items():
        assert world.documents(name) == documents
        after = world.schema(name)
        assert {f["name"]: f for f in after["fields"]} == {f["name"]: f for f in schema["fields"]}
    assert not [c["name"] for c in world.http.get("/collections").json() if "__" in c["name"]]
    assert list(world.curation("context_stores")[0]) == ["money"]
    migrated_again = world.run("rollback", "--yes", module=KAI_MIGRATE)
    assert migrated_again.status == 0, migrated_again.text
    assert len(world.documents("context_stores")["q1"]["prompt_embedding"]) == 128


@pytest.mark.parametrize(("strategy", "step"), [("auto", 3), ("alter", 4)])
def test_a_rollback_killed_at_any_request_is_finished_by_the_next(
    world: World, provider: OpenAIStandIn, tmp_path: Path, strategy: str, step: int
) -> None:
    world.fill(made_up(questions=30, instructions=4), 16)
    before = vectors(world)["context_stores"]
    done = world.run("--collections", "context_stores", "--strategy", strategy, **openai(provider, 32))
    assert done.status == 0, done.text
    migrated = next(world.home.glob("runs/openai-*")).name
    command = ["rollback", migrated, "--yes"]
    for kill_at in range(1, 500, step):
        child = run_command_watched(
            command, world.environment(), tmp_path / "work", kill_at=kill_at, in_child=settled_at_once
        )
        documents = world.http.get("/collections/context_stores/documents/export")
        shadow = world.http.get("/collections/context_stores__shadow/documents/export")
        standing = [a.text.count("\n") + 1 for a in (documents, shadow) if a.status_code == 200 and a.text]
        assert max(standing) == 30, child.text
        if not child.killed:
            break
    assert child.status == 0, child.text
    assert vectors(world)["context_stores"] == before
    assert not [c["name"] for c in world.http.get("/collections").json() if "__" in c["name"]]
