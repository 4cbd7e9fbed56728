"""Search as the application would, to see with one's own eyes what the stored vectors are worth.

The text is embedded as every document's was, equal to the application's `embed_query`, and the server looks for what
stands next to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kai.collections import EmbeddedCollection
from kai.models import EmbeddingSettings, fingerprint
from kai.settings import Settings, load_settings
from kai.typesense import Schema, Typesense, embedding_field, search_by_vector
from kai.typesense_schemas import signature_of
from kai.vectors import as_float32
from migration.ledger import Ledger
from migration.operations.setup import Session, described_collection, ledger_if_there, make_embedder, open_server, probe
from migration.runtime.console import SILENT, Console
from migration.strategies.context import MigrationOptions
from migration.strategies.refusals import Refused, field_problem
from migration.strategies.shadow_state import unfinished

_PATIENCE: Final = 20.0
"""Seconds to wait for a provider that does not answer: somebody sits before the screen."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A document that was found.

    Attributes:
        distance: from the text, as the server says; 0 for the same place.
        text: what its vector is the embedding of.
        model: whose vector it carries, as family/model/dimensions; None where the ledger does not know.
    """

    document_id: str
    distance: float | None
    text: str
    model: str | None


@dataclass(frozen=True, slots=True)
class Found:
    """What stands next to a text.

    Attributes:
        server, collection: where.
        text: what was searched for.
        model: that embedded it, as family/model/dimensions.
        hits: the nearest first.
        is_same_model: whether the vectors that stand there are that model's; None where nobody says.
        notes: what is to be known of them, a sentence each.
    """

    server: str
    collection: str
    text: str
    model: str
    hits: tuple[Hit, ...]
    is_same_model: bool | None
    notes: tuple[str, ...]


def search(
    collection: str,
    text: str,
    *,
    k: int = 10,
    filter_by: str = "",
    field: str | None = None,
    collections_file: Path | None = None,
    settings: Settings | None = None,
    console: Console = SILENT,
) -> Found:
    """Embed a text with the configured model, and find the documents whose vectors stand next to it.

    Args:
        collection: as it is described, or the real name where that is an alias.
        text: to search for.
        k: most documents to find, at most 250.
        filter_by: Typesense filter of the documents to search in; empty for all.
        field: the embedding field; None for the one that serves.
        collections_file: descriptions of the user's own collections; None for KAI's.
        settings: the model, Typesense and the ledger; None reads `.env` and the environment.
        console: where to tell of waiting; nothing by default.

    Raises:
        SettingsError: the settings cannot be used.
        Refused: there is no such collection, no vector index that the model's vectors would fit, or the provider or
            the server refuses the text or the filter.
        CollectionsError, LedgerError, TypesenseError: the descriptions, the ledger or the server cannot be used.
    """
    settings = settings or load_settings()
    embedding = settings.embedding
    if not text.strip():
        raise Refused("TEXT: it is empty; give the words to search for")
    with open_server(settings, console) as server:
        described, schema = described_collection(server, collection, collections_file, field)
        notes = list(_unfinished(server, described, schema, embedding))
        options = MigrationOptions(concurrency=1)
        session = Session(settings=settings, server=server, console=console, options=options)
        vector = probe(make_embedder(session, patience=_PATIENCE), settings, text)
        name = str(schema["name"])
        query = search_by_vector(name, described.embedding_field, "", vector.tobytes(), most=k)
        wanted = dict.fromkeys(("id", *described.text_fields, described.embedding_field))
        query["include_fields"] = ",".join(wanted)
        if filter_by:
            query["filter_by"] = filter_by
        (answer,) = server.multi_search([query])
        if "hits" not in answer:
            where = "--filter: " if filter_by else ""
            raise Refused(f"{where}Typesense refuses the search: {answer.get('error', 'it gives no hits')}")
        with ledger_if_there(settings) as ledger:
            hits = tuple(_hits(ledger, server.address, name, described, answer["hits"]))
    target = embedding.name
    marked = signature_of(schema, described.embedding_field).get("fingerprint")
    others = [*_other_by_its_mark(schema, described, embedding, target), *_other_by_the_ledger(hits, target)]
    is_same = False if others else True if marked or any(hit.model for hit in hits) else None
    return Found(server.address, name, text, target, hits, is_same, (*notes, *others))


def _unfinished(
    server: Typesense, described: EmbeddedCollection, schema: Schema, embedding: EmbeddingSettings
) -> Iterator[str]:
    """What a run has left undone here.

    Raises:
        Refused: there is no vector index, or one of vectors of another length.
    """
    name, field = str(schema["name"]), described.embedding_field
    undone = unfinished(server.collections(), name)
    if (problem := field_problem(described, schema)) is not None:
        raise Refused(f"{undone}; run the migration again, which finishes it" if undone else problem)
    dimensions = (embedding_field(schema, field) or {}).get("num_dim")
    if not dimensions:
        raise Refused(f"COLLECTION: the field {field!r} of {name!r} has no num_dim, and so no index to search in")
    if dimensions != embedding.dimensions:
        raise Refused(
            f"EMBEDDING_DIMENSIONS: the vectors in {field!r} of {name!r} have {dimensions} dimensions, those of "
            f"{embedding.model} {embedding.dimensions}: they are another model's; configure that one, or run the "
            "migration first"
        )
    if undone:
        yield undone


def _hits(
    ledger: Ledger | None, server: str, name: str, described: EmbeddedCollection, found: list[dict[str, Any]]
) -> Iterator[Hit]:
    documents, field = [hit["document"] for hit in found], described.embedding_field
    records = ledger.documents(server, name, [str(each["id"]) for each in documents], field=field) if ledger else {}
    names: dict[str, str] = {}
    for hit, document in zip(found, documents, strict=True):
        record, vector = records.get(str(document["id"])), document.get(described.embedding_field) or ()
        model = None
        if ledger and record and record.model_id and record.has_vector(as_float32(vector).tobytes()):
            if record.model_id not in names and (known := ledger.find_model(record.model_id)):
                names[record.model_id] = known.name
            model = names.get(record.model_id)
        yield Hit(str(document["id"]), hit.get("vector_distance"), described.text_of(document), model)


def _other_by_its_mark(
    schema: Schema, described: EmbeddedCollection, embedding: EmbeddingSettings, target: str
) -> Iterator[str]:
    """That the collection's metadata names another model, or another text made of the documents."""
    mark = signature_of(schema, described.embedding_field)
    if mark.get("fingerprint") in (None, fingerprint(embedding, described.template)):
        return
    theirs = "/".join(str(mark.get(part)) for part in ("family", "model", "dimensions"))
    differs = f"vectors of {theirs}" if theirs != target else f"vectors of {theirs} of another template or task type"
    yield (
        f"by its metadata {schema['name']!r} has {differs}, and {target} embedded the text: distances between two "
        "models mean nothing; run the migration, or configure that model"
    )


def _other_by_the_ledger(hits: tuple[Hit, ...], target: str) -> Iterator[str]:
    """That some of what was found has vectors of another model."""
    others = [hit.model for hit in hits if hit.model is not None and hit.model != target]
    if others:
        yield (
            f"by the ledger {len(others)} of {len(hits)} hits have vectors of {', '.join(sorted(set(others)))}, "
            f"and {target} embedded the text: distances between two models mean nothing"
        )
