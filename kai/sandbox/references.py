"""References between collections, kept as the target's internal sequence number.

That is how a real server keeps them, and why recreating a collection corrupts the joins of those that refer
to it: the numbers are given out anew, and nothing tells. Only a write that carries the reference value
looks the number up again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from kai.sandbox.collection import Collection
from kai.sandbox.document import UNRESOLVED, Document, References
from kai.sandbox.documents import dig
from kai.sandbox.errors import ApiError
from kai.sandbox.schema import Field
from kai.sandbox.store import Store

Json = dict[str, Any]


def take_references(
    store: Store, collection: Collection, attributes: Json, stored: References | None, *, is_new: bool
) -> References | None:
    """The references of a document that is written with `attributes`; `stored` are those it had.

    Resolves every reference field that `attributes` carry and leaves the others as they are. Internal
    attributes (`.ref`, `<field>_sequence_id`) are taken out of `attributes`, and believed where the field
    itself is not sent. ApiError 400 where a target is missing.
    """
    fields = collection.reference_fields
    if not fields:
        return stored
    references = dict(stored or {})
    attributes.pop(".ref", None)
    for spec in fields:
        sent = attributes.pop(f"{spec.name}_sequence_id", None)
        value = dig(attributes, spec.name)
        if value is not None:
            references[spec.name] = _resolve(store, spec, value)
        elif spec.name in attributes:
            references.pop(spec.name, None)
        elif isinstance(sent, int):
            references[spec.name] = sent
        elif is_new and not spec.optional:
            raise ApiError(400, f"Missing the required reference field `{spec.name}` in the document.")
    return stored if references == (stored or {}) else references


def _resolve(store: Store, spec: Field, value: Any) -> int | list[int]:
    if isinstance(value, list):
        return [_resolve_one(store, spec, element) for element in value]
    return _resolve_one(store, spec, value)


def _resolve_one(store: Store, spec: Field, value: Any) -> int:
    name, target_field = spec.reference_target()
    target = store.find(name)
    if target is None:
        if spec.async_reference:
            return UNRESOLVED
        raise ApiError(400, f"Referenced collection `{name}` not found.")
    if target_field == "id":
        seq = target.ids.get(value) if isinstance(value, str) else None
        found = [] if seq is None else [seq]
    else:
        found = [item.seq for item in target.snapshot() if item.attributes.get(target_field) == value]
    where = f"having `{target_field}: {value}`"
    if len(found) > 1:
        raise ApiError(400, f"Multiple documents {where} found in the collection `{name}`.")
    if found:
        return found[0]
    if spec.async_reference:
        return UNRESOLVED
    raise ApiError(400, f"Referenced document {where} not found in the collection `{name}`.")


def referring_fields(store: Store, target: Collection) -> list[tuple[Collection, Field]]:
    """Every (collection, field) that refers to `target`, by its name or an alias of it."""
    return [
        (collection, spec)
        for collection in store.collections.values()
        for spec in collection.reference_fields
        if store.find(spec.reference_target()[0]) is target
    ]


class Waiting(NamedTuple):
    """A document whose asynchronous reference `field` holds the `value` of a document that is just written."""

    collection: Collection
    field: Field
    document: Document
    value: Any

    def numbers(self) -> list[tuple[Any, int]]:
        """(value, sequence number) of each value that the field holds."""
        held = dig(self.document.attributes, self.field.name)
        numbers = (self.document.references or {}).get(self.field.name, UNRESOLVED)
        if isinstance(held, list) and isinstance(numbers, list):
            return list(zip(held, numbers, strict=True))
        return [(held, numbers)] if isinstance(numbers, int) else []


def waiting_for(store: Store, target: Collection, document: Document) -> list[Waiting]:
    """The asynchronous references that mean this new `document`.

    ApiError 400 if one of them still has the number that its value had in a collection that was dropped: it
    is only forgotten when the referring document is written with its own value while there is no target.
    """
    found: list[Waiting] = []
    for collection, spec in referring_fields(store, target):
        if not spec.async_reference:
            continue
        target_field = spec.reference_target()[1]
        value = document.id if target_field == "id" else document.attributes.get(target_field)
        found += [Waiting(collection, spec, source, value) for source in collection.holding(spec.name, value)]
    for waiting in found:
        for value, seq in waiting.numbers():
            if value == waiting.value and seq not in (UNRESOLVED, document.seq):
                raise ApiError(
                    400,
                    f"Error while updating async reference field `{waiting.field.name}` of collection "
                    f"`{waiting.collection.name}`: Document `id: {waiting.document.id}` already has a reference to "
                    f"document `{seq}` of `{target.name}` collection, having reference value `{value}`.",
                )
    return found


def resolve_waiting(store: Store, found: list[Waiting], document: Document) -> None:
    """Give the references that waited for this new `document` its sequence number."""
    for waiting in found:
        seqs = [document.seq if value == waiting.value else seq for value, seq in waiting.numbers()]
        is_array = isinstance(dig(waiting.document.attributes, waiting.field.name), list)
        references = (waiting.document.references or {}) | {waiting.field.name: seqs if is_array else seqs[0]}
        waiting.collection.put(waiting.document.with_references(references))
        store.log.append(["refs", waiting.collection.name, waiting.document.seq, references])


def delete_cascading(store: Store, collection: Collection, seq: int) -> Document | None:
    """Remove a document, and every document that refers to its sequence number, and so on."""
    removed = collection.remove(seq)
    if removed is None:
        return None
    store.log.append(["delete", collection.name, seq])
    for referring, spec in referring_fields(store, collection):
        for source in referring.referring(spec.name, seq):
            delete_cascading(store, referring, source)
    return removed
