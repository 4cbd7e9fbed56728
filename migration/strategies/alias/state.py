"""Which collection takes another's place behind its aliases, and what both say about that on the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from kai.typesense import Schema, Typesense
from kai.typesense_changes import send_until_it_shows
from migration.ledger.records import RunKind
from migration.strategies.refusals import Refused
from migration.strategies.shadow_state import (
    Mark,
    Phase,
    find,
    get_exact,
    is_foreign,
    own_metadata,
    read_mark,
    role_of,
    set_role,
)

_SEPARATOR: Final = "__"
_SWAPPED: Final[tuple[Phase, ...]] = ("swapping", "swapped", "waiting", "reverting", "reverted")


@dataclass(frozen=True, slots=True)
class Pair:
    """A collection, and the one that takes its place.

    Attributes:
        old: name of the collection that is replaced.
        new: name of the one that replaces it.
        mark: of the new one; None where a run died right after creating it, or somebody else made it.
        old_schema: None where the collection is gone.
        new_schema: as the server gave it.
    """

    old: str
    new: str
    mark: Mark | None
    old_schema: Schema | None
    new_schema: Schema

    @property
    def is_swapped(self) -> bool:
        """Whether aliases lead to the new one, or were about to."""
        return self.mark is not None and self.mark.phase in _SWAPPED

    @property
    def run(self) -> str:
        """The run that is at it, or was."""
        return self.mark.run if self.mark is not None else ""

    @property
    def kind(self) -> RunKind:
        """Of that run."""
        return "migrate"

    @property
    def field(self) -> str:
        """The embedding field."""
        return self.mark.embedding_field if self.mark is not None else ""

    @property
    def phase(self) -> str:
        """How far it is; empty without a mark."""
        return self.mark.phase if self.mark is not None else ""

    @property
    def is_foreign(self) -> bool:
        """Whether the new one was not made by this tool."""
        return is_foreign(self.new_schema, self.old_schema) or (self.mark is not None and self.mark.of != self.old)


def next_name(name: str) -> str:
    """The name of the collection that takes this one's place: `articles` -> `articles__2` -> `articles__3`."""
    head, _, number = name.rpartition(_SEPARATOR)
    if head and number.isascii() and number.isdecimal():
        return f"{head}{_SEPARATOR}{int(number) + 1}"
    return f"{name}{_SEPARATOR}2"


def find_pair(everything: Sequence[Schema], name: str) -> Pair | None:
    """What a run has made of the collection of this name, or of the one whose place it took; None if nothing."""
    own = find(everything, name)
    mark = read_mark(own) if own else None
    if own is not None and mark is not None and mark.phase in _SWAPPED:
        return Pair(mark.of, name, mark, find(everything, mark.of), own)
    new = find(everything, next_name(name))
    if new is None:
        return None
    return Pair(name, str(new["name"]), read_mark(new), own, new)


def swapped_pairs(everything: Sequence[Schema]) -> list[Pair]:
    """Every collection that took another's place, or was about to, and is not finished."""
    marks = [(schema, read_mark(schema)) for schema in everything]
    return [
        Pair(mark.of, str(schema["name"]), mark, find(everything, mark.of), dict(schema))
        for schema, mark in marks
        if mark is not None and mark.phase in _SWAPPED
    ]


def aliases_of(server: Typesense, name: str) -> list[str]:
    """The aliases that lead to the collection, in the order of their names."""
    return sorted(alias for alias, target in server.aliases().items() if target == name)


def point_alias(server: Typesense, alias: str, target: str) -> None:
    """Let an alias lead to another collection; it does, on every node, when this returns.

    Raises:
        TypesenseError: the server does not do it within its patience.
    """
    send_until_it_shows(
        server,
        lambda: server.set_alias(alias, target),
        lambda: server.aliases().get(alias) == target or None,
        claim=f"that the alias {alias!r} leads to {target!r}",
    )


def move_aliases(
    server: Typesense, aliases: Sequence[str], source: str, target: str, note: Callable[[Sequence[str]], object]
) -> list[str]:
    """Let every alias that leads from the one collection lead to the other.

    Args:
        server: where.
        aliases: those that were noted before the first was moved.
        source: the collection that they lead to.
        target: the one that they shall lead to.
        note: told all names before one that was not noted is moved.

    Returns:
        Sentences about those that somebody has pointed elsewhere meanwhile.
    """
    standing = server.aliases()
    while todo := sorted(alias for alias, leads_to in standing.items() if leads_to == source):
        if set(todo) - set(aliases):
            aliases = sorted({*aliases, *todo})
            note(aliases)
        point_alias(server, todo[0], target)
        standing = server.aliases()  # Before each, for somebody else may move the next one.
    return [
        f"the alias {alias!r} leads to {standing[alias]!r} now, where somebody has pointed it meanwhile; it was left"
        if alias in standing
        else f"the alias {alias!r} is gone, which somebody has removed meanwhile; it was left so"
        for alias in aliases
        if standing.get(alias) != target
    ]


def mark_replaced(server: Typesense, name: str, run: str) -> None:
    """Let the collection whose place was taken say so; nothing where it says it already, or is gone."""
    found = get_exact(server, name)
    if found is not None and role_of(found) != "replaced":
        set_role(server, name, own_metadata(found), "replaced", run)


def refuse_another_target(pair: Pair, fingerprint: str) -> Schema:
    """Refuse whatever is not the migration by which the pair came to be, which alone may be gone on with.

    Returns:
        The schema of the collection that was replaced.

    Raises:
        Refused: naming the two ways out.
    """
    mark = pair.mark
    assert mark is not None  # noqa: S101 - a pair that was swapped
    if mark.held_elsewhere:
        raise Refused(mark.holder)
    if mark.phase in ("reverting", "reverted"):
        raise Refused(
            f"run {mark.run} over collection {pair.old!r} is being taken back, and that is not finished; run "
            f"`kai-migrate rollback {mark.run}` again"
        )
    if pair.old_schema is None:
        raise Refused(
            f"run {mark.run} over collection {pair.old!r} is not finished, although that collection is gone; run "
            f"`kai-migrate finish {mark.run}` again"
        )
    if mark.fingerprint != fingerprint:
        raise Refused(standing_in_the_way(pair))
    return pair.old_schema


def standing_in_the_way(pair: Pair) -> str:
    """That no other migration of the collection can be begun, and the two ways out."""
    return (
        f"collection {pair.new!r} took the place of {pair.old!r} in run {pair.run}, which had another target, and "
        f"{pair.old!r} still stands; first `kai-migrate finish {pair.run}`, which drops it, or `kai-migrate rollback "
        f"{pair.run}`, which goes back to it"
    )
