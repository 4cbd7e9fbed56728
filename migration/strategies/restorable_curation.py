"""Synonyms and curations out of a backup, for a collection that is created anew on a server of either kind.

A backup of version 29 may go to a server of version 30, and the other way round. Sets are created only where they
are missing: others may name them. All that would be refused is known before anything is changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kai.typesense import Typesense, TypesenseError
from kai.typesense_curation import (
    IN_WORDS,
    ITEMS_OF,
    MADE_BY_UPGRADE,
    PART_KINDS,
    SET_KINDS,
    Curation,
    Part,
    SetKind,
    names_sets,
    same_items,
    set_names,
    unknown_to_29,
)
from migration.backup import Backup
from migration.strategies.curation import may_not_read
from migration.strategies.refusals import Refused


@dataclass(frozen=True, slots=True)
class Restorable:
    """A backup's synonyms and curations in the form that the server takes.

    Attributes:
        curation: parts of the collection, or sets, those included that are there already.
        names: of the sets, as the collection's schema is to have them; empty where a server knows none.
        differing: the sets that stand on the server with other items than the backup's, in words.
    """

    curation: Curation
    names: Mapping[str, Any] = field(default_factory=dict)
    differing: tuple[str, ...] = ()

    def put_missing_sets(self, server: Typesense) -> None:
        """Create the sets that the server does not have; before the collection, whose schema names them."""
        for kind in SET_KINDS:
            for each in self.curation.of(kind):
                if server.set_of_name(kind, str(each["name"])) is None:
                    server.put_set(kind, each)

    def put_parts(self, server: Typesense, name: str) -> None:
        """Give the collection the synonyms and overrides that are to be its own."""
        for kind in PART_KINDS:
            for part in self.curation.of(kind):
                server.put_part(name, kind, part)


def restorable(server: Typesense, backup: Backup, name: str) -> Restorable:
    """What a collection of this name, created anew, is to get of a backup's synonyms and curations. Only reads.

    Raises:
        Refused: the server or the key cannot take them; every problem at once.
        BackupError: the backup cannot be read.
        TypesenseError: the server cannot be read.
    """
    curation, schema = backup.curation, backup.schema
    if not server.has_sets():
        return Restorable(_own_parts(curation) if names_sets(schema) else curation)
    names = set_names(schema)
    if not names_sets(schema):
        curation = _sets_of(curation, name)
        names = {kind: [str(each["name"]) for each in curation.of(kind)] for kind in SET_KINDS}
    problems: list[str] = []
    differing: list[str] = []
    for kind, each in [(kind, each) for kind, some in names.items() for each in some]:
        what = f"the {IN_WORDS[kind]} {each!r}"
        known = next((part for part in curation.of(kind) if part["name"] == each), None)
        try:
            found = server.set_of_name(kind, each)
        except TypesenseError as error:
            if not error.unauthorized:
                raise
            problems.append(may_not_read(kind, what, error))
            continue
        if found is None and known is None:
            problems.append(
                f"{what}, which the collection names, is neither on the server nor in the backup; create it"
            )
        elif found is not None and known is not None and not same_items(found, known):
            differing.append(f"{what} on the server is not as it is in the backup; it was left as it is")
    if problems:
        raise Refused(*problems)
    return Restorable(curation, {str(kind): some for kind, some in names.items()}, tuple(differing))


def _sets_of(curation: Curation, name: str) -> Curation:
    """Parts of a collection as the sets that an upgrade to version 30 would make of them."""
    return Curation.made_of(
        {
            kind: [{"name": MADE_BY_UPGRADE[kind].format(name), "items": list(curation.of(ITEMS_OF[kind]))}]
            for kind in SET_KINDS
            if curation.of(ITEMS_OF[kind])
        }
    )


def _own_parts(curation: Curation) -> Curation:
    """The items of sets as parts of a collection.

    Raises:
        Refused: version 29 would not take them as they are.
    """
    if problems := [problem for kind in SET_KINDS for problem in _unfit(kind, curation)]:
        raise Refused(*problems)
    return Curation.made_of({ITEMS_OF[kind]: [part for _, part in _items(kind, curation)] for kind in SET_KINDS})


def _unfit(kind: SetKind, curation: Curation) -> Iterator[str]:
    cannot = "and this server, which keeps synonyms and overrides with the collection, cannot have that"
    earlier: dict[str, str] = {}
    for set_name, item in _items(kind, curation):
        what = f"the item {item.get('id')!r} of the {IN_WORDS[kind]} {set_name!r}"
        if unknown := unknown_to_29(kind, item):
            yield f"{what} has {', '.join(unknown)}, {cannot}; restore it on version 30"
        if (other := earlier.setdefault(str(item.get("id")), set_name)) != set_name:
            yield f"{what} has the id of another one of {other!r}, {cannot}; restore it on version 30"


def _items(kind: SetKind, curation: Curation) -> Iterator[tuple[str, Part]]:
    for each in curation.of(kind):
        for item in each["items"]:
            yield str(each["name"]), item
