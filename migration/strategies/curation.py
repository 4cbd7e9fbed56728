"""Synonyms and curations of a collection on its way: read, refused early, taken along, handed on.

From version 30 on a collection only names them (`kai.typesense_curation`). The live collection's names are the
truth: the upgrade of a server gives each collection that stands there sets of its own name, so that a shadow may
come to name sets of its own, which must not become its successor's.
"""

from __future__ import annotations

from collections.abc import Iterable

from kai.typesense import Schema, Typesense, TypesenseError
from kai.typesense_curation import (
    IN_WORDS,
    MADE_BY_UPGRADE,
    PART_KINDS,
    SET_KINDS,
    Curation,
    Part,
    PartKind,
    SetKind,
    names_sets,
    set_names,
)
from migration.strategies.refusals import Refused


def read_curation(server: Typesense, schema: Schema) -> Curation:
    """What belongs to the collection of this schema; a set that is named and gone is left out."""
    if names_sets(schema):
        return Curation.made_of(
            {
                kind: [found for name in names if (found := server.set_of_name(kind, name)) is not None]
                for kind, names in set_names(schema).items()
            }
        )
    return Curation.made_of({kind: list(_own(server, str(schema["name"]), kind).values()) for kind in PART_KINDS})


def refuse_unusable(server: Typesense, schemas: Iterable[Schema], *, contents: bool, preview: bool = False) -> None:
    """Refuse what would stop the recreating or the backup of these collections in its middle.

    Args:
        server: where they are.
        schemas: of the collections.
        contents: whether the items of sets are needed, as for a backup; names alone need no right on them.
        preview: whether nothing is to be done yet, so that a key without the rights for it may look.

    Raises:
        Refused: the key may not read what is needed, or a set that a collection names is gone.
        TypesenseError: the server cannot be read.
    """
    problems: list[str] = []
    for schema in schemas:
        gone, forbidden = _problems(server, schema, contents=contents)
        problems += gone if preview else [*forbidden, *gone]
    if problems:
        raise Refused(*problems)


def take_along(server: Typesense, source: str, target: str) -> None:
    """Give the target what the source has of its own, or names, as it stands now, and nothing else."""
    wanted = server.collection(source) or {}
    if names_sets(wanted):
        if set_names(server.collection(target) or {}) != set_names(wanted):
            server.use_sets(target, set_names(wanted))
        return
    for kind in PART_KINDS:
        parts, found = _own(server, source, kind), _own(server, target, kind)
        for part_id, part in parts.items():
            if found.get(part_id) != part:
                server.put_part(target, kind, part)
        for part_id in found.keys() - parts.keys():
            server.delete_part(target, kind, part_id)


def hand_on(server: Typesense, shadow: str, name: str) -> list[str]:
    """Give the shadow's successor what the shadow has of its own, beside what is there, or names; sentences on it.

    A set that was deleted meanwhile keeps no collection away: the sentence says so.
    """
    given = server.collection(shadow) or {}
    if not names_sets(given):
        for kind in PART_KINDS:
            found = _own(server, name, kind)
            for part_id, part in _own(server, shadow, kind).items():
                if part_id not in found:
                    server.put_part(name, kind, part)
        return []
    wanted = {
        kind: [_renamed(server, kind, each, shadow, name) for each in names] for kind, names in set_names(given).items()
    }
    if set_names(server.collection(name) or {}) == wanted:
        return []
    try:
        server.use_sets(name, wanted)
    except TypesenseError as error:
        if not error.missing:
            raise
        return [f"the sets {wanted} could not be given to {name!r}, which names none of them now: {error}"]
    return []


def _problems(server: Typesense, schema: Schema, *, contents: bool) -> tuple[list[str], list[str]]:
    """Which sets are gone, and what the key may not read."""
    name = str(schema["name"])
    gone: list[str] = []
    forbidden: list[str] = []
    if not names_sets(schema):
        for part_kind in PART_KINDS:
            try:
                _own(server, name, part_kind)
            except TypesenseError as error:
                if not error.unauthorized:
                    raise
                forbidden.append(may_not_read(part_kind, f"the {part_kind} of collection {name!r}", error))
        return gone, forbidden
    for kind, each in ((kind, each) for kind, names in set_names(schema).items() for each in names):
        what = f"the {IN_WORDS[kind]} {each!r}, which collection {name!r} names,"
        try:
            found = server.set_of_name(kind, each)
        except TypesenseError as error:
            if not error.unauthorized:
                raise
            if contents:
                forbidden.append(may_not_read(kind, what, error))
            continue
        if found is None:
            gone.append(
                f"{what} is gone, so its searches fail, and no collection can be made that names it; create it "
                f"again (PUT /{kind}/{each}), or take its name from the collection (PATCH /collections/{name})"
            )
    return gone, forbidden


def may_not_read(kind: PartKind | SetKind, what: str, error: TypesenseError) -> str:
    """That the key lacks a right, and which."""
    actions = "synonym_sets:* and curation_sets:*" if kind in SET_KINDS else "synonyms:* and overrides:*"
    return (
        f"TYPESENSE_API_KEY: the key may not read {what} ({error}); use one with all actions; {actions} are what it "
        "needs for that, beside documents:* and collections:*"
    )


def _own(server: Typesense, name: str, kind: PartKind) -> dict[str, Part]:
    try:
        return {str(part["id"]): part for part in server.parts(name, kind)}
    except TypesenseError as error:
        if error.missing:
            return {}
        raise


def _renamed(server: Typesense, kind: SetKind, named: str, shadow: str, name: str) -> str:
    """The set to name instead of one that an upgrade made of what the shadow had: one of the collection's name."""
    own = MADE_BY_UPGRADE[kind].format(name)
    if named != MADE_BY_UPGRADE[kind].format(shadow):
        return named
    try:
        if server.set_of_name(kind, own) is None:
            made = server.set_of_name(kind, named)
            if made is None:
                return named
            server.put_set(kind, {**made, "name": own})
    except TypesenseError as error:
        if not error.unauthorized:
            raise
        return named  # What it holds is right; only its name is the shadow's.
    return own
