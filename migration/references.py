"""References of other collections to one that was recreated.

Typesense stores a reference as the target's internal sequence number, and a recreated collection gives the
numbers out anew: a join then leads to the wrong document, without any error, and deleting a document would
delete the wrong ones with it. Sending each referring document an update with its own reference value makes
the server look the target up again (measured on 29.0).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from kai.typesense import Typesense
from migration.fetch import PAGE_SIZE, Selection, export_pages
from migration.update import import_documents


@dataclass(slots=True)
class Renewed:
    """What became of the references of one collection.

    Attributes:
        renewed: documents whose reference was set again.
        orphans: id -> the server's words, for documents whose target is gone.
        wrong: ids of documents that a join still leads elsewhere.
    """

    renewed: int = 0
    orphans: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def renew_references(server: Typesense, referring: str, fields: list[str]) -> Renewed:
    """Make every document of a collection look up the targets of these reference fields again."""
    result = Renewed()
    attributes = tuple(dict.fromkeys(name.split(".")[0] for name in fields))
    for page in export_pages(server, referring, Selection("", fields=attributes, with_vector=False)):
        lines = {
            document.id: orjson.dumps({"id": document.id, **_values(document.fields, attributes)})
            for document in page
            if _values(document.fields, attributes)
        }
        written = import_documents(server, referring, lines)
        result.renewed += len(written.written)
        result.orphans.update(written.failed)
    return result


def wrong_joins(server: Typesense, referring: str, target: str, field_name: str, target_field: str) -> list[str]:
    """Ids of documents that a join by this field leads to another document than the one they name.

    Fields inside objects are not checked: a search cannot ask for their joins alone.
    """
    if "." in field_name:
        return []
    wrong: list[str] = []
    for page in _joined(server, referring, target, field_name, target_field):
        for document in page:
            named = _as_set(document.get(field_name))
            joined = document.get(target)
            found = {str(item.get(target_field)) for item in _as_list(joined) if isinstance(item, dict)}
            if found - named:
                wrong.append(str(document["id"]))
    return wrong


def _joined(
    server: Typesense, referring: str, target: str, name: str, target_field: str
) -> Iterator[list[dict[str, Any]]]:
    """The referring documents with what the join brings. Search only: the export has no joins to check by."""
    number = 0
    while True:
        number += 1
        answer = server.search(
            referring,
            {
                "q": "*",
                "per_page": PAGE_SIZE,
                "page": number,
                "include_fields": f"id,{name},${target}({target_field})",
            },
        )
        yield [hit["document"] for hit in answer["hits"]]
        if len(answer["hits"]) < PAGE_SIZE:
            return


def _values(fields: dict[str, Any], attributes: tuple[str, ...]) -> dict[str, Any]:
    return {name: fields[name] for name in attributes if name in fields}


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _as_set(value: Any) -> set[str]:
    return {str(item) for item in _as_list(value)}
