"""The local family: the same text has the same vector in whatever company."""

from __future__ import annotations

import logging
import sys
from functools import cache
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kai.embedding_interface import ArrayEmbeddings, MissingPackageError, ModelNotAvailableError
from kai.embeddings import make_embeddings
from kai.provider_errors import provider_fault
from kai.settings import EmbeddingSettings, Settings, TypesenseSettings

TEXT = st.text(st.characters(codec="utf-8"), max_size=200)


def local_settings(dimensions: int = 256, model: str = "l2_supercat") -> Settings:
    return Settings(EmbeddingSettings("local", model, dimensions), TypesenseSettings())


@cache
def local(dimensions: int = 256) -> ArrayEmbeddings:
    return cast(ArrayEmbeddings, make_embeddings(local_settings(dimensions)))


@pytest.mark.parametrize("dimensions", [64, 128, 256])
def test_vectors_have_the_length_that_was_asked_for_and_length_one(dimensions: int) -> None:
    vectors = local(dimensions).embed_array(["one text", "another"])
    assert vectors.shape == (2, dimensions)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1])


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=12))
def test_a_text_has_exactly_the_same_vector_alone_and_in_any_batch(texts: list[str]) -> None:
    together = local().embed_array(texts)
    alone = np.vstack([local().embed_array([text]) for text in texts])
    assert np.array_equal(together, alone)


def test_documents_and_queries_get_the_same_vectors() -> None:
    embeddings = make_embeddings(local_settings())
    assert embeddings.embed_documents(["some text", "other"])[0] == embeddings.embed_query("some text")


def test_the_vectors_are_wordllamas_own_but_for_rounding() -> None:
    import wordllama

    texts = ["Which courses can undergraduates take?", "a", "Größe, 日本語 🎉", "SELECT 1;\n" * 50]
    own = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    assert np.allclose(local().embed_array(texts), own.embed(texts, norm=True), atol=1e-6)


def test_a_long_text_is_read_to_its_end() -> None:
    long = "word " * 60_000
    vectors = local().embed_array([long, f"{long} {'quite different ' * 9_000}", "short"])
    assert not np.allclose(vectors[0], vectors[1])
    assert np.array_equal(vectors[2], local().embed_array(["short"])[0])


def test_a_text_without_tokens_gets_zeros_and_never_nan() -> None:
    assert np.array_equal(local().embed_array([""]), np.zeros((1, 256)))


def test_a_text_that_is_not_unicode_is_refused_and_not_a_bug() -> None:
    with pytest.raises(UnicodeEncodeError) as caught:
        local().embed_array(["good", "half a pair: \ud83d"])
    assert provider_fault(caught.value).kind == "refused"


def test_texts_of_similar_meaning_are_near() -> None:
    cat, kitten, invoice = local().embed_array(["a cat sleeps", "the kitten is asleep", "pay the invoice by May"])
    assert cat @ kitten > cat @ invoice


def test_a_missing_extra_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wordllama", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'kai-embedding-migration\[local\]'"):
        make_embeddings(local_settings())


def test_an_unknown_local_model_is_refused_by_name() -> None:
    with pytest.raises(ModelNotAvailableError, match="l3_supercat"):
        make_embeddings(local_settings(model="l3_supercat"))


def test_logging_is_left_as_it_was() -> None:
    local()
    assert not any(type(handler) is logging.StreamHandler for handler in logging.getLogger().handlers)
