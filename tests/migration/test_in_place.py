"""A migration in place, from the environment to the summary, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Set as AbstractSet
from pathlib import Path

import httpx
import pytest

from tests.providers import GoogleStandIn, OllamaStandIn, OpenAIStandIn
from tests.providers.standin import StandIn
from tests.world import (
    DATA,
    EMBEDDING_FIELDS,
    World,
    as_float32,
    eligible,
    made_up,
    openai,
    real_text,
    text_of,
)

COLLECTIONS = ("context_stores", "instructions")


def failures_shown(world: World) -> set[str]:
    """Ids of the failed documents of the latest run."""
    shown = json.loads(world.run("show", "latest", "--json", module="migration").out)
    return {failure["document_id"] for failure in shown["failures"]}


def check(
    before: dict[str, tuple[dict[str, object], dict[str, dict[str, object]]]],
    world: World,
    provider: StandIn,
    dimensions: int,
    *,
    failed: AbstractSet[str] = frozenset(),
    task_type: str | None = None,
) -> None:
    """Every eligible document has exactly the provider's vector, and nothing else has changed."""
    for name, (schema, documents) in before.items():
        now = world.documents(name)
        assert list(now) == list(documents)
        after = world.schema(name)
        assert {k: v for k, v in after.items() if k != "metadata"} == {
            k: v for k, v in schema.items() if k != "metadata"
        }
        embedding = EMBEDDING_FIELDS.get(name, "")
        targets = {id_ for id_, _ in eligible(name, documents)} - failed if embedding else set()
        for id_, document in now.items():
            vector = document.pop(embedding, None)
            old = documents[id_].pop(embedding, None)
            assert document == documents[id_]
            if id_ in targets:
                expected = provider.vector_for(text_of(name, document), dimensions=dimensions, task_type=task_type)
                assert as_float32(vector) == expected.tobytes(), id_
            else:
                assert vector == old


def test_every_eligible_document_gets_the_target_vector_and_nothing_else_changes(
    world: World, provider: OpenAIStandIn
) -> None:
    world.fill(made_up(), 64)
    before = world.state()
    done = world.run(**openai(provider, 64))
    assert done.status == 0, done.text
    check(before, world, provider, 64)
    assert done.summary("context_stores") == {
        "status": "completed",
        "count": 300,
        "success": 300,
        "failed": 0,
    }
    assert done.summary("instructions") == {"status": "completed", "count": 9, "success": 9, "failed": 0}


def test_the_console_shows_the_lines_that_people_know(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=20, instructions=7), 64)
    done = world.run("--collections", "instructions", **openai(provider, 64))
    rule = "=" * 60
    assert done.out.splitlines() == [
        rule,
        "EMBEDDING MIGRATION",
        rule,
        "New embedding config: {'family': 'openai', 'model': 'text-embedding-3-small', 'dimensions': 64}",
        "Collections to migrate: ['instructions']",
        rule,
        "Starting migration for 'instructions'...",
        "  - Embedding field: instruction_embedding",
        "  - Filter: is_default:=false",
        "  Found 6 documents to migrate",
        "  Migration complete: 6 succeeded, 0 failed",
        rule,
        "MIGRATION SUMMARY",
        rule,
        "instructions: {'status': 'completed', 'count': 6, 'success': 6, 'failed': 0}",
        rule,
    ]
    assert "  Migrating instructions: 100%" in done.err
    assert done.status == 0


def test_each_distinct_text_is_sent_once_but_for_the_sample_that_is_checked(
    world: World, provider: OpenAIStandIn
) -> None:
    world.fill(made_up(questions=600), 64)
    assert world.run("--collections", "context_stores", **openai(provider, 64)).status == 0
    probe, *pages, sample = provider.batches
    assert probe == ["probe"]
    sent = [text for page in pages for text in page]
    assert sorted(sent) == sorted({d["prompt_text"] for d in world.documents("context_stores").values()})
    assert len(pages) <= 3
    assert len(sample) <= 10


def test_a_dry_run_tells_the_plan_and_embeds_nothing_but_the_probe(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=100), 64)
    before = world.state()
    done = world.run("--dry-run", **openai(provider, 64))
    assert done.status == 0, done.text
    assert world.state() == before
    assert provider.embedded == ["probe"]
    assert "Documents: 100, eligible: 100" in done.out
    assert "Distinct texts: 90" in done.out
    assert "Dimensions: 64 -> 64" in done.out
    assert "Strategy: in place" in done.out


def test_a_second_run_embeds_nothing_but_the_probe_and_a_sample(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(), 64)
    assert world.run(**openai(provider, 64)).status == 0
    before = world.state()
    sent = len(provider.embedded)
    done = world.run(**openai(provider, 64))
    assert done.status == 0
    probe, *sample = provider.embedded[sent:]
    assert (probe, len(set(sample))) == ("probe", len(sample))
    assert 7 <= len(sample) <= 10  # Some documents have the same text.
    assert world.state() == before
    assert done.summary("context_stores")["success"] == 300


def test_a_lost_home_costs_embeddings_but_no_writes_are_wrong(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(), 64)
    before = world.state()
    assert world.run(**openai(provider, 64)).status == 0
    world.home = world.home.parent / "another"
    assert world.run(**openai(provider, 64)).status == 0
    check(before, world, provider, 64)


def test_documents_without_text_fail_with_that_reason_and_the_others_go_on(
    world: World, provider: OpenAIStandIn
) -> None:
    documents = made_up(questions=30)
    documents["context_stores"][7]["prompt_text"] = ""
    documents["context_stores"][8]["prompt_text"] = "   "
    world.fill(documents, 64)
    before = world.state()
    done = world.run("--collections", "context_stores", **openai(provider, 64))
    assert done.status == 1
    assert done.summary("context_stores") == {"status": "completed", "count": 30, "success": 28, "failed": 2}
    for id_ in ("q7", "q8"):
        assert f"document '{id_}' of 'context_stores' (embed): the document has no text to embed" in done.err
    before.pop("instructions")
    check(before, world, provider, 64, failed={"q7", "q8"})


def test_a_document_that_succeeds_after_all_is_no_failure_any_more(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=40), 64)
    id_, document = list(world.documents("context_stores").items())[-1]
    provider.refuse_texts = {text_of("context_stores", document)}
    stopped = world.run("--collections", "context_stores", "--limit", "10", **openai(provider, 64))
    assert stopped.status == 3, stopped.text
    assert id_ in failures_shown(world)
    provider.refuse_texts = set()
    assert world.run("--collections", "context_stores", **openai(provider, 64)).status == 0
    assert not failures_shown(world)


@pytest.mark.parametrize("standing", ["openai", None, 5, ["a"], {"owner": "somebody"}])
def test_what_the_application_keeps_in_its_metadata_stops_no_run_and_stays(
    world: World, provider: OpenAIStandIn, standing: object
) -> None:
    world.fill(made_up(questions=20), 64)
    world.http.patch("/collections/context_stores", json={"metadata": {"embedding": standing, "mine": 1}})
    done = world.run("--collections", "context_stores", **openai(provider, 64))
    assert done.status == 0, done.text
    metadata = world.schema("context_stores")["metadata"]
    assert metadata["mine"] == 1
    if standing is None or isinstance(standing, dict):
        assert metadata["embedding"]["model"] == "text-embedding-3-small"
        assert metadata["embedding"].items() >= dict(standing or {}).items()
    else:
        assert metadata["embedding"] == standing
        assert "left as it is" in done.err


def test_numbers_that_are_no_vector_of_any_model_are_replaced_like_all_others(
    world: World, provider: OpenAIStandIn
) -> None:
    world.fill(made_up(questions=30), 64)
    huge = [{"id": "q3", "prompt_embedding": [1e39] + [0.5] * 63}]
    world.import_("context_stores", huge, "update")
    before = world.state()
    for _ in range(2):
        done = world.run(**openai(provider, 64))
        assert done.status == 0, done.text
        check(before, world, provider, 64)


def test_exactly_the_refused_texts_fail_amid_failures_drops_and_a_rate_limit(world: World) -> None:
    documents = made_up(questions=1500)
    refused = {documents["context_stores"][place]["prompt_text"] for place in (3, 700, 1401)}
    failing = {d["id"] for d in documents["context_stores"] if d["prompt_text"] in refused}
    world.fill(documents, 64)
    before = world.state()
    with OpenAIStandIn(
        failure_rate=0.1, drop_rate=0.05, rate_limit_per_minute=600, refuse_texts=refused, seed=3
    ) as provider:
        done = world.run(**openai(provider, 64))
        assert done.status == 1, done.text
        check(before, world, provider, 64, failed=failing)
    assert done.summary("context_stores")["failed"] == len(failing)
    for id_ in failing:
        assert f"document {id_!r} of 'context_stores' (embed)" in done.err
    assert provider.key not in done.text
    assert world.key not in done.text


@pytest.mark.parametrize("family", [GoogleStandIn, OllamaStandIn])
def test_every_family_writes_the_vectors_of_the_application(world: World, family: type[StandIn]) -> None:
    world.fill(made_up(questions=120), 768)
    before = world.state()
    with family() as provider:
        done = world.run(**provider.environment(dimensions=768))
        assert done.status == 0, done.text
        task_type = "RETRIEVAL_QUERY" if family is GoogleStandIn else None
        check(before, world, provider, 768, task_type=task_type)


def test_the_local_family_needs_no_key(world: World) -> None:
    world.fill(made_up(questions=40), 128)
    local = {"EMBEDDING_FAMILY": "local", "EMBEDDING_MODEL": "l2_supercat", "EMBEDDING_DIMENSIONS": "128"}
    done = world.run(**local)
    assert done.status == 0, done.text


def test_a_field_without_num_dim_takes_vectors_of_any_length(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=20), None)
    before = world.state()
    done = world.run(**openai(provider, 64))
    assert done.status == 0, done.text
    check(before, world, provider, 64)


def test_an_alias_is_migrated_as_the_collection_behind_it(
    world: World, provider: OpenAIStandIn, tmp_path: Path
) -> None:
    world.fill(made_up(questions=20), 64)
    world.http.put("/aliases/questions", json={"collection_name": "context_stores"}).raise_for_status()
    file = tmp_path / "collections.toml"
    file.write_text('[questions]\nembedding_field = "prompt_embedding"\ntemplate = "{prompt_text}"\n')
    before = world.state(("context_stores",))
    done = world.run("--collections-file", str(file), **openai(provider, 64))
    assert done.status == 0, done.text
    check(before, world, provider, 64)


@pytest.mark.parametrize("form", [["a", "b"], ["a,b"], ["a", "--collections", "b"]])
def test_collections_are_named_apart_together_or_repeatedly(
    world: World, provider: OpenAIStandIn, form: list[str]
) -> None:
    world.fill(made_up(questions=5), 64)
    names = [
        word.replace("a", "instructions").replace("b", "context_stores") if "--" not in word else word for word in form
    ]
    done = world.run("--collections", *names, "--dry-run", **openai(provider, 64))
    assert "Collections to migrate: ['instructions', 'context_stores']" in done.out, done.text


def test_an_empty_collection_is_completed(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=0, instructions=0), 64)
    done = world.run(**openai(provider, 64))
    assert done.status == 0, done.text
    assert done.summary("context_stores") == {"status": "completed", "count": 0, "success": 0, "failed": 0}


def test_table_descriptions_are_skipped_when_asked_for(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=5), 64)
    done = world.run("--collections", "table_descriptions", "instructions", **openai(provider, 64))
    assert done.status == 0, done.text
    assert done.summary("table_descriptions") == {"status": "skipped", "count": 0}


def test_above_ten_thousand_documents_the_export_stream_is_read(world: World, provider: OpenAIStandIn) -> None:
    documents = made_up(questions=10_300)
    world.fill(documents, 8)
    before = world.state(("context_stores",))
    done = world.run("--collections", "context_stores", **openai(provider, 8))
    assert done.status == 0, done.text
    check(before, world, provider, 8)


@pytest.mark.skipif(not DATA.exists(), reason="the real text is not at hand")
def test_the_real_text_takes_under_120_requests(world: World, provider: OpenAIStandIn) -> None:
    world.fill(real_text(), 256)
    before = world.state()
    done = world.run(**openai(provider, 256))
    assert done.status == 0, done.text
    assert done.summary("context_stores")["success"] + done.summary("instructions")["success"] == 6145
    assert provider.requests < 120
    check(before, world, provider, 256)


def test_a_vanished_server_refuses_the_run(world: World, provider: OpenAIStandIn) -> None:
    with httpx.Client() as client:
        assert client.get(f"{world.url}/health").status_code == 200
    done = world.run("--dry-run", **openai(provider, 64) | {"TYPESENSE_PORT": "9"})
    assert done.status == 2
    assert "TYPESENSE_PORT" in done.err
    assert "Traceback" not in done.text
