"""What a provider answers, read into one array of float32, without a Python object for every number."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
from langchain_core.embeddings import Embeddings

from kai.embedding_interface import MalformedAnswerError
from kai.vectors import Vector, as_float32


class ArrayBased(Embeddings):
    """An `Embeddings` of one function that makes one request of its texts; to it a query is a text like any other.

    Args:
        embed_array: as `kai.embeddings.ArrayEmbeddings` has it.
    """

    def __init__(self, embed_array: Callable[[list[str]], Vector]) -> None:
        self.embed_array = embed_array

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = self.embed_array(texts).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


def openai_vectors(answer: Any) -> Vector:
    """Read the vectors of an OpenAI answer, base64 or numbers, in the order of the texts."""
    entries = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        error = answer.get("error") if isinstance(answer, dict) else None
        message = f"the answer has no list of embeddings{f': {str(error)[:200]}' if error else ''}"
        raise MalformedAnswerError(message)
    positions = [entry.get("index") for entry in entries]
    # Some servers give every entry index 0: then only the order of the entries can be meant.
    if positions != list(range(len(entries))) and sorted(map(str, positions)) == sorted(map(str, range(len(entries)))):
        entries = sorted(entries, key=lambda entry: int(entry["index"]))
    raw = [entry.get("embedding") for entry in entries]
    if not all(isinstance(vector, str) for vector in raw):
        return stack(raw)
    try:
        return stack([np.frombuffer(base64.b64decode(vector), dtype="<f4") for vector in raw])
    except ValueError as error:
        message = "the answer has an embedding that is not base64 of float32"
        raise MalformedAnswerError(message) from error


def vectors_at(content: bytes, *path: str) -> Vector:
    """Read the list of vectors that stands at a path of a JSON answer."""
    value = read_json(content)
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    if not isinstance(value, list):
        raise MalformedAnswerError("the answer has no list of embeddings")
    return stack(value)


def read_json(content: bytes | str) -> Any:
    """Parse a body; NaN and Infinity, which some servers write although JSON has none, are numbers here."""
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return json.loads(content)


def stack(vectors: Any) -> Vector:
    """Make one float32 array of the vectors; `null` becomes NaN, for the caller's check to find."""
    try:
        array = as_float32(vectors)
    except (TypeError, ValueError) as error:
        message = "the answer has embeddings that are no numbers or differ in length"
        raise MalformedAnswerError(message) from error
    if array.size == 0:
        return array.reshape(len(vectors), 0)
    if array.ndim != 2:
        message = "the answer has embeddings that are no lists of numbers"
        raise MalformedAnswerError(message)
    return array
