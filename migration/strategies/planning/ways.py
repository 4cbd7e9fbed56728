"""The ways that are open to a collection, with what each takes and asks for, which is best, and what closes the others.

The rates are measured on 29.0 and 30 with 2 cores, at 6,000 documents of 768 dimensions, and taken as inverse to the
dimensions; what this server's own last runs took corrects them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from kai.typesense import TypesenseError
from kai.typesense_schemas import referring_fields
from migration.strategies.alias.base import foreign_base
from migration.strategies.alias.state import next_name
from migration.strategies.plan import Way
from migration.strategies.planning.hazards import ADDS_A_SECOND, shadow_memory
from migration.strategies.planning.inspection import Inspected
from migration.strategies.refusals import Strategy, way_problem
from migration.strategies.shadow_state import is_foreign

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


def objection(seen: Inspected, strategy: Strategy, *, allow_lag: bool = False) -> str | None:
    """Why the collection cannot be migrated in this way, and which ways would do; None where nothing speaks against it.

    Args:
        seen: the collection as it stands.
        strategy: the way.
        allow_lag: whether it may be gone where reads lag and a write could be lost.

    Raises:
        TypesenseError: it depends on the aliases, and the server did not list them.
    """
    if seen.refill is None and (problem := way_problem(seen.collection, seen.schema, strategy)):
        return problem
    if strategy not in ("recreate", "alias"):
        return None
    around, name, pair = seen.around, seen.name, seen.pair if strategy == "alias" else None
    if pair is not None and pair.mark is not None and pair.mark.held_elsewhere:
        return pair.mark.holder
    if foreign := _foreign(seen, strategy):
        return f"a collection {foreign!r} is there that this tool did not make; rename or delete it first"
    aliases = around.aliases if strategy == "alias" else {}
    if strategy == "alias" and name not in aliases.values():
        return (
            f"--strategy alias: {seen.collection.name!r} is a collection, and no alias leads to it, so that nothing "
            "could be moved to a new one; use --strategy alter, or --into FIELD (or let the application use an alias; "
            "one that lists its collections and creates those it misses, as KAI does, needs its names to stay "
            "collections)"
        )
    if own := referring_fields([seen.schema], name, aliases, itself=True):
        begins, ends = ("--strategy alias: ", ", or --into FIELD") if strategy == "alias" else ("", "")
        return (
            f"{begins}collection {name!r} refers to itself by {', '.join(own[name])}: its documents cannot be copied "
            f"in any order that the server would take; use --strategy alter{ends}"
        )
    if strategy == "alias" and (referring := referring_fields(around.collections, name, aliases)):
        by = ", ".join(f"{other!r} ({', '.join(fields)})" for other, fields in referring.items())
        return (
            f"--strategy alias: documents of {by} refer to collection {name!r}, by the numbers that the server gave to "
            "its documents, and would not follow an alias to another; use --strategy alter, or --into FIELD, which "
            "keep the collection"
        )
    if around.lagging and not (allow_lag or seen.is_dropped):
        risk = (
            f"what an application writes to the new collection of {name!r} right after the swap could be overwritten"
            if strategy == "alias"
            else f"a recreate of {name!r} could lose what an application writes right before the drop"
        )
        return (
            f"TYPESENSE_HOST, TYPESENSE_PORT: {around.lagging}; {risk}: name the nodes, use --strategy alter, or give "
            "--allow-lag"
        )
    return None


def _foreign(seen: Inspected, strategy: Strategy) -> str:
    """The collection of somebody else's making whose name a copy would take; empty where there is none."""
    if strategy == "recreate":
        return str(seen.shadow["name"]) if seen.shadow is not None and is_foreign(seen.shadow, seen.schema) else ""
    if seen.pair is not None and seen.pair.is_foreign:
        return seen.pair.new
    return foreign_base(seen.around.collections, next_name(seen.name))


def ways_open(seen: Inspected, seconds: Mapping[str, float], away: float) -> tuple[Way, ...]:
    """Every way that would not be refused, in the order of what it disturbs.

    Args:
        seen: the collection as it stands, of which nothing is begun.
        seconds: as `server_seconds` gives them.
        away: as `away_seconds` gives it.
    """
    documents, old, new = seen.documents, seen.old_dimensions, seen.new_dimensions
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
        if old is not None:
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
        try:
            return objection(seen, way.strategy) is None
        except TypesenseError:
            return False  # The key may not even list the aliases.

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
