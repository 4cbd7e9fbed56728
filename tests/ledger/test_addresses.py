"""A ledger of revision 0002, upgraded: its servers come under one spelling, and nothing else changes."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, inspect, text

from migration.ledger import Ledger
from migration.ledger.database import connect, resolve
from migration.ledger.upgrade import downgrade, upgrade
from tests.ledger.conftest import sha

MODEL = "00000000-0000-4000-8000-000000000001"
RUN = "00000000-0000-4000-8000-00000000000{}"
EARLY, LATE = "2026-11-20 10:00:00.000000+00:00", "2026-11-20 11:00:00.000000+00:00"


class OldLedger:
    """A ledger as revision 0002 leaves it, filled by SQL: the program of today writes the form of today."""

    def __init__(self, url: str) -> None:
        self.url = url
        upgrade(url, "0002")
        self._engine: Engine = connect(resolve(url, Path()))
        self._collections = 0
        self.execute(
            "INSERT INTO embedding_models (id, number, family, model, dimensions, parameters, fingerprint, "
            "first_used_at, last_used_at) VALUES (:id, 1, 'openai', 'small', 512, '{}', 'f', :at, :at)",
            id=MODEL,
            at=self._moment(EARLY),
        )

    def execute(self, statement: str, **values: Any) -> Sequence[Any]:
        with self._engine.begin() as connection:
            result = connection.execute(text(statement), values)
            return result.all() if result.returns_rows else []

    def add_run(self, number: int, source: str) -> None:
        self.execute(
            "INSERT INTO runs (id, number, name, kind, model_id, parameters, source, started_at, state, totals, host, "
            "pid) VALUES (:id, :number, :name, 'migrate', :model, '{}', :source, :at, 'completed', '{}', 'here', 1)",
            id=RUN.format(number),
            number=number,
            name=f"run {number}",
            model=MODEL,
            source=source,
            at=self._moment(EARLY),
        )
        self.execute(
            "INSERT INTO collection_runs (id, run_id, collection, strategy, eligible, done, failed, skipped, state, "
            "progress, started_at, downtime_seconds) "
            "VALUES (:id, :id, 'notes', 'recreate', 9, 7, 2, 1, 'partial', '{\"step\": 3}', :at, 1.5)",
            id=RUN.format(number),
            at=self._moment(EARLY),
        )

    def add_documents(self, source: str, collection: str, documents: dict[str, tuple[str, str]]) -> None:
        """Documents by id, each with the text of its vector's hash and the time of its embedding."""
        self._collections += 1
        self.execute(
            "INSERT INTO document_collections VALUES (:id, :source, :collection)",
            id=self._collections,
            source=source,
            collection=collection,
        )
        for document_id, (vector, at) in documents.items():
            self.execute(
                "INSERT INTO document_embeddings (collection_id, document_id, tenant, text_hash, vector_hash, "
                "model_number, run_number, embedded_at, content_hash) "
                "VALUES (:collection, :id, 't', :text, :vector, 1, 1, :at, :content)",
                collection=self._collections,
                id=document_id,
                text=sha("text"),
                vector=sha(vector),
                at=self._moment(at),
                content=sha("rest"),
            )

    def indexed_columns(self, table: str) -> set[str | None]:
        return {column for index in inspect(self._engine).get_indexes(table) for column in index["column_names"]}

    def close(self) -> None:
        self._engine.dispose()

    def _moment(self, at: str) -> str:
        # SQLite keeps no zone.
        return at if self.url.startswith("postgresql") else at.removesuffix("+00:00")


@pytest.fixture
def old(ledger_url: str) -> Iterator[OldLedger]:
    made = OldLedger(ledger_url)
    yield made
    made.close()


def vectors(ledger: Ledger, source: str, collection: str) -> dict[str, bytes]:
    return {row.document_id: row.vector_hash for row in ledger.iterate_documents(source, collection)}


def test_two_spellings_of_a_server_become_one_and_the_later_entry_of_a_document_stays(
    old: OldLedger, ledger_url: str, tmp_path: Path
) -> None:
    old.add_run(1, '{"server": "LocalHost:8108", "collections": ["notes"]}')
    old.add_documents(
        "127.0.0.1:8108", "notes", {"only here": ("a", EARLY), "later here": ("b", LATE), "sooner here": ("c", EARLY)}
    )
    old.add_documents("localhost:8108", "notes", {"later here": ("old b", EARLY), "sooner here": ("new c", LATE)})
    old.add_documents("[::1]:8108", "notes", {"sooner here": ("older c", EARLY), "only there": ("d", EARLY)})
    old.add_documents("LOCALHOST:8108", "other", {"1": ("o", EARLY)})
    old.add_documents("localhost:8109", "notes", {"1": ("of another port", EARLY)})

    with Ledger.open(ledger_url, tmp_path) as ledger:
        assert vectors(ledger, "localhost:8108", "notes") == {
            "only here": sha("a"), "later here": sha("b"), "sooner here": sha("new c"), "only there": sha("d"),
        }  # fmt: skip
        assert vectors(ledger, "localhost:8108", "other") == {"1": sha("o")}
        assert vectors(ledger, "localhost:8109", "notes") == {"1": sha("of another port")}
        (use,) = ledger.models()
        assert [(each.source, each.collection, each.documents) for each in use.collections] == [
            ("localhost:8108", "notes", 4), ("localhost:8108", "other", 1), ("localhost:8109", "notes", 1),
        ]  # fmt: skip
        known = ledger.documents("localhost:8108", "notes", ["later here"])["later here"]
        assert (known.model_id, known.run_id, known.tenant) == (MODEL, RUN.format(1), "t")
        assert (known.text_hash, known.content_hash) == (sha("text"), sha("rest"))


def test_the_runs_of_a_server_are_found_under_its_one_spelling(old: OldLedger, ledger_url: str, tmp_path: Path) -> None:
    old.add_run(1, '{"server": "LocalHost:8108", "collections": ["notes"]}')
    old.add_run(2, '{"server": "search.example:443", "collections": ["notes"]}')
    old.add_run(3, "{}")
    with Ledger.open(ledger_url, tmp_path) as ledger:
        assert [run.source for run in ledger.runs()] == [
            {},
            {"server": "search.example:443", "collections": ["notes"]},
            {"server": "localhost:8108", "collections": ["notes"]},
        ]
        found = ledger.last_run_over("localhost:8108", ["notes"])
        assert found is not None
        assert found.number == 1


def test_an_old_ledger_goes_up_down_and_up_and_keeps_what_either_form_can_hold(
    old: OldLedger, ledger_url: str, tmp_path: Path
) -> None:
    old.add_run(1, '{"server": "127.0.0.1:8108"}')
    old.add_documents("127.0.0.1:8108", "notes", {"1": ("a", EARLY), "2": ("b", LATE)})
    Ledger.open(ledger_url, tmp_path).close()
    assert not {"tenant", "text_hash"} & old.indexed_columns("document_embeddings")

    downgrade(ledger_url, "0002")
    assert {"tenant", "text_hash"} <= old.indexed_columns("document_embeddings")
    (row,) = old.execute("SELECT done, failed, skipped, downtime_seconds FROM collection_runs")
    assert tuple(row) == (7, 2, 0, 1.5)
    old.add_run(2, '{"server": "127.0.0.1:8108"}')  # as the older program does

    with Ledger.open(ledger_url, tmp_path) as ledger:
        assert vectors(ledger, "localhost:8108", "notes") == {"1": sha("a"), "2": sha("b")}
        assert [run.source["server"] for run in ledger.runs()] == ["localhost:8108"] * 2
        assert [run.model_id for run in ledger.runs()] == [MODEL] * 2
        (collection,) = ledger.collection_runs(RUN.format(1))
        assert (collection.done, collection.failed, collection.state) == (7, 2, "partial")
        assert (collection.downtime_seconds, collection.incomplete_seconds) == (1.5, None)
