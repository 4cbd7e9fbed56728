"""Exact search in memory: which documents' vectors stand next to a question's, by cosine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from kai.vectors import Vector

_ROWS: Final = 256
"""Questions compared with all documents at once, which bounds memory."""


def unit(vectors: Vector) -> Vector:
    """The vectors, in rows, made as long as 1; those of zeros stay what they are."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):  # An infinite one becomes none at all.
        scaled: Vector = np.divide(vectors, lengths, where=lengths > 0, out=vectors.copy())
    return scaled


def ordered(likeness: npt.NDArray[np.floating], count: int) -> npt.NDArray[np.int64]:
    """For each row the numbers of its greatest columns, the greatest first; what is not a number comes last.

    Equal ones come in the order of their numbers. Equal vectors may differ in the last bits of their products, by
    where in the matrix they stand: so they are compared to six digits.
    """
    rounded = np.nan_to_num(np.round(likeness, 6), nan=-np.inf, neginf=-np.inf)
    return np.argsort(-rounded, axis=1, kind="stable")[:, :count]


def nearest(ids: Sequence[str], documents: Vector, questions: Vector, count: int) -> list[list[str]]:
    """For each question the documents next to it, the nearest first.

    Args:
        ids: of the documents; equally near ones come in this order, so it should be one by chance.
        documents: shape (number of documents, dimensions); a row that is not a number is never found.
        questions: shape (number of questions, dimensions); one that is not a number finds nothing.
        count: how many to find.
    """
    rows, found = unit(documents), list[list[str]]()
    is_there: npt.NDArray[np.bool_] = ~np.asarray(np.isnan(rows).any(axis=1))
    for start in range(0, len(questions), _ROWS):
        some = unit(questions[start : start + _ROWS])
        for question, order in zip(some, ordered(some @ rows.T, count), strict=True):
            found.append([] if np.isnan(question).any() else [ids[place] for place in order if is_there[place]])
    return found
