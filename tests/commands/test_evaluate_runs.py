"""Evaluations beside runs: what a rehearsed one has built, and what the next one need not buy."""

from __future__ import annotations

from tests.commands.conftest import Invoke
from tests.providers import OpenAIStandIn
from tests.world import World, made_up, openai

NAME = "context_stores"


def test_what_a_rehearsed_run_has_built_is_searched_by_the_server_and_so_is_a_second_field(
    world: World, provider: OpenAIStandIn, invoke: Invoke
) -> None:
    world.fill(made_up(questions=60, instructions=60), 64)
    blind = openai(provider)
    assert world.run(**blind).status == 0
    seeing = blind | {"EMBEDDING_FAMILY": "local", "EMBEDDING_MODEL": "l2_supercat", "EMBEDDING_DIMENSIONS": "128"}
    environment = world.environment(**seeing)
    assert world.run("--rehearse", "--collections", NAME, **seeing).status == 0
    before = world.state()
    shadow = invoke("evaluate", NAME, "--against", "shadow", "--json", **environment)
    assert (shadow.status, shadow.json["verdict"]) == (0, "GO")
    run = invoke("show", "latest", "--json", **environment).json["run"]["name"]
    assert (shadow.json["against"], shadow.json["searched"]) == (run, 60)
    # The server searches as exactly as this program does, over the same documents.
    here = invoke("evaluate", NAME, "--json", **environment).json
    for which in ("old", "new"):
        sides = [each["old"] if which == "old" else each["candidates"][0]["figures"] for each in (shadow.json, here)]
        assert sides[0]["metrics"] == sides[1]["metrics"]
    assert world.state() == before

    # Another blind one, in a second field; its model is not the configured one any more, but the ledger knows it.
    worse = blind | {"EMBEDDING_MODEL": "text-embedding-3-large"}
    assert world.run("--into", "{field}_v2", "--collections", "instructions", **worse).status == 0
    answer = invoke("evaluate", "instructions", "--against", "shadow", "--json", **environment)
    assert answer.status == 4, answer.text
    assert answer.json["candidates"][0]["figures"]["model"] == "openai/text-embedding-3-large/64"
    assert answer.json["field"] == "instruction_embedding"
    compared = invoke("compare", "latest", run, "--no-neighbours", **environment)
    assert "Evaluations of the two models" not in compared.text
    found = invoke("history", "--evaluations", "--json", **environment).json
    assert [each["run"] for each in found] == [answer.json["against"], None, run]


def test_compare_shows_what_evaluations_found_of_the_models_of_two_runs(
    world: World, provider: OpenAIStandIn, invoke: Invoke
) -> None:
    world.fill(made_up(questions=40), 64)
    blind = openai(provider)
    assert world.run("--alias", "one", "--collections", NAME, **blind).status == 0
    seeing = blind | {"EMBEDDING_FAMILY": "local", "EMBEDDING_MODEL": "l2_supercat"}
    environment = world.environment(**seeing)
    assert invoke("evaluate", NAME, **environment).status == 0
    requests = provider.requests
    second = world.run("--alias", "two", "--collections", NAME, **seeing)
    assert second.status == 0
    assert "Requests: 0," in second.text  # The evaluation has embedded all of it.
    assert provider.requests == requests
    compared = invoke("compare", "one", "two", "--no-neighbours", **environment).text
    title, row = compared.partition("Evaluations of the two models\n")[2].splitlines()[:2]
    assert title.split()[0] == "EVALUATED"
    assert row.endswith("GO")
