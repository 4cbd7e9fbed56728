"""What the models of an evaluation find: in memory over a sample, or by the server over what a run has built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from kai.collections import EmbeddedCollection
from kai.typesense import Schema, Typesense, search_by_vector
from kai.vectors import Vector
from migration.assessment.evaluation.model import Model
from migration.assessment.evaluation.questions import Question
from migration.assessment.evaluation.ranking import nearest
from migration.assessment.evaluation.sample import Corpus, Fetched, drawn, fetch
from migration.assessment.evaluation.verdict import Rule
from migration.documents.fetch import PAGE_SIZE
from migration.embedding.provider import ProviderStopped
from migration.operations.models.evaluated_models import (
    Bench,
    refuse_another_of_the_name,
    refuse_other_vectors,
    stopped,
)
from migration.strategies.refusals import Refused

Found: TypeAlias = list[list[str]]
"""For each question the documents found, the nearest first."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is evaluated, over what.

    Attributes:
        collection: its field is that of the old vectors.
        schema: of the collection that they stand in.
        corpus: its documents.
        questions: with every document that answers them.
        made: whether they were made from the documents.
        rule: by which it is judged.
        seed: of everything drawn.
    """

    collection: EmbeddedCollection
    schema: Schema
    corpus: Corpus
    questions: Sequence[Question]
    made: bool
    rule: Rule
    seed: int

    @property
    def name(self) -> str:
        """Of the collection."""
        return str(self.schema["name"])

    @property
    def texts(self) -> list[str]:
        """Of the questions."""
        return [question.text for question in self.questions]


@dataclass(frozen=True, slots=True)
class Searched:
    """What each model has found: the old one first, and among how many documents."""

    models: Sequence[Model]
    found: Sequence[Found]
    documents: int
    notes: Sequence[str] = ()


def search_here(bench: Bench, asked: Asked, models: Sequence[Model], sample: int, *, anew: bool) -> Searched:
    """Search in memory, exactly, over the sample.

    Raises:
        Refused: a provider cannot go on, or the vectors that stand there are not the old model's.
    """
    # Not the order in which questions were made: of equally near documents the first is taken for the nearer one.
    ids = drawn(asked.corpus.shuffled(asked.seed + 1), asked.questions, sample)
    there = fetch(bench.server, asked.name, asked.collection, ids)
    ids, old = list(there), models[0]
    texts = [each.text for each in there.values()]
    place = f"in {asked.collection.embedding_field!r} of {asked.name!r}"
    found: list[Found] = []
    notes: list[str] = []
    for number, model in enumerate(models):
        try:
            with bench.console.progress(f"Embedding by {model.name}", len(texts)) as bar:
                if number or anew:
                    refuse_another_of_the_name(model, texts)
                    rows = model.vectors(texts, bar.update)
                else:
                    rows, computed = _standing(old, there, place)
                    bar.update(len(texts))
                    if computed:
                        notes.append(f"{computed} of {len(ids)} documents have no vector {place}; {old.name} gave it")
            asks = model.questions(asked.texts)
        except ProviderStopped as error:
            raise stopped(model, error) from error
        found.append(nearest(ids, rows, asks, asked.rule.k))
    if anew:
        notes.append(f"the old vectors were computed anew by {old.name}; those that stand {place} were not looked at")
    return Searched(models, found, len(ids), notes)


def _standing(model: Model, documents: Mapping[str, Fetched], place: str) -> tuple[Vector, int]:
    """The vectors that stand there, and of documents that have none those of the model; how many these are.

    Raises:
        Refused: they are not the model's.
    """
    length = model.embedding.dimensions
    usable = [each.vector is not None and len(each.vector) == length for each in documents.values()]
    remedy = (
        "name the model that they are from with --old FAMILY/MODEL@DIMENSIONS, or have its vectors computed anew with "
        "--anew"
    )
    refuse_other_vectors(model, documents.values(), place, remedy)
    rows = np.empty((len(documents), length), np.float32)
    lacking = [row for row, is_usable in enumerate(usable) if not is_usable]
    texts = [each.text for each in documents.values()]
    if lacking:
        rows[lacking] = model.vectors([texts[row] for row in lacking])
    for row, each in enumerate(documents.values()):
        if usable[row]:
            rows[row] = each.vector
    return rows, len(lacking)


def search_there(bench: Bench, asked: Asked, models: Sequence[Model], places: Sequence[tuple[str, str]]) -> Searched:
    """Let the server search, by the vectors of each place, over everything that it has.

    Raises:
        Refused: a provider cannot go on, or the server refuses a search.
    """
    found: list[Found] = []
    some = asked.corpus.shuffled(asked.seed + 1)[:PAGE_SIZE]
    remedies = (
        "name the model that they are from with --old FAMILY/MODEL@DIMENSIONS",
        "run the migration again, which finds that out",
    )
    for model, (name, field), remedy in zip(models, places, remedies, strict=True):
        there = fetch(bench.server, name, replace(asked.collection, embedding_field=field), some)
        try:
            refuse_other_vectors(model, there.values(), f"in {field!r} of {name!r}", remedy)
            rows = model.questions(asked.texts)
        except ProviderStopped as error:
            raise stopped(model, error) from error
        found.append(_server_finds(bench.server, name, field, asked.collection.filter_by, rows, asked.rule.k))
    return Searched(models, found, len(asked.corpus.hashes))


def _server_finds(server: Typesense, name: str, field: str, filter_by: str, rows: Vector, k: int) -> Found:
    asking = [row for row, vector in enumerate(rows) if not np.isnan(vector).any()]
    narrowed = {"filter_by": filter_by} if filter_by else {}
    answers = server.multi_search(
        [search_by_vector(name, field, "", rows[row].tobytes(), most=k) | narrowed for row in asking]
    )
    found: Found = [[] for _ in rows]
    for row, answer in zip(asking, answers, strict=True):
        if "hits" not in answer:
            raise Refused(f"Typesense refuses the search in {field!r} of {name!r}: {answer.get('error', 'no hits')}")
        found[row] = [str(hit["document"]["id"]) for hit in answer["hits"]]
    return found
