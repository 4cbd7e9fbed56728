"""Models that run in this very process: no key, and no network once they are there."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from kai.embeddings import ModelNotAvailableError, TextTooLongError
from kai.models import canonical_model
from kai.providers.answers import ArrayBased, stack
from kai.vectors import Vector

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from kai.settings import Settings

_TOKENS_PER_BLOCK: Final = 16_384


def wordllama(settings: Settings, _timeout: float) -> Embeddings:
    """wordllama's static model: the mean of its tokens' vectors, made a unit vector.

    The weights come inside the package, and `load` finds its bundled tokenizer only if it is told that the
    package's own folder is its cache. Pooling is done here, text by text: in wordllama's batches a text is
    padded to the longest one, which costs gigabytes beside one long text. A text of any length is read to its
    end. One without any token gets zeros.
    """
    model = settings.embedding.model
    if canonical_model("local", model) != "l2_supercat":
        raise ModelNotAvailableError(f"family local has no model {model!r}; it has l2_supercat")
    with _root_logger_untouched():
        import wordllama as package

    inference = package.WordLlama.load(
        config="l2_supercat",
        cache_dir=Path(package.__file__).parent,
        trunc_dim=settings.embedding.dimensions,
        disable_download=True,
    )
    weights: Vector = inference.embedding
    tokenizer = inference.tokenizer
    tokenizer.no_padding()

    def tokens(texts: list[str]) -> list[Any]:
        try:
            encodings: list[Any] = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        except TypeError:
            # What the tokenizer says of a lone surrogate; encoding it names the text's fault instead.
            "".join(texts).encode()
            raise
        return encodings

    def embed_array(texts: list[str]) -> Vector:
        vectors = np.zeros((len(texts), weights.shape[1]), dtype=np.float32)
        for row, encoding in enumerate(tokens(texts)):
            ids = encoding.ids
            for start in range(0, len(ids), _TOKENS_PER_BLOCK):
                vectors[row] += weights[ids[start : start + _TOKENS_PER_BLOCK]].sum(axis=0)
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        np.divide(vectors, lengths[:, None], out=vectors, where=lengths[:, None] > 0)
        return vectors

    return ArrayBased(embed_array)


def sentence_transformers(settings: Settings, _timeout: float) -> Embeddings:
    """A model of sentence-transformers, by name or by path, through LangChain's class, which makes one line of a text.

    It would cut a text that is longer than the model reads; that one fails here instead.
    """
    from langchain_huggingface import HuggingFaceEmbeddings

    name, dimensions = settings.embedding.model, settings.embedding.dimensions
    try:
        langchain = HuggingFaceEmbeddings(model_name=name, model_kwargs={"truncate_dim": dimensions})
    except ImportError:
        raise  # sentence-transformers itself is missing
    except Exception as error:  # of the hub, the network, the disk or torch: each has its own
        raise ModelNotAvailableError(f"the model {name!r} cannot be loaded: {error}") from error
    model = langchain._client
    most = model.max_seq_length
    one_at_a_time = threading.Lock()  # A tokenizer that two threads use fails with "Already borrowed".

    def embed_array(texts: list[str]) -> Vector:
        with one_at_a_time:
            for text in texts:
                # A token is a byte at least, and two mark the ends: most texts need not be counted.
                if most and len(text.encode()) + 2 > most and (tokens := _tokens(model, text)) > most:
                    raise TextTooLongError(f"the text has {tokens} tokens, and {name} reads {most}")
            return stack(langchain.embed_documents(texts))

    return ArrayBased(embed_array)


def _tokens(model: Any, text: str) -> int:
    return len(model.tokenizer(text, truncation=False, verbose=False)["input_ids"])


@contextlib.contextmanager
def _root_logger_untouched() -> Iterator[None]:
    """Importing wordllama calls `logging.basicConfig(level=INFO)`; with a handler there it does nothing."""
    import logging

    placeholder = logging.NullHandler()
    root = logging.getLogger()
    root.addHandler(placeholder)
    try:
        yield
    finally:
        root.removeHandler(placeholder)
