"""Pages of documents made ready for the shadow: with their new vectors, written out as lines, noted for the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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

    Attributes:
        vector_is_optional: whether a document may come without a vector.
    """

    def __init__(self, task: Task) -> None:
        self._task, self._context, self._source, self._field = task, task.context, task.source, task.field
        self._others = other_vector_fields(task.plan.schema, task.field)
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
        stored = {document.id: float32_bytes(vectors.get(document.id)) for document in page}
        return Prepared(
            lines={document.id: line_of(document, self._field, vectors.get(document.id)) for document in page},
            contents={document.id: document.content_hash() for document in page},
            rows=self.rows(page, stored, known),
            failures=failures,
            seen=len(page),
        )

    def rows(self, page: Page, stored: Mapping[str, bytes], known: Known) -> dict[str, DocumentRecord]:
        """What the ledger is to know of documents that carry these vectors."""
        return self._source.rows(page, stored, {d.id: content_of(d, self._others) for d in page}, known)

    def _wanted(self, page: Page, known: Known) -> Wanted:
        """What the documents that the source has vectors for should carry; all of them where one is required."""
        source = self._source if self.vector_is_optional else self._source.everywhere()
        ids = eligible_of(self._context.server, self._task.name, source.filter_by, [document.id for document in page])
        failures = {d.id: failure for d in page if d.id in ids and (failure := source.failing(d)) is not None}
        with_text = [document for document in page if document.id in ids and document.id not in failures]
        return {**failures, **source.wanted(with_text, known)}
