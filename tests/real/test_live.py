"""The application goes on writing, with its old settings, from before a run's beginning to after its end."""

from __future__ import annotations

import pytest

from tests.real.corner import NEW, OLD, Corner, without_vector
from tests.real.writer import Writer

LATENCY = 0.3
"""Seconds that the provider takes to answer, so that the application writes in every phase of a small run too."""


@pytest.mark.parametrize(
    ("dimensions", "arguments"),
    [(OLD, ()), (NEW, ("--strategy", "alter")), (NEW, ())],
    ids=["in place", "alter", "default across lengths"],
)
def test_nothing_that_was_acknowledged_is_lost_and_every_vector_is_right_in_the_end(
    corner: Corner, dimensions: int, arguments: tuple[str, ...]
) -> None:
    corner.provider.latency = LATENCY
    corner.world.in_a_hurry = False  # Whoever hurries takes the application's pauses for its end.
    with Writer(corner) as writer:
        done = corner.run(*arguments, dimensions=dimensions)
    assert done.status == 0, done.text
    assert writer.acknowledged["insert"] and writer.acknowledged["change"], writer.acknowledged
    documents = corner.documents()
    assert {id_: without_vector(document) for id_, document in documents.items()} == writer.expected
    # What was written after the last pass, with the old model's vector, is for the next start.
    corner.provider.latency = 0.0
    again = corner.run(dimensions=dimensions)
    assert again.status == 0, again.text
    corner.check_vectors(corner.documents(), writer.expected, dimensions)
    corner.check_standing(dimensions)
