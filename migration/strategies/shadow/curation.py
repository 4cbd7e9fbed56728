"""Synonyms and overrides: on version 29 they belong to a collection, and go with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from kai.typesense import Typesense, TypesenseError


@dataclass(frozen=True, slots=True)
class _Kind:
    listed: Callable[[str], list[dict[str, Any]]]
    put: Callable[[str, dict[str, Any]], None]
    delete: Callable[[str, str], None]


def take_along(server: Typesense, source: str, target: str) -> None:
    """Give the target the source's synonyms and overrides as they stand now, and no others."""
    for kind, wanted in _kinds(server, source):
        found = {str(part["id"]): part for part in kind.listed(target)}
        for part_id, part in wanted.items():
            if found.get(part_id) != part:
                kind.put(target, part)
        for part_id in found.keys() - wanted.keys():
            kind.delete(target, part_id)


def add_to(server: Typesense, source: str, target: str) -> None:
    """Give the target the source's synonyms and overrides beside what it has."""
    for kind, wanted in _kinds(server, source):
        for part in wanted.values():
            kind.put(target, part)


def _kinds(server: Typesense, source: str) -> Iterator[tuple[_Kind, dict[str, dict[str, Any]]]]:
    for kind in (
        _Kind(server.synonyms, server.put_synonym, server.delete_synonym),
        _Kind(server.overrides, server.put_override, server.delete_override),
    ):
        try:
            parts = kind.listed(source)
        except TypesenseError as error:
            if error.missing:
                continue  # From version 30 on they do not belong to the collection.
            raise
        yield kind, {str(part["id"]): part for part in parts}
