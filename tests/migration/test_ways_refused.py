"""Ways that a collection's schema does not allow: refused with exit status 2 before anything is changed."""

from __future__ import annotations

import os
import signal
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from kai.models import fingerprint
from kai.settings import EmbeddingSettings
from migration.strategies.context import MigrationOptions
from migration.strategies.shadow_state import Mark
from tests.killing import run_watched
from tests.providers import OpenAIStandIn
from tests.world import World, field, made_up, openai

STORES = "context_stores"


def create(world: World, *more: dict[str, Any], dimensions: int = 64, **vector: Any) -> None:
    """Questions with old vectors, in a collection with `more` fields and a vector field of these attributes."""
    attributes = {"num_dim": dimensions, "optional": True, **vector}
    fields = [field("prompt_text"), field("prompt_embedding", "float[]", **attributes), *more]
    world.http.post("/collections", json={"name": STORES, "fields": fields}).raise_for_status()
    documents = [
        {"id": document["id"], "prompt_text": document["prompt_text"], "prompt_embedding": [0.5] * dimensions}
        for document in made_up(questions=20)[STORES]
    ]
    world.import_(STORES, documents)


@pytest.mark.parametrize(
    ("detecting", "strategy", "dimensions"),
    [
        (field(".*", "auto"), "rebuild", 64),
        (field("prompt_.*", "auto"), "alter", 128),
        (field(".*_embedding", "float[]"), "rebuild", 64),
        (field(".*", "string*"), "alter", 128),
    ],
    ids=str,
)
def test_a_field_that_the_server_would_find_by_itself_is_not_taken_out(
    world: World, provider: OpenAIStandIn, detecting: dict[str, Any], strategy: str, dimensions: int
) -> None:
    create(world, detecting)
    before = world.state((STORES,))
    done = world.run("--strategy", strategy, "--collections", STORES, **openai(provider, dimensions))
    assert done.status == 2, done.text
    assert detecting["name"] in done.err
    assert "leave --strategy out" in done.err
    assert world.state((STORES,)) == before
    assert world.run("--collections", STORES, **openai(provider, dimensions)).status == 0


def test_a_way_that_is_refused_after_a_dead_runs_work_was_finished_is_stopped_and_not_called_unchanged(
    world: World, provider: OpenAIStandIn, tmp_path: Path
) -> None:
    create(world, field(".*", "auto"))

    def die(_number: int, name: str) -> None:
        if f"src_name={STORES}__shadow" in name:
            os.kill(os.getpid(), signal.SIGKILL)

    environment = world.environment(**openai(provider, 128))
    assert run_watched(MigrationOptions(collections=(STORES,)), environment, tmp_path / "work", at_request=die).killed
    done = world.run("--strategy", "alter", "--collections", STORES, **openai(provider, 32))
    assert done.status == 3, done.text
    assert "leave --strategy out" in done.err
    assert "nothing was changed" not in done.text
    assert {len(document["prompt_embedding"]) for document in world.documents(STORES).values()} == {128}


def test_a_pattern_for_other_names_is_no_hindrance(world: World, provider: OpenAIStandIn) -> None:
    create(world, field("extra_.*", "auto"))
    done = world.run("--strategy", "rebuild", "--collections", STORES, **openai(provider, 64))
    assert done.status == 0, done.text
    found = {known["name"]: known for known in world.schema(STORES)["fields"]}
    assert found["prompt_embedding"]["num_dim"] == 64


@pytest.mark.parametrize("more", [(), (field(".*", "auto"),)], ids=["plain", "pattern"])
@pytest.mark.parametrize("phase", ["dropping", "adding"])
def test_a_field_that_the_server_found_meanwhile_does_not_count_as_put_back(
    world: World, provider: OpenAIStandIn, more: tuple[dict[str, Any], ...], phase: str
) -> None:
    create(world, *more, dimensions=64, hnsw_params={"M": 8, "ef_construction": 100})
    wanted = next(known for known in world.schema(STORES)["fields"] if known["name"] == "prompt_embedding")
    changes = [{"name": "prompt_embedding", "drop": True}, field("prompt_embedding", "float[]", optional=True)]
    world.http.patch(f"/collections/{STORES}", json={"fields": changes}).raise_for_status()
    mark = {
        "role": "rebuilding",
        "phase": phase,
        "field": {key: wanted[key] for key in ("name", "type", "num_dim", "optional", "hnsw_params")},
        "run": "a-dead-run",
        "old_dimensions": 64,
        "dropped_at": 1.0,
    }
    world.http.patch(f"/collections/{STORES}", json={"metadata": {"kai_migration": mark}}).raise_for_status()
    done = world.run("--collections", STORES, **openai(provider, 64))
    assert done.status == 0, done.text
    found = next(known for known in world.schema(STORES)["fields"] if known["name"] == "prompt_embedding")
    assert found == wanted
    assert "kai_migration" not in str(world.schema(STORES))


def test_a_field_beside_one_that_a_dead_run_took_out_keeps_its_vectors(world: World, provider: OpenAIStandIn) -> None:
    create(world)
    mark = {
        "role": "rebuilding",
        "phase": "emptying",
        "field": {"name": "answer_embedding", "type": "float[]", "num_dim": 64, "optional": True},
        "run": "a-dead-run",
        "old_dimensions": 32,
        "dropped_at": 1.0,
    }
    world.http.patch(f"/collections/{STORES}", json={"metadata": {"kai_migration": mark}}).raise_for_status()
    before = world.state((STORES,))
    done = world.run("--collections", STORES, "--strategy", "alter", **openai(provider, 128))
    assert done.status == 2, done.text
    assert "run a-dead-run took the vector field 'answer_embedding'" in done.err
    assert world.state((STORES,)) == before


@pytest.mark.parametrize(("strategy", "dimensions"), [("auto", 128), ("rebuild", 64), ("alter", 128)])
def test_a_field_with_the_server_s_own_model_is_not_taken_out(
    world: World, provider: OpenAIStandIn, strategy: str, dimensions: int
) -> None:
    config = {"model_name": "openai/text-embedding-3-small", "api_key": "sk-abcdefghij"}
    create(world, embed={"from": ["prompt_text"], "model_config": config})
    before = world.state((STORES,))
    done = world.run("--strategy", strategy, "--collections", STORES, **openai(provider, dimensions))
    assert done.status == 2, done.text
    assert "`embed` setting" in done.err
    assert world.state((STORES,)) == before


def described(world: World, *tables: str) -> str:
    """A file that describes the collections of these names, each with a table of its own."""
    file = world.home.parent / "collections.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(tables))
    return str(file)


def table(name: str, template: str = "{prompt_text}", embedding_field: str = "prompt_embedding") -> str:
    """The description of one collection."""
    return f'[{name}]\nembedding_field = "{embedding_field}"\ntemplate = "{template}"\n'


@pytest.mark.parametrize("arguments", [(), ("--dry-run",)], ids=str)
def test_a_collection_and_its_alias_are_not_migrated_together(
    world: World, provider: OpenAIStandIn, arguments: tuple[str, ...]
) -> None:
    create(world)
    world.http.put("/aliases/questions", json={"collection_name": STORES}).raise_for_status()
    before = world.state((STORES,))
    file = described(world, table(STORES), table("questions"))
    done = world.run("--collections-file", file, *arguments, **openai(provider, 64))
    assert done.status == 2, done.text
    assert f"'{STORES}', 'questions' are one collection, '{STORES}'" in done.err
    assert world.state((STORES,)) == before


def test_an_embedding_inside_an_object_is_refused(world: World, provider: OpenAIStandIn) -> None:
    fields = [field("prompt_text"), field("o", "object"), field("o.v", "float[]", num_dim=64, optional=True)]
    schema = {"name": STORES, "enable_nested_fields": True, "fields": fields}
    world.http.post("/collections", json=schema).raise_for_status()
    world.import_(STORES, [{"id": "q1", "prompt_text": "how many?", "o": {"v": [0.5] * 64}}])
    before = world.state((STORES,))
    file = described(world, table(STORES, embedding_field="o.v"))
    done = world.run("--collections-file", file, **openai(provider, 64))
    assert done.status == 2, done.text
    assert "'o.v'" in done.err
    assert "inside an object" in done.err
    assert world.state((STORES,)) == before


@pytest.mark.parametrize(("strategy", "dimensions"), [("auto", 128), ("rebuild", 64), ("alter", 128)])
def test_a_template_that_fits_no_document_takes_no_vector_away(
    world: World, provider: OpenAIStandIn, strategy: str, dimensions: int
) -> None:
    create(world)
    before = world.state((STORES,))
    file = described(world, table(STORES, template="{promt_text}, {id_of}"))
    done = world.run("--collections-file", file, "--strategy", strategy, **openai(provider, dimensions))
    assert done.status == 2, done.text
    assert "'{promt_text}, {id_of}' (no document has {promt_text}, {id_of})" in done.err
    assert world.state((STORES,)) == before


def test_a_collection_without_documents_may_be_recreated(world: World, provider: OpenAIStandIn) -> None:
    create(world)
    world.http.delete(f"/collections/{STORES}/documents", params={"filter_by": "id:!=none"}).raise_for_status()
    done = world.run("--collections", STORES, **openai(provider, 128))
    assert done.status == 0, done.text


def test_options_that_do_nothing_are_told(world: World, provider: OpenAIStandIn) -> None:
    fields = [field("prompt_text"), field("prompt_embedding", "float[]", optional=True)]
    world.http.post("/collections", json={"name": STORES, "fields": fields}).raise_for_status()
    world.import_(STORES, [{"id": "q1", "prompt_text": "how many?"}])
    arguments = ("--collections", STORES, "--strategy", "rebuild", "--keep-old")
    for done in (world.run("--dry-run", *arguments, **openai(provider)), world.run(*arguments, **openai(provider))):
        assert done.status == 0, done.text
        assert "--strategy rebuild has no effect" in done.text
        assert "--keep-old has no effect" in done.text


def test_the_plan_after_a_killed_rebuild_is_to_finish_it(world: World, provider: OpenAIStandIn) -> None:
    create(world)
    wanted = next(known for known in world.schema(STORES)["fields"] if known["name"] == "prompt_embedding")
    changes = [{"name": "prompt_embedding", "drop": True}]
    world.http.patch(f"/collections/{STORES}", json={"fields": changes}).raise_for_status()
    mark = {"role": "rebuilding", "phase": "adding", "field": wanted, "run": "a-dead-run", "old_dimensions": 64}
    world.http.patch(f"/collections/{STORES}", json={"metadata": {"kai_migration": mark}}).raise_for_status()
    done = world.run("--collections", STORES, "--dry-run", **openai(provider, 64))
    assert done.status == 0, done.text
    assert "took the vector field out and did not finish; this run does" in done.out
    assert "has no num_dim" not in done.out
    assert "instead" not in done.out


@pytest.mark.parametrize(
    ("strategy", "dimensions", "said"),
    [
        ("auto", 128, "this run goes on from there"),
        ("auto", 256, "it is of no use to this run, which removes it"),
        ("alter", 128, "it is of no use to this run, which removes it"),
    ],
)
def test_the_plan_says_what_becomes_of_a_shadow(
    world: World, provider: OpenAIStandIn, strategy: str, dimensions: int, said: str
) -> None:
    create(world)
    embedding = EmbeddingSettings("openai", "text-embedding-3-small", 128)
    shadow = Mark(
        STORES, "a-dead-run", "building", fingerprint(embedding, "{prompt_text}"), 128, "prompt_embedding", {}
    )
    answer = world.http.post("/collections", params={"src_name": STORES}, json={"name": f"{STORES}__shadow"})
    answer.raise_for_status()
    metadata = {"kai_migration": asdict(shadow)}
    world.http.patch(f"/collections/{STORES}__shadow", json={"metadata": metadata}).raise_for_status()
    arguments = ("--collections", STORES, "--strategy", strategy)
    done = world.run(*arguments, "--dry-run", **openai(provider, dimensions))
    assert done.status == 0, done.text
    assert f"run a-dead-run left a shadow behind (building); {said}" in done.out
