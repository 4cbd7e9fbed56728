"""What is embedded ahead is found by the migration that follows, which asks its provider for nothing but the probe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from migration.embedding.ahead import batch
from migration.ledger import Ledger
from tests.commands.conftest import Invoke, invoke
from tests.providers import OpenAIStandIn
from tests.providers.batches import GeminiBatchStandIn, OpenAIBatchStandIn
from tests.providers.standin import StandIn
from tests.world import EMBEDDING_FIELDS, World, as_float32, eligible, field, made_up, openai, text_of

__all__ = ["invoke"]

NAMES = ("context_stores", "instructions")


@pytest.fixture(autouse=True)
def looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider of the tests is done at the next look."""
    monkeypatch.setattr(batch, "_FIRST_LOOK", 0.01)
    monkeypatch.setattr(batch, "_LOOKS_EVERY", 0.01)
    monkeypatch.setattr(batch, "LIST_LAG", 0.02)


def texts_of(world: World) -> set[str]:
    return {text_of(name, d) for name in NAMES for _, d in eligible(name, world.documents(name))}


def check_migration_asks_for_nothing(world: World, provider: StandIn, **variables: str) -> None:
    """A migration of everything, whose only request is the probe, writes each document its own text's vector."""
    provider.batches.clear()
    done = world.run(**variables)
    assert done.status == 0, done.text
    assert provider.batches == [["probe"]]
    for name in NAMES:
        for _, document in eligible(name, world.documents(name)):
            wanted = provider.vector_for(text_of(name, document), dimensions=int(variables["EMBEDDING_DIMENSIONS"]))
            assert as_float32(document[EMBEDDING_FIELDS[name]]) == wanted.tobytes()


@pytest.mark.parametrize(("strategy", "dimensions"), [("auto", 32), ("rebuild", 64)])
def test_where_a_vector_is_required_documents_outside_the_filter_are_embedded_too(
    invoke: Invoke, world: World, provider: OpenAIStandIn, strategy: str, dimensions: int
) -> None:
    name = "instructions"
    fields = [field("condition"), field("rules"), field("is_default", "bool")]
    schema = {"name": name, "fields": [*fields, field("instruction_embedding", "float[]", num_dim=64)]}
    world.http.post("/collections", json=schema).raise_for_status()
    documents = made_up(questions=0, instructions=30)[name]
    kept = ("id", "condition", "rules", "is_default")
    world.import_(name, [{**{k: d[k] for k in kept}, "instruction_embedding": [0.5] * 64} for d in documents])
    variables = {**openai(provider, dimensions), "MIGRATION_STRATEGY": strategy}
    answer = invoke("embed", "--collections", name, "--json", **world.environment(**variables))
    assert (answer.status, answer.json["embedded"]) == (0, len({text_of(name, d) for d in documents}))
    provider.batches.clear()
    done = world.run("--collections", name, **variables)
    assert done.status == 0, done.text
    assert provider.batches == [["probe"]]


@pytest.fixture
def batches() -> Iterator[OpenAIBatchStandIn]:
    with OpenAIBatchStandIn() as stand_in:
        yield stand_in


def test_texts_are_embedded_at_once_and_the_migration_finds_them(
    invoke: Invoke, world: World, provider: OpenAIStandIn
) -> None:
    world.fill(made_up(questions=60), 64)
    before, variables = world.state(), world.environment(**openai(provider, 32))
    shown = invoke("embed", "--dry-run", "--json", **variables).json
    texts = texts_of(world)
    assert (shown["counted"]["texts"], shown["counted"]["cached"], shown["status"]) == (len(texts), 0, "dry run")
    assert shown["counted"]["cost_usd"] > 0
    assert not world.home.exists()

    some = invoke("embed", "--limit", "20", **variables)
    assert some.status == 3, some.text
    assert "the bound of --limit is reached; run again to go on" in some.text
    assert len(provider.embedded) == 22  # And two probes.
    rest = invoke("embed", "--json", **variables)
    assert rest.status == 0, rest.text
    assert (rest.json["embedded"], rest.json["cached"], rest.json["failed"]) == (len(texts) - 20, 20, [])
    assert sorted(provider.embedded) == sorted([*texts, "probe", "probe", "probe"])
    assert world.state() == before
    check_migration_asks_for_nothing(world, provider, **openai(provider, 32))

    again = invoke("embed", "--json", **variables)  # What is current is not even looked for in the cache.
    assert (again.status, again.json["embedded"], again.json["cached"]) == (0, 0, 0)


def test_texts_that_fail_are_named_by_their_documents_and_a_bound_on_cost_is_kept(
    invoke: Invoke, world: World, provider: OpenAIStandIn
) -> None:
    world.fill(made_up(questions=20), 64)
    refused = world.documents("context_stores")["q4"]["prompt_text"]
    provider.refuse_texts = {refused}
    ids = [id_ for id_, d in world.documents("context_stores").items() if d["prompt_text"] == refused]
    variables = world.environment(**openai(provider))
    answer = invoke("embed", **variables)
    assert answer.status == 1, answer.text
    for id_ in ids:
        assert f"Failed: document {id_!r} of 'context_stores': The request was refused" in answer.text
    bound = invoke("embed", "--max-cost", "0.0000001", **variables | {"EMBEDDING_DIMENSIONS": "32"})
    assert bound.status == 3, bound.text
    assert "the bound of --max-cost is reached" in bound.text


def test_batches_cost_half_each_text_is_paid_for_once_and_the_migration_finds_them(
    invoke: Invoke, world: World, batches: OpenAIBatchStandIn
) -> None:
    world.fill(made_up(questions=60), 64)
    before, variables = world.state(), world.environment(**openai(batches, 32))
    texts = texts_of(world)
    unasked = invoke("embed", "--via", "batch", **variables)
    assert unasked.status == 2, unasked.text
    assert f"Send {len(texts)} texts in batches, about $" in unasked.text
    assert "not confirmed; give --yes to go on without being asked" in unasked.text
    assert not batches.jobs

    batches.fates = ("expired",)
    direct = invoke("embed", "--dry-run", "--json", **variables).json["counted"]["cost_usd"]
    answer = invoke("embed", "--via", "batch", "--yes", "--json", **variables)
    assert answer.status == 0, answer.text
    found = answer.json
    assert found["counted"]["cost_usd"] == pytest.approx(direct / 2)
    assert found["cost_usd"] == pytest.approx(direct / 2, rel=0.1)
    assert (found["embedded"], found["failed"]) == (len(texts), [])
    assert batches.paid == dict.fromkeys(texts, 1)
    assert batches.batches == [["probe"]] * 3
    assert batches.files == {}
    assert not list((world.home / "embed" / "batches").iterdir())
    assert world.state() == before
    check_migration_asks_for_nothing(world, batches, **openai(batches, 32))


def test_batches_that_nobody_waits_for_are_shown_fetched_and_found(
    invoke: Invoke, world: World, batches: OpenAIBatchStandIn
) -> None:
    world.fill(made_up(questions=40), 64)
    texts, variables = texts_of(world), world.environment(**openai(batches))
    refused = min(texts)
    batches.refuse_texts, batches.looks = {refused}, 3
    sent = invoke("embed", "--via", "batch", "--yes", "--wait", "0", **variables)
    assert sent.status == 3, sent.text
    assert "1 batches are under way; run again to go on, or give --collect" in sent.text
    (row,) = invoke("embed", "--status", "--json", **variables).json["batches"]
    assert (row["state"], row["texts"], row["provider_state"]) == ("submitted", len(texts), "validating")
    assert row["name"] in invoke("embed", "--status", **variables).text
    dry = world.run("--dry-run", **openai(batches))
    assert f"! {len(texts)} texts are under way in batches of this model and would be paid for a second time" in dry.err
    early = invoke("embed", "--collect", **variables)
    assert early.status == 3, early.text
    batches.looks = 0
    fetched = invoke("embed", "--collect", "--json", **variables)
    assert fetched.status == 1, fetched.text
    (row,) = fetched.json["batches"]
    assert (row["state"], row["done"], row["failed"]) == ("collected", len(texts) - 1, 1)
    assert len(batches.jobs) == 1

    # Nothing is sent again but what was refused, which costs nothing and is named.
    last = invoke("embed", "--via", "batch", "--yes", **variables)
    assert last.status == 1, last.text
    assert "of 'context_stores': The request was refused by the content filter." in last.text
    assert max(batches.paid.values()) == 1
    assert set(batches.paid) == texts - {refused}


def test_a_process_that_dies_before_it_knows_of_its_batch_finds_it_again(
    invoke: Invoke, world: World, batches: OpenAIBatchStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.fill(made_up(questions=40), 64)
    variables = world.environment(**openai(batches))
    update = Ledger.update_batch

    def dies(self: Ledger, name: str, **changes: Any) -> None:
        if changes.get("state") == "submitted":
            raise SystemExit(137)
        update(self, name, **changes)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "update_batch", dies)
        invoke("embed", "--via", "batch", "--yes", **variables)
    assert len(batches.jobs) == 1
    answer = invoke("embed", "--via", "batch", "--yes", **variables)
    assert answer.status == 0, answer.text
    assert len(batches.jobs) == 1
    assert batches.paid == dict.fromkeys(texts_of(world), 1)
    check_migration_asks_for_nothing(world, batches, **openai(batches))


def test_a_cancelled_batch_keeps_what_it_did(invoke: Invoke, world: World, batches: OpenAIBatchStandIn) -> None:
    world.fill(made_up(questions=40), 64)
    variables = world.environment(**openai(batches))
    batches.fates, batches.looks = ("expired",), 3
    assert invoke("embed", "--via", "batch", "--yes", "--wait", "0", **variables).status == 3
    cancelled = invoke("embed", "--cancel", "--json", **variables)
    assert (cancelled.status, cancelled.json["batches"][0]["state"]) == (0, "submitted")
    answer = invoke("embed", "--via", "batch", "--yes", **variables)
    assert answer.status == 0, answer.text
    assert batches.paid == dict.fromkeys(texts_of(world), 1)
    assert invoke("embed", "--cancel", "--json", **variables).json["batches"] == []


def test_google_embeds_in_batches_with_the_applications_task_type(invoke: Invoke, world: World) -> None:
    world.fill(made_up(questions=40), 128)
    with GeminiBatchStandIn() as google:
        chosen = google.environment(dimensions=128)
        answer = invoke("embed", "--via", "batch", "--yes", "--json", **world.environment(**chosen))
        assert answer.status == 0, answer.text
        assert answer.json["embedded"] == len(texts_of(world))
        assert google.paid == dict.fromkeys(texts_of(world), 1)
        assert google.files == {}
        check_migration_asks_for_nothing(world, google, **chosen)


def test_a_server_without_a_batch_interface_is_refused_before_anything_is_sent(
    invoke: Invoke, world: World, provider: OpenAIStandIn
) -> None:
    world.fill(made_up(questions=20), 64)
    answer = invoke("embed", "--via", "batch", "--yes", **world.environment(**openai(provider)))
    assert answer.status == 2
    assert "OPENAI_API_BASE: the provider has no batch interface (GET http://127.0.0.1" in answer.text
    assert "use --via direct" in answer.text
    assert provider.batches == [["probe"]]
    local = {"EMBEDDING_FAMILY": "ollama", "EMBEDDING_MODEL": "x", "EMBEDDING_DIMENSIONS": "64"}
    family = invoke("embed", "--collect", **world.environment(**local))
    assert (family.status, "There are no batches." in family.text) == (0, True)


def test_one_process_at_a_time_embeds_ahead(invoke: Invoke, world: World, provider: OpenAIStandIn) -> None:
    from migration.operations.batches import alone

    world.fill(made_up(questions=20), 64)
    with alone(world.home):
        answer = invoke("embed", **world.environment(**openai(provider)))
    assert answer.status == 2
    assert "another `kai-migrate embed` is under way in" in answer.text
