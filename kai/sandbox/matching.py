"""A filter tree bound to a collection: a predicate over its documents."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

from kai.sandbox.collection import Collection
from kai.sandbox.document import Document
from kai.sandbox.documents import dig
from kai.sandbox.errors import ApiError
from kai.sandbox.filters import And, Condition, Filter, Join, Or, parse_filter
from kai.sandbox.references import referring_fields
from kai.sandbox.schema import Field
from kai.sandbox.store import Store

Predicate = Callable[[Document], bool]
ValueTest = Callable[[Any], bool]

COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
NEGATIONS = {"!=": "=", "!": ""}


def matching_documents(store: Store, collection: Collection, filter_by: str) -> list[Document]:
    """The documents that match, in insertion order; all of them for an empty filter."""
    if not filter_by.strip():
        return collection.snapshot()
    tree = parse_filter(filter_by)
    predicate = bind(tree, store, collection)
    wanted = _wanted_ids(tree)
    if wanted is None:
        return [document for document in collection.snapshot() if predicate(document)]
    # Naming ids is how one page is asked for; walking the whole collection for it would be slow.
    named = [collection.get(document_id) for document_id in wanted]
    found = [document for document in named if document is not None and predicate(document)]
    return sorted(found, key=lambda document: document.seq)


def bind(tree: Filter, store: Store, collection: Collection) -> Predicate:
    """The predicate of a tree; ApiError 400 for unknown fields and values that do not fit them."""
    if isinstance(tree, And):
        parts = [bind(part, store, collection) for part in tree.parts]
        return lambda document: all(part(document) for part in parts)
    if isinstance(tree, Or):
        parts = [bind(part, store, collection) for part in tree.parts]
        return lambda document: any(part(document) for part in parts)
    if isinstance(tree, Join):
        return _bind_join(tree, store, collection)
    if tree.operator in NEGATIONS:
        positive = bind(Condition(tree.field, NEGATIONS[tree.operator], tree.values), store, collection)
        return lambda document: not positive(document)
    return _bind_condition(tree, collection)


def _bind_condition(condition: Condition, collection: Collection) -> Predicate:
    name = condition.field
    if name == "id":
        wanted = set(condition.values)
        if wanted == {"*"}:
            return lambda document: True
        return lambda document: document.id in wanted
    spec = collection.fields.get(name)
    if spec is None or spec.is_pattern:
        raise ApiError(400, f"Could not find a filter field named `{name}` in the schema.")
    if not spec.index:
        raise ApiError(400, f"Field `{name}` is marked as a non-indexed field in the schema.")
    tests = [_value_test(spec, condition.operator, text) for text in condition.values]
    if spec.is_array or "." in name:
        return lambda document: _any_value(dig(document.attributes, name), tests)
    if len(tests) == 1:
        test = tests[0]
        return lambda document: (value := document.attributes.get(name)) is not None and test(value)
    return lambda document: _any_value(document.attributes.get(name), tests)


def _any_value(value: Any, tests: list[ValueTest]) -> bool:
    values = value if isinstance(value, list) else [value]
    return any(test(element) for element in values if element is not None for test in tests)


def _value_test(spec: Field, sign: str, text: str) -> ValueTest:
    kind = spec.base_type
    if kind in ("string", "auto", "string*"):
        return _string_test(spec, sign, text)
    if kind == "bool":
        if text not in ("true", "false"):
            raise ApiError(400, f"Value of filter field `{spec.name}`: must be `true` or `false`.")
        wanted = text == "true"
        return lambda value: value is wanted
    if kind in ("int32", "int64", "float"):
        return _number_test(spec, sign, text)
    raise ApiError(400, f"Error with filter field `{spec.name}`: Unidentified field data type.")


def _string_test(spec: Field, sign: str, text: str) -> ValueTest:
    if sign in COMPARISONS:
        raise ApiError(400, f"Error with filter field `{spec.name}`: Not a valid string comparison.")
    is_prefix = text.endswith("*") and len(text) > 1
    if sign == "=":
        if is_prefix:
            return lambda value: isinstance(value, str) and value.startswith(text[:-1])
        return lambda value: value == text
    wanted = tokens(text)
    if is_prefix:
        return lambda value: _contains_tokens(tokens(str(value)), wanted, last_is_prefix=True)
    return lambda value: _contains_tokens(tokens(str(value)), wanted, last_is_prefix=False)


def _contains_tokens(present: list[str], wanted: list[str], *, last_is_prefix: bool) -> bool:
    if not wanted:
        return False
    *whole, last = wanted
    if any(token not in present for token in whole):
        return False
    return any(token.startswith(last) if last_is_prefix else token == last for token in present)


def _number_test(spec: Field, sign: str, text: str) -> ValueTest:
    low, dots, high = text.partition("..")
    if dots and sign in ("", "="):
        first, last = _number(spec, low), _number(spec, high)
        return lambda value: first <= value <= last
    number = _number(spec, text)
    if sign in COMPARISONS:
        compare = COMPARISONS[sign]
        return lambda value: compare(value, number)
    return lambda value: bool(value == number)


def _number(spec: Field, text: str) -> float:
    try:
        return float(text) if spec.base_type == "float" else int(text)
    except ValueError:
        kind = spec.base_type
        article = "an" if kind.startswith("int") else "a"
        raise ApiError(400, f"Error with filter field `{spec.name}`: Not {article} {kind}.") from None


def tokens(text: str) -> list[str]:
    """The words of a text, lower case."""
    return re.findall(r"\w+", text.lower())


def _bind_join(join: Join, store: Store, collection: Collection) -> Predicate:
    other = store.find(join.collection)
    if other is None:
        raise ApiError(400, f"Referenced collection `{join.collection}` in `filter_by` not found.")
    matches = bind(join.filter, store, other)
    outgoing = [spec.name for spec in collection.reference_fields if store.find(spec.reference_target()[0]) is other]
    if outgoing:
        targets = {document.seq for document in other.snapshot() if matches(document)}
        return lambda document: any(refers(document, name, targets) for name in outgoing)
    incoming = [spec.name for source, spec in referring_fields(store, collection) if source is other]
    if not incoming:
        raise ApiError(400, f"Failed to join on `{join.collection}`: No reference field found.")
    referenced: set[int] = set()
    for document in other.snapshot():
        if document.references and matches(document):
            for name in incoming:
                referenced.update(referenced_seqs(document, name))
    return lambda document: document.seq in referenced


def referenced_seqs(document: Document, field: str) -> list[int]:
    """The sequence numbers that a reference field holds."""
    target = (document.references or {}).get(field)
    if target is None:
        return []
    return [target] if isinstance(target, int) else target


def refers(document: Document, field: str, targets: set[int]) -> bool:
    """Whether a reference field holds one of `targets`."""
    return any(seq in targets for seq in referenced_seqs(document, field))


def _wanted_ids(tree: Filter) -> list[str] | None:
    """The ids that the matches must be among, where the filter names them."""
    if isinstance(tree, And):
        for part in tree.parts:
            wanted = _wanted_ids(part)
            if wanted is not None:
                return wanted
    is_ids = isinstance(tree, Condition) and tree.field == "id" and tree.operator in ("", "=")
    if isinstance(tree, Condition) and is_ids and tree.values != ("*",):
        return list(dict.fromkeys(tree.values))
    return None
