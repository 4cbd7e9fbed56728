"""What a shell offers at a Tab."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from migration.__main__ import COMMANDS, cli
from migration.ledger import Ledger
from tests.commands.conftest import VARIABLES
from tests.commands.test_command_line import loaded

Offer = Callable[..., list[str]]


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Offer:
    """What is offered after these words, the last of them incomplete."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(VARIABLES):
            monkeypatch.delenv(name)

    def offer(*words: str) -> list[str]:
        *args, incomplete = words
        found = ShellComplete(cli, {}, "kai-migrate", "_KAI_MIGRATE_COMPLETE").get_completions(args, incomplete)
        return [item.value for item in found]

    return offer


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with two runs in its ledger, one of them with an alias."""
    home = tmp_path / ".kai-migration"
    with Ledger.open(None, home) as ledger:
        ledger.start_run("first-run", "migrate", alias="spring", source={})
        ledger.start_run("second-run", "migrate", source={})
    return home


def test_the_commands_and_options_are_offered(offered: Offer) -> None:
    assert offered("") == list(COMMANDS)
    assert offered("re") == ["release", "report", "restore"]
    assert "--env-file" in offered("--")
    assert "--dry-run" in offered("run", "--d")


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("command", ["show", "rollback", "watch", "compare", "verify", "tune", "label", "finish"])
def test_runs_are_offered_by_name_and_alias_the_latest_first(offered: Offer, command: str) -> None:
    assert offered(command, "") == ["latest", "second-run", "spring", "first-run"]
    assert offered(command, "s") == ["second-run", "spring"]


def test_the_runs_are_those_of_the_ledger_that_is_configured(offered: Offer, home: Path, tmp_path: Path) -> None:
    (tmp_path / "other.env").write_text(
        f"MIGRATION_LEDGER_URL=sqlite:///{home}/ledger.sqlite\nMIGRATION_HOME=nowhere\n"
    )
    home.joinpath("ledger.sqlite").rename(home / "moved.sqlite")
    assert offered("show", "") == []
    home.joinpath("moved.sqlite").rename(home / "ledger.sqlite")
    assert offered("--env-file", "other.env", "show", "f") == ["first-run"]
    assert offered("show", "--env-file", "other.env", "f") == ["first-run"]


def test_of_a_ledger_on_postgresql_the_runs_with_a_folder_here_are_offered(
    offered: Offer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIGRATION_LEDGER_URL", "postgresql://nobody@nowhere.invalid/x")
    folder = tmp_path / ".kai-migration" / "runs" / "here"
    folder.mkdir(parents=True)
    (folder / "status.json").touch()
    assert offered("show", "") == ["latest", "here"]


def test_where_there_is_nothing_nothing_is_offered_and_nothing_made(offered: Offer, tmp_path: Path) -> None:
    assert offered("show", "") == []
    assert offered("show", "--env-file", "missing.env", "") == []
    assert offered("run", "--collections-file", "missing.toml", "--collections", "") == []
    assert list(tmp_path.iterdir()) == []


def test_collections_are_offered_after_the_option_and_after_a_first_name(offered: Offer, tmp_path: Path) -> None:
    assert offered("run", "--collections", "in") == ["instructions"]
    assert offered("run", "--collections", "instructions", "con") == ["context_stores"]
    assert offered("search", "sk") == ["skills"]
    assert offered("run", "con") == []
    (tmp_path / "own.toml").write_text('[articles]\nembedding_field = "v"\ntemplate = "{t}"\n')
    assert offered("run", "--collections-file", "own.toml", "--collections", "") == ["articles"]


def test_a_tab_loads_nothing_heavy(home: Path) -> None:
    code = (
        f"import os; os.environ.update(_KAI_MIGRATE_COMPLETE='bash_complete', COMP_WORDS='kai-migrate show ', "
        f"COMP_CWORD='2', MIGRATION_HOME={str(home)!r}); "
        "from migration.__main__ import cli; cli.main(prog_name='kai-migrate')"
    )
    assert loaded(code) == set()
