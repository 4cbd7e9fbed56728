"""The catalogue, the estimates and the fingerprint."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kai.families import FAMILIES
from kai.models import (
    CATALOGUE,
    estimate_cost,
    estimate_tokens,
    find_model,
    fingerprint,
    nearest_model,
    request_limits,
    surely_over_token_limit,
    usual_model,
)
from kai.settings import EmbeddingSettings

GEMINI = EmbeddingSettings("google", "gemini-embedding-001", 768, "RETRIEVAL_QUERY")


@pytest.mark.parametrize(
    ("family", "name", "nearest"),
    [
        ("openai", "text-embedding-003-small", "text-embedding-3-small"),
        ("openai", "text-embeding-3-large", "text-embedding-3-large"),
        ("openai", "TEXT-EMBEDDING-ADA-02", "text-embedding-ada-002"),
        ("google", "gemini-embeddings-001", "gemini-embedding-001"),
        ("google", "models/gemini-embedding-01", "gemini-embedding-001"),
        ("ollama", "nomic-embed", "nomic-embed-text"),
        ("openai", "text-embedding-3-small", None),
        ("openai", "mistral", None),
        ("nobody", "text-embedding-3-small", None),
    ],
)
def test_a_name_that_does_not_exist_has_a_nearest_one(family: str, name: str, nearest: str | None) -> None:
    assert nearest_model(family, name) == nearest


def test_a_model_is_found_by_each_of_its_names() -> None:
    assert find_model("google", "models/gemini-embedding-001") == find_model("google", "gemini-embedding-001")
    assert find_model("ollama", "nomic-embed-text:v1.5") == find_model("ollama", "nomic-embed-text")
    assert find_model("local", "wordllama") == find_model("local", "l2_supercat")
    assert find_model("openai", "gemini-embedding-001") is None


def test_every_family_has_a_usual_model_that_can_have_its_usual_length_and_limits() -> None:
    for family in FAMILIES:
        model = usual_model(family)
        assert model is not None
        assert model.dimensions is None or model.dimensions.allows(model.usual_dimensions)
        assert request_limits(family).texts > 0


def test_prices_are_per_million_tokens() -> None:
    assert estimate_cost("text-embedding-3-small", 1_000_000) == 0.02
    assert estimate_cost("text-embedding-3-large", 500_000) == 0.065
    assert estimate_cost("models/gemini-embedding-001", 2_000_000) == 0.30
    assert estimate_cost("nomic-embed-text", 10**9) == 0
    assert estimate_cost("a-model-from-the-future", 10) is None


@pytest.mark.parametrize(
    ("text", "at_least", "at_most"),
    [
        # Tokens that OpenAI's cl100k_base makes of them, and twice that.
        ("The quick brown fox jumps over the lazy dog.", 10, 20),
        ("今天天气很好我们去公园散步吧", 14, 30),
        ("", 0, 1),
    ],
)
def test_tokens_are_estimated_rather_too_high(text: str, at_least: int, at_most: int) -> None:
    assert at_least <= estimate_tokens(text) <= at_most


@given(st.text(), st.text())
def test_a_longer_text_never_has_fewer_tokens(text: str, more: str) -> None:
    assert 0 < estimate_tokens(text) <= estimate_tokens(text + more)


@given(st.text(st.characters()))
def test_any_text_can_be_estimated_lone_surrogates_included(text: str) -> None:
    assert estimate_tokens(text + "\ud800") > 0


def test_only_a_text_with_more_words_than_tokens_is_surely_too_long() -> None:
    assert surely_over_token_limit("word " * 2049, 2048)
    assert not surely_over_token_limit("word " * 2048, 2048)
    assert not surely_over_token_limit("x" * 100_000, 2048)


def test_a_fingerprint_is_sixteen_hexadecimal_digits_and_the_same_in_every_process() -> None:
    here = fingerprint(GEMINI, "{condition}, {rules}")
    code = (
        "from kai.models import fingerprint; from kai.settings import EmbeddingSettings;"
        "gemini = EmbeddingSettings('google', 'gemini-embedding-001', 768, 'RETRIEVAL_QUERY');"
        "print(fingerprint(gemini, '{condition}, {rules}'))"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert here == there.stdout.strip()
    # Written into ledgers: another value here makes every ledger of the past look like another space.
    assert here == "a0f3b2ebcf8e3f89"


def test_a_fingerprint_differs_as_soon_as_vectors_cannot_be_compared() -> None:
    spaces = [
        (GEMINI, "{prompt_text}"),
        (GEMINI, "{condition}, {rules}"),
        (replace(GEMINI, dimensions=1536), "{prompt_text}"),
        (replace(GEMINI, task_type="RETRIEVAL_DOCUMENT"), "{prompt_text}"),
        (replace(GEMINI, model="gemini-embedding-2"), "{prompt_text}"),
        (replace(GEMINI, family="openai"), "{prompt_text}"),
    ]
    assert len({fingerprint(*space) for space in spaces}) == len(spaces)


def test_two_names_of_one_model_have_one_fingerprint() -> None:
    other = replace(GEMINI, model="models/gemini-embedding-001")
    assert fingerprint(GEMINI, "{a}") == fingerprint(other, "{a}")


def test_the_catalogue_names_each_model_once() -> None:
    names = [(model.family, model.name) for model in CATALOGUE]
    assert len(set(names)) == len(names)
