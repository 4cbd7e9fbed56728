"""`discover` over a server as they are: what is proposed can be used at once, and what is a guess is said to be one."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from kai.collections import load_collections
from tests.commands.conftest import Answer, Invoke
from tests.providers import OpenAIStandIn
from tests.world import World, field, made_up, openai

VECTOR = [0.5, 0.25, 0.125, 0.75]
MARK = "kai_migration"


def articles(name: str = "articles_1", **beside: Any) -> dict[str, Any]:
    """A collection that is nobody's we know, with a title, a body and a vector."""
    fields = [
        field("title"),
        field("body"),
        field("published", "bool"),
        field("vector", "float[]", num_dim=4, optional=True),
    ]
    return {"name": name, "fields": fields, **beside}


def written(number: int) -> dict[str, Any]:
    """One of its documents; those that are not published have no vector."""
    published = number % 4 != 0
    body = f"In week {number} the boats were counted again, and there were more of them than in the week before."
    vector = {"vector": VECTOR} if published else {}
    return {"id": str(number), "title": f"Boats, week {number}", "body": body, "published": published, **vector}


@pytest.fixture
def ask(invoke: Invoke, world: World) -> Invoke:
    """Call `kai-migrate discover` over the server of the world."""

    def call(*arguments: str, **variables: str) -> Answer:
        return invoke("discover", *arguments, **world.environment(**variables))

    return call


def create(world: World, schema: dict[str, Any], documents: list[dict[str, Any]]) -> None:
    """A collection with these documents."""
    world.http.post("/collections", json=schema).raise_for_status()
    if documents:
        world.import_(str(schema["name"]), documents)


def test_what_is_proposed_can_be_migrated_at_once(
    ask: Invoke, invoke: Invoke, world: World, provider: OpenAIStandIn, tmp_path: Path
) -> None:
    world.fill(made_up(questions=30), 64)
    create(world, articles(), [written(number) for number in range(12)])
    world.http.put("/aliases/articles", json={"collection_name": "articles_1"}).raise_for_status()
    file = tmp_path / "found.toml"
    answer = ask("--output", str(file))
    assert answer.status == 0, answer.text
    assert "Collections proposed: 3; with a guessed template, to be looked at: 1" in answer.text
    known = load_collections(file)
    assert list(known) == ["articles", "context_stores", "instructions"]
    assert (known["articles"].embedding_field, known["articles"].template) == ("vector", "{body}")
    assert known["instructions"].template == "{condition}, {rules}"
    assert known["instructions"].filter_by == "is_default:=false"
    before = world.state()
    dry = invoke("run", "--dry-run", "--collections-file", str(file), **world.environment(**openai(provider, 64)))
    assert dry.status == 0, dry.text
    assert "articles" in dry.text
    assert world.state() == before


def test_a_guess_has_its_reason_and_what_else_it_may_be(ask: Invoke, world: World) -> None:
    create(world, articles(), [written(number) for number in range(12)])
    text = ask().text
    assert "# GUESS, the template: it has a usual name; text in 12 of 12 sampled documents, 18 words on average" in text
    assert '#     template = "{title}: {body}"' in text
    assert '#     filter_by = "published:=true"' in text
    assert "# 9 of 12 sampled documents have a vector in 'vector'" in text
    assert 'template = "{body}" # GUESS' in text


def test_what_the_ledger_knows_is_no_guess(ask: Invoke, world: World, provider: OpenAIStandIn, tmp_path: Path) -> None:
    create(world, articles(), [written(number) for number in range(12)])
    own = tmp_path / "own.toml"
    own.write_text('[articles_1]\nembedding_field = "vector"\ntemplate = "{title} / {body}"\n')
    assert world.run("--collections-file", str(own), **openai(provider, 4)).status == 0
    (proposal,) = ask("--json").json["proposals"]
    assert (proposal["template"], proposal["alternatives"]) == ("{title} / {body}", [])
    assert proposal["known_by"].startswith("by the ledger, run openai-")


def test_what_is_not_the_applications_to_compute_is_a_comment(ask: Invoke, world: World) -> None:
    embed = {"from": ["title"], "model_config": {"model_name": "ts/e5-small", "api_key": "sk-0123456789abcdef"}}
    fields = [
        field("title"),
        field("auto", "float[]", num_dim=4, optional=True, embed=embed),
        field("measured", "float[]", optional=True),
        field("loose", "float[]", optional=True),
    ]
    world.http.post("/collections", json={"name": "server_side", "fields": fields}).raise_for_status()
    numbers = [0.5] * 16
    world.import_(
        "server_side", [{"id": "1", "title": "words here", "loose": numbers, "measured": [1.0], "auto": VECTOR}]
    )
    answer = ask()
    assert answer.status == 0
    assert tomllib.loads(answer.text.partition("Collections proposed: 0")[0]) == {}
    assert "# Left out: the server computes these vectors itself, by its model 'ts/e5-small'" in answer.text
    assert '# embedding_field = "auto"' in answer.text
    assert "# Left out: without num_dim the server has no index of it" in answer.text
    assert '# embedding_field = "loose"' in answer.text
    assert "measured" not in answer.text
    assert "sk-0" not in answer.text
    assert "Every table is a comment" in answer.text


def test_what_runs_have_left_and_fields_that_they_fill_are_passed_over(ask: Invoke, world: World) -> None:
    second = {"field": "vector_v2", "of": "vector", "run": "r1", "phase": "filling", "fingerprint": "f"}
    schema = articles(metadata={"kai_migration_next": second})
    schema["fields"].append(field("vector_v2", "float[]", num_dim=8, optional=True))
    create(world, schema, [written(1)])
    create(world, articles("old__before_r0", metadata={MARK: {"role": "kept", "run": "r0"}}), [written(2)])
    found = ask("--json").json
    assert [(each["table"], each["embedding_field"]) for each in found["proposals"]] == [("articles_1", "vector")]
    assert "run r1 is not finished with the field 'vector_v2', which is not proposed" in found["proposals"][0]["notes"]
    assert found["passed_over"] == [["old__before_r0", "a collection as it was before a run"]]


def test_of_two_embedding_fields_the_second_is_a_comment(ask: Invoke, world: World) -> None:
    schema = articles()
    schema["fields"].append(field("title_embedding", "float[]", num_dim=8, optional=True))
    create(world, schema, [written(1)])
    first, second = ask("--json").json["proposals"]
    assert (first["embedding_field"], second["embedding_field"]) == ("vector", "title_embedding")
    assert second["template"] == "{title}"
    assert "use a second file" in second["left_out"]


def test_a_file_that_is_there_is_replaced_only_if_told_to(ask: Invoke, world: World, tmp_path: Path) -> None:
    create(world, articles(), [written(1)])
    file = tmp_path / "mine.toml"
    file.write_text("mine")
    answer = ask("--output", str(file))
    assert answer.status == 2
    assert f"--output: {file} is there already; name another file, or replace it with --force" in answer.text
    assert file.read_text() == "mine"
    assert ask("--output", str(file), "--force").status == 0
    assert list(load_collections(file)) == ["articles_1"]
    assert [each.name for each in tmp_path.glob("*mine*")] == ["mine.toml"]


def test_a_file_in_a_folder_that_is_not_there_is_refused(ask: Invoke, world: World, tmp_path: Path) -> None:
    create(world, articles(), [written(1)])
    answer = ask("--output", str(tmp_path / "nowhere" / "mine.toml"))
    assert answer.status == 2
    assert "mine.toml cannot be written: No such file or directory" in answer.text


def test_a_collection_that_has_only_the_name_of_kais_is_looked_at_like_any_other(ask: Invoke, world: World) -> None:
    fields = [field("label"), field("skill_embedding", "float[]", num_dim=4)]
    world.http.post("/collections", json={"name": "skills", "fields": fields}).raise_for_status()
    world.import_("skills", [{"id": "1", "label": "can sail a boat", "skill_embedding": VECTOR}])
    (proposal,) = ask("--json").json["proposals"]
    assert (proposal["template"], proposal["known_by"]) == ("{label}", "")


def test_the_templates_of_kais_newer_collections_are_marked_as_guesses(ask: Invoke, world: World) -> None:
    fields = [field("content_text"), field("memory_embedding", "float[]", num_dim=4)]
    world.http.post("/collections", json={"name": "kai_memories", "fields": fields}).raise_for_status()
    text = ask().text
    assert "# GUESS, the template: it is taken from KAI's schema, not from its code" in text
    assert 'template = "{content_text}" # GUESS' in text


def test_a_server_without_embeddings_is_told(ask: Invoke, world: World) -> None:
    create(world, {"name": "plain", "fields": [field("title")]}, [])
    answer = ask()
    assert answer.status == 2
    assert "has an embedding field (float[] with num_dim), so there is nothing to propose" in answer.text
    assert not world.home.exists()
