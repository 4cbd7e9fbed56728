"""Keeps docs/ledger.md what the schema says: `python -m tests.ledger.documented` rewrites it.

The diagram and the tables stand there between marks such as `<!-- schema: diagram -->` and `<!-- end -->`; the rest
of the file is written by hand.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Table
from sqlalchemy.dialects import registry

from migration.ledger.schema import VERSION_TABLE, metadata

_POSTGRESQL: Any = registry.load("postgresql")()
DOCUMENT = Path(__file__).parents[2] / "docs" / "ledger.md"
_BLOCK = re.compile(r"(?P<mark><!-- schema: (?P<name>\w+) -->\n)(?P<text>.*?)(?P<end>\n<!-- end -->)", re.DOTALL)


def blocks() -> dict[str, str]:
    """What the schema says, by the name of its mark."""
    return {"diagram": _diagram(), "tables": "\n\n".join(_described(table) for table in _tables())}


def written(text: str) -> dict[str, str]:
    """What a document says, by the name of its mark."""
    return {match["name"]: match["text"] for match in _BLOCK.finditer(text)}


def renewed(text: str) -> str:
    """The document with every such block as the schema is now."""
    current = blocks()
    return _BLOCK.sub(lambda match: match["mark"] + current.get(match["name"], match["text"]) + match["end"], text)


def _tables() -> list[Table]:
    return [table for table in metadata.tables.values() if table.name != VERSION_TABLE]


def _diagram() -> str:
    """A diagram in the language of mermaid, which many a viewer of Markdown draws."""
    lines = ["```mermaid", "erDiagram"]
    for table in _tables():
        for key in sorted(table.foreign_keys, key=lambda each: str(each.parent.name)):
            least = "|o" if key.parent.nullable else "||"
            lines.append(f'    {key.column.table.name} {least}--o{{ {table.name} : "{key.parent.name}"')
    for table in _tables():
        lines.append(f"    {table.name} {{")
        lines += [f"        {_type(column)} {column.name}{_keys(column)}" for column in table.columns]
        lines.append("    }")
    return "\n".join([*lines, "```"])


def _described(table: Table) -> str:
    rows = [
        f"| `{column.name}` | {_type(column)}{'' if column.nullable else ', never NULL'} | {column.comment} |"
        for column in table.columns
    ]
    return "\n".join([f"### {table.name}", "", f"{table.comment}.", "", "| column | type | |", "|---|---|---|", *rows])


def _type(column: Column[Any]) -> str:
    """As PostgreSQL has it; SQLite takes it for one of its own."""
    name = str(column.type.compile(dialect=_POSTGRESQL)).lower()
    return name.replace("timestamp with time zone", "timestamptz").replace("double precision", "float")


def _keys(column: Column[Any]) -> str:
    unique = {name for each in column.table.indexes if each.unique for name in each.columns.keys()}  # noqa: SIM118
    keys = ["PK"] * column.primary_key + ["FK"] * bool(column.foreign_keys)
    keys += ["UK"] * bool(column.unique or column.name in unique)
    return f" {', '.join(keys)}" if keys else ""


if __name__ == "__main__":
    DOCUMENT.write_text(renewed(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
