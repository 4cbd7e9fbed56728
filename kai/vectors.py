"""Vectors as a provider gives them, and what can be seen of them without knowing the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

Vector: TypeAlias = npt.NDArray[np.float32]
"""One vector, or several as rows, as a model makes them and Typesense compares them."""
AnyVector: TypeAlias = Vector | npt.NDArray[np.float64]
"""The same, or the very numbers of a backup."""
LEAST_COSINE: Final = 0.999
"""Providers are not exact: the same text gives vectors with a cosine of 0.9999 or so to each other."""


class WrongVectors(Exception):  # noqa: N818
    """The provider answered, with vectors that cannot be right."""


class WrongLength(WrongVectors):
    """The vectors are of another length than the target's."""


def as_float32(numbers: Any) -> Vector:
    """The numbers as Typesense compares them; one beyond float32 is infinite, for whoever checks it to find.

    Raises:
        TypeError, ValueError: they are no numbers, or lists of them that differ in length.
    """
    with np.errstate(over="ignore"):
        return np.asarray(numbers, dtype=np.float32)


def check_vectors(vectors: Vector, texts: Sequence[str], dimensions: int) -> None:
    """Refuse vectors that cannot be right.

    Args:
        vectors: shape (number of vectors, their length).
        texts: the distinct texts that they should belong to.
        dimensions: the length that they should have.

    Raises:
        WrongLength: they are of another length.
        WrongVectors: something else is wrong with them, and what.
    """
    if len(vectors) != len(texts):
        raise WrongVectors(f"the provider returned {len(vectors)} vectors for {len(texts)} texts")
    if vectors.ndim != 2 or vectors.shape[1] != dimensions:
        length = vectors.shape[1] if vectors.ndim == 2 else 0
        raise WrongLength(f"the provider returned vectors of length {length}, not {dimensions}")
    if not np.isfinite(vectors).all():
        raise WrongVectors("the provider returned a vector with a number that is not finite")
    if not vectors.any(axis=1).all():
        raise WrongVectors("the provider returned a vector of zeros")


def same_vector(one: Vector, other: Vector) -> bool:
    """Whether two vectors are the same but for what a provider's arithmetic varies (2 % of the length).

    Stricter than a cosine of 0.999, and it notices a difference in length, which `ip` distance would.
    """
    return one.shape == other.shape and float(np.linalg.norm(one - other)) <= 0.02 * float(np.linalg.norm(other))


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Cosine of the angle between two vectors; -1 where their lengths differ or one is zero."""
    if one.shape != other.shape:
        return -1.0
    scale = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(np.dot(one, other)) / scale if scale else -1.0
