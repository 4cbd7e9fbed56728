"""The command line that is written from a run's record: it means what was given, whatever it was."""

from __future__ import annotations

import math
import os
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import orjson
import pytest

from kai.settings import EmbeddingSettings, Settings, TypesenseSettings
from migration.cli.replay import arguments_of
from migration.operations.runs.record import call_of_migration, given, without_login
from migration.strategies.context import MigrationOptions

TYPESENSE = TypesenseSettings("search", 8108, "https", "typesense-secret", 2.5)
OTHERWISE: dict[str, Any] = {
    "collections": ("a b", "it's"),
    "concurrency": 7,
    "max_rpm": 30,
    "max_tpm": 4000,
    "nice": 0.1,
    "patience": 3.5,
    "strategy": "alter",
    "into": "{field}_v2",
    "follow": 30.0,
    "hold": 28800.0,
    "rehearse": True,
    "hooks": Path("a folder"),
    "hook_timeout": 5.5,
    "max_load": {"search_latency_ms": 50.0, "pending_write_batches": 2.5},
    "limit": 5,
    "until": 0.07,
    "max_cost": 0.05,
    "force": True,
    "from_old": False,
    "backup": False,
    "allow_partial": True,
    "allow_lag": True,
    "keep_old": True,
    "verify_sample": 3,
    "description": "--not an option; $HOME `ls`",
}
"""Of every option that makes another run, a value that is not its default."""


def parsed(name: str, words: list[str]) -> dict[str, Any]:
    """What the command would be called with."""
    command: click.Command = import_module(f"migration.cli.{name}").command
    return command.make_context(name, list(words)).params


def test_every_option_of_a_migration_has_a_value_here() -> None:
    """So that one that is added is tried below."""
    left_out = {"dry_run", "env_file", "collections_file", "alias", "verbose"}
    assert {each.name for each in fields(MigrationOptions)} - left_out == OTHERWISE.keys()


@pytest.mark.parametrize("names", [*([name] for name in OTHERWISE), list(OTHERWISE)], ids=" ".join)
def test_what_was_given_is_given_again(names: list[str]) -> None:
    options = MigrationOptions(**{name: OTHERWISE[name] for name in names})
    words = arguments_of("run", given(options))
    assert words[0] == "run"
    found = parsed("run", words[1:])
    of_no_run = ("version", "log_format")
    assert MigrationOptions(**{name: value for name, value in found.items() if name not in of_no_run}) == options


def test_a_run_that_held_until_it_was_released_holds_so_again() -> None:
    options = MigrationOptions(hold=math.inf, rehearse=True)
    recorded = orjson.loads(orjson.dumps(given(options)))
    found = parsed("run", arguments_of("run", recorded)[1:])
    assert (found["hold"], found["rehearse"]) == (math.inf, True)


def test_cutting_that_was_insisted_on_is_insisted_on_again() -> None:
    assert arguments_of("run", given(MigrationOptions(from_old=True))) == ["run", "--from-old"]


def test_the_alias_is_not_given_again_for_it_belongs_to_the_run() -> None:
    assert arguments_of("run", given(MigrationOptions(alias="production", strategy="auto"))) == [
        "run",
        "--strategy",
        "auto",
    ]


def test_a_run_to_roll_back_is_not_taken_for_a_collection() -> None:
    words = arguments_of("rollback", {"collections": ["a", "b"], "run": "first"})
    found = parsed("rollback", words[1:])
    assert (found["run"], found["collections"]) == ("first", ("a", "b"))


def test_the_settings_of_a_run_have_neither_key_nor_login() -> None:
    settings = Settings(
        EmbeddingSettings("openai", "text-embedding-3-small", 64),
        TYPESENSE,
        provider={
            "OPENAI_API_KEY": "sk-secret",
            "OPENAI_API_BASE": "https://me:pass-secret@proxy/v1?key=query-secret",
        },
    )
    call = call_of_migration(MigrationOptions(strategy="auto"), settings)
    assert "secret" not in repr(call)
    assert call.environment == {
        "EMBEDDING_FAMILY": "openai",
        "EMBEDDING_MODEL": "text-embedding-3-small",
        "EMBEDDING_DIMENSIONS": "64",
        "OPENAI_API_BASE": "https://***@proxy/v1?***",
        "TYPESENSE_HOST": "search",
        "TYPESENSE_PORT": "8108",
        "TYPESENSE_PROTOCOL": "https",
        "TYPESENSE_TIMEOUT": "2.5",
    }


@pytest.mark.parametrize(
    ("family", "name", "base"),
    [
        ("openai", "OPENAI_API_BASE", "https://api.openai.com/v1"),
        ("google", "GOOGLE_API_BASE", "https://generativelanguage.googleapis.com"),
        ("ollama", "OLLAMA_API_BASE", "http://localhost:11434"),
        ("local", "LOCAL_API_BASE", None),
    ],
)
def test_also_the_providers_own_address_is_recorded_for_another_may_be_set_by_then(
    family: str, name: str, base: str | None
) -> None:
    settings = Settings(EmbeddingSettings(family, "m", 64, "CLUSTERING"), TYPESENSE)
    environment = call_of_migration(MigrationOptions(), settings).environment or {}
    assert environment.get(name) == base
    assert environment["EMBEDDING_TASK_TYPE"] == "CLUSTERING"


def test_the_file_of_an_authority_is_recorded_by_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings(EmbeddingSettings("local", "m", 64), replace(TYPESENSE, ca_file=Path("ours.pem")))
    environment = call_of_migration(MigrationOptions(), settings).environment or {}
    assert environment["TYPESENSE_CA_FILE"] == str(tmp_path / "ours.pem")


def test_a_cluster_is_recorded_by_its_nodes() -> None:
    nodes = ("http://a:8108", "http://b:8108")
    settings = Settings(EmbeddingSettings("local", "m", 64), replace(TYPESENSE, nodes=nodes))
    environment = call_of_migration(MigrationOptions(), settings).environment or {}
    assert environment["TYPESENSE_NODES"] == "http://a:8108,http://b:8108"


def test_what_a_file_said_is_recorded_not_where_it_was(tmp_path: Path) -> None:
    file = tmp_path / "collections.toml"
    file.write_text('[a]\nembedding_field = "v"\ntemplate = "{ü}"\n', encoding="utf-8")
    settings = Settings(EmbeddingSettings("local", "m", 64), TYPESENSE)
    call = call_of_migration(MigrationOptions(collections_file=file), settings)
    assert call.collections_file == file.read_text(encoding="utf-8")
    assert "collections_file" not in (call.options or {})


def test_a_pipe_is_recorded_by_its_name_for_what_was_in_it_is_gone(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    call = call_of_migration(
        MigrationOptions(collections_file=pipe), Settings(EmbeddingSettings("local", "m", 64), TYPESENSE)
    )
    assert call.collections_file is None
    assert arguments_of("run", call.options or {}) == ["run", "--collections-file", str(pipe)]


@pytest.mark.parametrize("url", ["http://host:1/v1", "https://[::1]:8/"])
def test_an_address_without_a_login_stays_as_it_is(url: str) -> None:
    assert without_login(url) == url
