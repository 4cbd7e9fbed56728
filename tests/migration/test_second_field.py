"""A second field filled beside the one that serves, the switch, `finish`, and the way back before it and after it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kai.typesense import embedding_field
from tests.providers import OpenAIStandIn
from tests.world import EMBEDDING_FIELDS, World, as_float32, eligible, made_up, openai, text_of

NAMES = tuple(EMBEDDING_FIELDS)


def new_field(name: str) -> str:
    """The second field of a collection."""
    return f"{EMBEDDING_FIELDS[name]}_v2"


def without(documents: dict[str, Any], *fields: str) -> dict[str, Any]:
    """The documents without these fields."""
    return {id_: {k: v for k, v in d.items() if k not in fields} for id_, d in documents.items()}


def check_filled(world: World, provider: OpenAIStandIn, dimensions: int) -> None:
    """Every eligible document has the model's vector of its text in the new field, and no other has one."""
    for name in NAMES:
        documents = world.documents(name)
        wanted = dict(eligible(name, documents))
        for id_, document in documents.items():
            expected = (
                provider.vector_for(text_of(name, document), dimensions=dimensions).tobytes() if id_ in wanted else None
            )
            assert as_float32(document.get(new_field(name))) == expected, id_


def vector_fields(world: World, name: str) -> dict[str, Any]:
    """The collection's vector fields by name."""
    return {each["name"]: each for each in world.schema(name)["fields"] if each.get("num_dim")}


@pytest.fixture
def filled(world: World, provider: OpenAIStandIn) -> World:
    """A second field filled beside each of KAI's."""
    world.fill(made_up(), 64)
    done = world.run("--into", "{field}_v2", **openai(provider, 128))
    assert done.status == 0, done.text
    return world


def finish(world: World, *arguments: str) -> Any:
    """Finish, without being asked."""
    return world.run("finish", "--yes", *arguments, module="migration")


def test_the_new_field_is_filled_and_nothing_else_is_changed(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(), 64)
    before = world.state()
    done = world.run("--into", "{field}_v2", **openai(provider, 128))
    assert done.status == 0, done.text
    assert "kai-migrate finish" in done.err
    check_filled(world, provider, 128)
    for name in NAMES:
        schema, documents = before[name]
        assert without(world.documents(name), new_field(name)) == documents
        assert vector_fields(world, name)[EMBEDDING_FIELDS[name]] == embedding_field(schema, EMBEDDING_FIELDS[name])
        assert vector_fields(world, name)[new_field(name)]["num_dim"] == 128
    history = json.loads(world.run("history", "--json", module="migration").out)
    assert history["runs"][0]["state"] == "waiting"


def test_finishing_takes_the_old_field_out_and_nothing_else(filled: World, provider: OpenAIStandIn) -> None:
    before = filled.state()
    done = finish(filled)
    assert done.status == 0, done.text
    check_filled(filled, provider, 128)
    for name in NAMES:
        assert vector_fields(filled, name).keys() == {new_field(name)}
        assert filled.documents(name) == without(before[name][1], EMBEDDING_FIELDS[name])
    verified = filled.run("verify", module="migration", **openai(provider, 128))
    assert verified.status == 0, verified.text
    for more in ((), ("--field", new_field("context_stores"))):
        found = filled.run(
            "search", "context_stores", "which loans?", "--json", *more, module="migration", **openai(provider, 128)
        )
        assert found.status == 0, found.text
        assert json.loads(found.out)["is_same_model"] is True
    # The configuration names the old field still: what took its place is migrated.
    again = filled.run(**openai(provider, 128))
    assert again.status == 0, again.text
    assert again.text.count("were current already") == len(NAMES)


def test_the_same_command_catches_up_while_the_run_waits(filled: World, provider: OpenAIStandIn) -> None:
    filled.import_("context_stores", [{"id": "late", **_document(filled)}])
    refused = finish(filled)
    assert refused.status == 2
    assert "'late'" in refused.err
    done = filled.run("--into", "{field}_v2", **openai(provider, 128))
    assert done.status == 0, done.text
    check_filled(filled, provider, 128)
    assert finish(filled).status == 0


def _document(world: World) -> dict[str, Any]:
    one = next(iter(world.documents("context_stores").values()))
    kept = {k: v for k, v in one.items() if k not in ("id", new_field("context_stores"))}
    return kept | {"prompt_text": "what came late?"}


def test_taking_it_back_before_it_is_finished_leaves_everything_as_it_was(
    world: World, provider: OpenAIStandIn
) -> None:
    world.fill(made_up(), 64)
    before = world.state()
    assert world.run("--into", "{field}_v2", **openai(provider, 128)).status == 0
    done = world.run("rollback", "--yes", module="migration")
    assert done.status == 0, done.text
    after = world.state()
    for name, (schema, documents) in before.items():
        assert after[name][1] == documents
        assert after[name][0]["fields"] == schema["fields"]
        assert (after[name][0].get("metadata") or {}) == (schema.get("metadata") or {})
    # Nothing of it is left that would be in the way of another one.
    assert world.run("--into", "{field}_v2", **openai(provider, 128)).status == 0
    check_filled(world, provider, 128)


def test_taking_it_back_after_it_was_finished_brings_the_old_field_back(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(), 64)
    before = world.state()
    assert world.run("--into", "{field}_v2", **openai(provider, 128)).status == 0
    assert finish(world).status == 0
    done = world.run("rollback", "--yes", module="migration")
    assert done.status == 0, done.text
    for name in NAMES:
        assert vector_fields(world, name).keys() == {EMBEDDING_FIELDS[name], new_field(name)}
        assert without(world.documents(name), new_field(name)) == before[name][1]
    check_filled(world, provider, 128)
    # The application is back at the old field.
    done = finish(world)
    assert done.status == 0, done.text
    for name in NAMES:
        assert world.documents(name) == before[name][1]
        assert vector_fields(world, name) == {
            each["name"]: each for each in before[name][0]["fields"] if each.get("num_dim")
        }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--into", "prompt_embedding"], "is the embedding field"),
        (["--into", "sql"], "there is a field of this name"),
        (["--into", "a.b"], "inside an object"),
        (["--into", "x", "--strategy", "alter"], "leave --strategy alter out"),
        (["--strategy", "into"], "give --into FIELD, or next_field"),
    ],
)
def test_a_field_that_cannot_be_is_refused(
    world: World, provider: OpenAIStandIn, arguments: list[str], words: str
) -> None:
    world.fill(made_up(20), 64)
    before = world.state()
    done = world.run("--collections", "context_stores", *arguments, **openai(provider, 128))
    assert done.status == 2, done.text
    assert words in done.err
    assert world.state() == before


def test_while_a_second_field_waits_nothing_else_begins(filled: World, provider: OpenAIStandIn) -> None:
    for arguments in ([], ["--into", "another"], ["--strategy", "alter"]):
        done = filled.run("--collections", "context_stores", *arguments, **openai(provider, 128))
        assert done.status == 2
        assert "kai-migrate finish" in done.err
        assert "kai-migrate rollback" in done.err
    done = filled.run("--into", "{field}_v2", **openai(provider, 64))
    assert done.status == 2
    assert "another model's vectors" in done.err


def test_what_waits_is_listed_also_on_another_machine(filled: World, tmp_path: Any) -> None:
    elsewhere = World(filled.url, filled.key, tmp_path / "elsewhere" / "home")
    run = json.loads(filled.run("history", "--json", module="migration").out)["runs"][0]["name"]
    for machine in (filled, elsewhere):
        found = json.loads(machine.run("list", "--json", module="migration").out)
        assert [(item["collection"], item["run"], item["state"]) for item in found["items"]] == [
            (name, run, "waiting") for name in sorted(NAMES)
        ]
        assert f"kai-migrate finish {run}" in machine.run("list", module="migration").out
    done = elsewhere.run("finish", "--yes", module="migration")
    elsewhere.close()
    assert done.status == 0, done.text
    assert "Nothing is unfinished" in filled.run("list", module="migration").out
    assert all(vector_fields(filled, name).keys() == {new_field(name)} for name in NAMES)
