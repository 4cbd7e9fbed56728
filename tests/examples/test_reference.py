"""docs/reference.md and .env.example say what the code reads and ends with."""

from __future__ import annotations

from tests.examples.reference import DOCUMENT, explained, renewed, variables_read


def test_every_variable_that_is_read_is_explained_and_no_other() -> None:
    assert set(explained()) == variables_read()


def test_the_reference_says_what_the_code_says() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert renewed(text) == text, "python -m tests.examples.reference"
