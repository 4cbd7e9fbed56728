"""Vectors of fewer dimensions, cut from the longer ones of the same model, before a strategy asks for any.

Some models are trained so that the first numbers of a vector are the model's vector of fewer dimensions, but for its
length (Matryoshka); for `dimensions` a provider does nothing else. So where the old vectors are the model's, the new
ones are in them, and nothing has to be embedded.

What is cut goes into the vector cache, under the hash of the document's text, before anything is changed. From there
on every strategy takes it as if it had been bought; and a run that dies past the drop of the old vectors has them.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from kai.typesense import Typesense, embedding_field
from kai.vectors import Vector
from migration.documents.fetch import Document, Page, Selection, export_pages
from migration.documents.pipeline import run_pages
from migration.embedding.embed import Embedder, text_hash
from migration.ledger import DocumentRecord, Ledger
from migration.strategies.plan import CollectionPlan, Cut
from migration.strategies.task import Task


def shortened(numbers: npt.NDArray[np.float64], dimensions: int, *, is_unit: bool) -> Vector:
    """The first numbers of a vector, as float32.

    Args:
        numbers: shape (length,), as the server has them.
        dimensions: how many of them.
        is_unit: whether they are brought to unit length, in double precision.
    """
    head = numbers[:dimensions]
    length = float(np.linalg.norm(head)) if is_unit else 1.0
    return (head / (length or 1.0)).astype(np.float32)


def is_vouched(cut: Cut, record: DocumentRecord | None, digest: bytes, stored: bytes | None = None) -> bool:
    """Whether a document's old vector is the model's, of the text that it has now, as far as anybody can say.

    Args:
        cut: on whose word.
        record: what the ledger knows of the document.
        digest: hash of its text.
        stored: the float32 bytes of its old vector; None where it was not read, and is taken for the one that the
            ledger knows.
    """
    if record is None:
        return cut.trust != "ledger"
    if stored is not None and not record.has_vector(stored):
        return cut.trust == "operator"  # Somebody else has written it since.
    if record.model_id is None:
        return cut.trust == "operator" and record.text_hash == digest
    return record.model_id == cut.model_id and record.text_hash == digest


def cut_vectors(server: Typesense, ledger: Ledger | None, plan: CollectionPlan, cut: Cut, page: Page) -> list[Document]:
    """Those of the documents, read with their old vectors, whose new vectors are in them."""
    known = _known(server, ledger, plan, cut, page)
    found = []
    for document in page:
        text, stored = plan.collection.text_of(document.fields), document.vector_bytes()
        if not text or stored is None or len(stored) != 4 * cut.dimensions:
            continue
        if is_vouched(cut, known.get(document.id), text_hash(text), stored):
            found.append(document)
    return found


def expected(server: Typesense, ledger: Ledger | None, plan: CollectionPlan, page: Page) -> Collection[str]:
    """The ids of those of a page, read without vectors, that will most likely be cut."""
    cut = plan.cut
    if cut is None:
        return ()
    known = _known(server, ledger, plan, cut, page)
    return {d.id for d in page if is_vouched(cut, known.get(d.id), text_hash(plan.collection.text_of(d.fields)))}


def cut_ahead(task: Task, cut: Cut, embedder: Embedder) -> None:
    """Put into the vector cache what can be cut from a collection's old vectors. Nothing of the collection is changed.

    Args:
        task: of the collection.
        cut: from what, and on whose word.
        embedder: keeps it.

    Raises:
        CacheError: there is no place for it.
        TypesenseError: the collection cannot be read.
    """
    context, server, plan = task.context, task.server, task.plan
    is_optional = bool((embedding_field(plan.schema, cut.field) or {}).get("optional"))
    # Of a required field, documents outside the filter get a new vector too.
    filter_by = plan.collection.filter_by if is_optional else ""
    selection = Selection(cut.field, filter_by, plan.collection.text_fields)
    total = plan.eligible if is_optional else plan.documents
    done = 0

    def prepare(page: Page) -> tuple[int, int, dict[bytes, Vector]]:
        context.control.wait_while_paused()
        vectors: dict[bytes, Vector] = {}
        found = cut_vectors(server, context.ledger, plan, cut, page)
        for document in found:
            numbers = np.frombuffer(document.vector or b"", np.float64)
            digest = text_hash(plan.collection.text_of(document.fields))
            vectors[digest] = shortened(numbers, plan.new_dimensions, is_unit=cut.is_unit)
        return len(page), len(found), vectors

    def keep(prepared: tuple[int, int, dict[bytes, Vector]]) -> tuple[int, int]:
        seen, found, vectors = prepared
        embedder.keep_cut(vectors, cut.dimensions)
        return seen, found

    task.enter("cutting", total)
    with context.console.progress(f"  Cutting {plan.name}", total) as bar:

        def record(counts: tuple[int, int]) -> None:
            nonlocal done
            seen, found = counts
            done += found
            context.status.add(seen)
            bar.update(seen)

        run_pages(
            export_pages(server, plan.name, selection),
            prepare,
            keep,
            record,
            workers=lambda: context.control.pace.concurrency,
            stopped=lambda: task.is_stopped,
        )
    if not task.is_stopped:
        task.outcome.notes.append(
            f"the new vectors of {done} documents were cut from the {cut.dimensions} dimensions that stood there; the "
            "texts of all others were embedded"
        )


def _known(
    server: Typesense, ledger: Ledger | None, plan: CollectionPlan, cut: Cut, page: Page
) -> dict[str, DocumentRecord]:
    if ledger is None:
        return {}
    return ledger.documents(server.address, plan.name, [document.id for document in page], field=cut.field)
