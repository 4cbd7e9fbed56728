"""Keeps the help in docs/commands.md what the program says: `python -m tests.commands.documented` rewrites it.

The help of a command stands there in a block after a mark such as `<!-- help: ledger current -->`; the rest
of the file is written by hand.
"""

from __future__ import annotations

import re
from pathlib import Path

import click

from migration.__main__ import cli

DOCUMENT = Path(__file__).parents[2] / "docs" / "commands.md"
WIDTH = 100
_BLOCK = re.compile(r"<!-- help: (?P<name>.+?) -->\n```text\n(?P<help>.*?)\n?```", re.DOTALL)


def helps() -> dict[str, str]:
    """The help of the program itself and of every command, by its words after `kai-migrate`."""
    top = click.Context(cli, info_name="kai-migrate", terminal_width=WIDTH, **cli.context_settings)
    return {"kai-migrate": cli.get_help(top), **_helps_in(cli, top, ())}


def _helps_in(group: click.Group, parent: click.Context, words: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=parent)
        here = (*words, name)
        found[" ".join(here)] = command.get_help(context)
        if isinstance(command, click.Group):
            found |= _helps_in(command, context, here)
    return found


def documented(text: str) -> dict[str, str]:
    """The help that a document holds, by command."""
    return {match["name"]: match["help"] for match in _BLOCK.finditer(text)}


def renewed(text: str) -> str:
    """The document with every block of help as the program prints it now."""
    current = helps()
    return _BLOCK.sub(
        lambda match: f"<!-- help: {match['name']} -->\n```text\n{current.get(match['name'], match['help'])}\n```", text
    )


if __name__ == "__main__":
    DOCUMENT.write_text(renewed(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
