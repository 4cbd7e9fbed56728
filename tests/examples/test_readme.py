"""The README says what the program does today."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from migration.__main__ import cli
from migration.assessment.evaluation.verdict import EXIT_STATUS
from migration.cli.run import command
from migration.operations.runs import results

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The text under a heading, up to the next one of the same rank."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found, f"the README has no section {title!r}"
    return found[1]


def options_of_the_table() -> set[str]:
    """Every option named in the first column."""
    options = (REPOSITORY / "docs" / "options.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`-.*?) \|", options, re.MULTILINE)
    return {option for row in rows for option in re.findall(r"--?[a-z][a-z-]*", row)}


def options_of_the_help() -> set[str]:
    """Every option that the command line takes."""
    context = click.Context(command, **command.context_settings)
    return {name for option in command.get_params(context) for name in (*option.opts, *option.secondary_opts)}


def test_the_table_has_every_option_of_the_help_and_no_other() -> None:
    assert options_of_the_table() == options_of_the_help()


def test_every_command_of_the_table_exists() -> None:
    named = set(re.findall(r"^\| `kai-migrate ([a-z]+)` \|", section("Commands"), re.MULTILINE))
    assert named
    assert named <= set(cli.list_commands(click.Context(cli)))


def test_the_table_has_every_exit_status_and_no_other() -> None:
    named = {int(status) for status in re.findall(r"^\| (\d+) \|", section("What it says"), re.MULTILINE)}
    of_runs = {results.DONE, results.SOME_FAILED, results.REFUSED, results.STOPPED, results.INTERRUPTED}
    assert named == of_runs | set(EXIT_STATUS.values())


def test_the_two_commands_are_at_the_top_and_the_makefile_has_them() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    assert README.index("make demo") < README.index("make test") < README.index("pip install")
    for target in re.findall(r"`?make ([a-z]+)", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!http)([^)]+)\)", README))))
def test_every_link_leads_somewhere(target: str) -> None:
    assert (REPOSITORY / target).exists()


def test_every_variable_of_the_readme_is_explained_in_the_example_env() -> None:
    example = (REPOSITORY / ".env.example").read_text(encoding="utf-8")
    for variable in re.findall(r"`((?:EMBEDDING|OPENAI|GOOGLE|TYPESENSE|MIGRATION)_[A-Z_]+)`", README):
        assert variable in example, variable
