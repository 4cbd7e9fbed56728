"""Keyword matching and highlights, just good enough for a demonstration."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kai.sandbox.document import Document
from kai.sandbox.documents import dig
from kai.sandbox.matching import tokens

Json = dict[str, Any]

WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class TextMatch:
    """How well a document matches the words of a query."""

    tokens_matched: int
    fields_matched: int
    tokens_dropped: int

    @property
    def score(self) -> int:
        """Greater is better; not the figure that a real server computes."""
        return self.tokens_matched * 1000 + self.fields_matched

    def info(self) -> Json:
        """`text_match_info` of a hit."""
        return {
            "best_field_score": str(self.score),
            "best_field_weight": 15 if self.tokens_matched else 0,
            "fields_matched": self.fields_matched,
            "num_tokens_dropped": self.tokens_dropped,
            "score": str(self.score),
            "tokens_matched": self.tokens_matched,
            "typo_prefix_score": 0 if self.tokens_matched else 255,
        }


class TextQuery:
    """The words of `q`, or a synonym of them, to be found in the fields of `query_by`."""

    def __init__(self, text: str, fields: list[str], synonyms: Iterable[Json] = ()) -> None:
        """`synonyms` are items of a synonym set: `synonyms` stand for each other, or one way for `root`."""
        self.fields = fields
        self.words = tokens(text)
        self.others = [other for item in synonyms for other in _with_synonym(self.words, item)]
        self.marked = {*self.words, *(word for other in self.others for word in other)}

    def no_match(self) -> TextMatch:
        """What a hit found only by its vector is given."""
        return TextMatch(0, 0, len(self.words))

    def search(self, documents: list[Document]) -> dict[int, TextMatch]:
        """Sequence number -> match, for the documents that hold every word, by itself or by a synonym.

        If none does, words are dropped from the right until one is found.
        """
        for kept in range(len(self.words), 0, -1):
            found: dict[int, TextMatch] = {}
            wanted = [self.words[:kept], *(self.others if kept == len(self.words) else ())]
            for document in documents:
                match = next(filter(None, (self._match(document, words) for words in wanted)), None)
                if match is not None:
                    found[document.seq] = match
            if found:
                return found
        return {}

    def _match(self, document: Document, words: list[str]) -> TextMatch | None:
        matched: set[str] = set()
        fields_matched = 0
        for field in self.fields:
            present = {token for text in _texts(document, field) for token in tokens(text)}
            here = {word for word in words if self._finds(word, present)}
            matched |= here
            fields_matched += bool(here)
        if len(matched) < len(set(words)):
            return None
        return TextMatch(len(words), fields_matched, max(0, len(self.words) - len(words)))

    def _finds(self, word: str, present: set[str]) -> bool:
        if word in present:
            return True
        is_last = word == self.words[-1]
        return is_last and any(token.startswith(word) for token in present)

    def highlights(self, document: Document) -> tuple[Json, list[Json]]:
        """`highlight` and `highlights` of a hit: every word of the query that occurs, marked."""
        by_field: Json = {}
        listed: list[Json] = []
        for field in self.fields:
            for text in _texts(document, field):
                found = [word for word in WORD.findall(text) if self._is_marked(word.lower())]
                if not found:
                    continue
                marked = WORD.sub(self._mark, text)
                entry = {"matched_tokens": list(dict.fromkeys(found)), "snippet": marked}
                by_field[field] = entry
                listed.append({"field": field, **entry})
                break
        return by_field, listed

    def _mark(self, found: re.Match[str]) -> str:
        word = found.group()
        return f"<mark>{word}</mark>" if self._is_marked(word.lower()) else word

    def _is_marked(self, word: str) -> bool:
        return word in self.marked


def _with_synonym(words: list[str], item: Json) -> list[list[str]]:
    """The words with what the item stands for put in the place of what it is asked by; nothing if it is not."""
    meant = [tokens(text) for text in item["synonyms"]]
    asked = [tokens(item["root"])] if item.get("root") else meant
    for phrase in asked:
        for start in range(len(words) - len(phrase) + 1):
            if phrase and words[start : start + len(phrase)] == phrase:
                rest = words[start + len(phrase) :]
                return [[*words[:start], *other, *rest] for other in meant if other != phrase]
    return []


def _texts(document: Document, field: str) -> list[str]:
    value = dig(document.attributes, field)
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str)]
