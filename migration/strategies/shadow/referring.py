"""Documents of other collections, kept for as long as a delete may take the wrong ones of them along.

With a document Typesense deletes those that refer to its internal number. Between the copy and the renewal of
the references these numbers belong to other documents, so an application that deletes in that time deletes
documents that it never meant. They are written to disk before the drop, and what went is told, and offered.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from kai.typesense import Schema, Typesense
from kai.typesense_schemas import referring_fields
from migration.backup.files import open_private, write_atomically
from migration.backup.shelf import folder_name
from migration.documents.fetch import export_line_pages, values_of
from migration.strategies.shadow.references import as_list


class Referring:
    """The documents that refer to one collection.

    Args:
        server: where they are.
        name: the collection that is recreated.
        shadow: its shadow, which is left out.
        folder: of the run that drops the collection; its owner's only.
    """

    def __init__(self, server: Typesense, name: str, shadow: str, folder: Path) -> None:
        self._server = server
        self._name, self._shadow = name, shadow
        self._folder = folder

    def keep(self) -> None:
        """Write them to disk, durably; nothing where no other collection refers to this one."""
        for schema, _ in self._collections():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(open_private(self._file(schema)), "wb") as stream:
                stream.truncate()
                for page in export_line_pages(self._server, str(schema["name"])):
                    stream.writelines(line.content + b"\n" for line in page)
                stream.flush()
                os.fsync(stream.fileno())

    def gone(self) -> list[str]:
        """What went since, although what it refers to is there; a sentence for each collection.

        Nothing where they were not kept, as on another machine. What was kept is removed.
        """
        notes: list[str] = []
        for schema, fields in self._collections():
            kept = self._file(schema)
            if not kept.exists():
                continue
            other = str(schema["name"])
            there = values_of(self._server, other, "id")
            targets = {each["name"]: str(each["reference"]) for each in schema["fields"] if each["name"] in fields}
            existing = {each: values_of(self._server, *each.split(".", 1)) for each in set(targets.values())}
            gone: dict[str, bytes] = {}
            with kept.open("rb") as lines:
                for line in lines:
                    document = orjson.loads(line)
                    if document["id"] not in there and _all_there(document, targets, existing):
                        gone[str(document["id"])] = line
            file = self._folder / f"gone-{folder_name(other)}.jsonl"
            if gone:
                write_atomically(file, b"".join(gone.values()))
            kept.unlink()
            if not gone:
                continue
            notes.append(
                f"{len(gone)} documents of {other!r} went while {self._name!r} was filled, {next(iter(gone))!r} among "
                "them, although what they refer to is there: the application deleted them, or the server did with a "
                f"document of {self._name!r}, by a number that was another's; they are in {file}; put them back with "
                "`curl -X POST "
                f'-H "X-TYPESENSE-API-KEY: $TYPESENSE_API_KEY" --data-binary @{file} '
                f"'{self._server.url}/collections/{other}/documents/import?action=create'`"
            )
        return notes

    def _collections(self) -> list[tuple[Schema, list[str]]]:
        everything = self._server.collections()
        found = referring_fields(everything, self._name, self._server.aliases())
        return [
            (schema, found[schema["name"]])
            for schema in everything
            if schema["name"] in found and schema["name"] != self._shadow
        ]

    def _file(self, schema: Schema) -> Path:
        return self._folder / f"referring-{folder_name(str(schema['name']))}.jsonl"


def _all_there(document: Mapping[str, Any], targets: Mapping[str, str], existing: Mapping[str, set[str]]) -> bool:
    """Whether all that a document refers to is there; a field inside an object is not looked into."""
    return all(
        str(each) in existing[reference] for name, reference in targets.items() for each in as_list(document.get(name))
    )
