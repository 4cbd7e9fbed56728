"""Fixtures: an empty place for a ledger on each database, and an open ledger there."""

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from migration.ledger import DocumentRecord, Ledger, ModelRecord, RunRecord
from tests.ledger.postgresql import NotAvailableError, running_server

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    server = running_server()
    try:
        url = server.__enter__()
    except NotAvailableError as reason:
        pytest.skip(f"no PostgreSQL: {reason}")
    try:
        yield url
    finally:
        server.__exit__(None, None, None)


@pytest.fixture
def postgresql_url(postgresql_server: str) -> Iterator[str]:
    """A database of its own, empty."""
    name = f"ledger_test_{next(_numbers)}"
    server = make_url(postgresql_server).set(drivername="postgresql+psycopg")
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield make_url(postgresql_server).set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a ledger may be created, on each of the two databases."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/home/ledger.sqlite"
    url: str = request.getfixturevalue("postgresql_url")
    return url


@pytest.fixture
def ledger(ledger_url: str, tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(ledger_url, tmp_path) as opened:
        yield opened


@pytest.fixture
def model(ledger: Ledger) -> ModelRecord:
    return ledger.register_model(family="local", model="wordllama", dimensions=256, fingerprint="f1")


@pytest.fixture
def run(ledger: Ledger, model: ModelRecord) -> RunRecord:
    return ledger.start_run("local-wordllama-256-20261120-153000", "migrate", model_id=model.id)


def delete_model(ledger: Ledger, model: ModelRecord) -> None:
    """As a person does by hand; the program deletes no model."""
    with ledger._writing() as connection:
        assert connection.execute(text("DELETE FROM embedding_models WHERE id = :id"), {"id": model.id}).rowcount == 1


def sha(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def document(document_id: str, **changes: object) -> DocumentRecord:
    values: dict[str, object] = {"text_hash": sha(f"text of {document_id}"), "vector_hash": sha(document_id)}
    return DocumentRecord(document_id, **(values | changes))  # type: ignore[arg-type]
