"""`kai-migrate label`: a name and a note for any run, after the fact."""

from __future__ import annotations

import pytest

from migration.ledger import Ledger
from migration.ledger.records import RunKind
from tests.commands.conftest import Invoke


def labels(ledger: Ledger) -> dict[str, tuple[str | None, str | None]]:
    return {run.name: (run.alias, run.description) for run in ledger.runs()}


@pytest.mark.parametrize("kind", ["migrate", "rollback", "restore", "backup"])
def test_a_run_of_any_kind_gets_a_name_and_a_note(ledger: Ledger, ask: Invoke, kind: RunKind) -> None:
    ledger.start_run("one", kind, description="before")
    answer = ask("label", "one", "--alias", "production")
    assert (answer.status, answer.text) == (0, "one: alias production, description before\n")
    assert ask("label", "production", "--description", "for the winter", "--json").json["alias"] == "production"
    assert labels(ledger) == {"one": ("production", "for the winter")}
    assert ask("show", "production", "--json").json["run"]["name"] == "one"


def test_an_alias_of_another_run_is_moved_only_by_a_clear_word(ledger: Ledger, ask: Invoke) -> None:
    ledger.start_run("one", "migrate", alias="production")
    ledger.start_run("two", "migrate", alias="canary")
    answer = ask("label", "two", "--alias", "production")
    assert answer.status == 2
    assert "the alias 'production' belongs to run one; give --move to take it from there" in answer.text
    assert labels(ledger) == {"one": ("production", None), "two": ("canary", None)}
    assert ask("label", "two", "--alias", "production", "--move").status == 0
    assert labels(ledger) == {"one": (None, None), "two": ("production", None)}
    assert ask("label", "two", "--alias", "production").status == 0, "it has it already"


@pytest.mark.parametrize("freed", [["--alias", ""], ["--no-alias"]])
def test_an_alias_is_freed_for_another_run(ledger: Ledger, ask: Invoke, freed: list[str]) -> None:
    ledger.start_run("one", "migrate", alias="production", description="stays")
    assert ask("label", "one", *freed).status == 0
    assert labels(ledger) == {"one": (None, "stays")}
    assert ledger.start_run("two", "migrate", alias="production").alias == "production"
    assert ask("label", "one", "--description", "").status == 0
    assert labels(ledger)["one"] == (None, None)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["one"], "--alias, --no-alias, --description: give at least one of them"),
        (["one", "--alias", "x", "--no-alias"], "--alias, --no-alias: give one of them"),
        (["one", "--move", "--no-alias"], "--move goes with --alias NAME"),
        (["one", "--alias", "latest"], "'latest' always names the latest run"),
        (["one", "--alias", "two"], "belongs to run two already"),
        (["one", "--alias", "two", "--move"], "belongs to run two already"),
        (["one", "--alias", " "], "is no name"),
        (["one", "--alias", "a\0b"], "is no name"),
        (["none", "--alias", "x"], "holds no run 'none'"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    ledger: Ledger, ask: Invoke, arguments: list[str], words: str
) -> None:
    ledger.start_run("one", "migrate", alias="first")
    ledger.start_run("two", "migrate")
    answer = ask("label", *arguments)
    assert answer.status == 2
    assert words in answer.text
    assert labels(ledger) == {"one": ("first", None), "two": (None, None)}
