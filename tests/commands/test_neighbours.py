"""The arithmetic of neighbours, and the sample that stands in for a large collection."""

from __future__ import annotations

import random

import numpy as np

from kai.vectors import Vector
from migration.operations.models.overlap import HashSample, nearest, overlap


def vectors(count: int, dimensions: int = 16, seed: int = 1) -> dict[str, Vector]:
    """Random vectors of documents d0, d1, ..."""
    numbers = np.random.default_rng(seed).normal(size=(count, dimensions)).astype(np.float32)
    return {f"d{number}": vector for number, vector in enumerate(numbers)}


def test_a_space_that_is_only_turned_and_stretched_has_the_same_neighbours() -> None:
    one = vectors(300)
    turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(16, 16)))
    other = {id_: (3 * vector @ turn).astype(np.float32) for id_, vector in one.items()}
    found = overlap(one, other)
    assert found is not None
    assert (found.corpus, found.sample, found.neighbours) == (300, 100, 10)
    assert found.mean > 0.999
    assert found.same_nearest == 1.0


def test_spaces_that_have_nothing_to_do_with_each_other_agree_by_chance_alone() -> None:
    found = overlap(vectors(400), vectors(400, dimensions=32, seed=2))
    assert found is not None
    assert found.by_chance == 10 / 399
    assert found.mean < 0.06
    assert found.least == 0


def test_the_overlap_is_the_share_of_neighbours_in_common() -> None:
    angles = {"a": 0, "b": 1, "c": 3, "d": 90, "e": 92}
    moved = angles | {"b": 100}

    def circle(degrees: dict[str, int]) -> dict[str, Vector]:
        points = {k: (np.cos(np.radians(v)), np.sin(np.radians(v))) for k, v in degrees.items()}
        return {k: np.asarray(point, np.float32) for k, point in points.items()}

    # Two nearest by the first:  a bc, b ac, c ba, d ec, e dc; by the second: a cd, b ed, c ad, d eb, e db.
    found = overlap(circle(angles), circle(moved), neighbours=2)
    assert found is not None
    assert (found.sample, found.neighbours) == (5, 2)
    assert np.isclose(found.mean, (0.5 + 0 + 0.5 + 0.5 + 0.5) / 5)
    assert found.least == 0


def test_equal_texts_are_no_difference() -> None:
    one: dict[str, Vector] = {f"d{number}": np.full(8, 1, np.float32) for number in range(50)}
    other: dict[str, Vector] = {f"d{number}": np.full(8, 1 / 3, np.float32) for number in range(50)}
    found = overlap(one, other)
    assert found is not None
    assert found.mean == 1.0


def test_no_document_is_its_own_neighbour_and_zero_vectors_do_no_harm() -> None:
    matrix = np.vstack([np.zeros(4), np.eye(4)]).astype(np.float32)
    found = nearest(matrix, np.arange(5), 4)
    assert all(row not in found[row] for row in range(5))


def test_only_documents_that_both_have_are_compared() -> None:
    one, other = vectors(30), vectors(20)
    found = overlap(one, other)
    assert found is not None
    assert found.corpus == 20
    assert overlap(vectors(2), vectors(2)) is None
    assert overlap({}, one) is None


def test_the_same_seed_gives_the_same_sample() -> None:
    one, other = vectors(500), vectors(500, seed=2)
    assert overlap(one, other, sample=20, seed=4) == overlap(one, other, sample=20, seed=4)
    assert overlap(one, other, sample=20, seed=4) != overlap(one, other, sample=20, seed=5)


def test_of_few_documents_not_all_others_are_neighbours() -> None:
    found = overlap(vectors(9), vectors(9, seed=2))
    assert found is not None
    assert found.neighbours == 4


def test_a_lot_is_the_same_in_whichever_order_the_documents_come() -> None:
    ids = [f"d{number}" for number in range(2000)]
    lots = []
    for seed in range(3):
        random.Random(seed).shuffle(ids)  # noqa: S311
        drawn = HashSample(limit=100)
        for id_ in ids:
            drawn.draw(id_)
        lots.append(set(drawn.vectors))
        assert drawn.truncated
    assert lots[0] == lots[1] == lots[2]
    assert len(lots[0]) == 100


def test_a_lot_keeps_the_first_vector_of_a_document_and_only_what_is_allowed() -> None:
    drawn = HashSample(limit=10, allowed=["a", "b"])
    first, second = np.ones(2, np.float32), np.zeros(2, np.float32)
    for id_, vector in (("a", first), ("a", second), ("c", first)):
        drawn.draw(id_, vector)
    assert list(drawn.vectors) == ["a"]
    assert drawn.vectors["a"] is first
    assert not drawn.truncated
