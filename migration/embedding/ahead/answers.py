"""What comes of a batch: vectors that can be right go into the cache, and of the others is known why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final

import numpy as np

from kai.vectors import Vector, WrongVectors, check_vectors
from migration.embedding.ahead.service import Answer, NoVector
from migration.embedding.ahead.target import Target
from migration.embedding.cache import VectorCache

_PAGE: Final = 250


def keep_answers(
    answers: Iterator[Answer], target: Target, cache: VectorCache, after_page: Callable[[], object] = lambda: None
) -> tuple[set[bytes], dict[bytes, NoVector]]:
    """Put the vectors into the cache as they come.

    Args:
        answers: of one batch.
        target: what it was embedded with.
        cache: where the vectors go.
        after_page: called again and again, to end it.

    Returns:
        The hashes of the texts whose vectors are in the cache, durably; and why there is none for the others.
    """
    kept: set[bytes] = set()
    failures: dict[bytes, NoVector] = {}
    while page := list(islice(answers, _PAGE)):
        good, bad = sound(page, target.dimensions)
        cache.put_many(target.fingerprint, good.items())
        kept.update(good)
        failures.update(bad)
        after_page()
    return kept, {digest: why for digest, why in failures.items() if digest not in kept}


def sound(answers: Iterable[Answer], dimensions: int) -> tuple[dict[bytes, Vector], dict[bytes, NoVector]]:
    """The vectors that can be right, by the hashes of their texts, and why there is none for the others.

    Args:
        answers: at most a page of them.
        dimensions: length that each should have.
    """
    good: dict[bytes, Vector] = {}
    bad: dict[bytes, NoVector] = {}
    for digest, found in answers:
        if isinstance(found, NoVector):
            bad[digest] = found
            continue
        try:
            check_vectors(np.atleast_2d(found), [""], dimensions)
        except WrongVectors as error:
            bad[digest] = NoVector(str(error), may_pass=True)
        else:
            good[digest] = found
    return good, bad
