"""Models of sentence-transformers, with one that is made on the spot; skipped where torch is not installed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from kai.embeddings import ArrayEmbeddings, ModelNotAvailableError, make_embeddings
from kai.provider_errors import provider_fault
from kai.settings import EmbeddingSettings, Settings, TypesenseSettings
from tests.families.test_same_vector_as_the_application import TEXTS

LENGTH, MOST = 32, 12


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A little transformer with random weights, which reads 12 tokens."""
    transformers = pytest.importorskip("transformers")
    sentence_transformers = pytest.importorskip("sentence_transformers")
    pytest.importorskip("langchain_huggingface")
    folder = tmp_path_factory.mktemp("model")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", *(f"##{c}" for c in "etaoin")]
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = transformers.BertTokenizerFast(str(folder / "vocab.txt"))
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=LENGTH, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    transformers.BertModel(config).save_pretrained(folder / "bert")
    tokenizer.save_pretrained(folder / "bert")
    from sentence_transformers import models

    bert = models.Transformer(str(folder / "bert"), max_seq_length=MOST)
    pooling = models.Pooling(LENGTH, "mean")
    sentence_transformers.SentenceTransformer(modules=[bert, pooling], device="cpu").save(str(folder / "whole"))
    return folder / "whole"


def arrays(model: str | Path, dimensions: int = LENGTH) -> ArrayEmbeddings:
    embedding = EmbeddingSettings("sentence-transformers", str(model), dimensions)
    return cast(ArrayEmbeddings, make_embeddings(Settings(embedding, TypesenseSettings())))


@pytest.mark.parametrize("dimensions", [LENGTH, 16])
def test_a_batch_gives_every_text_the_vector_of_langchains_embed_query(model: Path, dimensions: int) -> None:
    from langchain_huggingface import HuggingFaceEmbeddings

    kai = HuggingFaceEmbeddings(model_name=str(model), model_kwargs={"truncate_dim": dimensions})
    texts = [text[:9] for text in TEXTS]
    vectors = arrays(model, dimensions).embed_array(texts)
    assert vectors.shape == (len(texts), dimensions)
    for text, vector in zip(texts, vectors, strict=True):
        assert np.allclose(vector, kai.embed_query(text), atol=1e-6)


def test_a_text_that_the_model_would_cut_is_refused(model: Path) -> None:
    with pytest.raises(Exception) as caught:
        arrays(model).embed_array(["a b c", "word " * 30])
    fault = provider_fault(caught.value)
    assert fault.kind == "refused"
    assert f"tokens, and {model} reads {MOST}" in caught.value.args[0]


def test_a_model_that_is_not_there_is_not_available(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelNotAvailableError, match="cannot be loaded"):
        arrays(model.parent / "nothing")
