"""Pages of documents made ready for the shadow: with their new vectors, written out as lines, noted for the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace

import numpy as np

from kai.typesense import embedding_field
from kai.typesense_schemas import other_vector_fields
from migration.documents.fetch import Page, eligible_of
from migration.documents.update import Written, line_of
from migration.ledger import DocumentRecord
from migration.strategies.context import Failure
from migration.strategies.sources import Known, Wanted, content_of, float32_bytes
from migration.strategies.task import Task


@dataclass(slots=True)
class Prepared:
    """A page ready for the shadow."""

    lines: dict[str, bytes] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    rows: dict[str, DocumentRecord] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    seen: int = 0
    written: Written = field(default_factory=Written)


class PagePreparer:
    """Makes pages of one collection ready.

    Where the length of the vectors stays, documents that the source has none for keep their own.

    Attributes:
        vector_is_optional: whether a document may come without a vector.
    """

    def __init__(self, task: Task) -> None:
        self._task, self._context, self._source, self._field = task, task.context, task.source, task.field
        self._others = other_vector_fields(task.plan.schema, task.field)
        self._length_stays = task.plan.old_dimensions == task.plan.new_dimensions
        self.vector_is_optional = bool((embedding_field(task.plan.schema, task.field) or {}).get("optional"))

    def prepare(self, page: Page, *, get_vectors: bool = True) -> Prepared:
        """Give each document the vector that it should carry, if it should carry one."""
        context = self._context
        context.control.wait_while_paused()
        if not page:
            return Prepared()
        known = self._task.known(page)
        wanted = self._wanted(page, known) if get_vectors else {}
        failures = {id_: vector for id_, vector in wanted.items() if isinstance(vector, Failure)}
        vectors = {id_: vector for id_, vector in wanted.items() if not isinstance(vector, Failure)}
        own = {document.id for document in page if self._length_stays and get_vectors} - wanted.keys()
        kept = {document.id: document.vector for document in page if document.id in own}
        vectors |= {id_: np.frombuffer(vector, np.float64) for id_, vector in kept.items() if vector is not None}
        stored = {document.id: float32_bytes(vectors.get(document.id)) for document in page}
        return Prepared(
            lines={document.id: line_of(document, self._field, vectors.get(document.id)) for document in page},
            contents={document.id: document.content_hash() for document in page},
            rows=self.rows(page, stored, known, own),
            failures=failures,
            seen=len(page),
        )

    def rows(self, page: Page, stored: Mapping[str, bytes], known: Known, own: Set[str]) -> dict[str, DocumentRecord]:
        """What the ledger is to know of documents that carry these vectors.

        Args:
            page: the documents.
            stored: the float32 bytes of their vectors.
            known: what the ledger knew of them.
            own: ids of those that keep a vector which is not the source's.
        """
        contents = {document.id: content_of(document, self._others) for document in page}
        rows = self._source.rows(page, stored, contents, known)
        return {id_: replace(row, model_id=_model_of(known, id_)) if id_ in own else row for id_, row in rows.items()}

    def outside(self, page: Page, standing_in: str) -> set[str]:
        """Ids of the documents that may keep a vector of their own: the filter does not let them through.

        Args:
            page: the documents.
            standing_in: the collection that they were read from; the live one may be away.
        """
        if not self._length_stays or not self._source.filter_by:
            return set()
        ids = [document.id for document in page]
        return set(ids) - eligible_of(self._context.server, standing_in, self._source.filter_by, ids)

    def _wanted(self, page: Page, known: Known) -> Wanted:
        """What the documents that the source has vectors for should carry; all of them where one is required."""
        is_as_filtered = self.vector_is_optional or self._length_stays
        source = self._source if is_as_filtered else self._source.everywhere()
        ids = eligible_of(self._context.server, self._task.name, source.filter_by, [document.id for document in page])
        failures = {d.id: failure for d in page if d.id in ids and (failure := source.failing(d)) is not None}
        with_text = [document for document in page if document.id in ids and document.id not in failures]
        return {**failures, **source.wanted(with_text, known)}


def _model_of(known: Known, document_id: str) -> str | None:
    record = known.get(document_id)
    return record.model_id if record is not None else None
