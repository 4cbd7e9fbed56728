"""A batch asks as a direct call does, and its answers are read whatever a provider makes of them."""

from __future__ import annotations

import json
from typing import Any, cast

import numpy as np
import pytest

from kai.embedding_interface import ArrayEmbeddings
from kai.embeddings import make_embeddings
from kai.models import EmbeddingSettings
from migration.embedding.ahead import gemini_batches, openai_batches
from migration.embedding.ahead.openai_batches import OpenAIBatches
from migration.embedding.ahead.service import NoBatches, NoVector
from migration.embedding.ahead.services import make_service
from migration.embedding.embed import text_hash
from tests.providers import GoogleStandIn, OpenAIStandIn
from tests.providers.batches import OpenAIBatchStandIn

TEXT = "how many bicycles were sold in Zürich?"
DIGEST = text_hash(TEXT)
KEY = DIGEST.hex()


@pytest.mark.parametrize("model", ["text-embedding-3-small", "text-embedding-ada-002", "another"])
def test_a_line_for_openai_asks_as_the_direct_call_does(tmp_path: Any, model: str) -> None:
    with OpenAIStandIn(models={model: 1536}) as provider:
        settings = provider.settings(model=model, dimensions=1536)
        cast(ArrayEmbeddings, make_embeddings(settings)).embed_array([TEXT])
        line = json.loads(make_service(settings, tmp_path).line(DIGEST, TEXT))
    (asked,) = provider.bodies
    assert asked.pop("input") == [line["body"].pop("input")]
    assert line == {"custom_id": KEY, "method": "POST", "url": "/v1/embeddings", "body": asked}


def test_a_line_for_google_asks_as_the_direct_call_does(tmp_path: Any) -> None:
    with GoogleStandIn() as provider:
        settings = provider.settings()
        cast(ArrayEmbeddings, make_embeddings(settings)).embed_array([TEXT])
        service = make_service(settings, tmp_path)
        line = json.loads(service.line(DIGEST, TEXT))
    ((asked,),) = [body["requests"] for body in provider.bodies]
    assert asked.pop("model") == "models/gemini-embedding-001"  # A batch names it once, in its address.
    assert line == {"key": KEY, "request": asked}
    with pytest.raises(ValueError, match="more than the 2048 tokens that gemini-embedding-001 reads"):
        service.line(DIGEST, "word " * 3000)


@pytest.mark.parametrize("text", ["lone \ud800 surrogate"])
def test_a_text_that_is_no_unicode_is_refused_before_it_is_sent(tmp_path: Any, text: str) -> None:
    for provider in (OpenAIStandIn(), GoogleStandIn()):
        with pytest.raises((TypeError, ValueError), match="surrogate"):
            make_service(provider.settings(), tmp_path).line(DIGEST, text)


def test_a_family_without_batches_has_no_service(tmp_path: Any) -> None:
    from dataclasses import replace

    settings = OpenAIStandIn().settings()
    local = replace(settings, embedding=EmbeddingSettings("local", "l2_supercat", 64))
    with pytest.raises(NoBatches, match="family local has none"):
        make_service(local, tmp_path)


def openai_line(status: int | None, body: object = None, error: object = None, key: object = KEY) -> dict[str, Any]:
    response = None if status is None else {"status_code": status, "body": body}
    return {"custom_id": key, "response": response, "error": error}


@pytest.mark.parametrize(
    ("line", "reason", "may_pass"),
    [
        (openai_line(400, {"error": {"message": "too long"}}), "too long", False),
        (openai_line(429, {"error": {"message": "slow down"}}), "slow down", True),
        (openai_line(500, "no JSON"), "status 500", True),
        (openai_line(None, error={"code": "batch_expired", "message": "it expired"}), "it expired", True),
        (openai_line(None, error="cancelled"), "cancelled", True),
        (openai_line(200, {"data": []}), "the provider returned 0 vectors for 1 text", True),
        (openai_line(200, {"data": None}), "the answer has no list of embeddings", True),
        (openai_line(200, None), "the answer has no list of embeddings", True),
    ],
)
def test_a_line_of_openai_without_a_vector_says_why(line: Any, reason: str, may_pass: bool) -> None:
    assert openai_batches.answer_of(line) == (DIGEST, NoVector(reason, may_pass))


@pytest.mark.parametrize(
    "line", [None, [], {}, openai_line(200, key="other"), openai_line(200, key=7), openai_line(200, key="ab")]
)
def test_lines_for_no_text_of_ours_are_passed_over(line: Any) -> None:
    assert openai_batches.answer_of(line) is None
    assert gemini_batches.answer_of(line) is None


def test_numbers_of_openai_and_of_google_become_vectors() -> None:
    body = {"data": [{"index": 0, "embedding": [0.5, -1.0]}]}
    digest, vector = openai_batches.answer_of(openai_line(200, body)) or (b"", None)
    assert digest == DIGEST
    assert isinstance(vector, np.ndarray) and vector.tolist() == [0.5, -1.0]
    digest, vector = gemini_batches.answer_of({"key": KEY, "response": {"embedding": {"values": [0.5, 1]}}}) or (
        b"",
        None,
    )
    assert digest == DIGEST
    assert isinstance(vector, np.ndarray) and vector.dtype == np.float32 and vector.tolist() == [0.5, 1.0]


@pytest.mark.parametrize(
    ("line", "reason", "may_pass"),
    [
        ({"error": {"code": 3, "message": "too long"}}, "too long", False),
        ({"error": {"code": 14, "message": "later"}}, "later", True),
        ({"response": {}}, "the answer has no vector", True),
        ({"response": {"embedding": {"values": ["x"]}}}, "the answer has a vector that is no list of numbers", True),
    ],
)
def test_a_line_of_google_without_a_vector_says_why(line: Any, reason: str, may_pass: bool) -> None:
    assert gemini_batches.answer_of({"key": KEY, **line}) == (DIGEST, NoVector(reason, may_pass))


def test_a_batch_is_found_by_our_name_beyond_the_first_page_of_the_list() -> None:
    from datetime import UTC, datetime, timedelta

    from openai import OpenAI

    with OpenAIBatchStandIn() as provider:
        client = OpenAI(api_key=provider.key, base_url=provider.api_base, max_retries=0)
        service = OpenAIBatches(client, EmbeddingSettings("openai", "text-embedding-3-small", 64))
        sent = client.files.create(file=("a.jsonl", service.line(DIGEST, TEXT)), purpose="batch")
        now = datetime.now(UTC)
        first = service.submit(sent.id, "ours")
        for number in range(101):
            provider.jobs[f"other-{number}"] = {**provider.jobs[first], "id": f"other-{number}", "metadata": None}
        assert service.find("ours", now) == first
        assert service.find("nobody's", now) is None
        for number in range(101):
            provider.jobs[f"other-{number}"]["created_at"] -= 7200
        assert service.find("ours", now + timedelta(seconds=1)) is None  # Behind what was made long before.
        assert service.look(first).stage == "checking"
        assert service.look("nothing").stage == "gone"
        while service.look(first).stage != "answered":
            pass
        assert [digest for digest, _ in service.answers(first)] == [DIGEST]
        provider.files.clear()
        assert list(service.answers(first)) == []
        service.clean("nothing", "nothing")


@pytest.mark.parametrize(("code", "stage"), [("token_limit_exceeded", "no room"), ("invalid_json_line", "failed")])
def test_a_failed_batch_says_whether_there_was_no_room(code: str, stage: str) -> None:
    from openai import OpenAI

    with OpenAIBatchStandIn(looks=0, fates=("failed",)) as provider:
        client = OpenAI(api_key=provider.key, base_url=provider.api_base, max_retries=0)
        service = OpenAIBatches(client, EmbeddingSettings("openai", "text-embedding-3-small", 64))
        sent = client.files.create(file=("a.jsonl", service.line(DIGEST, TEXT)), purpose="batch")
        batch_id = service.submit(sent.id, "ours")
        words = "Enqueued token limit reached for x in organization y. Limit: 3,000,000 enqueued tokens."
        errors = {"object": "list", "data": [{"code": code, "message": words}]}
        provider.jobs[batch_id]["after"] = {"status": "failed", "errors": errors}
        seen = service.look(batch_id)
        assert (seen.stage, seen.words, seen.reason) == (stage, "failed", words)
