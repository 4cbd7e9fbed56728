"""Old and new neighbours of a run: where the old vectors are found, by each way of replacing them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import numpy as np
import orjson
import pytest

from kai.typesense import Typesense, TypesenseError
from kai.vectors import Vector
from migration.backup import BackupError
from migration.documents.fetch import Document, Selection
from migration.ledger import CollectionRunRecord, Ledger, RunRecord
from migration.ledger.records import Strategy
from migration.operations.models import neighbours
from migration.operations.models.neighbours import KeptNeighbours, kept_neighbours
from migration.operations.models.overlap import NotAvailable, RunVectors, VectorOrigins
from migration.strategies.second_field.mark import NEXT
from tests.backup.making import write

SERVER: Final = "localhost:8108"
IDS: Final = [f"n{number}" for number in range(9)]
OLD: Final = {id_: np.array([1.0, number], np.float32) for number, id_ in enumerate(IDS)}
NEW: Final = {id_: np.array([number, 1.0, 0.0], np.float32) for number, id_ in enumerate(IDS)}


class Server:
    """Collections with old vectors in one of their fields."""

    address = SERVER

    def __init__(
        self, schemas: Mapping[str, dict[str, Any]], stored: Mapping[tuple[str, str], dict[str, Vector]]
    ) -> None:
        self._schemas, self.stored = schemas, stored

    def collection(self, name: str) -> dict[str, Any] | None:
        return self._schemas.get(name)


@pytest.fixture(autouse=True)
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The new vectors are what the run is known for; documents are read as the stand-in has them."""
    monkeypatch.setattr(neighbours, "vectors_of_run", lambda *_, **__: RunVectors(NEW, "server", False))

    def fetch(server: Server, collection: str, selection: Selection, ids: list[str]) -> list[Document]:
        stored = server.stored[collection, selection.embedding_field]
        return [Document(id_, {"id": id_}, orjson.dumps(stored[id_].tolist())) for id_ in ids if id_ in stored]

    monkeypatch.setattr(neighbours, "fetch_documents", fetch)


def compared(
    home: Path, strategy: Strategy, server: Server | None = None, backup: Path | None = None, name: str = "notes"
) -> KeptNeighbours:
    """What is found for a run by one strategy over `notes`."""
    moment = datetime.now(UTC)
    source = {"server": SERVER, "collections": ["notes", name] if name != "notes" else ["notes"]}
    run = RunRecord(
        id="r", number=1, name="a-run", kind="migrate", parameters={}, source=source, started_at=moment, host="h", pid=1
    )
    row = CollectionRunRecord(
        id="c",
        run_id="r",
        collection=name,
        strategy=strategy,
        embedding_field="vector_v2" if strategy == "into" else "vector",
        backup_path=str(backup) if backup else None,
        started_at=moment,
    )
    ledger = cast(Ledger, SimpleNamespace(field_written=lambda *_: row.embedding_field))
    origins = VectorOrigins(ledger, home, cast(Typesense, server), {}, "Typesense is not configured")
    (found,) = kept_neighbours(origins, run, [row])
    return found


def test_the_backup_has_them_where_the_run_overwrote_them(tmp_path: Path) -> None:
    with write(tmp_path) as writer:
        writer.add_vectors([(id_, orjson.dumps(vector.tolist()), b"c" * 32) for id_, vector in OLD.items()])
    found = compared(tmp_path, "in place", backup=writer.folder)
    assert found.overlap is not None
    assert (found.overlap.corpus, found.overlap.neighbours, len(found.documents)) == (9, 4, 9)
    assert {each.document_id for each in found.documents} == set(IDS)
    assert found.overlap.mean == pytest.approx(sum(each.share for each in found.documents) / 9)


def test_the_field_that_serves_has_them_beside_a_second_one(tmp_path: Path) -> None:
    mark = {"field": "vector_v2", "of": "vector", "run": "a-run", "phase": "waiting", "fingerprint": "f"}
    server = Server({"notes": {"name": "notes", "metadata": {NEXT: mark}}}, {("notes", "vector"): OLD})
    found = compared(tmp_path, "into", server)
    assert found.overlap is not None
    assert found.overlap.corpus == 9


def test_the_previous_collection_has_them_behind_an_alias(tmp_path: Path) -> None:
    server = Server({"notes": {"name": "notes"}, "notes__2": {"name": "notes__2"}}, {("notes", "vector"): OLD})
    found = compared(tmp_path, "alias", server, name="notes__2")
    assert found.overlap is not None
    assert found.overlap.corpus == 9


@pytest.mark.parametrize(
    ("strategy", "server", "reason"),
    [
        ("in place", None, "there is no backup of vectors that the run replaced"),
        ("into", None, "Typesense is not configured"),
        ("into", Server({"notes": {"name": "notes"}}, {}), "what the run replaced is not there any more"),
        ("alias", Server({}, {}), "what the run replaced is not there any more"),
    ],
)
def test_where_nobody_has_them_it_says_why(
    tmp_path: Path, strategy: Strategy, server: Server | None, reason: str
) -> None:
    found = compared(tmp_path, strategy, server)
    assert (found.overlap, found.reason, found.documents) == (None, reason, ())


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NotAvailable("not available: no backup holds the vectors of a-run"), "no backup holds the vectors of a-run"),
        (TypesenseError("connection failed"), "connection failed"),
        (BackupError("the backup is damaged"), "the backup is damaged"),
    ],
)
def test_trouble_with_one_collection_is_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def fail(*_: object, **__: object) -> RunVectors:
        raise error

    monkeypatch.setattr(neighbours, "vectors_of_run", fail)
    with write(tmp_path) as writer:
        pass
    assert compared(tmp_path, "in place", backup=writer.folder).reason == reason


def test_of_fewer_than_three_documents_nothing_can_be_said(tmp_path: Path) -> None:
    with write(tmp_path) as writer:
        writer.add_vectors([(id_, orjson.dumps(OLD[id_].tolist()), b"c" * 32) for id_ in IDS[:2]])
    found = compared(tmp_path, "in place", backup=writer.folder)
    assert found.reason == "the run replaced the vectors of less than three documents"


def test_a_collection_that_was_skipped_is_left_out(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not enough values"):
        compared(tmp_path, "skipped")
