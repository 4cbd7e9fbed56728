"""Which fields of a collection hold the text that its vectors are of: a guess, by names and by a sample of documents.

Nobody but the application knows what it embeds. So each field comes with what speaks for it, and the guess is there to
be looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kai.typesense import Schema

_WORD: Final = re.compile(r"[^\W\d_]{2}")
"""What makes a part of a value between blanks a word, and not a number, a date or a code."""
_PARTS: Final = re.compile(r"[^\W\d_]+")
_CAMEL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
_OF_ANY_VECTOR: Final = frozenset({"embedding", "embeddings", "embed", "vector", "vectors", "vec", "emb", "v"})
# fmt: off
_OF_TEXTS: Final = frozenset({
    "text", "content", "body", "description", "summary", "title", "name", "prompt", "question", "answer",
    "message", "comment", "abstract", "caption", "review", "headline", "subject", "passage", "chunk",
    "paragraph", "article", "note", "notes", "transcript",
})
# fmt: on
_UNWRITABLE: Final = frozenset("{}[]:!")
"""Characters that mean something else in a template."""
_DEEPEST: Final = 3
_CATEGORY: Final = 20
"""Values from which on their variety says something: where it is small they are the names of categories."""


@dataclass(frozen=True, slots=True)
class TextField:
    """A field that may hold the text.

    Attributes:
        name: as a template names it.
        filled: sampled documents that have text in it.
        sampled: documents that were looked at.
        words: of a text, on average.
        shares_name: whether its name and that of the embedding field have a word in common.
        is_category: whether few values stand in many documents, or it is there to be counted by.
    """

    name: str
    filled: int
    sampled: int
    words: float
    shares_name: bool
    is_category: bool

    @property
    def score(self) -> float:
        """The higher, the likelier; a name in common counts most, then a usual name, then how much text there is."""
        usual = bool(_words_of(self.name) & _OF_TEXTS)
        share = self.filled / self.sampled if self.sampled else 0.0
        return 4 * self.shares_name + 2 * usual - 3 * self.is_category + share + min(self.words, 40.0) / 40

    @property
    def reason(self) -> str:
        """What speaks for it."""
        reasons = []
        if self.shares_name:
            reasons.append("its name fits the embedding field's")
        elif _words_of(self.name) & _OF_TEXTS:
            reasons.append("it has a usual name")
        if self.sampled:
            reasons.append(
                f"text in {self.filled} of {self.sampled} sampled documents, {self.words:.0f} words on average"
            )
        return "; ".join(reasons)


def text_fields(schema: Schema, embedding_field: str, sample: Sequence[Mapping[str, Any]]) -> list[TextField]:
    """The fields that may hold the text, the likeliest first; by their names alone where there is no sample.

    Args:
        schema: the collection's.
        embedding_field: whose text is looked for.
        sample: documents of the collection. Texts may be in attributes that the schema does not know.
    """
    known = {str(field["name"]): field for field in schema["fields"]}
    values: dict[str, list[str]] = {}
    for document in sample:
        for name, value in _texts(document):
            values.setdefault(name, []).append(value)
    if not sample:
        values = {name: [] for name, field in known.items() if field["type"] in ("string", "string[]")}
    wanted = _words_of(embedding_field) - _OF_ANY_VECTOR
    fields = [
        _look_at(name, texts, len(sample), known.get(name, {}), shares_name=bool(_words_of(name) & wanted))
        for name, texts in values.items()
        if name != "id" and not _UNWRITABLE & set(name) and "*" not in name and not known.get(name, {}).get("reference")
    ]
    return sorted(filter(_may_be_text, fields), key=lambda field: (-field.score, field.name))


def _look_at(
    name: str, texts: Sequence[str], sampled: int, field: Mapping[str, Any], *, shares_name: bool
) -> TextField:
    words = [sum(_WORD.search(part) is not None for part in text.split()) for text in texts]
    repeats = len(texts) >= _CATEGORY and len(set(texts)) * 10 <= len(texts)
    return TextField(
        name,
        filled=len(texts),
        sampled=sampled,
        words=sum(words) / len(words) if words else 0.0,
        shares_name=shares_name,
        is_category=bool(field.get("facet")) or repeats,
    )


def _may_be_text(field: TextField) -> bool:
    named = field.shares_name or bool(_words_of(field.name) & _OF_TEXTS)
    return field.words >= 2 or (named and (field.words >= 1 or not field.sampled))


def _texts(value: Mapping[str, Any], within: str = "", depth: int = 1) -> Iterator[tuple[str, str]]:
    """The texts of a document by the names that a template has for them: `a`, and `a.b` inside an object."""
    for name, each in value.items():
        path = f"{within}{name}"
        if isinstance(each, str) and each.strip():
            yield path, each
        elif isinstance(each, list) and each and all(isinstance(part, str) for part in each):
            yield path, ", ".join(each)
        elif isinstance(each, Mapping) and depth < _DEEPEST:
            yield from _texts(each, f"{path}.", depth + 1)


def _words_of(name: str) -> set[str]:
    """`promptText_v2` as prompt, text and v."""
    return {part.lower() for part in _PARTS.findall(_CAMEL.sub("_", name))}
