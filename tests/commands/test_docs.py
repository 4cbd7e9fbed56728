"""docs/commands.md says what the program says, and shows every command at work."""

from __future__ import annotations

import re

import pytest

from tests.commands.documented import DOCUMENT, documented, helps

REMEDY = "`python -m tests.commands.documented` renews the help in docs/commands.md"


@pytest.mark.parametrize("name", helps())
def test_the_help_of_every_command_stands_in_the_documentation(name: str) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    found = documented(text)
    assert name in found, f"docs/commands.md has no `<!-- help: {name} -->` with a ```text block; then: {REMEDY}"
    assert found[name] == helps()[name], REMEDY


def test_nothing_is_documented_that_is_not_there() -> None:
    assert documented(DOCUMENT.read_text(encoding="utf-8")).keys() <= helps().keys()


def test_every_command_is_shown_by_an_example() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    examples = set(re.findall(r"^\$ kai-migrate (.+)$", text, re.MULTILINE))
    for name in helps().keys() - {"kai-migrate", "ledger"}:
        assert any(f"{example} ".startswith(f"{name} ") for example in examples), name
