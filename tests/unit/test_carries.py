"""Whether a document has a vector already: by all of its numbers, or by the first where that is enough to say no."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from migration.documents.fetch import Document
from migration.strategies.sources import Embedded

NUMBERS = st.one_of(st.just(0.0), st.floats(2**-10, 1e6, width=32), st.floats(-1e6, -(2**-10), width=32))
OFF_BY = st.sampled_from([0.0, 1e-8, 5e-7, 2e-6, 0.01, 0.05, 1.0])


def carries(stored: bytes | None, wanted: list[float], *, again: bool) -> bool:
    document = Document("a", {}, stored)
    return Embedded.carries(cast("Any", None), document, np.asarray(wanted, np.float32), again=again)


@given(pairs=st.lists(st.tuples(NUMBERS, OFF_BY), min_size=1, max_size=5), again=st.booleans())
def test_it_is_carried_if_its_distance_is_within_the_bound(pairs: list[tuple[float, float]], again: bool) -> None:
    wanted = np.asarray([number for number, _ in pairs], np.float32)
    stored = [float(number) * (1 + off) for number, off in pairs]
    difference = np.asarray(stored, np.float32) - wanted
    within = math.sqrt(difference @ difference) <= (0.02 if again else 1e-6) * math.sqrt(wanted @ wanted)
    assert carries(orjson.dumps(stored), wanted.tolist(), again=again) == within


@pytest.mark.parametrize("stored", [b"[0.5]", b"[]", b'["a","b"]', b"[true,false]", b"[[1,2],[3,4]]", b'{"a":1,"b":2}'])
def test_what_is_no_such_vector_is_not_carried_and_stops_nothing(stored: bytes) -> None:
    assert not carries(stored, [0.5, 0.25], again=False)


def test_a_number_beyond_float32_differs() -> None:
    assert not carries(b"[1e300,0.25]", [0.5, 0.25], again=True)


def test_none_is_carried_where_there_is_none() -> None:
    assert not carries(None, [0.5], again=False)
    assert Embedded.carries(cast("Any", None), Document("a", {}, None), None, again=False)
