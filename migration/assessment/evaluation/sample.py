"""Among which documents an answer is looked for: those that answer, and others by chance to be told apart from them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from kai.collections import EmbeddedCollection
from kai.models import estimate_tokens
from kai.typesense import Typesense
from kai.vectors import Vector
from migration.assessment.evaluation.questions import Question
from migration.documents.fetch import PAGE_SIZE, Document, Selection, fetch_again, fetch_pages
from migration.embedding.embed import text_hash


@dataclass(slots=True)
class Corpus:
    """The documents of a collection that have a text, without the texts: some 200 bytes each.

    Attributes:
        hashes: of the text, by document id.
        tokens: estimated tokens of the distinct texts, which is what embedding all of them takes.
    """

    hashes: dict[str, bytes] = field(default_factory=dict)
    tokens: int = 0

    def shuffled(self, seed: int) -> list[str]:
        """Every id, in an order by chance that is the same for the same documents and seed."""
        ids = sorted(self.hashes)
        return [ids[place] for place in np.random.default_rng(seed).permutation(len(ids))]

    def with_equal_texts(self, questions: Sequence[Question]) -> list[Question]:
        """The questions with every document that has the text of one that answers: nothing could tell them apart."""
        answering = {self.hashes[id_] for question in questions for id_ in question.relevant}
        equal: defaultdict[bytes, list[str]] = defaultdict(list)
        for id_, digest in self.hashes.items():
            if digest in answering:
                equal[digest].append(id_)
        return [
            replace(question, relevant=frozenset(one for id_ in question.relevant for one in equal[self.hashes[id_]]))
            for question in questions
        ]


def read_corpus(
    server: Typesense, name: str, collection: EmbeddedCollection, advance: Callable[[int], object]
) -> Corpus:
    """Read every document that is embedded, without its vector; `advance` is told how many there were in a page.

    Raises:
        TypesenseError: they cannot be read.
    """
    selection = Selection(collection.embedding_field, collection.filter_by, collection.text_fields, with_vector=False)
    corpus, seen = Corpus(), set[bytes]()
    for page in fetch_pages(server, name, selection):
        for document in page:
            if text := collection.text_of(document.fields):
                digest = text_hash(text)[:12]
                if digest not in seen:
                    seen.add(digest)
                    corpus.tokens += estimate_tokens(text)
                corpus.hashes[document.id] = digest
        advance(len(page))
    return corpus


def drawn(order: Sequence[str], questions: Sequence[Question], size: int) -> list[str]:
    """The documents to search in: every one that answers a question, and the first others, in the given order.

    Args:
        order: every id, by chance.
        questions: whose documents are always among them, be they more than `size`.
        size: how many documents.
    """
    answering = {id_ for question in questions for id_ in question.relevant}
    others = max(0, size - len(answering))
    chosen: list[str] = []
    for id_ in order:
        if id_ in answering:
            chosen.append(id_)
        elif others:
            others -= 1
            chosen.append(id_)
    return chosen


@dataclass(frozen=True, slots=True)
class Fetched:
    """A document of the sample: its text, and the vector that stands there; None where there is none."""

    text: str
    vector: Vector | None


def fetch(
    server: Typesense, name: str, collection: EmbeddedCollection, ids: Sequence[str], *, with_vector: bool = True
) -> dict[str, Fetched]:
    """Texts and vectors of these documents, in their order; one that is gone, or has no text any more, is left out."""
    selection = Selection(
        collection.embedding_field, collection.filter_by, collection.text_fields, with_vector=with_vector
    )
    found: dict[str, Fetched] = {}
    for start in range(0, len(ids), PAGE_SIZE):
        some = ids[start : start + PAGE_SIZE]
        page = fetch_again(server, name, selection, [Document(id_, {}, None) for id_ in some])
        by_id = {document.id: document for document in page}
        for document in (by_id[id_] for id_ in some if id_ in by_id):
            if text := collection.text_of(document.fields):
                stored = document.vector_bytes()
                found[document.id] = Fetched(text, np.frombuffer(stored, np.float32) if stored else None)
    return found
