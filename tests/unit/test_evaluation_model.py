"""A model under evaluation: what it is asked for, what is timed, and when its vectors are not trusted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from kai.families import RequestLimits
from kai.models import EmbeddingSettings, fingerprint
from kai.vectors import Vector
from migration.assessment.evaluation.model import Model
from migration.assessment.evaluation.sample import Fetched
from migration.embedding.cache import VectorCache
from migration.embedding.embed import Embedder
from migration.embedding.provider import Provider, RefusedTexts
from migration.operations.models.evaluated_models import refuse_another_of_the_name, refuse_other_vectors
from migration.runtime.meter import Meter
from migration.strategies.refusals import Refused

FREE, DEAR = EmbeddingSettings("local", "l2_supercat", 64), EmbeddingSettings("openai", "text-embedding-3-small", 64)


class Teacher:
    """A provider whose vectors depend on the text and on `lesson`; notes what it was asked for."""

    def __init__(self) -> None:
        self.lesson = 1
        self.asked: list[list[str]] = []

    def vectors(self, texts: Sequence[str]) -> list[Vector]:
        if "no" in texts:
            raise RefusedTexts("not this one")
        self.asked.append(list(texts))
        return [np.random.default_rng([self.lesson, *text.encode()]).normal(size=64).astype("f4") for text in texts]


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[VectorCache]:
    with VectorCache(tmp_path) as opened:
        yield opened


@pytest.fixture
def teacher() -> Teacher:
    return Teacher()


def model(teacher: Teacher, cache: VectorCache, embedding: EmbeddingSettings = FREE) -> Model:
    meter = Meter()
    embedder = Embedder(
        cast(Provider, teacher),
        limits=RequestLimits(1000, 100_000),
        space=fingerprint(embedding, ""),
        cache=cache,
        meter=meter,
    )
    return Model(embedding, embedder, cache, meter)


def test_questions_are_timed_one_by_one_and_the_rest_bought_together(teacher: Teacher, cache: VectorCache) -> None:
    asked = [f"q{number}" for number in range(70)]
    dear = model(teacher, cache, DEAR)
    rows = dear.questions(asked)
    assert [len(texts) for texts in teacher.asked] == [1] * 50 + [20]
    assert len(dear.latencies) == 50
    assert np.array_equal(rows[60], teacher.vectors(["q60"])[0])


@pytest.mark.parametrize(("embedding", "timed"), [(FREE, 3), (DEAR, 0)])
def test_nothing_is_bought_for_its_latency_alone(
    teacher: Teacher, cache: VectorCache, embedding: EmbeddingSettings, timed: int
) -> None:
    asked = ["a", "b", "c"]
    model(teacher, cache, embedding).questions(asked)
    teacher.asked.clear()
    again = model(teacher, cache, embedding)
    again.questions(asked)
    assert len(teacher.asked) == len(again.latencies) == timed
    assert (again.latency_ms(0.5) is None) == (timed == 0)


def test_a_text_that_is_refused_is_no_number_and_says_why(teacher: Teacher, cache: VectorCache) -> None:
    asked = model(teacher, cache)
    rows = asked.vectors(["yes", "no", "maybe"])
    assert np.isnan(rows).any(axis=1).tolist() == [False, True, False]
    assert asked.failures == {"no": "not this one"}


def test_vectors_of_another_model_under_the_same_name_are_refused(teacher: Teacher, cache: VectorCache) -> None:
    texts = [f"text {number}" for number in range(30)]
    first = model(teacher, cache)
    refuse_another_of_the_name(first, texts)
    assert not teacher.asked, "nothing is known, so there is nothing to compare"
    first.vectors(texts)
    refuse_another_of_the_name(first, texts)
    assert len(teacher.asked[-1]) == 10
    teacher.lesson = 2
    with pytest.raises(Refused, match=r"another model has the name local/l2_supercat/64 now: of 10 texts .* 10 have"):
        refuse_another_of_the_name(first, texts)


def test_stored_vectors_are_taken_where_most_of_a_few_are_the_models(teacher: Teacher, cache: VectorCache) -> None:
    asked = model(teacher, cache)
    texts = [f"text {number}" for number in range(10)]
    right = [Fetched(text, vector) for text, vector in zip(texts, teacher.vectors(texts), strict=True)]
    wrong = [Fetched(each.text, -each.vector) for each in right if each.vector is not None]
    refuse_other_vectors(asked, [], "there", "mend it")
    refuse_other_vectors(asked, [Fetched("no vector", None), *wrong[:5], *right[5:]], "there", "mend it")
    with pytest.raises(Refused, match=r"the vectors there are not those of local/l2_supercat/64: .*; mend it"):
        refuse_other_vectors(asked, [*wrong[:6], *right[6:]], "there", "mend it")
