"""What `load_settings` refuses, and how it says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kai.settings import Settings, SettingsError, load_settings
from tests.unit.test_settings import GOOD, empty_folder, env_file

__all__ = ["empty_folder"]

OPENAI = {
    "EMBEDDING_FAMILY": "openai",
    "EMBEDDING_MODEL": "text-embedding-3-small",
    "OPENAI_API_KEY": "sk-key",
}
VARIABLES = [
    "EMBEDDING_FAMILY",
    "EMBEDDING_MODEL",
    "EMBEDDING_DIMENSIONS",
    "EMBEDDING_TASK_TYPE",
    "OPENAI_API_KEY",
    "OPENAI_API_BASE",
    "GOOGLE_API_KEY",
    "GOOGLE_API_BASE",
    "OLLAMA_API_BASE",
    "TYPESENSE_HOST",
    "TYPESENSE_PORT",
    "TYPESENSE_PROTOCOL",
    "TYPESENSE_API_KEY",
    "TYPESENSE_TIMEOUT",
    "TYPESENSE_NODES",
    "MIGRATION_HOME",
    "MIGRATION_LEDGER_URL",
    "MIGRATION_CACHE_URL",
]


def problems(environ: dict[str, str], file: Path | None = None) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(file, environ)
    return {problem.variable: problem.message for problem in caught.value.problems}


def test_every_problem_is_named_at_once() -> None:
    found = problems(
        {
            "EMBEDDING_FAMILY": "openai",
            "EMBEDDING_DIMENSIONS": "many",
            "OPENAI_API_KEY": " ",
            "OPENAI_API_BASE": "localhost:8000/v1",
            "TYPESENSE_HOST": "",
            "TYPESENSE_PORT": "70000",
            "TYPESENSE_PROTOCOL": "ftp",
            "TYPESENSE_TIMEOUT": "soon",
        }
    )
    assert list(found) == [
        "EMBEDDING_MODEL",
        "EMBEDDING_DIMENSIONS",
        "TYPESENSE_HOST",
        "TYPESENSE_PORT",
        "TYPESENSE_PROTOCOL",
        "TYPESENSE_API_KEY",
        "TYPESENSE_TIMEOUT",
        "OPENAI_API_KEY",
        "OPENAI_API_BASE",
    ]


def test_nothing_at_all_names_what_is_required() -> None:
    found = problems({})
    assert set(found) == {"EMBEDDING_FAMILY", "EMBEDDING_MODEL", "EMBEDDING_DIMENSIONS", "TYPESENSE_API_KEY"}
    assert "openai, google, ollama, local, azure" in found["EMBEDDING_FAMILY"]


@pytest.mark.parametrize(
    ("family", "model", "length"),
    [
        ("openai", "text-embedding-3-small", "1536"),
        ("google", "gemini-embedding-001", "768"),
        ("ollama", "nomic-embed-text", "768"),
        ("local", "l2_supercat", "256"),
    ],
)
def test_the_remedy_for_a_missing_model_is_the_families_usual_one(family: str, model: str, length: str) -> None:
    found = problems({"EMBEDDING_FAMILY": family})
    assert model in found["EMBEDDING_MODEL"]
    assert length in found["EMBEDDING_DIMENSIONS"]


@pytest.mark.parametrize("family", ["OpenIA", "gemini", "", "openai,google"])
def test_an_unknown_family_lists_the_known_ones(family: str) -> None:
    assert "openai, google, ollama, local, azure" in problems(GOOD | {"EMBEDDING_FAMILY": family})["EMBEDDING_FAMILY"]


@pytest.mark.parametrize(("family", "variable"), [("openai", "OPENAI_API_KEY"), ("google", "GOOGLE_API_KEY")])
@pytest.mark.parametrize("key", [None, "", "  ", "two words", "schlüssel", "a\nb"])
def test_a_family_needs_its_key(family: str, variable: str, key: str | None) -> None:
    environ = GOOD | {"EMBEDDING_FAMILY": family, "EMBEDDING_MODEL": "a-model"}
    environ.pop(variable, None)
    if key is not None:
        environ[variable] = key
    found = problems(environ)
    assert list(found) == [variable]
    assert not key or not key.strip() or key not in found[variable]


@pytest.mark.parametrize("dimensions", ["0", "-768", "7.5", "1e3", "seven", "", "٧٦٨", "1_000", "9" * 5000])
def test_dimensions_are_a_positive_whole_number(dimensions: str) -> None:
    assert list(problems(GOOD | {"EMBEDDING_DIMENSIONS": dimensions})) == ["EMBEDDING_DIMENSIONS"]


@pytest.mark.parametrize(
    ("family", "model", "dimensions", "remedy"),
    [
        ("openai", "text-embedding-3-small", "1537", "1 to 1536"),
        ("openai", "text-embedding-3-large", "3073", "1 to 3072"),
        ("openai", "text-embedding-ada-002", "1535", "exactly 1536"),
        ("google", "gemini-embedding-001", "127", "128 to 3072"),
        ("google", "models/gemini-embedding-001", "3073", "128 to 3072"),
        ("local", "l2_supercat", "100", "64, 128 or 256"),
        ("local", "wordllama", "512", "64, 128 or 256"),
    ],
)
def test_a_length_that_the_model_cannot_give_names_what_it_can(
    family: str, model: str, dimensions: str, remedy: str
) -> None:
    target = {"EMBEDDING_FAMILY": family, "EMBEDDING_MODEL": model, "EMBEDDING_DIMENSIONS": dimensions}
    found = problems(GOOD | {"OPENAI_API_KEY": "key"} | target)
    assert list(found) == ["EMBEDDING_DIMENSIONS"]
    assert remedy in found["EMBEDDING_DIMENSIONS"]


@pytest.mark.parametrize(
    ("variable", "value", "remedy"),
    [
        ("TYPESENSE_PORT", "0", "1 to 65535"),
        ("TYPESENSE_PORT", "65536", "1 to 65535"),
        ("TYPESENSE_PORT", "", "1 to 65535"),
        ("TYPESENSE_PORT", "80.0", "1 to 65535"),
        ("TYPESENSE_PROTOCOL", "https://", "http or https"),
        ("TYPESENSE_TIMEOUT", "0", "such as 60"),
        ("TYPESENSE_TIMEOUT", "nan", "such as 60"),
        ("TYPESENSE_TIMEOUT", "inf", "such as 60"),
        ("TYPESENSE_TIMEOUT", ".", "such as 60"),
        ("TYPESENSE_HOST", "http://localhost", "localhost"),
        ("TYPESENSE_HOST", "localhost:8108", "without protocol and port"),
        ("TYPESENSE_HOST", "two words", "localhost"),
        ("TYPESENSE_HOST", ":::", "localhost"),
        ("TYPESENSE_NODES", "a.example:8108", "http://HOST:PORT"),
        ("TYPESENSE_NODES", "http://a.example:8108,", "http://HOST:PORT"),
        ("TYPESENSE_NODES", "http://a.example:8108 http://b.example:8108", "separated by commas"),
        ("TYPESENSE_NODES", "http://a.example", "http://HOST:PORT"),
        ("TYPESENSE_NODES", "http://a.example:70000", "http://HOST:PORT"),
        ("TYPESENSE_NODES", "http://a.example:8108/path", "http://HOST:PORT"),
        ("TYPESENSE_NODES", "http://me@a.example:8108", "http://HOST:PORT"),
        ("TYPESENSE_NODES", "ftp://a.example:8108", "http://HOST:PORT"),
        ("OPENAI_API_BASE", "api.openai.com", "https://api.openai.com/v1"),
        ("GOOGLE_API_BASE", "ftp://host", "https://"),
        ("OLLAMA_API_BASE", "localhost:11434", "http://localhost:11434"),
        ("OLLAMA_API_BASE", "http://host:port", "http://localhost:11434"),
        ("EMBEDDING_TASK_TYPE", "SEARCH", "RETRIEVAL_QUERY"),
        ("MIGRATION_LEDGER_URL", "ledger.db", "SQLAlchemy URL"),
        ("MIGRATION_CACHE_URL", "mysql://user:password@host/database", "is not a URL of PostgreSQL"),
        ("MIGRATION_CACHE_URL", "sqlite:////tmp/vectors.sqlite", "leave it out"),
        ("MIGRATION_HOME", "~nobody-has-this-name/x", "folder"),
    ],
)
def test_a_wrong_value_names_what_would_be_right(variable: str, value: str, remedy: str) -> None:
    found = problems(GOOD | {variable: value})
    assert list(found) == [variable]
    assert remedy in found[variable]


@pytest.mark.parametrize("variable", VARIABLES)
@given(value=st.text(max_size=60))
def test_whatever_a_variable_holds_only_that_variable_is_blamed(variable: str, value: str) -> None:
    environ = GOOD | {"OPENAI_API_KEY": "sk-key-0123456789"} | {variable: value}
    # The length is one that every family and every unknown model can have.
    environ.setdefault("EMBEDDING_DIMENSIONS", "256")
    try:
        assert isinstance(load_settings(environ=environ), Settings)
    except SettingsError as error:
        assert {problem.variable for problem in error.problems} == {variable}
        assert all(problem.message.isprintable() for problem in error.problems)


@given(values=st.dictionaries(st.sampled_from(VARIABLES), st.text(max_size=40)))
def test_whatever_all_variables_hold_the_answer_is_settings_or_problems(values: dict[str, str]) -> None:
    try:
        assert isinstance(load_settings(environ=values), Settings)
    except SettingsError as error:
        assert error.problems
        assert {problem.variable for problem in error.problems} <= set(VARIABLES)


def test_a_file_that_is_not_there_is_a_problem_only_if_it_was_asked_for(empty_folder: Path) -> None:
    load_settings(environ=GOOD)
    path = empty_folder / "nowhere.env"
    assert list(problems(GOOD, path)) == [str(path)]


@pytest.mark.parametrize("content", [b"\xff\xfeT\x00Y\x00", b"TYPESENSE_HOST='\x80'\n"])
def test_a_file_that_is_not_utf_8_is_a_problem(empty_folder: Path, content: bytes) -> None:
    path = env_file(empty_folder, content)
    assert "UTF-8" in problems(GOOD, path)[str(path)]


def test_a_folder_in_place_of_a_file_is_a_problem(empty_folder: Path) -> None:
    assert list(problems(GOOD, empty_folder)) == [str(empty_folder)]


def test_a_malformed_line_is_named_by_its_number_and_not_quoted(empty_folder: Path) -> None:
    path = env_file(empty_folder, "TYPESENSE_PORT=8108\nOPENAI_API_KEY='sk-never-closed\n")
    message = problems(GOOD, path)[str(path)]
    assert "line 2" in message
    assert "sk-never-closed" not in message


@given(content=st.binary(max_size=200))
def test_whatever_a_file_holds_the_answer_is_settings_or_problems(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.env"
    path.write_bytes(content)
    try:
        load_settings(path, GOOD)
    except SettingsError as error:
        assert error.problems


def test_a_missing_file_is_a_problem_whatever_its_name_begins_with(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(tmp_path / "OPENAI_prod.env", environ=GOOD, needs=())
    assert "OPENAI_prod.env" in str(caught.value)
