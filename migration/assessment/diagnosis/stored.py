"""What stands in a collection's documents, as it can be seen without embedding anything: one reading of all of them.

Of a document nothing is kept but four numbers of 8 bytes, and the ids of those that something is wrong with: 3 MB at
20,000 documents. It takes a tenth of a millisecond of CPU each, at 768 dimensions.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from kai.collections import EmbeddedCollection
from kai.models import Model, estimate_tokens, surely_over_token_limit
from kai.typesense import Schema, Typesense, embedding_field
from kai.vectors import Vector
from migration.assessment.diagnosis.findings import Finding, Named
from migration.assessment.diagnosis.schema import is_unit
from migration.documents.fetch import Document, Page, Selection, fetch_pages
from migration.embedding.embed import text_hash
from migration.ledger import DocumentRecord, Ledger

_WORD: Final = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Place:
    """The embedding field of a collection, and how its documents are read.

    Attributes:
        server: where it is.
        collection: text template, filter, and the field that serves.
        schema: as the server gave it.
    """

    server: Typesense
    collection: EmbeddedCollection
    schema: Schema

    @property
    def name(self) -> str:
        """The real collection's name."""
        return str(self.schema["name"])

    @property
    def where(self) -> str:
        """For a finding."""
        return f"{self.name}.{self.collection.embedding_field}"

    @property
    def migrate(self) -> str:
        """The command that gives each document the vector that it should have."""
        return f"`kai-migrate run --collections {self.collection.name}` writes the right ones"

    def read(self, *, with_vectors: bool = True) -> Iterator[Page]:
        """The eligible documents, their texts and vectors, a page at a time."""
        selection = Selection(
            self.collection.embedding_field,
            self.collection.filter_by,
            self.collection.text_fields,
            with_vector=with_vectors,
        )
        return fetch_pages(self.server, self.name, selection)


@dataclass(slots=True)
class Stored:
    """What a reading of all documents has shown.

    Attributes:
        documents: eligible ones that were read.
        texts, keys, vectors, tokens: of each document with a text and a vector that can be compared: hash of the text,
            of its words in any order, of the vector, and the text's estimated tokens.
        by_model: documents by the model whose vector they carry, by the ledger.
        of_model: the same documents, by the id of that model.
        stale: ids of documents whose text was changed since their vector was made, by the ledger.
        unseen: fields of the template that no document has.
    """

    documents: int = 0
    texts: array[int] = field(default_factory=lambda: array("Q"))
    keys: array[int] = field(default_factory=lambda: array("Q"))
    vectors: array[int] = field(default_factory=lambda: array("Q"))
    tokens: array[int] = field(default_factory=lambda: array("Q"))
    by_model: Counter[str] = field(default_factory=Counter)
    of_model: dict[str, Named] = field(default_factory=dict)
    stale: Named = field(default_factory=Named)
    unseen: set[str] = field(default_factory=set)
    lengths: dict[int, Named] = field(default_factory=dict)
    no_text: Named = field(default_factory=Named)
    too_long: Named = field(default_factory=Named)
    none: Named = field(default_factory=Named)
    not_numbers: Named = field(default_factory=Named)
    not_finite: Named = field(default_factory=Named)
    zero: Named = field(default_factory=Named)
    not_unit: Named = field(default_factory=Named)

    @property
    def compared(self) -> int:
        """Documents with a text and a vector that is one."""
        return len(self.vectors)

    def shared(self) -> set[int]:
        """Hashes of vectors that stand in documents with different words."""
        if not self.vectors:
            return set()
        pairs = np.unique(np.column_stack([_numbers(self.vectors), _numbers(self.keys)]), axis=0)
        vectors, counts = np.unique(pairs[:, 0], return_counts=True)
        return set(vectors[counts > 1].tolist())

    def distinct_texts(self) -> tuple[np.ndarray, np.ndarray]:
        """Hashes of the distinct texts in ascending order, and the estimated tokens of each."""
        texts, first = np.unique(_numbers(self.texts), return_index=True)
        return texts, _numbers(self.tokens)[first]


def read_stored(
    place: Place,
    ledger: Ledger | None,
    model: Model | None,
    advance: Callable[[int], object] = lambda _: None,
) -> Stored:
    """Read every eligible document once.

    Args:
        place: what to read.
        ledger: to ask whose vectors they are; None for nobody.
        model: the configured one, for how long a text may be; None where it is not known.
        advance: told the number of documents of each page.

    Raises:
        TypesenseError: the server cannot be read.
        LedgerError: the ledger cannot be read.
    """
    stored = Stored(unseen=set(place.collection.text_fields))
    limit = model.token_limit if model else None
    is_ip = (embedding_field(place.schema, place.collection.embedding_field) or {}).get("vec_dist") == "ip"
    for page in place.read():
        records: dict[str, DocumentRecord] = {}
        if ledger is not None:
            ids = [document.id for document in page]
            records = ledger.documents(place.server.address, place.name, ids, field=place.collection.embedding_field)
        for document in page:
            stored.documents += 1
            stored.unseen -= {name for name in stored.unseen if place.collection.has(document.fields, name)}
            text = place.collection.text_of(document.fields)
            if not text:
                stored.no_text.add(document.id)
            elif limit is not None and surely_over_token_limit(text, limit):
                stored.too_long.add(document.id)
            vector = _take_vector(stored, document, is_text=bool(text), is_ip=is_ip)
            if vector is None:
                continue
            if (record := records.get(document.id)) is not None and record.has_vector(vector):
                _take_record(stored, record, text)
            if text:
                stored.texts.append(number_of(text_hash(text)))
                stored.keys.append(number_of(_key_of(text)))
                stored.vectors.append(vector_number(vector))
                stored.tokens.append(estimate_tokens(text))
        advance(len(page))
    return stored


def sound_vector(document: Document) -> Vector | None:
    """The document's vector, if it is one that a model may have made: of finite numbers, not all of them zero."""
    stored = document.vector_bytes()
    vector = None if stored is None else np.frombuffer(stored, np.float32)
    return vector if vector is not None and np.isfinite(vector).all() and vector.any() else None


def number_of(digest: bytes) -> int:
    """The first 8 bytes of a hash as a number."""
    return int.from_bytes(digest[:8], "big")


def vector_number(vector: bytes) -> int:
    """The hash of a vector's float32 bytes, as a number."""
    return number_of(hashlib.blake2b(vector, digest_size=8).digest())


def findings_of(stored: Stored, place: Place) -> Iterator[Finding]:
    """What is wrong with them, but for what only a comparison with embedded texts can tell."""
    where, mend = place.where, place.migrate
    never = "which no search by meaning finds"
    yield from stored.none.found("error", "no_vector", f"with a text and no vector, {never}", where, mend)
    yield from stored.zero.found("error", "zero_vector", f"with a vector of zeros, {never}", where, mend)
    yield from stored.not_finite.found("error", "not_finite", "with a number that is not finite", where, mend)
    yield from stored.not_numbers.found("error", "not_numbers", "with a vector that is no list of numbers", where, mend)
    if len(stored.lengths) > 1:
        usual = max(stored.lengths, key=lambda length: stored.lengths[length].count)
        for length, named in sorted(stored.lengths.items()):
            if length != usual:
                what = f"with a vector of length {length}, where {stored.lengths[usual].count:,} have {usual}"
                yield from named.found("error", "mixed_lengths", what, where, mend)
    yield from stored.not_unit.found(
        "warning",
        "not_normalised",
        "with a vector that is not normalised, where vec_dist is ip, which ranks by length too",
        where,
        "set vec_dist to cosine, or normalise the vectors",
    )
    if stored.documents and stored.unseen:
        parts = ", ".join(f"{{{name}}}" for name in place.collection.text_fields if name in stored.unseen)
        what = f"no document has {parts} of the template {place.collection.template!r}: that part of each text is empty"
        yield Finding("warning", "template", what, where, "correct the template in the collections file")
    yield from stored.no_text.found(
        "warning",
        "no_text",
        f"without a text by the template {place.collection.template!r}, which a migration leaves out as failed",
        where,
        "correct the template, or give filter_by so that they are not eligible",
    )
    yield from stored.too_long.found(
        "warning",
        "text_too_long",
        "with a text that is certainly over the model's limit, which the provider refuses or cuts off",
        where,
        "shorten them, or take a model that takes more",
    )


def findings_by_ledger(stored: Stored, place: Place, ledger: Ledger) -> Iterator[Finding]:
    """What the ledger knows of whose vectors they are: a hint where all of them were embedded again, else the proof."""
    where, mend = place.where, place.migrate
    if len(stored.by_model) > 1:
        usual, count = stored.by_model.most_common(1)[0]
        for model_id, named in stored.of_model.items():
            if model_id != usual:
                theirs, ours = (_name_of(ledger, each) for each in (model_id, usual))
                what = f"with vectors of {theirs} by the ledger, where {count:,} carry those of {ours}"
                yield from named.found("error", "mixed_models", what, where, mend)
    what = "with the vector of another wording by the ledger: the text was changed since"
    yield from stored.stale.found("warning", "changed_text", what, where, mend)


def _take_vector(stored: Stored, document: Document, *, is_text: bool, is_ip: bool) -> bytes | None:
    """Note what can be seen of the vector alone; it, if it is one."""
    if document.numbers is None:
        if is_text:
            stored.none.add(document.id)
        return None
    content = document.vector_bytes()
    if content is None:
        stored.not_numbers.add(document.id)
        return None
    vector = np.frombuffer(content, np.float32)
    stored.lengths.setdefault(len(vector), Named()).add(document.id)
    if not np.isfinite(vector).all():
        stored.not_finite.add(document.id)
    elif not vector.any():
        stored.zero.add(document.id)
    else:
        if is_ip and not is_unit(float(np.linalg.norm(vector))):
            stored.not_unit.add(document.id)
        return content
    return None


def _take_record(stored: Stored, record: DocumentRecord, text: str) -> None:
    if record.model_id is not None:
        stored.by_model[record.model_id] += 1
        stored.of_model.setdefault(record.model_id, Named()).add(record.document_id)
    if text and record.text_hash != text_hash(text):
        stored.stale.add(record.document_id)


def _key_of(text: str) -> bytes:
    """A hash of what every model tells apart: many know neither case nor punctuation, some no order of words."""
    return text_hash(" ".join(sorted(_WORD.findall(text.casefold()))))


def _name_of(ledger: Ledger, model_id: str) -> str:
    model = ledger.find_model(model_id)
    return model.name if model else "a model that the ledger does not know"


def _numbers(values: array[int]) -> np.ndarray:
    return np.frombuffer(values, np.uint64) if values else np.zeros(0, np.uint64)
