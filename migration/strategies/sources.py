"""Where the vectors come from that a collection is to have: a model that embeds its texts, or a backup of the old ones.

A migration and the way back differ in nothing else. Every strategy asks a source what each document of a page
should carry, compares that with what stands there, and tells the ledger what it has written.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias

import numpy as np

from kai.collections import EmbeddedCollection
from kai.models import EmbeddingSettings, fingerprint
from kai.vectors import AnyVector
from migration.backup.lookup import OldVectors
from migration.documents.fetch import Document, Page, eligible_of
from migration.embedding.cache import CacheError, VectorCache
from migration.embedding.embed import CacheUse, Embedder, TextFailure, text_hash
from migration.ledger import DocumentRecord, ModelRecord, vector_hash
from migration.runtime.console import named
from migration.strategies.context import Failure, RunContext
from migration.strategies.plan import CollectionPlan

TENANT_FIELD: Final = "db_connection_id"
NO_TEXT: Final = "the document has no text to embed"
UNDESCRIBED: Final = "{id}"
"""The template of a collection of which nobody says what is embedded."""
_EXACT: Final = 1e-6
"""Relative difference up to which a vector found in the first pass counts as the target's own."""
_SAME_MODEL: Final = 0.02
"""The same for one that appeared while the run was under way: providers are not exact (cosine 0.9998)."""

Known: TypeAlias = Mapping[str, DocumentRecord]
"""What the ledger knows of the documents of a page, by id."""
Wanted: TypeAlias = dict[str, AnyVector | Failure | None]
"""What documents should carry, by id: a vector, none at all, or why it cannot be had. One that is not named is to
be left as it is."""


class VectorSource(ABC):
    """What the documents of one collection should carry.

    Attributes:
        fingerprint: of the space of its vectors and of the template, by which a dead run's work is known again.
        model_id: of the model in the ledger; None where several, or none that is known, have made the vectors.
        filter_by: Typesense filter of the documents that it has vectors for; empty for all.
        collection: text template and embedding field.
    """

    fingerprint: str
    model_id: str | None = None
    filter_by: str = ""
    collection: EmbeddedCollection

    def everywhere(self) -> VectorSource:
        """The same for every document of the collection, where a vector is required of all of them."""
        return self

    def text_hash(self, document: Document, record: DocumentRecord | None = None) -> bytes:
        """Hash of the text that the document's vector is of; `record` is what the ledger knows of it."""
        return text_hash(self.collection.text_of(document.fields))

    def failing(self, document: Document) -> Failure | None:
        """Why the document can have no vector, where the document alone says so."""
        return None

    def notes(self) -> list[str]:
        """What the operator should know of documents that have not what they should."""
        return []

    @abstractmethod
    def current(self, document: Document, record: DocumentRecord | None) -> bytes | None:
        """The float32 bytes of the vector that stands there, if the ledger alone says that it is the right one."""

    @abstractmethod
    def wanted(self, page: Page, known: Known, *, again: bool = False) -> Wanted:
        """What these documents should carry.

        Args:
            page: of documents as they were read.
            known: what the ledger knows of them.
            again: whether an earlier pass of this run has brought their vectors already.
        """

    @abstractmethod
    def carries(self, document: Document, vector: AnyVector | None, *, again: bool) -> bool:
        """Whether the document has this vector already, as exactly as the source can tell."""

    @abstractmethod
    def rows(
        self, page: Page, stored: Mapping[str, bytes], contents: Mapping[str, bytes | None], known: Known
    ) -> dict[str, DocumentRecord]:
        """What the ledger is to know of the documents in `stored`, by id.

        Args:
            page: the documents, and perhaps others.
            stored: the float32 bytes of the vectors that they carry now; empty for none.
            contents: hashes of everything but vectors, where the whole document was read.
            known: what the ledger knew of them.
        """


class AsItStands(VectorSource):
    """Whatever vectors stand there: for a work that takes a field out and gives no document another vector.

    Args:
        collection: of them.
    """

    def __init__(self, collection: EmbeddedCollection) -> None:
        self.collection = collection
        self.fingerprint = ""

    def current(self, document: Document, record: DocumentRecord | None) -> bytes | None:
        """The one that stands there."""
        return document.vector_bytes()

    def wanted(self, page: Page, known: Known, *, again: bool = False) -> Wanted:
        """Nothing: each is left as it is."""
        return {}

    def carries(self, document: Document, vector: AnyVector | None, *, again: bool) -> bool:
        """Always."""
        return True

    def rows(
        self, page: Page, stored: Mapping[str, bytes], contents: Mapping[str, bytes | None], known: Known
    ) -> dict[str, DocumentRecord]:
        """Nothing new."""
        return {}


class Embedded(VectorSource):
    """Vectors that a model makes of the documents' texts.

    Args:
        context: says which run it is, and whether what is current is embedded again.
        collection: text template, embedding field, filter.
        embedder: texts to vectors.
        embedding: family, model and dimensions of the target.
        model: the target, as the ledger knows it.
    """

    def __init__(
        self,
        context: RunContext,
        collection: EmbeddedCollection,
        embedder: Embedder,
        embedding: EmbeddingSettings,
        model: ModelRecord,
    ) -> None:
        self._context = context
        self._embedder = embedder
        self._embedding = embedding
        self._model = model
        self.collection = collection
        self.fingerprint = fingerprint(embedding, collection.template)
        self.filter_by = collection.filter_by
        self.model_id: str | None = model.id

    def everywhere(self) -> Embedded:
        """Documents outside the filter are embedded too."""
        everything = replace(self.collection, filter_by="")
        return Embedded(self._context, everything, self._embedder, self._embedding, self._model)

    def failing(self, document: Document) -> Failure | None:
        """A document without a text has no vector."""
        return None if self.collection.text_of(document.fields) else Failure("embed", NO_TEXT)

    def current(self, document: Document, record: DocumentRecord | None) -> bytes | None:
        """The vector that the ledger knows of this text and model."""
        if self._context.options.force and record is not None and record.run_id != self._context.run.id:
            return None
        return vouched_for(document, record, self._model.id, self.text_hash(document))

    def wanted(self, page: Page, known: Known, *, again: bool = False) -> Wanted:
        """The vectors of the documents' texts, each distinct one embedded once."""
        texts = {document.id: self.collection.text_of(document.fields) for document in page}
        # In every pass: what the cache had before may be of another model of the same name.
        cache: CacheUse = "refresh" if self._context.options.force else "use"
        vectors = self._embedder.embed((text for text in texts.values() if text), cache=cache)
        result: Wanted = {}
        for document_id, text in texts.items():
            vector = vectors.get(text, TextFailure(NO_TEXT))
            if isinstance(vector, TextFailure):
                result[document_id] = Failure("embed", vector.reason, text_hash(text))
            else:
                result[document_id] = vector
        return result

    def carries(self, document: Document, vector: AnyVector | None, *, again: bool) -> bool:
        """By the numbers: providers are not exact, so one that appeared meanwhile may differ a little."""
        if vector is None:
            return document.vector_bytes() is None
        near = (_SAME_MODEL if again else _EXACT) * math.sqrt(vector @ vector)
        if document.differs_at_once(float(vector[0]), 2 * near):
            return False  # By more than rounding could hide, and without reading the other numbers.
        stored = document.vector_bytes()
        if stored is None or len(stored) != vector.nbytes:
            return False
        difference = np.frombuffer(stored, np.float32) - vector
        return math.sqrt(difference @ difference) <= near

    def rows(
        self, page: Page, stored: Mapping[str, bytes], contents: Mapping[str, bytes | None], known: Known
    ) -> dict[str, DocumentRecord]:
        """Each of this text, this model and this run."""
        hashes = {document.id: self.text_hash(document) for document in page if document.id in stored}
        cut = self._embedder.cut_from(list(hashes.values()))
        return {
            document.id: row_of(
                document,
                hashes[document.id],
                stored[document.id],
                self._model.id,
                self._context.run.id,
                contents.get(document.id),
                cut_from=cut.get(hashes[document.id]),
            )
            for document in page
            if document.id in stored
        }


class KnownModels:
    """Which model has made a vector, where the vector cache remembers that it gave this one for this text.

    Nothing is guessed: a run that is undone may have been one of several that wrote to the collection.
    """

    def __init__(self, cache: VectorCache | None, models: Sequence[ModelRecord]) -> None:
        self._cache = cache
        self._models = models

    def of(self, vectors: Mapping[str, tuple[bytes, bytes]]) -> dict[str, str]:
        """The models' ids by document id, for the text's hash and the vector as float32 by document id."""
        found: dict[str, str] = {}
        for model in self._models:
            if self._cache is None:
                break
            try:
                cached = self._cache.get_many(model.fingerprint, list({digest for digest, _ in vectors.values()}))
            except CacheError:
                break  # What it remembers is worth knowing, and not worth stopping for.
            made = {digest: vector.tobytes() for digest, vector in cached.items()}
            found.update((id_, model.id) for id_, (digest, vector) in vectors.items() if made.get(digest) == vector)
        return found


class PutBack(VectorSource):
    """The vectors of a backup, bit for bit, without an embedding call.

    A document deleted since stays deleted; one added since has no old vector, and one whose text changed since
    gets the vector of its old text: both are named.

    Args:
        context: says which run it is, and where the collection is.
        plan: which collection, and the length of the backup's vectors.
        run: the run whose backup it is.
        vectors: of the backup.
        models: which model made which of them.
    """

    def __init__(
        self,
        context: RunContext,
        plan: CollectionPlan,
        run: str,
        vectors: OldVectors,
        models: KnownModels,
    ) -> None:
        self._context = context
        self._name = plan.name
        self._vectors = vectors
        self._models = models
        self._described = plan.collection.template != UNDESCRIBED
        self.collection = plan.collection
        self.fingerprint = fingerprint_before(run, plan.new_dimensions, plan.collection.template)
        self._added: dict[str, None] = {}
        self._changed: dict[str, None] = {}

    def text_hash(self, document: Document, record: DocumentRecord | None = None) -> bytes:
        """By the template; of a collection that is not described, what the ledger knows."""
        if self._described:
            return super().text_hash(document)
        return record.text_hash if record is not None else text_hash("")

    def current(self, document: Document, record: DocumentRecord | None) -> bytes | None:
        """What this run has put there, or found there to be the old one."""
        if record is None or record.run_id != self._context.run.id:
            return None
        stored = document.vector_bytes()
        return stored if record.has_vector(stored) else None

    def wanted(self, page: Page, known: Known, *, again: bool = False) -> Wanted:
        """The very numbers that stood there, where anything did."""
        old = self._vectors.get([document.id for document in page])
        missing = [document for document in page if document.id not in old]
        self._added.update(dict.fromkeys(self._added_since(missing, known)))
        for document in page:
            record = known.get(document.id)
            if document.id in old and record is not None and self.text_hash(document, record) != record.text_hash:
                self._changed[document.id] = None
        return {id_: None if v is None else np.frombuffer(v, np.float64) for id_, v in old.items()}

    def carries(self, document: Document, vector: AnyVector | None, *, again: bool) -> bool:
        """To the last bit of each number."""
        stored = document.vector
        if vector is None or stored is None:
            return vector is None and stored is None
        return stored.tobytes() == vector.tobytes()

    def rows(
        self, page: Page, stored: Mapping[str, bytes], contents: Mapping[str, bytes | None], known: Known
    ) -> dict[str, DocumentRecord]:
        """Of the model that is known to have made them."""
        found: dict[str, DocumentRecord] = {}
        for document in page:
            if document.id in stored:
                digest = self.text_hash(document, known.get(document.id))
                vector, content = stored[document.id], contents.get(document.id)
                found[document.id] = row_of(document, digest, vector, None, self._context.run.id, content)
        made = self._models.of({id_: (row.text_hash, stored[id_]) for id_, row in found.items() if stored[id_]})
        return found | {id_: replace(found[id_], model_id=model_id) for id_, model_id in made.items()}

    def notes(self) -> list[str]:
        """Which documents came or changed since the backup was made."""
        return [
            *named(self._added, "were added since and have no old vector"),
            *named(self._changed, "have another text now than their old vector is of"),
        ]

    def _added_since(self, page: Page, known: Known) -> list[str]:
        """Which documents of a page, none of them in the backup, came after it and so lack an old vector.

        Not those that the ledger knows with the vector that they have: the run found that there and left it alone.
        Nor those outside the filter or without a text, which get no vector. A backup that is not complete lacks
        documents that were there all along. Of a collection that is not described, what has no vector needs none.
        """
        if not self._vectors.complete:
            return []
        new = []
        for document in page:
            stored, record = document.vector_bytes(), known.get(document.id)
            if record is not None and record.has_vector(stored):
                continue
            if self.collection.text_of(document.fields) if self._described else stored is not None:
                new.append(document.id)
        if not new or not self._described:
            return new
        eligible = eligible_of(self._context.server, self._name, self.collection.filter_by, new)
        return [document_id for document_id in new if document_id in eligible]


def vouched_for(document: Document, record: DocumentRecord | None, model_id: str, digest: bytes) -> bytes | None:
    """The float32 bytes of the document's vector, if by the ledger it is this model's, of the text with this hash."""
    if record is None or record.model_id != model_id or record.text_hash != digest:
        return None
    stored = document.vector_bytes()
    return stored if record.has_vector(stored) else None


def fingerprint_before(run: str, dimensions: int, template: str) -> str:
    """The fingerprint of what stood in a collection before a run: the target of the way back to it."""
    return fingerprint(EmbeddingSettings("backup", f"before {run}", dimensions), template)


def float32_bytes(vector: AnyVector | None) -> bytes:
    """A vector the way Typesense compares it; empty for none."""
    return b"" if vector is None else vector.astype(np.float32, copy=False).tobytes()


def content_of(document: Document, others: Collection[str]) -> bytes:
    """Hash of everything in the document but vectors, as it is where `others`, further vectors, are not even read."""
    if not others:
        return document.content_hash()
    fields = dict(document.fields)
    for name in others:
        _remove(fields, name)
    return Document(document.id, fields, None).content_hash()


def _remove(fields: dict[str, Any], name: str) -> None:
    if name in fields:
        del fields[name]
        return
    head, _, rest = name.partition(".")
    if rest and isinstance(fields.get(head), dict):
        fields[head] = dict(fields[head])
        _remove(fields[head], rest)


def row_of(
    document: Document,
    digest: bytes,
    stored: bytes,
    model_id: str | None,
    run_id: str,
    content: bytes | None,
    cut_from: int | None = None,
) -> DocumentRecord:
    tenant = document.fields.get(TENANT_FIELD)
    return DocumentRecord(
        document.id,
        digest,
        vector_hash(stored),
        model_id=model_id if stored else None,
        run_id=run_id,
        tenant=str(tenant) if tenant is not None else None,
        content_hash=content,
        cut_from=cut_from if stored else None,
    )
