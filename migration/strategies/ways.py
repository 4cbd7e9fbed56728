"""The ways that are open to a collection beside the planned one, with what each takes and asks for, and which is best.

The rates are measured on 29.0 and 30 with 2 cores, at 6,000 documents of 768 dimensions, and taken as inverse to the
dimensions; what this server's own last runs took corrects them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from kai.collections import EmbeddedCollection
from kai.typesense import Schema, Typesense
from kai.typesense_schemas import referring_fields
from migration.strategies.alias.state import is_movable
from migration.strategies.hazards import ADDS_A_SECOND, shadow_memory
from migration.strategies.refusals import Strategy, way_problem

_UPDATES_A_SECOND: Final = 115 * 768
_INSERTS_A_SECOND: Final = 758 * 768
_FILLS_A_SECOND: Final = 1109 * 768
_FILLS_BESIDE_A_SECOND: Final = 850 * 768
_EXPANDS: Final = 2.0 / 6000
"""Seconds a document for adding a field that no document has a value for."""
_AWAY_SECONDS: Final = 3.1 / 6000 / 768
"""From the drop of a vector field to its return without values, by the dimensions that it had."""
_VECTOR_BYTES: Final = 4
_GRAPH_BYTES: Final = 256
"""Of a document's place in the index, roughly."""
_WORTH_A_SECOND_FIELD: Final = 1_000
"""Documents from which on a pause, or a mixture, lasts so long that going without is worth the switch."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a collection could be migrated.

    Attributes:
        strategy: its name.
        option: what to give for it.
        seconds: the server's share of the time, roughly.
        pause_seconds: how long the search is not answered, or lacks documents.
        partial_seconds: how long a vector search tells a part of the documents.
        mixes: whether vectors of two models stand side by side meanwhile.
        loses: which writes could be lost; empty for none.
        memory: bytes that the server needs beside what it has.
        application: what the application must be able to do.
        measured: whether the time is by this server's own last runs.
    """

    strategy: Strategy
    option: str
    seconds: float
    pause_seconds: float = 0.0
    partial_seconds: float = 0.0
    mixes: bool = False
    loses: str = ""
    memory: int = 0
    application: str = ""
    measured: bool = False


def server_seconds(documents: int, new: int, away: float) -> dict[str, float]:
    """The server's share of the time by strategy.

    Args:
        documents: of the collection.
        new: length of the new vectors.
        away: seconds for which the field is out of the schema where it is emptied and filled.
    """
    refilled = away + documents * new / _FILLS_A_SECOND
    return {
        "in place": documents * new / _UPDATES_A_SECOND,
        "recreate": 2 * documents * new / _INSERTS_A_SECOND,
        "rebuild": refilled,
        "alter": refilled,
        "alias": documents * new / _INSERTS_A_SECOND,
        "into": documents * (_EXPANDS + new / _FILLS_BESIDE_A_SECOND),
    }


def index_bytes(documents: int, dimensions: int) -> int:
    """What so many vectors and their index take in the server's memory, roughly."""
    return documents * (dimensions * _VECTOR_BYTES + _GRAPH_BYTES)


def away_seconds(documents: int, old: int, new: int, *, is_required: bool) -> float:
    """How long the field is out of the schema where it is emptied and filled."""
    return documents * (old * _AWAY_SECONDS + (new / ADDS_A_SECOND if is_required else 0.0))


def ways_open(
    server: Typesense,
    collection: EmbeddedCollection,
    schema: Schema,
    old: int | None,
    new: int,
    seconds: Mapping[str, float],
    away: float,
    everything: Sequence[Schema] = (),
) -> tuple[Way, ...]:
    """Every way that would not be refused, in the order of what it disturbs.

    Args:
        server: where the collection is.
        collection: its field is the one that serves.
        schema: as the server gave it.
        old: length of the vectors; None where the field is no vector index.
        new: length of the new ones.
        seconds: as `server_seconds` gives them.
        away: as `away_seconds` gives it.
        everything: the schemas of all collections.
    """
    documents, name = int(schema["num_documents"]), str(schema["name"])
    vectors = index_bytes(documents, new)
    refill: Strategy = "rebuild" if old == new else "alter"

    def candidates() -> Iterator[Way]:
        yield Way(
            "into",
            "--into '{field}_v2'",
            seconds["into"],
            memory=vectors,
            application="name another field, and the new model, at one moment",
        )
        if old is not None and everything:
            yield Way(
                "alias",
                "--strategy alias",
                seconds["alias"],
                memory=shadow_memory(documents, new),
                application="take the new model's settings when the alias moves",
            )
        if old is None or old == new:
            yield Way(
                "in place", "", seconds["in place"], mixes=old is not None, application="take the new model's settings"
            )
        if old is None:
            return
        yield Way(
            refill,
            f"--strategy {refill}",
            seconds[refill],
            pause_seconds=away,
            partial_seconds=seconds[refill] - away,
            application="do without vector search for that time",
        )
        if old != new:
            yield Way(
                "recreate",
                "--strategy recreate",
                seconds["recreate"],
                pause_seconds=seconds["recreate"] / 2,
                loses="what is written right before the drop",
                memory=shadow_memory(documents, new),
                application="stand still for a moment, and do without the documents for that time",
            )

    def is_open(way: Way) -> bool:
        if way.strategy == "recreate" and (server.lags or referring_fields([schema], name, itself=True)):
            return False
        if way.strategy == "alias" and not is_movable(server, everything, name):
            return False
        return way_problem(collection, schema, way.strategy) is None

    return tuple(way for way in candidates() if is_open(way))


def corrected(ways: Iterable[Way], work: int, paces: Mapping[str, float]) -> tuple[Way, ...]:
    """The same with their times by what this server's own last runs took.

    Args:
        ways: with times by the rates above.
        work: documents times dimensions.
        paces: numbers of vectors a second by strategy, where a run has shown them.
    """
    return tuple(
        _scaled(way, work / pace / way.seconds) if (pace := paces.get(way.strategy)) and way.seconds else way
        for way in ways
    )


def _scaled(way: Way, by: float) -> Way:
    return replace(
        way,
        seconds=way.seconds * by,
        pause_seconds=way.pause_seconds * by,
        partial_seconds=way.partial_seconds * by,
        measured=True,
    )


def recommended(ways: Iterable[Way], documents: int) -> tuple[Way, str] | None:
    """The way to take, and why; None where there is no choice."""
    by_name = {way.strategy: way for way in ways}
    if len(by_name) < 2:
        return None
    if "in place" in by_name and not by_name["in place"].mixes:
        return by_name["in place"], "no vector search finds these vectors yet, so nothing is disturbed"
    if documents < _WORTH_A_SECOND_FIELD and "in place" in by_name:
        return by_name["in place"], "it is over in seconds, and asks for nothing"
    if "into" in by_name:
        return by_name["into"], (
            "nothing pauses, nothing is mixed and no write can be lost; where the application cannot name another "
            "field, take the next one"
        )
    first = next(iter(by_name.values()))
    return first, "it disturbs least of those that are open"
