"""`kai-migrate` and `python -m migration`: one command line that loads only what it needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from migration.__main__ import COMMANDS, cli
from migration.cli import run
from migration.runtime.version import program_version
from tests.commands.conftest import Invoke

HEAVY = ("sqlalchemy", "alembic", "langchain_core", "numpy", "httpx", "typesense", "tqdm")


def loaded(code: str) -> set[str]:
    """Which heavy modules are loaded after this code has run in a fresh process."""
    script = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\nprint('LOADED', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    modules = done.stdout.rpartition("LOADED")[2].split()
    return {name for name in HEAVY if name in modules}


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    assert loaded(f"from migration.__main__ import cli; cli.main({arguments!r})") == set()


def test_help_names_every_command_that_is_there(invoke: Invoke) -> None:
    answer = invoke("--help")
    assert answer.status == 0
    for name in ("run", "history", "show", "compare", "models", "explain", "ledger"):
        assert f"  {name} " in answer.text
        assert COMMANDS[name].help in answer.text


def test_the_help_of_a_command_begins_with_what_it_does() -> None:
    for name in cli.list_commands(click.Context(cli)):
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        assert command.help, name


def test_run_is_the_migration_with_the_same_options(invoke: Invoke) -> None:
    command = cli.get_command(click.Context(cli), "run")
    assert command is run.command
    assert "--dry-run" in invoke("run", "--help").text


def test_run_refuses_as_the_migration_does(invoke: Invoke) -> None:
    answer = invoke("run", "--dry-run")
    assert answer.status == 2
    assert "EMBEDDING_FAMILY: is missing" in answer.text


def test_the_version_is_told(invoke: Invoke) -> None:
    assert invoke("--version").text == f"kai-migrate, version {program_version()}\n"


@pytest.mark.parametrize("before", [True, False])
def test_the_env_file_may_stand_before_or_after_the_command(invoke: Invoke, tmp_path: Path, before: bool) -> None:
    file = tmp_path / "other.env"
    file.write_text("MIGRATION_LEDGER_URL=nonsense\n")
    option = ["--env-file", str(file)]
    answer = invoke(*option, "history") if before else invoke("history", *option)
    assert answer.status == 2
    assert "MIGRATION_LEDGER_URL" in answer.text


def test_a_missing_env_file_is_refused_by_every_command(invoke: Invoke) -> None:
    for arguments in (["history"], ["show", "x"], ["compare", "x", "y"], ["models"], ["explain", "x", "y"]):
        answer = invoke("--env-file", "nowhere.env", *arguments)
        assert answer.status == 2, arguments
        assert "nowhere.env: there is no such file" in answer.text
    answer = invoke("--env-file", "nowhere.env", "ledger", "current")
    assert answer.status == 2
    assert "nowhere.env: there is no such file" in answer.text


def test_the_ledger_commands_find_the_ledger_of_the_configuration(invoke: Invoke, tmp_path: Path) -> None:
    assert invoke("ledger", "current").text == "none\n"
    assert invoke("ledger", "upgrade").status == 0
    assert "(head)" in invoke("ledger", "current").text
    assert (tmp_path / "home" / "ledger.sqlite").exists()
    file = tmp_path / "other.env"
    file.write_text(f"MIGRATION_LEDGER_URL=sqlite:///{tmp_path}/another.sqlite\n")
    assert invoke("--env-file", str(file), "ledger", "current").text == "none\n"


def test_the_ledger_needs_neither_embedding_nor_typesense_settings(invoke: Invoke) -> None:
    for command in ("history", "models"):
        answer = invoke(command)
        assert answer.status == 0
        assert answer.text == f"No {'runs' if command == 'history' else 'models'} yet.\n"


def test_a_wrong_use_is_exit_status_2(invoke: Invoke) -> None:
    assert invoke("history", "--limit", "0").status == 2
    assert invoke("compare", "one").status == 2
    assert invoke("nonsense").status == 2
