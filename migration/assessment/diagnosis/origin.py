"""Whose vector is it? Vectors that are not their text's, looked up among those that the model gives for the others.

One that is there belongs to that text. One that is nowhere, but has the neighbours that a vector of the model has, is
of a text that no document has (any more); one that has not is another model's. What neighbours these are, the model's
own vectors show: each is nearer to some other text than a vector is whose numbers stand in another order. Where that
is not so, nobody can tell the two apart, and the vector counts as another model's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from kai.vectors import LEAST_COSINE, Vector
from migration.assessment.evaluation.ranking import unit

REFERENCES: Final = 200
"""Of the model's own vectors, to see what neighbours they have."""
_FEW: Final = 0.05
"""Share of the references that may be farther from every other text than a stray that counts as the model's."""
_GAP: Final = 0.1
"""Cosine that must lie between the two kinds."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What was found of a vector.

    Attributes:
        document_id: whose text's vector it is; None where it is nobody's.
        is_of_model: whether it is a vector of the model.
    """

    document_id: str | None
    is_of_model: bool


def trace(
    strays: Sequence[Vector], references: Sequence[Vector], known: Iterable[tuple[Sequence[str], Vector]]
) -> list[Origin]:
    """Look vectors up.

    Args:
        strays: to be looked up.
        references: vectors that are the model's for certain.
        known: ids of documents, and the vectors that the model gives for their texts as rows, part by part.
    """
    asked = unit(np.stack([*strays, *references]))
    order = np.random.default_rng(0).permutation(asked.shape[1])
    asked = np.concatenate([asked, asked[len(strays) :, order]])
    owners: dict[int, str] = {}
    nearest = np.full(len(asked), -1.0)
    for ids, vectors in known:
        cosines = asked @ unit(vectors).T
        is_equal = cosines >= LEAST_COSINE
        for row in np.flatnonzero(is_equal[: len(strays)].any(axis=1)).tolist():
            owners.setdefault(row, ids[int(is_equal[row].argmax())])
        nearest = np.maximum(nearest, np.where(is_equal, -1.0, cosines).max(axis=1))
    own, foreign = np.split(nearest[len(strays) :], 2)
    least = _least_of_model(own, foreign)
    return [
        Origin(owners.get(row), row in owners or (least is not None and bool(nearest[row] >= least)))
        for row in range(len(strays))
    ]


def _least_of_model(own: np.ndarray, foreign: np.ndarray) -> float | None:
    """The cosine to the nearest other text from which on a vector is the model's; None where that says nothing."""
    if not len(own):
        return None
    low, high = float(np.quantile(own, _FEW)), float(foreign.max())
    return (low + high) / 2 if low - high >= _GAP else None
