"""Vectors that depend on model, dimensions, task type and text, and on nothing else."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
import numpy.typing as npt


@lru_cache(maxsize=200_000)
def vector_for(text: str, *, model: str, dimensions: int, task_type: str | None = None) -> npt.NDArray[np.float32]:
    """The unit vector, shape (dimensions,), that every stand-in gives for a text. Read-only."""
    space = f"{model}\0{dimensions}\0{task_type or ''}\0{text}"
    digest = hashlib.sha256(space.encode("utf-8", "surrogatepass")).digest()
    numbers = np.random.default_rng(int.from_bytes(digest[:8], "big")).standard_normal(dimensions)
    vector: npt.NDArray[np.float32] = (numbers / np.linalg.norm(numbers)).astype(np.float32)
    vector.setflags(write=False)
    return vector


@lru_cache(maxsize=200_000)
def nested_vector_for(text: str, *, model: str, dimensions: int, longest: int) -> npt.NDArray[np.float32]:
    """The same of a model whose first numbers, brought to unit length, are its vector of fewer dimensions. Read-only.

    From numbers in double precision, as a provider has more digits of them than it sends.
    """
    digest = hashlib.sha256(f"{model}\0{text}".encode("utf-8", "surrogatepass")).digest()
    numbers = np.random.default_rng(int.from_bytes(digest[:8], "big")).standard_normal(longest)[:dimensions]
    vector: npt.NDArray[np.float32] = (numbers / np.linalg.norm(numbers)).astype(np.float32)
    vector.setflags(write=False)
    return vector
