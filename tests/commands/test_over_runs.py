"""`compare` and `explain` over two real runs with two models: the second overwrote what the first wrote."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from migration.ledger import Ledger
from tests.commands.conftest import Answer, Invoke
from tests.providers import OpenAIStandIn
from tests.sandbox.server import RunningSandbox
from tests.world import World, made_up, openai

SMALL, LARGE = "text-embedding-3-small", "text-embedding-3-large"


@pytest.fixture(scope="module")
def provider() -> Iterator[OpenAIStandIn]:
    """One provider for both runs."""
    with OpenAIStandIn() as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def twice(
    shared_sandbox: RunningSandbox, provider: OpenAIStandIn, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """A server whose documents were embedded by the small model, run `one`, then by the large one, run `two`."""
    world = World(shared_sandbox.url, shared_sandbox.api_key, tmp_path_factory.mktemp("runs") / "work" / "home")
    world.clear()
    world.fill(made_up(questions=80), 64)
    for alias, model, dimensions in (("one", SMALL, 64), ("two", LARGE, 64)):
        done = world.run("--alias", alias, **openai(provider, dimensions, model))
        assert done.status == 0, done.text
    yield world
    world.close()


@pytest.fixture
def ask(invoke: Invoke, twice: World) -> Invoke:
    """Call `kai-migrate` over these two runs."""

    def call(*arguments: str, **variables: str) -> Answer:
        return invoke(*arguments, **twice.environment() | variables)

    return call


# -- compare -----------------------------------------------------------------------------------------------


def expected_overlap(world: World, provider: OpenAIStandIn) -> float:
    """Of all context stores, by plain loops over what the provider gives."""
    documents = world.documents("context_stores")
    sets: list[dict[str, set[str]]] = []
    for model in (SMALL, LARGE):
        by_id = {
            id_: provider.vector_for(document["prompt_text"], dimensions=64, model=model)
            for id_, document in documents.items()
        }
        near = {}
        for id_, vector in by_id.items():
            # As the texts of some documents are equal, so are their distances: the first ids win.
            distances = sorted((-round(float(np.dot(v, vector)), 6), k) for k, v in by_id.items() if k != id_)
            near[id_] = {k for _, k in distances[:10]}
        sets.append(near)
    return float(np.mean([len(sets[0][id_] & sets[1][id_]) / 10 for id_ in documents]))


def test_compare_shows_two_runs_side_by_side(ask: Invoke) -> None:
    answer = ask("compare", "one", "two", "--no-neighbours")
    assert answer.status == 0
    lines = {line[:16].strip(): line[16:].split() for line in answer.text.splitlines()}
    assert lines["Model"] == [f"openai/{SMALL}", f"openai/{LARGE}", "-"]
    assert lines["Dimensions"] == ["64", "64", "="]
    assert lines["Documents"] == ["89", "89", "="]
    for measure in ("Failed", "Time", "Documents/s", "Latency p50, ms", "Latency p95, ms", "Retries", "Cost"):
        assert measure in lines
    assert "Nearest" not in answer.text


def test_compare_measures_how_many_neighbours_the_models_have_in_common(
    ask: Invoke, twice: World, provider: OpenAIStandIn
) -> None:
    found = ask("compare", "one", "two", "--json").json
    assert [line["alias"] for line in found["runs"]] == ["one", "two"]
    stores, rules = found["neighbours"]
    name = found["runs"][1]["name"]
    assert stores["collection"] == "context_stores"
    assert stores["origins"] == [f"backup of {name}", "server"]
    assert (stores["overlap"]["corpus"], stores["overlap"]["sample"], stores["overlap"]["neighbours"]) == (80, 80, 10)
    assert stores["overlap"]["mean"] == pytest.approx(expected_overlap(twice, provider), abs=1e-9)
    assert not stores["sampled"]
    assert (rules["collection"], rules["overlap"]["corpus"]) == ("instructions", 9)


def test_compare_gives_the_same_whichever_run_is_named_first(ask: Invoke) -> None:
    there = ask("compare", "one", "latest", "--json").json["neighbours"][0]
    back = ask("compare", "two", "one", "--json").json["neighbours"][0]
    assert there["overlap"] == back["overlap"]
    assert there["origins"] == back["origins"][::-1]


def test_compare_takes_a_sample_of_the_size_asked_for(ask: Invoke) -> None:
    text = ask("compare", "one", "two", "--sample", "7").text
    assert "7 documents compared among 80; vectors from: backup of " in text
    assert "Nearest neighbours in context_stores: " in text
    assert "(by chance 12.7 %)" in text


def test_of_a_large_collection_a_sample_is_looked_at(twice: World) -> None:
    from kai.settings import load_settings
    from kai.typesense import Typesense
    from migration.operations.models.overlap import VectorOrigins, compare_neighbours

    settings = load_settings(environ=twice.environment(), needs=["typesense"])
    with Ledger.open(None, twice.home) as ledger, Typesense(settings.typesense) as server:
        places = VectorOrigins(ledger, twice.home, server, {"context_stores": "prompt_embedding"})
        one, two = ledger.find_run("one"), ledger.find_run("two")
        assert one
        assert two
        first, again = (compare_neighbours(places, one, two, limit=30)[0] for _ in range(2))
    assert first == again
    assert first.sampled
    assert first.overlap
    assert first.overlap.corpus == 30


def test_compare_of_one_model_with_itself_needs_no_vectors(ask: Invoke) -> None:
    (stores, _) = ask("compare", "one", "one", "--json").json["neighbours"]
    assert (stores["overlap"], stores["reason"]) == (None, "both runs used the same model")


def test_compare_says_so_where_no_backup_holds_the_vectors(ask: Invoke, twice: World, tmp_path: Path) -> None:
    kept = tmp_path / "backups"
    shutil.move(twice.home / "backups", kept)
    try:
        answer = ask("compare", "one", "two")
    finally:
        shutil.move(kept, twice.home / "backups")
    assert answer.status == 0
    name = ask("show", "one", "--json").json["run"]["name"]
    assert f"Nearest neighbours in context_stores: not available: no backup holds the vectors of {name}" in answer.text
    assert "Documents        89" in answer.text


def test_compare_does_without_a_server_as_far_as_it_can(ask: Invoke) -> None:
    for variables, words in (
        ({"TYPESENSE_API_KEY": ""}, "Typesense is not configured (TYPESENSE_API_KEY"),
        ({"TYPESENSE_API_KEY": "another-key"}, "Typesense cannot be read"),
    ):
        answer = ask("compare", "one", "two", "--json", **variables)
        assert answer.status == 0
        assert words in answer.json["neighbours"][0]["reason"]


def test_compare_refuses_a_run_that_is_not_there(ask: Invoke) -> None:
    answer = ask("compare", "one", "three")
    assert answer.status == 2
    assert "holds no run 'three'" in answer.text


# -- explain -----------------------------------------------------------------------------------------------


def test_explain_names_model_run_time_and_text_of_a_current_vector(ask: Invoke, twice: World) -> None:
    found = ask("explain", "context_stores", "q1", "--json").json
    document = twice.documents("context_stores")["q1"]
    assert found["status"] == "current"
    assert found["model"]["model"] == LARGE
    assert found["run"] == ask("show", "two", "--json").json["run"]["name"]
    assert found["text_hash"] == hashlib.sha256(document["prompt_text"].encode()).hexdigest()
    assert found["recorded"]["text_hash"] == found["text_hash"]
    assert found["recorded"]["embedded_at"].endswith("Z")
    assert (found["eligible"], found["dimensions"], found["is_configured"]) == (True, 64, None)
    text = ask("explain", "context_stores", "q1").text
    assert text.startswith("context_stores/q1: current\n")
    assert f"openai/{LARGE}/64" in text


def test_explain_says_whether_the_model_is_the_configured_one_without_its_key(ask: Invoke) -> None:
    target = {"EMBEDDING_FAMILY": "openai", "EMBEDDING_DIMENSIONS": "64"}
    for model, same, word in ((LARGE, True, "yes"), (SMALL, False, "no")):
        variables = target | {"EMBEDDING_MODEL": model}
        assert ask("explain", "context_stores", "q1", "--json", **variables).json["is_configured"] is same
        assert (
            f"Of the configured model  {word} (openai/{model}/64)"
            in ask("explain", "context_stores", "q1", **variables).text
        )


def test_explain_sees_what_was_done_to_a_document_since(ask: Invoke, twice: World) -> None:
    before = twice.documents("context_stores")
    twice.import_("context_stores", [{"id": "q2", "prompt_text": "something else"}], "update")
    twice.import_("context_stores", [{"id": "q3", "prompt_embedding": [0.5] * 64}], "update")
    twice.import_("context_stores", [{"id": "q4", "prompt_embedding": None}], "update")
    twice.import_("instructions", [dict(made_up()["instructions"][0], id="new", instruction_embedding=[1.0] * 64)])
    for collection, document_id, status in (
        ("context_stores", "q2", "text changed since"),
        ("context_stores", "q3", "vector was overwritten by somebody else"),
        ("context_stores", "q4", "no vector"),
        ("instructions", "new", "not in the ledger"),
        ("instructions", "i0", "current"),
    ):
        assert ask("explain", collection, document_id, "--json").json["status"] == status
        assert ask("explain", collection, document_id).text.startswith(f"{collection}/{document_id}: {status}\n")
    twice.import_("context_stores", [before[document_id] for document_id in ("q2", "q3", "q4")], "upsert")
    twice.http.delete("/collections/instructions/documents/new").raise_for_status()


def test_explain_says_when_the_filter_leaves_a_document_out(ask: Invoke) -> None:
    answer = ask("explain", "instructions", "i3")
    assert answer.text.startswith("instructions/i3: no vector\n  The filter is_default:=false leaves it out")
    assert ask("explain", "instructions", "i3", "--json").json["eligible"] is False


def test_explain_reads_collections_of_the_users_own(ask: Invoke, tmp_path: Path, twice: World) -> None:
    twice.http.put("/aliases/questions", json={"collection_name": "context_stores"}).raise_for_status()
    file = tmp_path / "collections.toml"
    file.write_text('[questions]\nembedding_field = "prompt_embedding"\ntemplate = "{prompt_text}"\n')
    for name in ("questions", "context_stores"):
        found = ask("explain", name, "q1", "--collections-file", str(file), "--json").json
        assert (found["collection"], found["status"]) == ("context_stores", "current")
    twice.http.delete("/aliases/questions").raise_for_status()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere", "q1"), "COLLECTION: unknown collection 'nowhere'; known: context_stores, instructions"),
        (("table_descriptions", "q1"), "COLLECTION: 'table_descriptions' does not exist on"),
        (("context_stores", "zz"), "DOCUMENT_ID: collection 'context_stores' has no document 'zz'"),
    ],
)
def test_explain_refuses_what_is_not_there(ask: Invoke, arguments: tuple[str, str], words: str) -> None:
    answer = ask("explain", *arguments)
    assert answer.status == 2
    assert words in answer.text


def test_no_command_shows_the_key(ask: Invoke, twice: World) -> None:
    for arguments in (["history"], ["show", "one"], ["compare", "one", "two"], ["explain", "context_stores", "q1"]):
        for more in ([], ["--json"]):
            assert twice.key not in ask(*arguments, *more).text


def test_what_a_command_asks_is_one_silent_call_from_python(twice: World, capsys: pytest.CaptureFixture[str]) -> None:
    from kai.settings import load_settings
    from migration.operations.compare import compare
    from migration.operations.explain import explain
    from migration.operations.history import describe_run, list_models, list_runs
    from migration.operations.verify import verify
    from migration.strategies.refusals import Refused

    settings = load_settings(environ=twice.environment(), needs=["typesense"])
    two, one = list_runs(settings=settings).runs
    assert (one.alias, two.alias) == ("one", "two")
    assert describe_run("one", settings=settings).run == one
    assert len(list_models(settings=settings).models) == 2
    compared = compare("one", "two", settings=settings)
    assert compared.runs == (one, two)
    assert [each.collection for each in compared.neighbours] == ["context_stores", "instructions"]
    assert explain("context_stores", "q1", settings=settings).status == "current"
    told: list[str] = []
    verified = verify(settings=settings, verified=lambda record: told.append(record.collection))
    assert (verified.run, verified.exit_status) == (two.name, 0)
    assert told == [each.collection for each in verified.collections] == ["context_stores", "instructions"]
    with pytest.raises(Refused, match="wrote to 'context_stores' after run"):
        verify("one", settings=settings)
    assert capsys.readouterr() == ("", "")


# -- after a way back, and after other dimensions; last, because they change what stands there --------------


def test_compare_finds_the_vectors_after_a_rollback(ask: Invoke, twice: World) -> None:
    before = ask("compare", "one", "two", "--json").json["neighbours"]
    done = twice.run("rollback", "two", "--yes", module="migration")
    assert done.status == 0, done.text
    back = ask("show", "latest", "--json").json
    name = back["run"]["name"]
    assert back["reverts"] == ask("show", "two", "--json").json["run"]["name"]
    after = ask("compare", "one", "two", "--json").json["neighbours"]
    assert [found["overlap"] for found in after] == [found["overlap"] for found in before]
    assert after[0]["origins"] == ["server", f"backup of {name}"]
    assert ask("explain", "context_stores", "q1", "--json").json["model"]["model"] == SMALL
    reason = ask("compare", "one", name, "--json").json["neighbours"][0]["reason"]
    assert reason == f"not available: the ledger does not know which model {name} used"


def test_compare_finds_the_vectors_across_a_change_of_dimensions(
    ask: Invoke, twice: World, provider: OpenAIStandIn
) -> None:
    done = twice.run("--collections", "context_stores", "--alias", "three", **openai(provider, 32, SMALL))
    assert done.status == 0, done.text
    found = ask("compare", "one", "three", "--json").json
    assert found["differences"][1] == {"measure": "dimensions", "first": 64, "second": 32, "change": -0.5}
    (stores,) = found["neighbours"]
    overwritten_by = ask("show", "two", "--json").json["run"]["name"]
    assert stores["origins"] == [f"backup of {overwritten_by}", "server"]
    assert stores["overlap"]["corpus"] == 80
