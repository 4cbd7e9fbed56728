"""Which collections have embeddings, and from which text: KAI's own, and any that the user names.

A template such as `{condition}, {rules}` says how a document becomes the text that the application embeds.
The vector stored must equal the application's own `embed_query(text)`, so the template is part of the
fingerprint of a vector space.
"""

from __future__ import annotations

import string
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final


class CollectionsError(Exception):
    """The description of the user's own collections cannot be used; the message names file and remedy."""


@dataclass(frozen=True, slots=True)
class EmbeddedCollection:
    """A collection with an embedding field, and the text that the field is computed from.

    Attributes:
        name: the collection's name, or an alias of it.
        embedding_field: the float[] field that holds the vector.
        template: text with `{field}` for each part; `{a.b}` reaches into an object.
        filter_by: Typesense filter of the documents that the application embeds; empty for all.
        skipped: why the migration leaves the collection alone; empty where it does not.
        next_field: the field that a migration fills beside this one; empty for none. `{field}` in it is this one.
        on_request: whether only its own name stands for it, and `all` does not: not every application has it.
    """

    name: str
    embedding_field: str
    template: str
    filter_by: str = ""
    skipped: str = ""
    next_field: str = ""
    on_request: bool = False

    @property
    def text_fields(self) -> tuple[str, ...]:
        """The document's fields that the template names, each once, in its order."""
        return tuple(dict.fromkeys(field for _, field in _parts_of(self.template) if field))

    @staticmethod
    def has(document: Mapping[str, Any], field: str) -> bool:
        """Whether the document has a value, be it an empty one, in a field that a template may name."""
        return _reach(document, field) is not None

    def text_of(self, document: Mapping[str, Any]) -> str:
        """The text that the application embeds for this document; empty if it has none of the parts."""
        parts = [
            (before, _as_text(_reach(document, field)) if field else "") for before, field in _parts_of(self.template)
        ]
        if not any(part.strip() for _, part in parts):
            return ""
        return "".join([before + part for before, part in parts])


KAI_COLLECTIONS: Final = (
    EmbeddedCollection("context_stores", "prompt_embedding", "{prompt_text}"),
    EmbeddedCollection("instructions", "instruction_embedding", "{condition}, {rules}", filter_by="is_default:=false"),
    EmbeddedCollection(
        "table_descriptions",
        "table_embedding",
        "{table_description}",
        skipped="the application computes these embeddings when it needs them",
    ),
    EmbeddedCollection("skills", "skill_embedding", "{name}: {description}", on_request=True),
    EmbeddedCollection("kai_memories", "memory_embedding", "{content_text}", on_request=True),
)
"""What KAI embeds. Default instructions never get an embedding; the application lists them unconditionally.

The last two came later, and not every KAI has them. Their templates are taken from KAI's schemas, not from its code, so
that whoever migrates them is told to compare. Skills that are not active are embedded like the others: one that
is switched on again keeps the vector that it has.
"""


def load_collections(file: Path | None = None) -> dict[str, EmbeddedCollection]:
    """The known collections by name: KAI's, or those of a TOML file in their place.

    The file has one table per collection::

        [articles]
        embedding_field = "vector"
        template = "{title}: {body}"
        filter_by = "published:=true"     # optional
        next_field = "{field}_v2"         # optional: fill this field instead, beside the one that serves

    Raises:
        CollectionsError: the file cannot be read or says something that cannot be.
    """
    if file is None:
        return {collection.name: collection for collection in KAI_COLLECTIONS}
    try:
        tables = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CollectionsError(f"--collections-file {file}: {error}") from error
    if not tables:
        raise CollectionsError(f"--collections-file {file}: it names no collection; add a table such as [articles]")
    return {name: _from_table(file, name, table) for name, table in tables.items()}


def described_as(
    known: Mapping[str, EmbeddedCollection], name: str, aliases: Mapping[str, str]
) -> EmbeddedCollection | None:
    """The description of a collection by its real name, where it may be described by an alias."""
    by_alias = (known[alias] for alias, target in aliases.items() if target == name and alias in known)
    return known.get(name) or next(by_alias, None)


def select_collections(
    known: Mapping[str, EmbeddedCollection], names: Iterable[str]
) -> tuple[list[EmbeddedCollection], list[str]]:
    """The collections that names stand for, each once and in the order asked, and the names unknown.

    No name, or `all`, stands for every collection that the migration does not skip, but for those on request.
    """
    wanted: dict[str, EmbeddedCollection] = {}
    unknown: list[str] = []
    asked = [name.strip() for given in names for name in given.split(",") if name.strip()] or ["all"]
    for name in asked:
        if name == "all":
            usual = (item for item in known.values() if not item.skipped and not item.on_request)
            wanted.update((item.name, item) for item in usual)
        elif name in known:
            wanted[name] = known[name]
        elif name not in unknown:
            unknown.append(name)
    return list(wanted.values()), unknown


def _from_table(file: Path, name: str, table: Any) -> EmbeddedCollection:
    where = f"--collections-file {file}: [{name}]"
    if not isinstance(table, dict):
        raise CollectionsError(f"{where} must be a table with embedding_field and template")
    unknown = sorted(set(table) - {"embedding_field", "template", "filter_by", "next_field"})
    if unknown:
        raise CollectionsError(
            f"{where} has an unknown setting {unknown[0]!r}; known: embedding_field, template, filter_by, next_field"
        )
    for key in ("embedding_field", "template"):
        if not isinstance(table.get(key), str) or not table[key].strip():
            raise CollectionsError(f"{where} needs {key}, a text that is not empty")
    for key, what in (("filter_by", "a Typesense filter"), ("next_field", "the name of a field")):
        if not isinstance(table.get(key, ""), str):
            raise CollectionsError(f"{where} {key} must be a text, {what}")
    collection = EmbeddedCollection(
        name,
        table["embedding_field"],
        table["template"],
        table.get("filter_by", ""),
        next_field=table.get("next_field", ""),
    )
    try:
        fields = collection.text_fields
        plain = all(
            not (spec or conversion) for _, _, spec, conversion in string.Formatter().parse(collection.template)
        )
    except ValueError as error:
        raise CollectionsError(f"{where} template {collection.template!r}: {error}") from error
    if not fields or not plain:
        raise CollectionsError(f"{where} template must name fields in braces, such as {{title}}")
    return collection


@cache
def _parts_of(template: str) -> tuple[tuple[str, str | None], ...]:
    """Each field that the template names, None at its end, after the text before it: parsed once, not per document."""
    return tuple((before, field) for before, field, _, _ in string.Formatter().parse(template))


def _reach(document: Mapping[str, Any], path: str) -> Any:
    if path in document:
        return document[path]
    value: Any = document
    for part in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ", ".join(part for part in map(_as_text, value) if part)
    return str(value)
