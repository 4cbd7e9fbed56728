"""What a held or rehearsed run has built beside what serves: the vectors to search by, and those to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from kai.typesense import Schema
from migration.strategies.alias.state import find_pair
from migration.strategies.second_field.mark import next_of
from migration.strategies.shadow_state import find, find_shadow, past_the_drop, read_mark

_LEAST_SHARE: Final = 0.99
"""Of the documents that what was built must have: the application may have written a few since."""
_FILLED: Final = ("waiting", "finishing")


class NothingBuilt(Exception):  # noqa: N818 - nothing is broken
    """Why there is nothing to compare with, and what would build it."""


@dataclass(frozen=True, slots=True)
class Built:
    """What serves, and what was built beside it.

    Attributes:
        old: the schema of the collection that serves, or served before the swap of an alias.
        old_field: its embedding field.
        new: name of the collection with the new vectors.
        new_field: the field that holds them.
        run: that built it.
        fingerprint: of the new vectors' model, template included.
    """

    old: Schema
    old_field: str
    new: str
    new_field: str
    run: str
    fingerprint: str


def find_built(everything: Sequence[Schema], name: str, field: str) -> Built:
    """What a run has built beside the vectors of a collection's field: a second field, a shadow, or a successor.

    Args:
        everything: the schemas of all collections.
        name: of the real collection.
        field: its embedding field.

    Raises:
        NothingBuilt: there is nothing, or it is not whole.
    """
    live = find(everything, name)
    if live is not None and (second := next_of(live)) is not None:
        if second.phase not in _FILLED:
            raise NothingBuilt(
                f"run {second.run} has not filled the field {second.field!r} of {name!r}; run it again, which goes on"
            )
        return Built(live, second.of, name, second.field, second.run, second.fingerprint)
    pair = find_pair(everything, name)
    if pair is not None and not pair.is_foreign and pair.mark is not None and pair.phase != "reverted":
        old, new, mark = pair.old_schema, pair.new_schema, read_mark(pair.new_schema)
    else:
        new = find_shadow(everything, name) or {}
        old, mark = live, read_mark(new)
        if mark is not None and (past_the_drop(mark, live) or mark.phase != "building"):
            raise NothingBuilt(
                f"run {mark.run} is cutting {name!r} over at the moment; run it again, which finishes it"
            )
    if mark is None or old is None:
        raise NothingBuilt(
            f"nothing is built beside {field!r} of {name!r}; a run with --rehearse or --hold, or with --into, builds "
            "it (one in place, or by rebuild or alter, builds nothing beside)"
        )
    there, wanted = int(new["num_documents"]), int(old["num_documents"])
    if there < _LEAST_SHARE * wanted:
        raise NothingBuilt(
            f"{new['name']!r} has {there} of the {wanted} documents of {old['name']!r}: run {mark.run} did not come to "
            "its end; run it again with --rehearse, which goes on"
        )
    return Built(old, field, str(new["name"]), mark.embedding_field, mark.run, mark.fingerprint)
