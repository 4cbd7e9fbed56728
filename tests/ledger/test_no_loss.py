"""A ledger of the form before this one goes up, down and up again, and keeps every value that the older form holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from migration.ledger import Ledger
from migration.ledger.database import connect, resolve
from migration.ledger.upgrade import downgrade, upgrade

BEFORE = "0003"
"""The last revision that was released."""
NEXT_TO_EACH_OTHER = 2


class Rows:
    """Everything in a database, as it stands."""

    def __init__(self, url: str) -> None:
        self._engine = connect(resolve(url, Path()))

    def tables(self) -> Sequence[sa.Table]:
        """Those with data of the ledger, each after those it refers to."""
        found = sa.MetaData()
        found.reflect(self._engine)
        return [table for table in found.sorted_tables if table.name != "ledger_version"]

    def fill(self) -> None:
        """Two rows in each table, and in each row a value of its own in every column that refers to nothing."""
        with self._engine.begin() as connection:
            for table in self.tables():
                for number in range(1, NEXT_TO_EACH_OTHER + 1):
                    row = {column.name: self._value(column, number) for column in table.columns}
                    connection.execute(table.insert(), row)

    @staticmethod
    def _value(column: sa.Column[Any], number: int) -> Any:
        if column.foreign_keys:
            (key,) = column.foreign_keys
            return Rows._value(key.column, number)
        kind = column.type.as_generic()
        if column.name == "id" and not isinstance(kind, sa.Integer):
            return f"00000000-0000-4000-8000-00000000000{number}"
        if isinstance(kind, sa.String):
            return f"{column.name[:6]} {number}" if kind.length else f"{column.name} {number} ü"
        values: Mapping[type[Any], Any] = {
            sa.JSON: {"of": [column.name, number]},
            sa.DateTime: datetime(2026, 11, 20, number).astimezone(),
            sa.LargeBinary: bytes([number]) * 32,
            sa.BigInteger: 2**40 + number,
            sa.Integer: number,
            sa.Float: number + 0.5,
        }
        return next(value for of, value in values.items() if isinstance(kind, of))

    def all(self) -> dict[str, list[Any]]:
        """Every row of every table, by column."""
        with self._engine.connect() as connection:
            return {
                table.name: sorted((dict(row._mapping) for row in connection.execute(table.select())), key=repr)
                for table in self.tables()
            }

    def comments(self) -> set[tuple[str, str | None]]:
        """Of the tables' columns, where the database keeps them."""
        return {(f"{table}.{column.name}", column.comment) for table in self.tables() for column in table.columns}

    def close(self) -> None:
        self._engine.dispose()


@pytest.fixture
def rows(ledger_url: str) -> Iterator[Rows]:
    upgrade(ledger_url, BEFORE)
    made = Rows(ledger_url)
    made.fill()
    yield made
    made.close()


def test_nothing_is_lost_up_down_and_up_again(rows: Rows, ledger_url: str) -> None:
    before = rows.all()
    assert all(len(of_table) == NEXT_TO_EACH_OTHER for of_table in before.values())
    upgrade(ledger_url)
    first = rows.all()
    downgrade(ledger_url, BEFORE)
    assert rows.all() == before
    assert {comment for _, comment in rows.comments()} == {None}
    upgrade(ledger_url)
    assert rows.all() == first


def test_what_is_known_of_an_older_ledgers_runs_is_read_by_this_program(
    rows: Rows, ledger_url: str, tmp_path: Path
) -> None:
    with Ledger.open(ledger_url, tmp_path) as ledger:
        for number, run in enumerate(reversed(ledger.runs()), start=1):
            (start,) = ledger.starts(run.id)
            assert (start.number, start.host, start.pid) == (1, f"host {number} ü", number)
            assert (start.options, start.environment, start.user_name) == (None, None, None)
            (collection,) = ledger.collection_runs(run.id)
            assert (collection.template, collection.backup_path) == (None, f"backup_path {number} ü")


def test_of_an_older_ledger_the_library_is_known_of_the_last_migration_of_a_model_alone(
    ledger_url: str, tmp_path: Path
) -> None:
    with Ledger.open(ledger_url, tmp_path) as ledger:
        model = ledger.register_model(
            family="openai", model="m", dimensions=8, fingerprint="f", tool_source="lib", tool_version="2.0"
        )
        for name in ("old", "new"):
            ledger.start_run(name, "migrate", model_id=model.id)
        ledger.start_run("way back", "rollback")
    downgrade(ledger_url, BEFORE)
    with Ledger.open(ledger_url, tmp_path) as ledger:
        found = {run.name: ledger.starts(run.id)[0].tool_version for run in ledger.runs()}
    assert found == {"old": None, "new": "2.0", "way back": None}
