"""Do attributes fit a schema: types, required fields, coercion, nested fields."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

from kai.sandbox.errors import ApiError
from kai.sandbox.schema import Field, Schema, nested_field

Json = dict[str, Any]

DIRTY_VALUES = ("coerce_or_reject", "coerce_or_drop", "drop", "reject")
NUMBER_TYPES = {float, int}
INT32 = range(-(2**31), 2**31)
INT64 = range(-(2**63), 2**63)


def default_dirty_values(schema: Schema) -> str:
    """How values of the wrong type are treated where the request does not say."""
    is_dynamic = any(spec.is_pattern or spec.type == "auto" for spec in schema.fields.values())
    return "coerce_or_reject" if is_dynamic else "reject"


def check_attributes(attributes: Json, schema: Schema, dirty: str, *, partial: bool) -> Json:
    """`attributes` as they may be stored: coerced, nulls of optional fields and unstored fields removed.

    With `partial`, fields that are not there are not missed. ApiError 400 names the first misfit.
    """
    checked = dict(attributes)
    if not partial:
        for spec in _hash_order(schema):
            if not spec.optional and dig(attributes, spec.name) is None:
                raise missing_field(spec.name)
    for spec in schema.fields.values():
        if spec.is_pattern:
            continue
        if "." in spec.name:
            _check_nested(checked, spec, dirty)
            continue
        if spec.name not in checked:
            continue
        value = checked[spec.name]
        if value is None:
            if not spec.optional:
                raise missing_field(spec.name)
            del checked[spec.name]
            continue
        fitted = fit(value, spec, dirty)
        if fitted is None:
            del checked[spec.name]
        else:
            checked[spec.name] = fitted
    # An attribute outside the schema may be anything, but null is nowhere stored.
    kept = {name: value for name, value in checked.items() if value is not None}
    for spec in schema.fields.values():
        if not spec.store:
            kept.pop(spec.name, None)
    return kept


def missing_field(name: str) -> ApiError:
    """A required field is not there."""
    return ApiError(400, f"Field `{name}` has been declared in the schema, but is not found in the document.")


def fit(value: Any, spec: Field, dirty: str) -> Any:
    """`value` as a value of the field, coerced if `dirty` allows; None if it is to be dropped."""
    if spec.type in ("auto", "string*", "geopolygon", "image"):
        return value
    if not spec.is_array:
        return _fit_one(value, spec, dirty, f"Field `{spec.name}` must be {_article(spec.type)}.")
    if spec.type == "geopoint[]" and not isinstance(value, list):
        raise ApiError(400, f"Field `{spec.name}` must contain an array of geopoint.")
    if not isinstance(value, list):
        if dirty in {"coerce_or_drop", "drop"}:
            return None
        raise ApiError(400, f"Field `{spec.name}` must be an array.")
    if spec.num_dim and len(value) != spec.num_dim:
        # Real servers check the length of a vector even where dirty values are dropped.
        raise ApiError(400, f"Field `{spec.name}` must have {spec.num_dim} dimensions.")
    if spec.type == "float[]" and set(map(type, value)) <= NUMBER_TYPES:
        return value
    message = f"Field `{spec.name}` must be a array of {spec.base_type}."
    fitted = [_fit_one(element, spec, dirty, message) for element in value]
    kept = [element for element in fitted if element is not None]
    if spec.num_dim and len(kept) != spec.num_dim:
        raise ApiError(400, f"Field `{spec.name}` must have {spec.num_dim} dimensions.")
    return kept


def _article(kind: str) -> str:
    if kind == "geopoint":
        return "a 2 element array: [lat, lng]"
    return f"an {kind}" if kind[0] in "aeio" else f"a {kind}"


def _fit_one(value: Any, spec: Field, dirty: str, message: str) -> Any:
    if _is_of_type(value, spec.base_type):
        return value
    if dirty == "drop":
        return None
    coerced = _coerce(value, spec.base_type) if dirty.startswith("coerce") else None
    if coerced is None and dirty != "coerce_or_drop":
        raise ApiError(400, message)
    return coerced


def _is_of_type(value: Any, kind: str) -> bool:
    if kind == "string":
        return isinstance(value, str)
    if kind == "bool":
        return isinstance(value, bool)
    if kind == "object":
        return isinstance(value, dict)
    if kind == "geopoint":
        return isinstance(value, list) and len(value) == 2 and set(map(type, value)) <= NUMBER_TYPES
    if isinstance(value, bool):
        return False
    if kind == "float":
        return isinstance(value, int | float)
    return isinstance(value, int) and value in (INT32 if kind == "int32" else INT64)


def _coerce(value: Any, kind: str) -> Any:
    if kind == "string" and isinstance(value, bool | int | float):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if kind == "bool" and value in ("true", "false", 0, 1):
        return value in ("true", 1)
    if kind in ("int32", "int64", "float") and isinstance(value, str | int | float):
        try:
            number = float(value)
        except ValueError:
            return None
        if not math.isfinite(number):
            return None
        return number if kind == "float" else int(number)
    return None


def _check_nested(attributes: Json, spec: Field, dirty: str) -> None:
    value = dig(attributes, spec.name)
    if value is None:
        return
    values = value if spec.is_array and isinstance(value, list) else [value]
    if spec.base_type in ("object", "auto"):
        return
    for element in values:
        _fit_one(element, spec, dirty, f"Field `{spec.name}` must be {_article(spec.base_type)}.")


def dig(attributes: Json, path: str) -> Any:
    """The value at a dotted path; through an array, the list of the values found in it."""
    if path in attributes or "." not in path:
        return attributes.get(path)
    head, _, rest = path.partition(".")
    inner = attributes.get(head)
    if isinstance(inner, dict):
        return dig(inner, rest)
    if isinstance(inner, list):
        found = [dig(element, rest) for element in inner if isinstance(element, dict)]
        flat: list[Any] = []
        for value in found:
            flat += value if isinstance(value, list) else [] if value is None else [value]
        return flat or None
    return None


def _hash_order(schema: Schema) -> list[Field]:
    """The fields in the order in which a real server looks for missing ones.

    It walks a hash map, so the field it names is not the first of the schema. FNV-1a over 32 buckets gives
    the order that was recorded.
    """
    return sorted(schema.fields.values(), key=lambda spec: _fnv1a(spec.name) % 32)


@functools.cache
def _fnv1a(text: str) -> int:
    digest = 14695981039346656037
    for byte in text.encode():
        digest = ((digest ^ byte) * 1099511628211) % 2**64
    return digest


def discover_fields(attributes: Json, schema: Schema) -> list[Field]:
    """Fields that these attributes add to the schema: inside objects, and by patterns such as `.*`."""
    found: list[Field] = []
    if schema.enable_nested_fields:
        for name in sorted(attributes):
            spec = schema.fields.get(name)
            if spec is not None and spec.base_type == "object":
                found += _leaves(name, attributes[name], spec.is_array, schema)
    # The server's own order: the reverse of the one in which it walks the object.
    found.reverse()
    if any(spec.is_pattern for spec in schema.fields.values()):
        for name, value in attributes.items():
            kind = detect_type(value)
            if name != "id" and name not in schema.fields and kind is not None:
                found.append(nested_field(name, kind))
    return found


def _leaves(path: str, value: Any, in_array: bool, schema: Schema) -> Iterator[Field]:
    if isinstance(value, dict):
        for key in sorted(value):
            yield from _leaves(f"{path}.{key}", value[key], in_array, schema)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        seen: set[str] = set()
        for element in value:
            for spec in _leaves(path, element, True, schema):
                if spec.name not in seen:
                    seen.add(spec.name)
                    yield spec
    elif path not in schema.fields:
        kind = detect_type(value)
        if kind is not None:
            yield nested_field(path, f"{kind.removesuffix('[]')}[]" if in_array else kind)


def detect_type(value: Any) -> str | None:
    """The type that a value would be given; None where it has none (null, an empty array, an object)."""
    if isinstance(value, list):
        element = detect_type(value[0]) if value else None
        return f"{element}[]" if element is not None and not element.endswith("[]") else None
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int64"
    if isinstance(value, float):
        return "float"
    return "string" if isinstance(value, str) else None
