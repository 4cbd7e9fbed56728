"""A way back that would lead elsewhere is refused: another collection, another server, another run's state."""

from __future__ import annotations

from pathlib import Path

import pytest

from migration.undo.order import same_server
from tests.providers import OpenAIStandIn
from tests.sandbox.server import RunningSandbox
from tests.world import Finished, World, made_up, openai

NAME, FIELD = "context_stores", "prompt_embedding"
SMALL, LARGE = "text-embedding-3-small", "text-embedding-3-large"


def kai_migrate(world: World, *arguments: str, status: int = 0, **variables: str) -> Finished:
    done = world.run(*arguments, module="migration", **variables)
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
    first = world.url.removeprefix("http://")
    with RunningSandbox(tmp_path / "data") as sandbox:
        other = World(sandbox.url, sandbox.api_key, world.home)
        try:
            other.fill(made_up(questions=20, seed=2), 64)
            before = other.state()
            second = other.url.removeprefix("http://")
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


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("localhost:8108", "127.0.0.1:8108", True),
        ("LOCALHOST:8108", "::1:8108", True),
        ("[::1]:8108", "127.0.0.1:8108", True),
        ("search.example:443", "Search.Example:443", True),
        ("localhost:8108", "localhost:8109", False),
        ("a.example:8108", "b.example:8108", False),
    ],
)
def test_a_server_is_known_under_each_of_its_spellings(one: str, other: str, same: bool) -> None:
    assert same_server(one, other) is same


def test_a_run_whose_backup_was_pruned_is_said_to_have_none_any_more(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=20), 64)
    assert world.run("--collections", NAME, "--alias", "spring", **openai(provider, 64)).status == 0
    kai_migrate(world, "backups", "--prune", "--keep", "0")
    done = kai_migrate(world, "rollback", "spring", "--yes", status=2)
    assert "was removed" in done.err
    assert "cannot be rolled back" in done.err
    assert "manifest" not in done.err
