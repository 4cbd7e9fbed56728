"""Which ways are open to a collection, what each takes, and which one is recommended."""

from __future__ import annotations

from typing import Any

import pytest

from migration.strategies.plan import Way
from migration.strategies.planning.ways import away_seconds, corrected, recommended, server_seconds, ways_open
from tests.unit.inspected import inspected


def ways(
    old: int | None = 768, new: int = 768, documents: int = 6_000, lags: bool = False, **field: Any
) -> dict[str, Way]:
    """Those that are open to a collection of notes, by name."""
    vector = {"name": "vector", "type": "float[]", "optional": True, **({"num_dim": old} if old else {}), **field}
    schema = {"name": "notes", "num_documents": documents, "fields": [{"name": "text", "type": "string"}, vector]}
    seen = inspected(schema, dimensions=new, lagging="it lags" if lags else "")
    away = away_seconds(documents, old or new, new, is_required=False)
    seconds = server_seconds(documents, new, away)
    return {way.strategy: way for way in ways_open(seen, seconds, away)}


def test_a_length_that_stays_may_go_in_place_and_one_that_changes_may_not() -> None:
    assert list(ways()) == ["into", "in place", "rebuild"]
    assert list(ways(new=1536)) == ["into", "alter", "recreate"]


def test_where_reads_lag_nothing_is_recreated() -> None:
    assert "recreate" not in ways(new=1536, lags=True)


def test_what_the_server_embeds_itself_goes_in_place_alone() -> None:
    assert list(ways(embed={"from": ["text"]})) == ["in place"]


def test_only_in_place_mixes_and_only_a_recreate_may_lose_a_write() -> None:
    everything = {**ways(), **ways(new=1536)}
    assert [name for name, way in everything.items() if way.mixes] == ["in place"]
    assert [name for name, way in everything.items() if way.loses] == ["recreate"]
    assert everything["into"].pause_seconds == everything["into"].partial_seconds == 0


def test_the_times_are_those_that_were_measured() -> None:
    found = {**ways(), **ways(new=768, old=384)}
    # 6,000 documents of 768 dimensions on 29.0: 52 s, 9 s; 7.1 s after the 2 s for the field.
    assert found["in place"].seconds == pytest.approx(52, rel=0.05)
    assert found["into"].seconds == pytest.approx(9.1, rel=0.05)
    assert found["recreate"].seconds == pytest.approx(15.8, rel=0.05)


def test_what_this_server_took_itself_corrects_the_times_and_their_parts() -> None:
    before = ways()["rebuild"]
    found = {way.strategy: way for way in corrected(ways().values(), 6_000 * 768, {"rebuild": 6_000 * 768 / 20.0})}
    assert found["rebuild"].seconds == pytest.approx(20.0)
    assert found["rebuild"].pause_seconds / 20.0 == pytest.approx(before.pause_seconds / before.seconds)
    assert found["rebuild"].measured
    assert not found["in place"].measured


@pytest.mark.parametrize(
    ("found", "documents", "best"),
    [
        (ways(), 6_000, "into"),
        (ways(), 500, "in place"),
        (ways(new=1536), 500, "into"),
        (ways(old=None), 6_000, "in place"),
        (ways(embed={"from": ["text"]}), 6_000, None),
    ],
)
def test_a_second_field_is_recommended_where_a_pause_or_a_mixture_would_last(
    found: dict[str, Way], documents: int, best: str | None
) -> None:
    choice = recommended(found.values(), documents)
    assert (choice[0].strategy if choice else None) == best
