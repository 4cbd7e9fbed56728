"""References of other collections to one that was recreated.

Typesense stores a reference as the target's internal sequence number, and a recreated collection gives the
numbers out anew: a join then leads to the wrong document, without any error, and deleting a document would
delete the wrong ones with it. Sending each referring document an update with its own reference value makes
the server look the target up again (measured on 29.0).

An asynchronous reference (`async_reference`) is looked up by the server itself when its target comes, but one
that still has the number of a dropped document makes the server refuse that document under another number.
The same update, sent while the document is missing, makes it forget the old number (recorded on 29.0 and 30).
Whether the collection is missing as well, or stands without the document, is all the same; and what is written
after the drop never has an old number, so that one pass over the referring documents is enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from kai.typesense import Schema, Typesense, TypesenseError, id_filter, nameable
from kai.typesense_schemas import referring_fields
from migration.documents.fetch import IDS, Selection, export_pages, fetch_documents, values_of
from migration.documents.update import import_documents

_NAMED: Final = 20
_OLD_NUMBER: Final = "Error while updating async reference field"


@dataclass(slots=True)
class Renewed:
    """What became of the references of one collection.

    Attributes:
        renewed: documents whose reference was set again.
        orphans: id -> the server's words, for documents with a target that is gone. The server refuses to set
            such a reference again, so it still has the old number.
    """

    renewed: int = 0
    orphans: dict[str, str] = field(default_factory=dict)


class WrongJoins(Exception):  # noqa: N818 - named for what it means
    """Joins lead to other documents than the ones that are named, although their references were renewed."""


def is_old_number(refusal: str) -> bool:
    """Whether a document was refused because an asynchronous reference to it has an old number."""
    return _OLD_NUMBER in refusal


def forget_old_numbers(server: Typesense, name: str) -> bool:
    """Make a dropped collection's documents welcome again: no asynchronous reference has its old number.

    To be called between the drop and the copy, and as often as is wanted after that: a reference to a document
    that has come back keeps its new number. Other references are not sent, for the server would refuse them
    while their target is missing.

    Args:
        server: where they are.
        name: the collection that was dropped, whether or not one of that name stands there again.

    Returns:
        Whether any collection refers to it asynchronously.
    """
    found = referring_fields(server.collections(), name, server.aliases(), asynchronous=True)
    for other, fields in found.items():
        renew_references(server, other, fields)
    return bool(found)


def counts_refused(server: Typesense, schema: Schema) -> bool:
    """Whether the server counts documents of a collection that it refused for old numbers, as it does for good.

    They are in its index, too, where searches find them and show nothing (recorded: 4 counted, 3 exported).
    """
    name = str(schema["name"])
    there = sum(len(page) for page in export_pages(server, name, IDS, is_counted=False))
    return there < int(schema["num_documents"])


def renew_references_to(server: Typesense, name: str, *, but: str) -> list[str]:
    """Renew the references of every other collection to this one, by an alias too, and check the joins.

    Args:
        server: where they are.
        name: the collection that was recreated.
        but: a collection to leave out.

    Returns:
        What was done and what could not be, a sentence each.

    Raises:
        WrongJoins: some still lead elsewhere.
    """
    notes: list[str] = []
    everything = server.collections()
    for other, fields in referring_fields(everything, name, server.aliases()).items():
        if other == but:
            continue
        renewed = renew_references(server, other, fields)
        notes.append(f"{renewed.renewed} references of {other!r} renewed")
        if renewed.orphans:
            why = next(iter(renewed.orphans.values()))
            named = ", ".join(map(repr, list(renewed.orphans)[:_NAMED]))
            notes.append(
                f"{len(renewed.orphans)} documents of {other!r} refer to a document that is gone, so that the "
                f"server does not renew that reference; their joins may lead to wrong documents until you give "
                f"them another one: {named}{' …' if len(renewed.orphans) > _NAMED else ''} ({why})"
            )
        schema = next(schema for schema in everything if schema["name"] == other)
        by_reference: dict[str, list[str]] = {}
        for spec in schema["fields"]:
            if spec["name"] in fields:
                by_reference.setdefault(spec["reference"], []).append(spec["name"])
        for reference, names in by_reference.items():
            try:
                found = wrong_joins(server, other, reference, names)
            except TypesenseError as error:
                if error.transient:
                    raise
                notes.append(f"the joins of {other!r} could not be checked: {error}")
                continue
            if wrong := sorted(set(found) - renewed.orphans.keys()):
                raise WrongJoins(
                    f"{len(wrong)} joins of {other!r} by {', '.join(names)} still lead to wrong documents, "
                    f"that of {wrong[0]!r} among them"
                )
    return notes


def renew_references(server: Typesense, referring: str, fields: list[str]) -> Renewed:
    """Make every document of a collection look up the targets of these reference fields again."""
    result = Renewed()
    attributes = tuple(dict.fromkeys(name.split(".")[0] for name in fields))
    selection = Selection(fields=attributes)
    for exported in export_pages(server, referring, selection):
        # Read right before it is written: an older value must not replace one that the application changed.
        page = fetch_documents(server, referring, selection, [document.id for document in exported])
        page += [document for document in exported if not nameable(document.id)]
        lines = {document.id: _line(document.fields, attributes) for document in page}
        written = import_documents(server, referring, {id_: line for id_, line in lines.items() if line})
        result.renewed += len(written.written)
        result.orphans.update(written.failed)
        # One target that is gone must not keep the others from being looked up.
        orphans = [document for document in page if document.id in written.failed]
        for name in attributes if len(attributes) > 1 else ():
            some = {document.id: _line(document.fields, (name,)) for document in orphans}
            import_documents(server, referring, {id_: line for id_, line in some.items() if line})
    return result


def wrong_joins(server: Typesense, referring: str, reference: str, fields: list[str]) -> list[str]:
    """Ids of documents that a join does not lead to the documents that they name.

    Where several fields refer to one collection, its join brings the targets of some or all of them.
    Targets that do not exist do not count. Fields inside objects are not checked: a search cannot ask for
    their joins alone.

    Args:
        server: where they are.
        referring: the collection with the fields.
        reference: as the fields' schema has it, `<collection or alias>.<field>`.
        fields: the fields with this very reference.
    """
    fields = [name for name in fields if "." not in name]
    if not fields:
        return []
    target, target_field = reference.split(".", 1)
    existing = values_of(server, target, target_field)
    wrong: list[str] = []
    for page in export_pages(server, referring, IDS):
        ids = [document.id for document in page]
        for document in _joined(server, referring, ids, fields, target, target_field):
            named = {str(item) for name in fields for item in as_list(document.get(name))}
            found = (item for item in as_list(document.get(target)) if isinstance(item, dict))
            joined = {str(item.get(target_field)) for item in found}
            there = named & existing
            lost = there - joined if len(fields) == 1 else there and not joined
            # What is named and joined is right, though it was not there yet when the targets were read.
            if joined - named or lost:
                wrong.append(str(document["id"]))
    return wrong


def _joined(
    server: Typesense, referring: str, ids: list[str], fields: list[str], target: str, target_field: str
) -> Iterator[dict[str, Any]]:
    """These documents with what the join brings. Search only: the export has no joins to check by."""
    if not (wanted := id_filter(ids)):
        return
    answer = server.search(
        referring,
        {
            "q": "*",
            "per_page": len(ids),
            "include_fields": f"id,{','.join(fields)},${target}({target_field})",
            "filter_by": wanted,
        },
    )
    yield from (hit["document"] for hit in answer["hits"])


def _line(fields: dict[str, Any], attributes: tuple[str, ...]) -> bytes:
    """An update with the document's own values; empty where it has none of them."""
    values = {name: fields[name] for name in attributes if fields.get(name) is not None}
    return orjson.dumps({"id": fields["id"], **values}) if values else b""


def as_list(value: Any) -> list[Any]:
    """The values of a field, be it one, several or none."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
