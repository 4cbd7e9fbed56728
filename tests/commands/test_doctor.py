"""`doctor` over a real server: every kind of wrong vector is named, and a healthy collection gives no finding."""

from __future__ import annotations

import json

from kai.settings import EmbeddingSettings, Settings, TypesenseSettings
from migration.diagnosis.findings import Finding
from migration.operations.doctor import Diagnosis
from tests.providers import OpenAIStandIn
from tests.world import World, kai_schemas, made_up, openai

NAME, FIELD, WHERE = "context_stores", "prompt_embedding", "context_stores.prompt_embedding"
SMALL, LARGE = "text-embedding-3-small", "text-embedding-3-large"
QUESTIONS = 1500
DIMENSIONS = 64
ANOTHER = [f"q{number}" for number in range(100, 1300, 40)]
NONE = ["q1", "q503", "q504", "q903", "q1498"]
ZERO = ["q7", "q8", "q1499"]
WRONG = {"q20": "q21", "q1000": "q20"}


def fill(world: World, provider: OpenAIStandIn) -> None:
    """A collection that an application has filled with the small model's vectors."""
    documents = made_up(questions=QUESTIONS, instructions=0)
    for schema in kai_schemas(DIMENSIONS)[:2]:
        world.http.post("/collections", json=schema).raise_for_status()
    for document in documents[NAME]:
        document[FIELD] = provider.vector_for(document["prompt_text"], dimensions=DIMENSIONS).tolist()
    world.import_("database_connections", documents["database_connections"])
    world.import_(NAME, documents[NAME])


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
        openai_api_key=provider.key,
        openai_api_base=provider.api_base,
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
    healthy = world.run("doctor", "--collections", NAME, "--json", module="migration", **openai(provider))
    assert healthy.status == 0, healthy.text
    assert json.loads(healthy.out)["findings"] == []
    assert {check["verdict"] for check in json.loads(healthy.out)["checks"]} == {"PASS"}
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
