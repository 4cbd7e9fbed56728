"""`doctor` over a real server: every kind of wrong vector is named, and a healthy collection gives no finding."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from kai.models import fingerprint
from kai.settings import EmbeddingSettings, Settings, TypesenseSettings
from kai.typesense import Typesense
from migration.assessment.diagnosis.findings import Diagnosis, Finding
from migration.assessment.diagnosis.rights import check_rights
from migration.ledger import Ledger
from migration.ledger.upgrade import current, downgrade
from migration.operations.doctor import doctor
from tests.commands.conftest import Invoke
from tests.providers import OpenAIStandIn
from tests.unit.nodes import FOLLOWER, LEADER, cluster
from tests.unit.nodes import settings_of as settings_of_nodes
from tests.world import World, field, kai_schemas, made_up, openai

NAME, FIELD, WHERE = "context_stores", "prompt_embedding", "context_stores.prompt_embedding"
SMALL, LARGE = "text-embedding-3-small", "text-embedding-3-large"
QUESTIONS = 1500
DIMENSIONS = 64
ANOTHER = [f"q{number}" for number in range(100, 1300, 40)]
NONE = ["q1", "q503", "q504", "q903", "q1498"]
ZERO = ["q7", "q8", "q1499"]
WRONG = {"q20": "q21", "q1000": "q20"}


def fill(world: World, provider: OpenAIStandIn, questions: int = QUESTIONS) -> None:
    """A collection that an application has filled with the small model's vectors."""
    documents = made_up(questions=questions, instructions=0)
    for schema in kai_schemas(DIMENSIONS)[:2]:
        world.http.post("/collections", json=schema).raise_for_status()
    for document in documents[NAME]:
        document[FIELD] = provider.vector_for(document["prompt_text"], dimensions=DIMENSIONS).tolist()
    world.import_("database_connections", documents["database_connections"])
    world.import_(NAME, documents[NAME])


@pytest.fixture
def small(world: World, provider: OpenAIStandIn) -> World:
    """30 documents of such a collection."""
    fill(world, provider, 30)
    return world


def spoil(world: World, provider: OpenAIStandIn) -> None:
    """30 with another model's vectors, 5 with none, 3 of zeros, 2 with that of another's text."""
    texts = {id_: document["prompt_text"] for id_, document in world.documents(NAME).items()}
    changed: dict[str, list[float] | None] = dict.fromkeys(NONE)
    changed |= dict.fromkeys(ZERO, [0.0] * DIMENSIONS)
    for id_ in ANOTHER:
        changed[id_] = provider.vector_for(texts[id_], dimensions=DIMENSIONS, model=LARGE).tolist()
    for id_, of in WRONG.items():
        changed[id_] = provider.vector_for(texts[of], dimensions=DIMENSIONS).tolist()
    world.import_(NAME, [{"id": id_, FIELD: vector} for id_, vector in changed.items()], "update")


def settings_of(world: World, provider: OpenAIStandIn, model: str = SMALL, dimensions: int = DIMENSIONS) -> Settings:
    host, port = world.url.removeprefix("http://").split(":")
    return Settings(
        embedding=EmbeddingSettings("openai", model, dimensions),
        typesense=TypesenseSettings(host, int(port), api_key=world.key),
        provider={"OPENAI_API_KEY": provider.key, "OPENAI_API_BASE": provider.api_base},
        home=world.home,
    )


def by_code(found: Diagnosis) -> dict[str, Finding]:
    assert len({finding.code for finding in found.findings}) == len(found.findings), found.findings
    return {finding.code: finding for finding in found.findings}


def test_every_kind_of_wrong_vector_is_described_with_its_ids_and_a_healthy_collection_gives_no_finding(
    world: World, provider: OpenAIStandIn
) -> None:
    fill(world, provider)
    before = world.state([NAME])
    healthy = doctor(collections=[NAME], settings=settings_of(world, provider), fail_on="warning")
    assert (healthy.findings, healthy.exit_status) == ((), 0)
    assert {check.verdict for check in healthy.checks} == {"PASS"}
    assert world.state([NAME]) == before
    bought = len(provider.embedded)

    spoil(world, provider)
    before = world.state([NAME])
    found = world.run("doctor", "--collections", NAME, "--json", module="migration", **openai(provider))
    assert found.status == 1, found.text
    findings = {finding["code"]: finding for finding in json.loads(found.out)["findings"]}
    assert {code: sorted(finding["ids"]) for code, finding in findings.items()} == {
        "another_model": sorted(ANOTHER),
        "no_vector": sorted(NONE),
        "zero_vector": sorted(ZERO),
        "wrong_text": sorted(WRONG),
    }
    assert {code: finding["count"] for code, finding in findings.items()} == {
        "another_model": 30,
        "no_vector": 5,
        "zero_vector": 3,
        "wrong_text": 2,
    }
    assert {finding["severity"] for finding in findings.values()} == {"error"}
    assert {finding["where"] for finding in findings.values()} == {WHERE}
    assert "q20 has that of q21" in findings["wrong_text"]["what"]
    assert "q1000 has that of q20" in findings["wrong_text"]["what"]
    assert world.state([NAME]) == before
    assert len(provider.embedded) - bought <= 11  # The probe, and ten texts again; the cache has the others.

    # The remedy is one, and pays for nothing twice.
    assert world.run("--collections", NAME, **openai(provider)).status == 0
    mended = doctor(collections=[NAME], settings=settings_of(world, provider))
    assert (mended.findings, mended.exit_status) == ((), 0)


def test_before_a_migration_the_collection_is_another_models_and_that_is_no_error(
    small: World, provider: OpenAIStandIn
) -> None:
    found = doctor(collections=[NAME], settings=settings_of(small, provider, LARGE))
    assert {code: finding.severity for code, finding in by_code(found).items()} == {"other_model": "info"}
    assert (
        "none of 30 documents carries the vector that openai/text-embedding-3-large/64 gives" in found.findings[0].what
    )
    assert found.exit_status == 0
    longer = doctor(collections=[NAME], settings=settings_of(small, provider, LARGE, 128))
    assert {code: finding.severity for code, finding in by_code(longer).items()} == {"num_dim": "info"}
    assert longer.checks[-1].verdict == "NOT CHECKED"
    assert longer.checks[-1].detail == "the vectors have 64 dimensions, those of text-embedding-3-large 128"


def test_vectors_that_metadata_say_are_the_models_and_are_not_are_an_error(
    small: World, provider: OpenAIStandIn
) -> None:
    ours = EmbeddingSettings("openai", LARGE, DIMENSIONS)
    stamp = {**ours.describe(), "fingerprint": fingerprint(ours, "{prompt_text}")}
    small.http.patch(f"/collections/{NAME}", json={"metadata": {"embedding": stamp}}).raise_for_status()
    found = doctor(collections=[NAME], settings=settings_of(small, provider, LARGE))
    assert {code: finding.severity for code, finding in by_code(found).items()} == {"model_changed": "error"}
    assert found.exit_status == 1


def test_without_a_provider_the_vectors_are_looked_at_and_what_is_not_checked_is_said(
    small: World, provider: OpenAIStandIn, invoke: Invoke
) -> None:
    small.import_(NAME, [{"id": "q3", FIELD: None}, {"id": "q4", FIELD: [0.0] * DIMENSIONS}], "update")
    variables = small.environment(**openai(provider)) | {"OPENAI_API_KEY": ""}
    answer = invoke("doctor", "--collections", NAME, "--sample", "0", **variables)
    assert answer.status == 1
    told = " ".join(answer.text.split())
    assert f"vectors against their texts {WHERE} NOT CHECKED --sample 0: no provider was asked" in told
    assert f"ERROR no_vector, {WHERE}: 1 document with a text and no vector" in answer.text
    assert "    documents: q3\n" in answer.text
    assert f"ERROR zero_vector, {WHERE}: 1 document with a vector of zeros" in answer.text
    assert "WARNING setting, OPENAI_API_KEY: " in answer.text
    assert provider.embedded == []
    asking = invoke("doctor", "--collections", NAME, **variables)
    assert "ERROR setting, OPENAI_API_KEY: " in asking.text
    assert "NOT CHECKED  the settings cannot be used" in asking.text
    assert "ERROR no_vector" in asking.text


def test_a_provider_that_does_not_take_the_key_is_a_finding_and_the_rest_is_checked(
    small: World, provider: OpenAIStandIn
) -> None:
    settings = settings_of(small, provider)
    wrong = {**settings.provider, "OPENAI_API_KEY": "wrong-key-0123456789"}
    found = doctor(collections=[NAME], settings=replace(settings, provider=wrong))
    (finding,) = found.findings
    assert (finding.code, finding.where) == ("provider", "OPENAI_API_KEY")
    assert finding.what.startswith("the provider refuses the key")
    assert [check.verdict for check in found.checks[-2:]] == ["PASS", "NOT CHECKED"]


@pytest.mark.parametrize("fail_on", ["error", "warning"])
def test_the_exit_status_is_1_from_the_asked_for_severity_on(
    small: World, provider: OpenAIStandIn, fail_on: str, invoke: Invoke
) -> None:
    small.import_(NAME, [{"id": "q3", "prompt_text": " "}], "update")
    small.import_(NAME, [{"id": "q3", FIELD: None}], "update")
    variables = small.environment(**openai(provider))
    answer = invoke("doctor", "--collections", NAME, "--fail-on", fail_on, **variables)
    assert f"WARNING no_text, {WHERE}: 1 document without a text by the template '{{prompt_text}}'" in answer.text
    assert answer.status == (fail_on == "warning")


def test_nothing_is_bought_beyond_the_price_that_was_given(small: World, provider: OpenAIStandIn) -> None:
    settings = settings_of(small, provider)
    found = doctor(collections=[NAME], max_cost=0.0, settings=settings)
    assert (found.findings, provider.embedded) == ((), ["probe"])
    assert found.checks[-1].detail == "0 of 0 documents carry their text's (a sample of 0 of 27 texts)"


# -- the key ---------------------------------------------------------------------------------------------


def key_for(world: World, *actions: str) -> str:
    body = {"description": "a test", "actions": list(actions), "collections": [".*"]}
    return str(world.http.post("/keys", json=body).raise_for_status().json()["value"])


def everything(world: World) -> dict[str, object]:
    """All that a request could change."""
    paths = ["/collections", "/aliases", "/keys", *(("/synonym_sets", "/curation_sets") if world.has_sets else ())]
    return {path: world.http.get(path).json() for path in paths} | world.state([NAME])


@pytest.mark.parametrize("version", [29, 30])
def test_each_right_is_tried_and_nothing_is_changed_by_a_key_that_has_them_all(
    version: int, request: pytest.FixtureRequest, provider: OpenAIStandIn
) -> None:
    world: World = request.getfixturevalue("world_29" if version == 29 else "world")
    fill(world, provider, 5)
    before = everything(world)
    settings = settings_of(world, provider)
    with Typesense(settings.typesense) as server:
        check = check_rights(server, [NAME], copies=True, moves_aliases=True)
    assert (check.verdict, check.findings) == ("PASS", ())
    assert check.detail == {29: "20 of 20 that were tried", 30: "22 of 22 that were tried"}[version]
    assert everything(world) == before


def lacking(world: World, *actions: str, copies: bool = True) -> dict[str, str]:
    """What a key with these actions may not do, and how bad that is."""
    address = httpx.URL(world.url)
    settings = TypesenseSettings(address.host, address.port or 80, api_key=key_for(world, *actions))
    with Typesense(settings) as server:
        found = check_rights(server, [NAME], copies=copies, moves_aliases=False).findings
    return {finding.what.removeprefix("the key may not ").split()[0].rstrip(";"): finding.severity for finding in found}


READS = ("collections:list", "collections:get", "documents:search", "documents:export")
WRITES = ("collections:create", "collections:update", "collections:delete", "documents:import", "documents:delete")


def test_each_right_that_a_key_lacks_is_named(world: World, provider: OpenAIStandIn) -> None:
    fill(world, provider, 5)
    reader = lacking(world, *READS)
    assert {action for action, severity in reader.items() if severity == "error"} == {
        *WRITES,
        "aliases:list",
        "synonym_sets:get",
        "curation_sets:get",
    }
    assert {action.partition(":")[0] for action, severity in reader.items() if severity != "error"} == {
        *("aliases", "synonym_sets", "curation_sets", "debug", "operations", "metrics.json", "stats.json")
    }
    for action in (*READS, *WRITES):
        others = [each for each in (*READS, *WRITES) if each != action]
        found = lacking(world, *others)
        assert {each for each in found if each.startswith(("collections", "documents"))} == {action}
    assert "collections:create" not in lacking(world, "documents:*", "collections:*")
    in_place = lacking(world, *READS, "documents:import", "collections:update", copies=False)
    assert "error" not in in_place.values()


def test_of_a_29_the_collections_own_synonyms_and_overrides_are_asked_for(
    world_29: World, provider: OpenAIStandIn
) -> None:
    fill(world_29, provider, 5)
    found = lacking(world_29, *READS, *WRITES, "synonyms:*")
    assert {action: severity for action, severity in found.items() if "overrides" in action or "synonym" in action} == {
        "overrides:list": "error",
        "overrides:delete": "info",
    }


def test_a_key_that_is_refused_for_everything_is_one_finding(small: World, provider: OpenAIStandIn) -> None:
    settings = settings_of(small, provider)
    found = doctor(settings=replace(settings, typesense=replace(settings.typesense, api_key="wrong")))
    (finding,) = found.findings
    assert (finding.code, finding.where, found.exit_status) == ("key_refused", "TYPESENSE_API_KEY", 1)
    assert found.checks[-1].verdict == "NOT CHECKED"


def test_switched_off_writes_are_told_in_the_servers_words(small: World, provider: OpenAIStandIn) -> None:
    small.http.post("/config", json={"skip-writes": True}).raise_for_status()
    try:
        found = doctor(collections=[NAME], settings=settings_of(small, provider))
    finally:
        small.http.post("/config", json={"skip-writes": False}).raise_for_status()
    (finding,) = found.findings
    assert (finding.severity, finding.code) == ("error", "not_answered")
    assert 'POST /config {"skip-writes": false} ends it' in finding.what


# -- what surrounds them ---------------------------------------------------------------------------------


def test_a_server_that_is_not_there_and_a_configuration_that_is_wrong_are_findings(
    small: World, invoke: Invoke, provider: OpenAIStandIn
) -> None:
    variables = small.environment(**openai(provider))
    found = invoke("doctor", "--json", **variables | {"TYPESENSE_API_KEY": "", "EMBEDDING_DIMENSIONS": "many"})
    assert found.status == 1
    assert [finding["where"] for finding in found.json["findings"]] == ["EMBEDDING_DIMENSIONS", "TYPESENSE_API_KEY"]
    assert [check["verdict"] for check in found.json["checks"]] == ["FAIL", "NOT CHECKED"]
    settings = settings_of(small, provider)
    gone = doctor(settings=replace(settings, typesense=replace(settings.typesense, port=1)))
    assert [finding.code for finding in gone.findings] == ["node_not_healthy"]
    assert gone.exit_status == 1
    assert gone.checks[-1].detail == "no node answers"
    unknown = invoke("doctor", "--collections", "nowhere", **variables)
    assert unknown.status == 2
    assert "--collections: unknown collection 'nowhere'" in unknown.text
    assert invoke("doctor", "--sample", "some", **variables).status == 2


def test_collections_that_are_not_there_or_left_alone_and_leftovers_of_dead_runs_are_told(
    small: World, provider: OpenAIStandIn
) -> None:
    mark = {"kai_migration": {"role": "restored", "run": ""}}
    small.http.post("/collections", json={"name": "back", "fields": [field("x")], "metadata": mark}).raise_for_status()
    found = doctor(collections=["all", "table_descriptions"], settings=settings_of(small, provider))
    assert {(finding.severity, finding.code, finding.where) for finding in found.findings} == {
        ("error", "no_collection", "instructions"),
        ("warning", "leftover", "back"),
    }
    (left_alone,) = (check for check in found.checks if check.where == "table_descriptions")
    assert (left_alone.verdict, left_alone.detail.partition(":")[0]) == ("NOT CHECKED", "left alone")


def test_a_ledger_of_an_older_schema_is_left_as_it_is(small: World, provider: OpenAIStandIn) -> None:
    Ledger.open(None, small.home).close()
    place = f"sqlite:///{small.home / 'ledger.sqlite'}"
    downgrade(place, "0003")
    before = current(place)
    found = doctor(collections=[NAME], settings=settings_of(small, provider))
    assert {code: finding.severity for code, finding in by_code(found).items()} == {"ledger": "info"}
    assert current(place) == before == "0003"


def test_each_node_of_a_cluster_is_asked() -> None:
    def answer(_method: str, path: str, _body: bytes) -> tuple[int, bytes]:
        return (200, b'{"ok": true}') if path == "/health" else (200, b"[]")

    with cluster(LEADER, FOLLOWER, FOLLOWER) as nodes:
        for node in nodes:
            node.answer = answer
        nodes[2].state, nodes[2].answer = None, lambda *_: (503, b'{"ok": false}')
        with Typesense(settings_of_nodes(*nodes)) as server:
            seen = server.nodes()
    assert [(each.is_healthy, each.state) for each in seen] == [(True, "leader"), (True, "follower"), (False, "gone")]


@pytest.mark.parametrize("home", ["file/below", "locked/below"])
def test_a_home_that_cannot_be_used_is_a_finding_and_nothing_is_bought(
    small: World, provider: OpenAIStandIn, tmp_path: Path, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "locked").mkdir()
    monkeypatch.setattr(os, "access", lambda path, *_: "locked" not in str(path))
    found = doctor(collections=[NAME], settings=replace(settings_of(small, provider), home=tmp_path / home))
    assert [(finding.code, finding.where) for finding in found.findings] == [("home", "MIGRATION_HOME")]
    assert found.checks[-1].detail == "MIGRATION_HOME is of no use"
    assert provider.embedded == []
