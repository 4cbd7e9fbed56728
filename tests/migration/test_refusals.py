"""What is refused before anything is changed: exit status 2, the setting named, no traceback."""

from __future__ import annotations

import pytest

from tests.providers import Fault, OpenAIStandIn
from tests.world import World, made_up, openai

BAD_SETTINGS = [
    ({"EMBEDDING_FAMILY": "gemini"}, "EMBEDDING_FAMILY"),
    ({"EMBEDDING_FAMILY": "cohere", "EMBEDDING_MODEL": "embed-v4.0"}, "COHERE_API_KEY"),
    ({"EMBEDDING_FAMILY": "custom:no.such.module:Class"}, "EMBEDDING_FAMILY: there is no module 'no.such.module'"),
    ({"EMBEDDING_FAMILY": ""}, "EMBEDDING_FAMILY"),
    ({"EMBEDDING_MODEL": ""}, "EMBEDDING_MODEL"),
    ({"OPENAI_API_KEY": ""}, "OPENAI_API_KEY"),
    ({"OPENAI_API_KEY": "sk-wrong-key-000000000"}, "OPENAI_API_KEY"),
    ({"EMBEDDING_DIMENSIONS": "many"}, "EMBEDDING_DIMENSIONS"),
    ({"EMBEDDING_DIMENSIONS": "0"}, "EMBEDDING_DIMENSIONS"),
    ({"EMBEDDING_DIMENSIONS": "-64"}, "EMBEDDING_DIMENSIONS"),
    ({"EMBEDDING_DIMENSIONS": "64.5"}, "EMBEDDING_DIMENSIONS"),
    ({"EMBEDDING_DIMENSIONS": "1537"}, "EMBEDDING_DIMENSIONS"),
    ({"EMBEDDING_MODEL": "text-embedding-3-large", "EMBEDDING_DIMENSIONS": "3073"}, "EMBEDDING_DIMENSIONS"),
    ({"EMBEDDING_MODEL": "text-embedding-ada-002", "EMBEDDING_DIMENSIONS": "64"}, "EMBEDDING_DIMENSIONS"),
    (
        {"EMBEDDING_FAMILY": "google", "EMBEDDING_MODEL": "gemini-embedding-001", "EMBEDDING_DIMENSIONS": "64"},
        "GOOGLE_API_KEY",
    ),
    (
        {
            "EMBEDDING_FAMILY": "google",
            "EMBEDDING_MODEL": "gemini-embedding-001",
            "EMBEDDING_DIMENSIONS": "64",
            "GOOGLE_API_KEY": "k" * 20,
        },
        "EMBEDDING_DIMENSIONS",
    ),
    (
        {"EMBEDDING_FAMILY": "local", "EMBEDDING_MODEL": "l2_supercat", "EMBEDDING_DIMENSIONS": "100"},
        "EMBEDDING_DIMENSIONS",
    ),
    ({"TYPESENSE_PORT": "0"}, "TYPESENSE_PORT"),
    ({"TYPESENSE_PORT": "66000"}, "TYPESENSE_PORT"),
    ({"TYPESENSE_PORT": "eighty"}, "TYPESENSE_PORT"),
    ({"TYPESENSE_PROTOCOL": "ftp"}, "TYPESENSE_PROTOCOL"),
    ({"TYPESENSE_API_KEY": ""}, "TYPESENSE_API_KEY"),
    ({"TYPESENSE_API_KEY": "a-wrong-typesense-key"}, "TYPESENSE_API_KEY"),
    ({"TYPESENSE_TIMEOUT": "soon"}, "TYPESENSE_TIMEOUT"),
    ({"TYPESENSE_HOST": "no-such-host.invalid"}, "TYPESENSE_HOST"),
    ({"OPENAI_API_BASE": "not a url"}, "OPENAI_API_BASE"),
    ({"EMBEDDING_MODEL": "text-embedding-003-small"}, "did you mean text-embedding-3-small?"),
    ({"MIGRATION_LEDGER_URL": "nonsense://x"}, "MIGRATION_LEDGER_URL"),
    ({"MIGRATION_HOME": "/dev/null/home"}, "MIGRATION_HOME"),
]


@pytest.mark.parametrize(
    ("settings", "named"), BAD_SETTINGS, ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else ""
)
def test_a_bad_setting_is_named_and_nothing_is_changed(
    world: World, provider: OpenAIStandIn, settings: dict[str, str], named: str
) -> None:
    world.fill(made_up(questions=5, instructions=4), 64)
    before = world.state()
    done = world.run(**openai(provider, 64) | settings)
    assert done.status == 2, done.text
    assert named in done.err
    assert "Traceback" not in done.text
    assert world.state() == before
    assert provider.embedded in ([], ["probe"])
    for key in (provider.key, world.key, "sk-wrong-key-000000000", "a-wrong-typesense-key"):
        assert key not in done.text


def test_every_problem_is_told_at_once(world: World) -> None:
    done = world.run(
        EMBEDDING_FAMILY="openai",
        EMBEDDING_DIMENSIONS="x",
        TYPESENSE_PORT="y",
        TYPESENSE_PROTOCOL="z",
        TYPESENSE_API_KEY="",
    )
    assert done.status == 2
    for variable in (
        "EMBEDDING_MODEL",
        "EMBEDDING_DIMENSIONS",
        "OPENAI_API_KEY",
        "TYPESENSE_PORT",
        "TYPESENSE_PROTOCOL",
        "TYPESENSE_API_KEY",
    ):
        assert variable in done.err


def test_an_unknown_collection_is_refused_and_the_known_ones_listed(world: World, provider: OpenAIStandIn) -> None:
    done = world.run("--collections", "instructions", "nonsense", **openai(provider, 64))
    assert done.status == 2
    for word in ("nonsense", "context_stores", "instructions", "table_descriptions"):
        assert word in done.err


def test_a_collection_that_the_server_does_not_have_is_refused(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=5), 64)
    world.http.delete("/collections/instructions").raise_for_status()
    before = world.state(("context_stores",))
    done = world.run(**openai(provider, 64))
    assert done.status == 2
    assert "'instructions' does not exist" in done.err
    assert world.state(("context_stores",)) == before


@pytest.mark.parametrize("kind", ["string", "string[]", "float"])
def test_a_field_that_cannot_hold_an_embedding_is_refused(world: World, provider: OpenAIStandIn, kind: str) -> None:
    fields = [
        {"name": "condition", "type": "string"},
        {"name": "instruction_embedding", "type": kind, "optional": True},
    ]
    world.http.post("/collections", json={"name": "instructions", "fields": fields}).raise_for_status()
    done = world.run("--collections", "instructions", **openai(provider, 64))
    assert done.status == 2
    assert "not float[]" in done.err


def test_a_model_that_gives_another_length_is_refused(world: World) -> None:
    world.fill(made_up(questions=5), 64)
    before = world.state()
    with OpenAIStandIn(faults=lambda _number, _texts: Fault("wrong_length")) as lying:
        done = world.run(**openai(lying, 64))
    assert done.status == 2, done.text
    assert "EMBEDDING_DIMENSIONS" in done.err
    assert world.state() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["--concurrency", "0"],
        ["--concurrency", "x"],
        ["--nonsense"],
        ["extra"],
        ["--collections"],
        ["--env-file", "missing.env"],
    ],
    ids=" ".join,
)
def test_a_bad_option_is_named(world: World, provider: OpenAIStandIn, arguments: list[str]) -> None:
    done = world.run(*arguments, **openai(provider, 64))
    assert done.status == 2
    assert arguments[0] in done.err or "missing.env" in done.err
    assert "Traceback" not in done.text


READING = ["documents:search", "documents:export", "documents:get", "collections:list", "collections:get"]


def a_key(world: World, actions: list[str], collections: list[str]) -> str:
    """A key that allows these actions on these collections."""
    body = {"description": "a test", "actions": actions, "collections": collections}
    answer = world.http.post("/keys", json=body)
    answer.raise_for_status()
    return str(answer.json()["value"])


@pytest.mark.parametrize("dimensions", [64, 128])
@pytest.mark.parametrize("name", ["context_stores", "questions"])
def test_a_key_that_may_only_read_is_refused_before_anything_is_begun(
    world: World, provider: OpenAIStandIn, name: str, dimensions: int
) -> None:
    world.fill(made_up(questions=5, instructions=4), 64)
    world.http.put("/aliases/questions", json={"collection_name": "context_stores"}).raise_for_status()
    file = world.home.parent / "collections.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f'[{name}]\nembedding_field = "prompt_embedding"\ntemplate = "{{prompt_text}}"\n')
    before = world.state()
    key = a_key(world, [*READING, "aliases:list", "aliases:get"], [".*"])
    settings = openai(provider, dimensions) | {"TYPESENSE_API_KEY": key}
    done = world.run("--collections-file", str(file), **settings)
    assert done.status == 2, done.text
    assert "TYPESENSE_API_KEY" in done.err
    assert "documents:* and collections:*" in done.err
    assert key not in done.text
    assert world.state() == before
    assert provider.embedded == []
    assert world.run("--dry-run", "--collections-file", str(file), **settings).status == 0


def test_a_key_for_documents_and_collections_is_enough_in_place(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=5, instructions=4), 64)
    key = a_key(world, ["documents:*", "collections:*"], [".*"])
    done = world.run(**openai(provider, 64) | {"TYPESENSE_API_KEY": key})
    assert done.status == 0, done.text


def test_a_newer_collection_that_this_kai_has_not_is_named_with_what_to_do(
    world: World, provider: OpenAIStandIn
) -> None:
    world.fill(made_up(questions=3), 64)
    done = world.run("--collections", "skills", "instructions", "--dry-run", **openai(provider, 64))
    assert done.status == 2
    assert "Collection not found: collection 'skills' does not exist on" in done.err
    assert "only newer versions of KAI have it; leave it out of --collections" in done.err
