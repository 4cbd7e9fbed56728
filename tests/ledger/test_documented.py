"""docs/ledger.md says of every table and column what the schema says, and draws how they hang together."""

from __future__ import annotations

import re

import pytest

from migration.ledger.comments import COMMENTS
from migration.ledger.schema import metadata
from tests.ledger.documented import DOCUMENT, blocks, written

REMEDY = "`python -m tests.ledger.documented` renews docs/ledger.md"


@pytest.mark.parametrize("name", blocks())
def test_the_document_is_current(name: str) -> None:
    assert written(DOCUMENT.read_text(encoding="utf-8")).get(name) == blocks()[name], REMEDY


def test_the_diagram_has_every_table_every_column_and_every_reference() -> None:
    diagram = blocks()["diagram"]
    for table in metadata.tables.values():
        (drawn,) = re.findall(rf"^    {table.name} \{{\n(.*?)\n    \}}$", diagram, re.MULTILINE | re.DOTALL)
        assert [line.split()[1] for line in drawn.splitlines()] == [column.name for column in table.columns]
        for key in table.foreign_keys:
            target = key.column.table.name
            assert re.search(rf'^    {target} [|o]+--o\{{ {table.name} : "{key.parent.name}"$', diagram, re.MULTILINE)


def test_nothing_is_described_that_is_not_there() -> None:
    described = {(table, column) for table, words in COMMENTS.items() for column in words if column}
    assert described == {(table.name, column.name) for table in metadata.tables.values() for column in table.columns}
