"""A way back that would lead elsewhere is refused: another collection, another server, another run's state."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.providers import OpenAIStandIn
from tests.sandbox.server import RunningSandbox
from tests.world import Finished, World, field, made_up, openai

NAME, FIELD = "context_stores", "prompt_embedding"
SMALL, LARGE = "text-embedding-3-small", "text-embedding-3-large"


def kai_migrate(world: World, *arguments: str, status: int = 0, variables: dict[str, str] | None = None) -> Finished:
    done = world.run(*arguments, module="migration", **(variables or {}))
    assert done.status == status, done.text
    assert "Traceback" not in done.text
    return done


def backed_up(world: World, name: str = NAME) -> Path:
    kai_migrate(world, "backup", "--collections", name)
    return next(world.home.glob(f"backups/backup-*/{name}"))


def test_a_backup_is_not_restored_into_a_collection_without_its_field(world: World) -> None:
    world.fill(made_up(questions=20), 64)
    folder = backed_up(world)
    before = world.state()
    done = kai_migrate(world, "restore", str(folder), "--collection", "instructions", "--yes", status=2)
    assert "'instructions' has no field 'prompt_embedding'" in done.err
    assert world.state() == before


def test_a_collection_that_does_not_exist_is_said_to_be_created_before_it_is(world: World) -> None:
    world.fill(made_up(questions=20), 64)
    folder = backed_up(world)
    done = kai_migrate(world, "restore", str(folder), "--collection", "nope", status=2)
    assert "nope: DOES NOT EXIST; it will be CREATED" in done.err
    assert world.http.get("/collections/nope").status_code == 404
    done = kai_migrate(world, "restore", str(folder), "--collection", "nope", "--yes")
    assert "'nope' does not exist on" in done.err
    assert len(world.documents("nope")) == 20


def test_vectors_alone_do_not_create_a_collection(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=20), 64)
    assert world.run("--collections", NAME, **openai(provider, 64)).status == 0
    folder = next(world.home.glob(f"backups/*/{NAME}"))
    done = kai_migrate(world, "restore", str(folder), "--collection", "nope", "--yes", status=2)
    assert "'nope' does not exist on" in done.err
    assert world.http.get("/collections/nope").status_code == 404


def test_a_restore_under_an_alias_is_one_into_the_collection_behind_it(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=20), 64)
    folder = backed_up(world)
    before = world.documents(NAME)
    assert world.run("--collections", NAME, **openai(provider, 128)).status == 0
    world.http.put("/aliases/current", json={"collection_name": NAME}).raise_for_status()
    kai_migrate(world, "restore", str(folder), "--collection", "current", "--yes")
    assert world.documents(NAME) == before
    assert world.http.get("/aliases").json()["aliases"] == [{"name": "current", "collection_name": NAME}]


def test_a_run_over_one_server_is_neither_undone_nor_verified_on_another(
    world: World, provider: OpenAIStandIn, tmp_path: Path
) -> None:
    world.fill(made_up(questions=20), 64)
    assert world.run("--collections", NAME, **openai(provider, 64)).status == 0
    folder = next(world.home.glob(f"backups/*/{NAME}"))
    first = world.address
    with RunningSandbox(tmp_path / "data") as sandbox:
        other = World(sandbox.url, sandbox.api_key, world.home)
        try:
            other.fill(made_up(questions=20, seed=2), 64)
            before = other.state()
            second = other.address
            for arguments in (("rollback", "--yes"), ("verify",)):
                done = kai_migrate(other, *arguments, status=2)
                assert "TYPESENSE_HOST, TYPESENSE_PORT" in done.err
                assert first in done.err
                assert second in done.err
            asked = kai_migrate(other, "restore", str(folder), status=2).err
            assert f"of ANOTHER SERVER, {first}, this one is {second}" in asked
            assert other.state() == before
            kai_migrate(other, "restore", str(folder), "--yes")
        finally:
            other.close()


def test_a_run_is_verified_and_undone_under_another_spelling_of_its_server(
    world: World, provider: OpenAIStandIn
) -> None:
    world.fill(made_up(questions=20), 64)
    before = world.documents(NAME)
    spelt = {"TYPESENSE_HOST": "LocalHost"}
    migrate(world, provider, SMALL, 64)
    assert "context_stores: PASS" in kai_migrate(world, "verify", variables=openai(provider, 64) | spelt).out
    kai_migrate(world, "rollback", "--yes", variables=spelt)
    assert world.documents(NAME) == before
    kai_migrate(world, "verify", status=2)


def test_a_run_whose_backup_was_pruned_is_said_to_have_none_any_more(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=20), 64)
    assert world.run("--collections", NAME, "--alias", "spring", **openai(provider, 64)).status == 0
    kai_migrate(world, "backups", "--prune", "--keep", "0")
    done = kai_migrate(world, "rollback", "spring", "--yes", status=2)
    assert "was removed" in done.err
    assert "cannot be rolled back" in done.err
    assert "manifest" not in done.err


# -- runs upon runs ----------------------------------------------------------------------------------------


def migrate(world: World, provider: OpenAIStandIn, model: str, dimensions: int, *options: str, status: int = 0) -> None:
    done = world.run("--collections", NAME, *options, **openai(provider, dimensions, model))
    assert done.status == status, done.text


def test_a_run_on_which_a_later_one_stands_is_not_undone_before_that_one(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=60), 64)
    first = world.documents(NAME)
    migrate(world, provider, SMALL, 64, "--limit", "10", "--alias", "can", status=3)
    migrate(world, provider, SMALL, 128, "--alias", "full")
    migrated = world.documents(NAME)
    done = kai_migrate(world, "rollback", "can", "--yes", status=2)
    assert "roll back the latest first, in this order: openai-text-embedding-3-small-128-" in done.err
    assert world.documents(NAME) == migrated
    done = kai_migrate(world, "rollback", "full", "--yes", status=1)
    assert "10 documents of 'context_stores' still carry vectors of run openai-" in done.err
    kai_migrate(world, "rollback", "can", "--yes")
    assert world.documents(NAME) == first


def test_a_canary_that_is_left_behind_is_named_with_the_way_to_undo_it_too(
    world: World, provider: OpenAIStandIn
) -> None:
    world.fill(made_up(questions=60), 64)
    first = world.documents(NAME)
    migrate(world, provider, SMALL, 64, "--limit", "10", "--alias", "can", status=3)
    migrate(world, provider, SMALL, 64, "--alias", "full")
    done = kai_migrate(world, "rollback", "full", "--yes", status=1)
    assert "10 documents of 'context_stores' still carry vectors of run openai-" in done.err
    assert "roll it back too: kai-migrate rollback openai-" in done.err
    assert "added since" not in done.err
    kai_migrate(world, "rollback", "can", "--yes")
    assert world.documents(NAME) == first


@pytest.mark.parametrize("pruned", [False, True])
def test_a_later_run_that_cannot_be_undone_is_named_and_holds_nobody_up(
    world: World, provider: OpenAIStandIn, pruned: bool
) -> None:
    world.fill(made_up(questions=20), 64)
    first = world.documents(NAME)
    migrate(world, provider, SMALL, 64, "--alias", "one")
    migrate(world, provider, LARGE, 64, "--alias", "two", *(() if pruned else ("--no-backup",)))
    if pruned:
        for folder in world.home.glob("backups/*large*"):
            shutil.rmtree(folder)
    added = world.documents(NAME)["q1"] | {"id": "added", "prompt_text": "what else?"}
    world.import_(NAME, [added])
    migrate(world, provider, LARGE, 64, "--no-backup")
    done = kai_migrate(world, "rollback", "one", "--yes", status=1)
    assert "later and has no backup" in done.err
    assert "1 documents of 'context_stores' still carry vectors of run openai-text-embedding-3-large" in done.err
    assert {id_: d for id_, d in world.documents(NAME).items() if id_ != "added"} == first


def test_a_run_is_undone_once_the_later_ones_were_and_again_after_a_rollback_was_undone(
    world: World, provider: OpenAIStandIn
) -> None:
    world.fill(made_up(questions=20), 64)
    first = world.documents(NAME)
    migrate(world, provider, SMALL, 64, "--alias", "one")
    migrate(world, provider, LARGE, 64, "--alias", "two")
    kai_migrate(world, "rollback", "one", "--yes", status=2)
    kai_migrate(world, "rollback", "two", "--yes")
    kai_migrate(world, "rollback", "--yes")  # the rollback: run two stands again
    kai_migrate(world, "rollback", "one", "--yes", status=2)
    kai_migrate(world, "rollback", "two", "--yes")
    kai_migrate(world, "rollback", "one", "--yes")
    assert world.documents(NAME) == first


def verdicts(world: World) -> list[object]:
    return [run["verdict"] for run in json.loads(kai_migrate(world, "history", "--json").out)["runs"]]


@pytest.mark.parametrize("dimensions", [64, 128])
def test_a_run_that_was_rolled_back_is_not_verified_and_its_verdict_stays(
    world: World, provider: OpenAIStandIn, dimensions: int
) -> None:
    world.fill(made_up(questions=60), 64)
    migrate(world, provider, SMALL, dimensions)
    kai_migrate(world, "rollback", "--yes")
    before = verdicts(world)
    for arguments in (("verify",), ("verify", "openai")):
        done = kai_migrate(world, *arguments, status=2, variables=openai(provider, dimensions))
        assert "was rolled back by rollback-" in done.err
    assert verdicts(world) == before


@pytest.mark.parametrize("dimensions", [64, 128])
def test_the_run_before_one_that_was_rolled_back_is_verified_in_its_place(
    world: World, provider: OpenAIStandIn, dimensions: int
) -> None:
    world.fill(made_up(questions=60), 64)
    migrate(world, provider, SMALL, 64, "--alias", "one")
    migrate(world, provider, LARGE, dimensions, "--alias", "two")
    done = kai_migrate(world, "verify", "one", status=2, variables=openai(provider, 64))
    assert "wrote to 'context_stores' after run" in done.err
    kai_migrate(world, "rollback", "two", "--yes")
    done = kai_migrate(world, "verify", variables=openai(provider, 64))
    assert "context_stores: PASS" in done.out
    assert "was rolled back by rollback-" in done.err
    assert "made no backup" not in done.out
    migrate(world, provider, SMALL, 64, "--alias", "three")
    kai_migrate(world, "verify", "three", variables=openai(provider, 64))


# -- what is said of documents -----------------------------------------------------------------------------


@pytest.mark.parametrize("dimensions", [64, 128])
def test_documents_outside_the_filter_or_never_touched_are_not_called_added(
    world: World, provider: OpenAIStandIn, dimensions: int
) -> None:
    world.fill(made_up(questions=60), 64)
    done = world.run("--collections", "instructions", **openai(provider, dimensions))
    assert done.status == 0, done.text
    rule = made_up()["instructions"][3] | {"id": "outside"}
    assert rule["is_default"]
    world.import_("instructions", [rule])
    done = kai_migrate(world, "rollback", "--yes")
    assert "added since" not in done.err
    migrate(world, provider, SMALL, 64, "--limit", "10", status=3)
    done = kai_migrate(world, "rollback", "--yes")
    assert "added since" not in done.err


@pytest.mark.parametrize("dimensions", [64, 128])
def test_of_a_collection_that_is_not_described_nothing_is_said_about_texts(
    world: World, provider: OpenAIStandIn, tmp_path: Path, dimensions: int
) -> None:
    file = tmp_path / "notes.toml"
    file.write_text('[notes]\nembedding_field = "vector"\ntemplate = "{title}"\n')
    fields = [field("title"), field("vector", "float[]", num_dim=64, optional=True)]
    world.http.post("/collections", json={"name": "notes", "fields": fields}).raise_for_status()
    world.import_("notes", [{"id": f"n{n}", "title": f"t {n}", "vector": [1.0 + n] * 64} for n in range(6)])
    before = world.documents("notes")
    described = ("--collections", "notes", "--collections-file", str(file))
    done = world.run(*described, **openai(provider, dimensions))
    assert done.status == 0, done.text
    done = kai_migrate(world, "rollback", "--yes")
    assert "another text" not in done.err
    assert world.documents("notes") == before
