"""The base of a three-way merge: what two collections were last known to have in common.

While two collections of the same documents stand, a document that differs was changed in the one or in the other, and
one that is missing was deleted in the one or added to the other. What they had in common before says which it was. It
stands on the server, as a small collection beside the new one with a hash of each document's content, so that a start
from another machine, with nothing of the first one left, carries over what was written and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

import orjson

from kai.typesense import Schema, Typesense, TypesenseError
from kai.typesense_changes import send_until_it_shows
from migration.documents.fetch import PAGE_SIZE, Document, Selection, export_pages
from migration.documents.update import import_documents
from migration.strategies.shadow_state import MARK, find, get_exact, role_of

SUFFIX: Final = "__base"
_FIELD: Final = "content"
_LENGTH: Final = 16
"""Bytes kept of each hash."""


def base_name(new: str) -> str:
    """The name of the collection that holds the base, by that of the new collection."""
    return new + SUFFIX


def hash_of(document: Document) -> bytes:
    """Hash of everything in a document but its vector."""
    return document.content_hash()[:_LENGTH]


def hashes_of(contents: Mapping[str, bytes]) -> dict[str, bytes]:
    """The same of whole hashes of contents, by document id."""
    return {id_: content[:_LENGTH] for id_, content in contents.items()}


class Base:
    """The base, in memory and on the server.

    Args:
        server: where it is.
        new: name of the new collection.

    Attributes:
        contents: document id -> hash of its content.
    """

    def __init__(self, server: Typesense, new: str) -> None:
        self._server = server
        self._name = base_name(new)
        self.contents: dict[str, bytes] = {}

    def open(self, run: str) -> None:
        """Read it, and create it where it is not there yet.

        Raises:
            TypesenseError: the server does not do it within its patience.
        """
        if get_exact(self._server, self._name) is None:
            schema = {
                "name": self._name,
                "fields": [{"name": _FIELD, "type": "string", "index": False, "optional": True}],
                "metadata": {MARK: {"role": "base", "run": run}},
            }
            send_until_it_shows(
                self._server,
                lambda: self._server.create_collection(schema),
                lambda: get_exact(self._server, self._name),
                claim=f"that it created {self._name!r}",
            )
        self.read()

    def read(self) -> None:
        """What stands on the server.

        Raises:
            TypesenseError: it cannot be read, `missing` if it is gone.
        """
        self.contents = {
            document.id: bytes.fromhex(str(document.fields[_FIELD]))
            for page in export_pages(self._server, self._name, Selection(fields=(_FIELD,)))
            for document in page
            if document.fields.get(_FIELD)
        }

    def become(self, contents: Mapping[str, bytes]) -> None:
        """Note these contents, and no others."""
        self.note({id_: content for id_, content in contents.items() if self.contents.get(id_) != content})
        self.forget(self.contents.keys() - contents.keys())

    def note(self, contents: Mapping[str, bytes]) -> None:
        """Both collections are even as to these documents, whose content was found to be this."""
        self._write((id_, content.hex()) for id_, content in contents.items())
        self.contents.update(contents)

    def forget(self, document_ids: Iterable[str]) -> None:
        """These documents are settled, and no longer in common."""
        gone = list(document_ids)
        self._write((id_, "") for id_ in gone)
        for id_ in gone:
            self.contents.pop(id_, None)

    def _write(self, contents: Iterator[tuple[str, str]]) -> None:
        while some := list(islice(contents, PAGE_SIZE)):
            lines = {id_: orjson.dumps({"id": id_, _FIELD: content}) for id_, content in some}
            if failed := import_documents(self._server, self._name, lines, "upsert").failed:
                document_id, why = next(iter(failed.items()))
                raise TypesenseError(f"{document_id!r} could not be noted in {self._name!r}: {why}")


def remove_base(server: Typesense, new: str) -> None:
    """Remove the base of a new collection, if it is there and ours."""
    found = get_exact(server, base_name(new))
    if found is not None and role_of(found) == "base":
        server.delete_collection(base_name(new))


def foreign_base(everything: Sequence[Schema], new: str) -> str:
    """The collection of the base's name, where somebody else made it; empty where nobody did."""
    found = find(everything, base_name(new))
    return base_name(new) if found is not None and role_of(found) != "base" else ""


def changed_since(server: Typesense, base: Base, name: str, field: str) -> int:
    """How many documents of a collection were added, changed or deleted since it was even with the base. Only reads."""
    seen: set[str] = set()
    changed = 0
    for page in export_pages(server, name, Selection(field, with_vector=False)):
        seen.update(document.id for document in page)
        changed += sum(base.contents.get(document.id) != hash_of(document) for document in page)
    return changed + len(base.contents.keys() - seen)
