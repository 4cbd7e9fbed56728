"""Which vectors may be cut from old ones, and what is cut."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stnp

from kai.collections import EmbeddedCollection
from kai.models import CATALOGUE
from migration.documents.fetch import Document
from migration.embedding.embed import TextFailure, text_hash
from migration.ledger import DocumentRecord, vector_hash
from migration.operations.models.fewer_dimensions import _compared, _judged, _shrinks
from migration.strategies.cut import is_vouched, shortened
from migration.strategies.plan import CollectionPlan, Cut
from migration.strategies.refusals import Refused
from migration.strategies.second_field.mark import NEXT

TEXT, VECTOR = text_hash("a text"), b"0123"
LEDGER = Cut("vector", 4, "ledger", "model")
METADATA = Cut("vector", 4, "metadata", None)
OPERATOR = Cut("vector", 4, "operator", "model")


def record(*, text: bytes = TEXT, vector: bytes = VECTOR, model: str | None = "model") -> DocumentRecord:
    return DocumentRecord("x", text, vector_hash(vector), model_id=model)


@pytest.mark.parametrize(
    ("known", "by_ledger", "by_metadata", "by_operator"),
    [
        (record(), True, False, True),
        (None, False, True, True),  # by_metadata: only where the ledger knows nothing of the collection
        (record(text=text_hash("an earlier text")), False, False, False),
        (record(model="another model"), False, False, False),
        (record(vector=b"else"), False, False, True),  # the application has written it since
        (record(model=None), False, False, True),
    ],
    ids=["known", "unknown", "text changed", "another model", "overwritten", "model unknown"],
)
def test_a_vector_is_cut_only_on_somebody_s_word(
    known: DocumentRecord | None, by_ledger: bool, by_metadata: bool, by_operator: bool
) -> None:
    vouched = [is_vouched(cut, known, TEXT, VECTOR) for cut in (LEDGER, METADATA, OPERATOR)]
    assert vouched == [by_ledger, by_metadata, by_operator]


@given(
    stnp.arrays(np.float64, st.integers(2, 40), elements=st.floats(-1, 1, allow_subnormal=False)),
    st.data(),
)
def test_what_is_cut_has_the_direction_of_the_first_numbers_and_unit_length(
    numbers: npt.NDArray[np.float64], data: st.DataObject
) -> None:
    dimensions = data.draw(st.integers(1, len(numbers) - 1))
    head = numbers[:dimensions]
    as_it_is = shortened(numbers, dimensions, is_unit=False)
    assert as_it_is.dtype == np.float32
    assert np.array_equal(as_it_is, head.astype(np.float32))
    length = float(np.linalg.norm(head))
    if length > 1e-100:
        unit = shortened(numbers, dimensions, is_unit=True)
        assert np.allclose(unit * length, head, rtol=0, atol=1e-6)
        assert abs(float(np.linalg.norm(unit)) - 1) < 1e-6


def plan() -> CollectionPlan:
    collection = EmbeddedCollection("notes", "vector", "{text}")
    return CollectionPlan(collection, "notes", {}, "recreate", 4, 2, 3, 3)


def page(*vectors: str) -> list[Document]:
    return [Document(f"n{n}", {"text": f"text {n}"}, vector.encode()) for n, vector in enumerate(vectors)]


def test_the_provider_says_whether_fewer_dimensions_have_unit_length() -> None:
    old = page("[0.6, 0.0, 0.8, 0.0]", "[0.0, 0.6, 0.0, 0.8]")
    unit = {"text 0": np.array([1, 0], np.float32), "text 1": np.array([0, 1], np.float32)}
    plain = {text: np.float32(0.6) * vector for text, vector in unit.items()}
    for given_now, is_unit in ((unit, True), (plain, False)):
        found = _judged(plan(), _compared(plan(), LEDGER, old, given_now), "m")
        assert found.cut is not None
        assert (found.cut.is_unit, found.cut.compared) == (is_unit, 2)
        assert "the ledger says that the 4 numbers of the old vectors are m's, and 2 texts" in found.hazards[0]


def test_one_vector_that_differs_ends_it() -> None:
    old = page("[0.6, 0.0, 0.8, 0.0]", "[0.0, 0.6, 0.0, 0.8]")
    now = {"text 0": np.array([1, 0], np.float32), "text 1": np.array([0.02, 0.9998], np.float32)}
    found = _compared(plan(), LEDGER, old, now)
    judged = _judged(plan(), found, "m")
    assert judged.cut is None
    assert "but of 2 texts embedded again, 1 have other vectors ('n1'; least cosine 0.999800)" in judged.hazards[0]
    with pytest.raises(Refused, match="--from-old: 'notes': of 2 texts embedded again, 1 have other vectors"):
        _judged(plan(), _compared(plan(), OPERATOR, old, now), "m")


def test_where_nothing_could_be_compared_nothing_is_cut() -> None:
    refused = {"text 0": TextFailure("too long")}
    judged = _judged(plan(), _compared(plan(), METADATA, page("[0.6, 0.0, 0.8, 0.0]"), refused), "m")
    assert judged.cut is None
    assert "but none of them could be compared; everything is embedded" in judged.hazards[0]


def test_the_models_that_nest_are_those_whose_makers_say_so() -> None:
    nesting = {model.name for model in CATALOGUE if model.nests}
    assert nesting == {"text-embedding-3-small", "text-embedding-3-large", "gemini-embedding-001", "l2_supercat"}


WAITING = {"field": "vector_v2", "of": "vector", "run": "r", "phase": "waiting", "fingerprint": "f", "kind": "migrate"}
REFILLING = {"kai_migration": {"role": "rebuilding", "phase": "filling", "field": {"name": "vector"}}}


@pytest.mark.parametrize(
    ("changes", "shrinks"),
    [
        ({}, True),
        ({"old_dimensions": 2}, False),
        ({"old_dimensions": 1}, False),
        ({"old_dimensions": None}, False),
        ({"strategy": "skipped"}, False),
        ({"is_swapped": True}, False),
        ({"schema": {"metadata": REFILLING}}, False),
        ({"schema": {"metadata": {NEXT: WAITING}}}, False),
        ({"schema": {"metadata": {NEXT: WAITING | {"phase": "filling"}}}}, True),
    ],
    ids=str,
)
def test_only_where_longer_vectors_stand_whole_can_shorter_ones_be_cut(changes: dict[str, Any], shrinks: bool) -> None:
    assert _shrinks(replace(plan(), **changes)) is shrinks
