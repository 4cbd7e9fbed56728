"""`evaluate` over a real run: a better model is GO, a worse one NO-GO, the same one twice CANNOT TELL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands.conftest import Answer, Invoke, migrated_world
from tests.providers import OpenAIStandIn
from tests.sandbox.server import RunningSandbox
from tests.world import World, openai

NAME = "context_stores"
BLIND = "openai/text-embedding-3-small@64"
"""The stand-in's vectors depend on the text and on nothing that it means: other words for it are found by chance."""
OTHER_BLIND = "openai/text-embedding-3-large@64"
SEEING = "local/l2_supercat@64"


@pytest.fixture(scope="module")
def provider() -> Iterator[OpenAIStandIn]:
    """One provider for the run and for the questions."""
    with OpenAIStandIn() as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def migrated(
    shared_sandbox: RunningSandbox, provider: OpenAIStandIn, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """A server whose documents carry the vectors of the blind model."""
    with migrated_world(shared_sandbox, tmp_path_factory.mktemp("runs"), provider, questions=120) as world:
        yield world


@pytest.fixture
def ask(invoke: Invoke, migrated: World, provider: OpenAIStandIn) -> Invoke:
    """Call `kai-migrate evaluate context_stores`."""

    def call(*arguments: str, **variables: str) -> Answer:
        return invoke("evaluate", NAME, *arguments, **migrated.environment(**openai(provider)) | variables)

    return call


def test_a_model_that_is_better_is_go_and_what_it_embedded_is_not_bought_again(
    ask: Invoke, migrated: World, provider: OpenAIStandIn
) -> None:
    before = migrated.state()
    answer = ask("--model", SEEING, "--make", "40", "--json")
    assert answer.status == 0
    found = answer.json
    (candidate,) = found["candidates"]
    assert (found["verdict"], candidate["verdict"]) == ("GO", "GO")
    assert (found["old"]["model"], candidate["figures"]["model"]) == (
        "openai/text-embedding-3-small/64",
        "local/l2_supercat/64",
    )
    assert (found["questions"], found["searched"], found["documents"]) == (40, 120, 120)
    assert found["old"]["metrics"]["recall@10"]["mean"] < 0.3
    assert candidate["figures"]["metrics"]["recall@10"]["mean"] > 0.7
    assert candidate["differences"]["ndcg@10"]["low"] > 0
    assert candidate["figures"]["latency_p50_ms"] <= candidate["figures"]["latency_p95_ms"]
    assert candidate["figures"]["storage_bytes"] == 120 * (64 * 4 + 256)
    assert any("the questions are made from the documents" in note for note in found["notes"])
    # The run has bought the texts; of the old model only the questions were new, and now they are not either.
    requests = provider.requests
    again = ask("--model", SEEING, "--make", "40", "--json")
    assert provider.requests == requests + 2  # The probe, and whether it is the model whose vectors stand there.
    assert again.json["candidates"][0]["differences"] == candidate["differences"]
    assert migrated.state() == before


def test_a_model_that_is_worse_is_no_go(ask: Invoke) -> None:
    # The old one computed anew, of whatever length, whatever stands there.
    assert ask("--old", "local/l2_supercat@128", "--anew", "--model", BLIND, "--make", "40").status == 1
    answer = ask("--old", SEEING, "--anew", "--model", BLIND, "--make", "40")
    assert answer.status == 1
    assert "NO-GO: openai/text-embedding-3-small/64 finds less: ndcg@10 -0." in answer.text
    assert "What became worst by openai/text-embedding-3-small/64" in answer.text
    assert "the old vectors were computed anew by local/l2_supercat/64" in answer.text


def test_of_the_same_model_twice_nobody_can_tell(ask: Invoke, migrated: World) -> None:
    for arguments in ((), ("--model", BLIND), ("--old", SEEING, "--anew", "--model", SEEING)):
        answer = ask(*arguments, "--make", "40")
        assert answer.status == 4, answer.text
        assert "CANNOT TELL: " in answer.text
        assert "finds as much as the old one, question by question" in answer.text


def test_of_several_models_one_that_is_better_is_enough(ask: Invoke) -> None:
    answer = ask("--model", OTHER_BLIND, "--model", SEEING, "--make", "30", "--sample", "60", "--json")
    assert (answer.status, answer.json["verdict"], answer.json["searched"]) == (0, "GO", 60)
    assert [each["verdict"] for each in answer.json["candidates"]][1] == "GO"


def test_the_history_keeps_evaluations_and_shows_those_that_are_asked_for(
    ask: Invoke, invoke: Invoke, migrated: World, provider: OpenAIStandIn
) -> None:
    ask("--model", SEEING, "--make", "20")
    environment = migrated.environment(**openai(provider))
    title, first, *_ = invoke("history", "--evaluations", **environment).text.splitlines()
    assert title.split() == [
        "EVALUATED", "COLLECTION", "OLD", "NEW", "RUN", "QUESTIONS", "METRIC", "DIFFERENCE", "VERDICT",
    ]  # fmt: skip
    assert "20 of documents  ndcg@10" in first
    assert first.endswith("GO")
    (found,) = invoke(
        "history", "--evaluations", "--limit", "1", "--model", "local/l2_supercat", "--json", **environment
    ).json
    assert (found["collection"], found["field"], found["verdict"]) == (NAME, "prompt_embedding", "GO")
    assert found["rule"] == {"metric": "ndcg", "k": 10, "least_gain": 0.0, "most_loss": 0.0, "confidence": 0.95}
    assert found["metrics"]["new"]["metrics"]["mrr@10"]["mean"] > found["metrics"]["old"]["metrics"]["mrr@10"]["mean"]
    none = invoke("history", "--evaluations", "--collection", "instructions", **environment)
    assert none.text == "No such evaluations.\n"


def test_questions_of_a_file_are_asked_and_an_answer_that_is_not_there_is_named_by_its_line(
    ask: Invoke, migrated: World, tmp_path: Path
) -> None:
    documents = migrated.documents(NAME)
    chosen = [id_ for id_ in sorted(documents) if int(id_[1:]) % 10 < 4][:20]
    lines = [json.dumps({"q": documents[id_]["prompt_text"], "relevant": [id_]}) for id_ in chosen]
    file = tmp_path / "questions.jsonl"
    file.write_text("\n".join(lines) + "\n")
    answer = ask("--questions", str(file), "--json")
    assert answer.status == 4  # The same model: the document's own text, which either finds first.
    assert answer.json["old"]["metrics"]["ndcg@10"]["mean"] == pytest.approx(1.0)
    assert answer.json["questions"] == 20
    file.write_text("\n".join([*lines, json.dumps({"q": "what?", "relevant": ["nowhere"]})]))
    refused = ask("--questions", str(file))
    assert refused.status == 2
    assert f"--questions {file}: line 21: 'nowhere' is not among the documents of '{NAME}'" in refused.text


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        (("--model", "small"), {}, "--model 'small': write FAMILY/MODEL@DIMENSIONS"),
        (("--model", "local/l2_supercat@65"), {}, "l2_supercat@65: EMBEDDING_DIMENSIONS: l2_supercat cannot"),
        (("--model", "google/gemini-embedding-001@64"), {}, "GOOGLE_API_KEY: is missing"),
        (("--old", "openai/text-embedding-3-small@32"), {}, "--old: the vectors in 'prompt_embedding'"),
        (("--old", SEEING), {}, "the vectors in 'prompt_embedding' of 'context_stores' are not those of local/"),
        (("--least-gain", "-0.1"), {}, "--least-gain -0.1, --most-loss 0: a model could be GO and NO-GO at once"),
        (("--against", "shadow"), {}, "--against shadow: nothing is built beside 'prompt_embedding'"),
        (("--against", "shadow", "--model", SEEING), {}, "leave --model and --anew out"),
        (("--questions", "nowhere.jsonl"), {}, "--questions nowhere.jsonl: it cannot be read: No such file"),
        ((), {"EMBEDDING_FAMILY": ""}, "--model: none is given, and none configured: EMBEDDING_FAMILY: is"),
        ((), {"OPENAI_API_KEY": ""}, "the configured model openai/text-embedding-3-small@64: OPENAI_API_KEY: is empty"),
        (("--model", BLIND), {"OPENAI_API_KEY": "wrong-key-0123456789"}, "the provider refuses the key"),
    ],
)  # fmt: skip
def test_what_cannot_be_evaluated_is_refused(
    ask: Invoke, arguments: tuple[str, ...], variables: dict[str, str], words: str
) -> None:
    answer = ask(*arguments, **variables)
    assert answer.status == 2
    assert words in answer.text
