"""The way back from whatever was left: runs stopped or killed, other runs between, collections that are gone."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from unittest.mock import patch

import pytest

from kai.typesense import Typesense
from migration.documents.fetch import Selection, whole_export
from migration.strategies.context import MigrationOptions
from tests.killing import Ended, run_command_watched, run_watched
from tests.providers import OpenAIStandIn
from tests.providers.vectors import vector_for
from tests.world import Finished, World, as_float32, field, made_up, openai, text_of

NAME, FIELD = "context_stores", "prompt_embedding"
ONLY = ("--collections", NAME)
SMALL, LARGE = "text-embedding-3-small", "text-embedding-3-large"
NOTES = "[notes]\nembedding_field = 'vector'\ntemplate = '{title}'\n"


def standing(world: World) -> Counter[str]:
    """How many vectors are of which model and length; `old` for the ones that were there first."""
    found: Counter[str] = Counter()
    for document in world.documents(NAME).values():
        vector = as_float32(document.get(FIELD))
        length = len(vector or b"") // 4
        made = (
            model
            for model in (SMALL, LARGE)
            if vector == vector_for(text_of(NAME, document), model=model, dimensions=length).tobytes()
        )
        found["none" if vector is None else f"{next(made, 'old')}/{length}"] += 1
    return found


def run(world: World, provider: OpenAIStandIn, model: str, dimensions: int, *options: str) -> Finished:
    return world.run(*ONLY, *options, **openai(provider, dimensions, model))


def kai_migrate(world: World, *arguments: str, status: int = 0) -> Finished:
    done = world.run(*arguments, module="migration")
    assert done.status == status, done.text
    return done


def forked(world: World, provider: OpenAIStandIn, model: str, dimensions: int, folder: Path, **how: object) -> Ended:
    environment = world.environment(**openai(provider, dimensions, model))
    return run_watched(MigrationOptions(collections=(NAME,), concurrency=1), environment, folder, **how)  # type: ignore[arg-type]


def test_a_recreate_that_was_interrupted_while_it_built_costs_no_vector_when_it_is_undone(
    world: World, provider: OpenAIStandIn, tmp_path: Path
) -> None:
    world.fill(made_up(questions=1200), 64)
    before = world.documents(NAME)
    interrupted: list[int] = []

    def at_request(number: int, name: str) -> None:
        if "__shadow/documents/import" in name and not interrupted:
            interrupted.append(number)
            os.kill(os.getpid(), signal.SIGINT)

    assert forked(world, provider, SMALL, 128, tmp_path / "work", at_request=at_request).status == 130
    kai_migrate(world, "rollback", "--yes")
    assert world.documents(NAME) == before
    assert not [c["name"] for c in world.http.get("/collections").json() if "__" in c["name"]]


def test_a_recreate_that_died_past_the_drop_is_finished_and_then_undone(
    world: World, provider: OpenAIStandIn, tmp_path: Path
) -> None:
    world.fill(made_up(questions=60), 64)
    before = world.documents(NAME)
    dropped: list[int] = []

    def at_request(number: int, name: str) -> None:
        if dropped:
            os.kill(os.getpid(), signal.SIGKILL)
        if name == f"DELETE /collections/{NAME}":
            dropped.append(number)

    assert forked(world, provider, SMALL, 128, tmp_path / "work", at_request=at_request).killed
    assert world.http.get(f"/collections/{NAME}").status_code == 404
    kai_migrate(world, "rollback", "--yes")
    assert world.documents(NAME) == before
    assert not [c["name"] for c in world.http.get("/collections").json() if "__" in c["name"]]


def test_vectors_that_came_back_are_not_taken_for_those_of_a_run_that_was_undone(
    world: World, provider: OpenAIStandIn
) -> None:
    world.fill(made_up(questions=60), 64)
    for model in (SMALL, LARGE):
        assert run(world, provider, model, 64).status == 0
        kai_migrate(world, "rollback", "--yes")
        assert standing(world) == {"old/64": 60}
    assert run(world, provider, SMALL, 64).status == 0
    assert standing(world) == {f"{SMALL}/64": 60}


def test_vectors_of_a_canary_are_told_from_the_others_after_a_rollback(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=60), 64)
    assert run(world, provider, SMALL, 64, "--limit", "5").status == 3
    assert run(world, provider, LARGE, 64).status == 0
    done = kai_migrate(world, "rollback", "--yes", status=1)
    assert f"5 documents of '{NAME}' still carry vectors of run openai-{SMALL}" in done.err
    assert standing(world) == {"old/64": 55, f"{SMALL}/64": 5}
    assert run(world, provider, SMALL, 64).status == 0
    assert standing(world) == {f"{SMALL}/64": 60}


@pytest.mark.parametrize("dimensions", [64, 128])
def test_a_stopped_run_is_not_gone_on_with_after_another_run_wrote_there(
    world: World, provider: OpenAIStandIn, dimensions: int
) -> None:
    world.fill(made_up(questions=60), 64)
    assert run(world, provider, SMALL, 64, "--limit", "5").status == 3
    assert run(world, provider, LARGE, dimensions).status == 0
    assert run(world, provider, SMALL, 64).status == 0
    assert standing(world) == {f"{SMALL}/64": 60}
    kai_migrate(world, "rollback", "--yes")
    assert standing(world) == {f"{LARGE}/{dimensions}": 60}


def test_a_killed_run_is_the_one_that_is_undone(world: World, provider: OpenAIStandIn, tmp_path: Path) -> None:
    world.fill(made_up(questions=300), 64)
    assert run(world, provider, SMALL, 64).status == 0
    killed = forked(world, provider, LARGE, 64, tmp_path / "work", kill_at=21, moment="after")
    assert killed.killed
    assert standing(world)[f"{LARGE}/64"] > 0
    kai_migrate(world, "rollback", "--yes")
    assert standing(world) == {f"{SMALL}/64": 300}


def test_a_run_without_a_backup_is_not_passed_over_for_an_earlier_one(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=60), 64)
    assert run(world, provider, SMALL, 64).status == 0
    assert run(world, provider, LARGE, 64, "--no-backup").status == 0
    done = kai_migrate(world, "rollback", "--yes", status=2)
    assert "was made with --no-backup and cannot be undone" in done.err
    assert standing(world) == {f"{LARGE}/64": 60}


def test_the_metadata_names_the_earlier_model_again(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=60), 64)
    assert run(world, provider, SMALL, 64).status == 0
    for dimensions in (64, 128):
        assert run(world, provider, LARGE, dimensions).status == 0
        assert world.schema(NAME)["metadata"]["embedding"]["model"] == LARGE
        kai_migrate(world, "rollback", "--yes")
        assert world.schema(NAME)["metadata"]["embedding"]["model"] == SMALL


def test_across_dimensions_added_and_changed_documents_are_named(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=60), 64)
    assert run(world, provider, SMALL, 128).status == 0
    world.import_(NAME, [world.documents(NAME)["q4"] | {"id": "added"}])
    world.import_(NAME, [{"id": "q5", "prompt_text": "something else"}], "update")
    done = kai_migrate(world, "rollback", "--yes")
    assert "1 documents were added since and have no old vector: added" in done.err
    assert "1 documents have another text now than their old vector is of: q5" in done.err
    assert "Complete: 60 vectors stand as they stood" in done.out
    assert "added" in world.documents(NAME)


def test_an_alter_that_died_in_the_pause_has_to_be_finished_before_it_is_undone(
    world: World, provider: OpenAIStandIn, tmp_path: Path
) -> None:
    world.fill(made_up(questions=60), 64)
    before = world.documents(NAME)
    environment = world.environment(**openai(provider, 128, SMALL))
    options = MigrationOptions(collections=(NAME,), strategy="alter")
    died: list[int] = []

    def at_request(number: int, name: str) -> None:
        if "/documents/import?action=update" in name:
            os.kill(os.getpid(), signal.SIGKILL)

    died.append(run_watched(options, environment, tmp_path / "work", at_request=at_request).killed)
    assert died == [True]
    assert "run that migration again" in kai_migrate(world, "rollback", "--yes", status=2).err
    assert run(world, provider, SMALL, 128).status == 0
    kai_migrate(world, "rollback", "--yes")
    assert world.documents(NAME) == before


def test_a_dead_recreate_does_not_decide_how_a_later_run_goes(
    world: World, provider: OpenAIStandIn, tmp_path: Path
) -> None:
    world.fill(made_up(questions=60), 64)
    assert forked(world, provider, SMALL, 128, tmp_path / "work", kill_at=30).killed
    done = run(world, provider, SMALL, 128, "--strategy", "alter")
    assert done.status == 0, done.text
    assert "vector search paused for" in done.err
    assert "not searchable" not in done.text, "the collection was away"
    assert standing(world) == {f"{SMALL}/128": 60}


def test_an_alter_is_refused_where_a_document_would_have_no_vector_and_must(
    world: World, provider: OpenAIStandIn, tmp_path: Path
) -> None:
    file = tmp_path / "notes.toml"
    fields = [field("title", optional=True), field("vector", "float[]", num_dim=8)]
    world.http.post("/collections", json={"name": "notes", "fields": fields}).raise_for_status()
    world.import_("notes", [{"id": f"n{n}", "title": f"t {n}", "vector": [1.0] * 8} for n in range(6)])
    command = ("--collections", "notes", "--collections-file", str(file), "--strategy", "alter")
    file.write_text(NOTES)
    world.import_("notes", [{"id": "n0", "title": ""}], "update")
    before = world.state(("notes",))
    done = world.run(*command, **openai(provider, 16))
    assert done.status == 3, done.text
    assert "must have a value in every document, and 1 would have none, 'n0' among them" in done.err
    assert world.state(("notes",)) == before


# -- collections that are gone ---------------------------------------------------------------------------


def test_a_restore_of_a_dropped_collection_is_gone_on_with_after_a_kill(world: World, tmp_path: Path) -> None:
    world.fill(made_up(questions=600), 64)
    before = world.documents(NAME)
    kai_migrate(world, "backup", *ONLY)
    backup = next(world.home.glob(f"backups/backup-*/{NAME}"))
    world.http.delete(f"/collections/{NAME}").raise_for_status()

    def at_request(_: int, name: str) -> None:
        imports.append(name) if "/documents/import" in name else None
        if len(imports) == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    imports: list[str] = []
    command = ["restore", str(backup), "--yes"]
    assert run_command_watched(command, world.environment(), tmp_path / "work", at_request=at_request).killed
    assert len(world.documents(NAME)) == 250
    world.http.patch(f"/collections/{NAME}/documents/q7", json={"sql": "SELECT 2"}).raise_for_status()
    done = kai_migrate(world, *command)
    assert "Complete: 600 vectors" in done.out
    assert world.documents(NAME) == before | {"q7": before["q7"] | {"sql": "SELECT 2"}}
    assert "kai_migration" not in (world.schema(NAME).get("metadata") or {})


def test_a_restore_from_a_backup_that_is_not_complete_says_so(world: World, tmp_path: Path) -> None:
    world.fill(made_up(questions=600), 64)

    def killed_after_a_page(server: Typesense, name: str, selection: Selection) -> Iterator[bytes]:
        yield from islice(whole_export(server, name, selection), 250)
        os.kill(os.getpid(), signal.SIGKILL)

    def in_child() -> None:
        patch("migration.operations.backup.whole_export", killed_after_a_page).start()

    assert run_command_watched(["backup", *ONLY], world.environment(), tmp_path / "work", in_child=in_child).killed
    backup = next(world.home.glob(f"backups/backup-*/{NAME}"))
    world.http.delete(f"/collections/{NAME}").raise_for_status()
    done = kai_migrate(world, "restore", str(backup), "--yes", status=1)
    assert "the backup is not complete: 250 documents are in it, of the 600" in done.err


def test_an_unfinished_cut_over_is_neither_verified_nor_backed_up_as_if_it_were_the_collection(
    world: World, provider: OpenAIStandIn, tmp_path: Path
) -> None:
    world.fill(made_up(questions=60), 64)
    dropped: list[int] = []

    def at_request(number: int, name: str) -> None:
        if dropped and name.startswith(f"POST /collections/{NAME}/documents/import"):
            os.kill(os.getpid(), signal.SIGKILL)
        if name == f"DELETE /collections/{NAME}":
            dropped.append(number)

    assert forked(world, provider, SMALL, 128, tmp_path / "work", at_request=at_request).killed
    for command in ("verify", "backup"):
        done = kai_migrate(world, command, *(ONLY if command == "backup" else ()), status=2)
        assert f"its documents are in '{NAME}__shadow'" in done.text
    assert run(world, provider, SMALL, 128).status == 0
    kai_migrate(world, "verify")


def test_a_collection_that_lost_most_of_its_documents_since_the_run_does_not_pass(
    world: World, provider: OpenAIStandIn
) -> None:
    world.fill(made_up(questions=60), 64)
    assert run(world, provider, SMALL, 64).status == 0
    ids = list(world.documents(NAME))
    for gone, status in ((ids[:20], 0), (ids[20:40], 1), (ids[40:], 1)):
        for id_ in gone:
            world.http.delete(f"/collections/{NAME}/documents/{id_}").raise_for_status()
        done = kai_migrate(world, "verify", status=status)
    assert "documents: 0 of 60 (60 fewer than the run left)" in done.out
