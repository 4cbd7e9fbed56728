"""Collection schemas: parsing, validation, defaults, and the JSON that GET shows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from kai.sandbox.errors import ApiError

Json = dict[str, Any]

SCALAR_TYPES = ("string", "int32", "int64", "float", "bool", "geopoint", "object")
TYPES = frozenset([*SCALAR_TYPES, *(f"{name}[]" for name in SCALAR_TYPES), "auto", "string*", "geopolygon", "image"])
SORTABLE_TYPES = frozenset(["int32", "int64", "float", "bool", "geopoint"])
BOOLEAN_PROPERTIES = ("facet", "index", "infix", "optional", "sort", "stem", "store", "range_index")
DEFAULT_HNSW = {"M": 16, "ef_construction": 200}
SET_KINDS = ("synonym_sets", "curation_sets")
"""Attributes of a collection from version 30 on: names of sets that the server holds."""
SECRET_KEYS = ("api_key", "access_token", "refresh_token", "client_id", "client_secret")


@dataclass(frozen=True)
class Field:
    """One field of a collection; the attributes are Typesense's own, `num_dim` 0 meaning "not a vector"."""

    name: str
    type: str
    facet: bool = False
    index: bool = True
    infix: bool = False
    locale: str = ""
    optional: bool = False
    sort: bool = False
    stem: bool = False
    stem_dictionary: str = ""
    store: bool = True
    range_index: bool = False
    num_dim: int = 0
    vec_dist: str = "cosine"
    hnsw_params: Json = field(default_factory=lambda: dict(DEFAULT_HNSW))
    reference: str = ""
    async_reference: bool = False
    embed: Json | None = None
    token_separators: tuple[str, ...] = ()
    symbols_to_index: tuple[str, ...] = ()

    @property
    def is_array(self) -> bool:
        """Whether values are arrays."""
        return self.type.endswith("[]")

    @property
    def base_type(self) -> str:
        """The type of one value, or of one element of an array."""
        return self.type.removesuffix("[]")

    @property
    def is_pattern(self) -> bool:
        """Whether the name is a pattern (`.*`) by which unknown attributes become fields."""
        return "*" in self.name

    def reference_target(self) -> tuple[str, str]:
        """(collection, field) that a reference points to."""
        collection, _, name = self.reference.partition(".")
        return collection, name

    def to_json(self, *, masked: bool = True) -> Json:
        """The field as GET /collections shows it; with `masked=False`, secrets in `embed` in the clear."""
        shown: Json = {
            name: getattr(self, name)
            for name in ("facet", "index", "infix", "locale", "name", "optional", "sort", "stem")
        }
        shown |= {"stem_dictionary": self.stem_dictionary, "store": self.store, "type": self.type}
        if self.num_dim:
            shown |= {"num_dim": self.num_dim, "vec_dist": self.vec_dist, "hnsw_params": self.hnsw_params}
        if self.reference:
            shown |= {"reference": self.reference, "async_reference": self.async_reference}
        if self.range_index:
            shown["range_index"] = True
        if self.embed is not None:
            shown["embed"] = mask_secrets(self.embed) if masked else self.embed
        for name in ("token_separators", "symbols_to_index"):
            if getattr(self, name):
                shown[name] = list(getattr(self, name))
        return shown

    def to_alter_json(self) -> Json:
        """The field as the answer to PATCH shows it, with the internal attributes that appear only there."""
        shown = self.to_json()
        defaults: Json = {"async_reference": False, "embed": None, "nested": False, "nested_array": 0}
        defaults |= {"range_index": False, "reference": "", "symbols_to_index": [], "token_separators": []}
        return defaults | shown


def mask_secrets(embed: Json) -> Json:
    """`embed` with the credentials of its `model_config` hidden but for their first five characters."""
    config = embed.get("model_config")
    if not isinstance(config, dict):
        return embed
    masked = {
        key: value[:5] + "*" * max(0, len(value) - 5) if key in SECRET_KEYS and isinstance(value, str) else value
        for key, value in config.items()
    }
    return embed | {"model_config": masked}


def parse_field(raw: object) -> Field:
    """One entry of `fields`, with defaults filled in; ApiError 400 for what a real server refuses."""
    if not isinstance(raw, dict) or not isinstance(raw.get("name"), str) or not raw["name"]:
        raise ApiError(
            400,
            "Wrong format for `fields`. It should be an array of objects containing `name`, `type`, "
            "`optional` and `facet` properties.",
        )
    name = raw["name"]
    kind = raw.get("type")
    if not isinstance(kind, str) or kind not in TYPES:
        raise ApiError(400, f"Field `{name}` has an invalid data type `{kind}`, see docs for supported data types.")
    for flag in BOOLEAN_PROPERTIES:
        if flag in raw and not isinstance(raw[flag], bool):
            raise ApiError(400, f"The `{flag}` property of the field `{name}` should be a boolean.")
    num_dim = raw.get("num_dim", 0)
    if not isinstance(num_dim, int) or isinstance(num_dim, bool) or num_dim < 0:
        raise ApiError(400, "Property `num_dim` must be a positive integer.")
    if num_dim and kind != "float[]":
        raise ApiError(400, "Property `num_dim` is only allowed on a float array field.")
    reference = raw.get("reference", "")
    if reference and (not isinstance(reference, str) or "." not in reference):
        raise ApiError(400, f"Invalid reference `{reference}`.")
    is_dynamic = kind in ("auto", "string*") or "*" in name
    return Field(
        name=name,
        type=kind,
        facet=raw.get("facet", False),
        index=raw.get("index", True),
        infix=raw.get("infix", False),
        locale=raw.get("locale", ""),
        optional=is_dynamic or raw.get("optional", False),
        sort=raw.get("sort", kind in SORTABLE_TYPES),
        stem=raw.get("stem", False),
        stem_dictionary=raw.get("stem_dictionary", ""),
        store=raw.get("store", True),
        range_index=raw.get("range_index", False),
        num_dim=num_dim,
        vec_dist=raw.get("vec_dist", "cosine"),
        hnsw_params=DEFAULT_HNSW | raw.get("hnsw_params", {}),
        reference=reference,
        async_reference=raw.get("async_reference", False),
        embed=raw.get("embed"),
        token_separators=tuple(raw.get("token_separators", ())),
        symbols_to_index=tuple(raw.get("symbols_to_index", ())),
    )


def nested_field(name: str, kind: str) -> Field:
    """A field found inside a stored object: optional, indexed, sortable where its type allows."""
    return Field(name=name, type=kind, optional=True, sort=kind in SORTABLE_TYPES)


@dataclass
class Schema:
    """What a collection is created with; `fields` keeps the order that GET shows.

    `sets` holds the names of sets by kind; it is empty up to version 29, which has none.
    """

    name: str
    fields: dict[str, Field]
    created_at: int
    default_sorting_field: str = ""
    enable_nested_fields: bool = False
    token_separators: list[str] = field(default_factory=list)
    symbols_to_index: list[str] = field(default_factory=list)
    metadata: Json | None = None
    sets: dict[str, list[str]] = field(default_factory=dict)

    def to_json(self, num_documents: int, *, masked: bool = True) -> Json:
        """The collection as GET shows it."""
        shown: Json = {
            "created_at": self.created_at,
            "default_sorting_field": self.default_sorting_field,
            "enable_nested_fields": self.enable_nested_fields,
            "fields": [spec.to_json(masked=masked) for spec in self.fields.values()],
            "name": self.name,
            "num_documents": num_documents,
            "symbols_to_index": self.symbols_to_index,
            "token_separators": self.token_separators,
            **self.sets,
        }
        if self.metadata is not None:
            shown["metadata"] = self.metadata
        return shown


def parse_schema(raw: Json, created_at: int, set_kinds: Iterable[str] = ()) -> Schema:
    """The body of POST /collections; `created_at` in Unix seconds. ApiError 400 for an invalid one.

    `set_kinds` are the kinds of sets that a collection may name: none up to version 29.
    """
    name = raw.get("name")
    if not isinstance(name, str) or not name:
        raise ApiError(400, "Parameter `name` is required.")
    if "fields" not in raw:
        raise ApiError(400, "Parameter `fields` is required.")
    if not isinstance(raw["fields"], list) or not raw["fields"]:
        raise ApiError(
            400,
            "The `fields` value should be an array of objects containing `name`, `type` and optionally, "
            "`facet` properties.",
        )
    parsed = [parse_field(entry) for entry in raw["fields"]]
    schema = Schema(
        name=name,
        # The id is every document's own and is never listed as a field.
        fields={spec.name: spec for spec in parsed if spec.name != "id"},
        created_at=created_at,
        default_sorting_field=raw.get("default_sorting_field", ""),
        enable_nested_fields=bool(raw.get("enable_nested_fields", False)),
        token_separators=list(raw.get("token_separators", [])),
        symbols_to_index=list(raw.get("symbols_to_index", [])),
        metadata=raw.get("metadata"),
        sets={kind: list(raw.get(kind) or []) for kind in set_kinds},
    )
    check_schema(schema)
    return schema


def check_schema(schema: Schema) -> None:
    """What only the whole schema can tell: nested types and the default sorting field."""
    if not schema.enable_nested_fields and any(spec.base_type == "object" for spec in schema.fields.values()):
        raise ApiError(
            400,
            "Type `object` or `object[]` can be used only when nested fields are enabled by setting"
            "` enable_nested_fields` to true.",
        )
    sorting = schema.default_sorting_field
    if not sorting:
        return
    if sorting not in schema.fields:
        raise ApiError(400, f"Default sorting field is defined as `{sorting}` but is not found in the schema.")
    if schema.fields[sorting].type not in ("int32", "int64", "float"):
        raise ApiError(400, f"Default sorting field `{sorting}` must be a single valued numerical field.")


def slot_names(fields: Iterable[Field]) -> tuple[str, ...]:
    """The top-level float arrays, sorted: their values are kept as raw JSON and not parsed."""
    return tuple(sorted(spec.name for spec in fields if spec.type == "float[]" and "." not in spec.name))
