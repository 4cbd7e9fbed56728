"""The table of families, and what the settings make of it."""

from __future__ import annotations

import sys
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest

from kai.embedding_interface import MissingPackageError
from kai.embeddings import make_embeddings
from kai.families import FAMILIES, RequestLimits, find_family, tool_of
from kai.models import CATALOGUE
from kai.settings import Settings, SettingsError, load_settings
from migration.operations.runs.record import environment_of
from tests.families.documented import DOCUMENT, renewed
from tests.unit.test_settings import GOOD, empty_folder

__all__ = ["empty_folder"]

ACCESS: dict[str, dict[str, str]] = {
    "azure": {"AZURE_OPENAI_API_KEY": "azure-key-0123", "AZURE_OPENAI_ENDPOINT": "https://ours.openai.azure.com/"},
    "vertex": {"GOOGLE_CLOUD_PROJECT": "ours"},
    "cohere": {"COHERE_API_KEY": "cohere-key-0123"},
    "voyage": {"VOYAGE_API_KEY": "voyage-key-0123"},
    "mistral": {"MISTRAL_API_KEY": "mistral-key-0123"},
    "tei": {"TEI_API_BASE": "http://a:8080/v1"},
    "sentence-transformers": {},
}


def environ(family: str, **more: str) -> dict[str, str]:
    model = next(model for model in CATALOGUE if model.family == family)
    target = {"EMBEDDING_FAMILY": family, "EMBEDDING_MODEL": model.name}
    return GOOD | target | {"EMBEDDING_DIMENSIONS": str(model.usual_dimensions)} | ACCESS.get(family, {}) | more


def settings(family: str, **more: str) -> Settings:
    return load_settings(environ=environ(family, **more))


def problems(environ: dict[str, str]) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ=environ)
    return {problem.variable: problem.message for problem in caught.value.problems}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_names_a_function_that_is_there_and_a_package_of_its_extra(family: str) -> None:
    row = FAMILIES[family]
    module, _, function = row.make.partition(":")
    assert callable(getattr(import_module(module), function))
    project = Path(__file__).parents[2] / "pyproject.toml"
    assert row.extra is None or f'{row.extra} = ["{row.package}' in project.read_text()


def test_no_variable_belongs_to_two_families() -> None:
    counted = Counter(variable.name for row in FAMILIES.values() for variable in row.variables)
    assert set(counted.values()) == {1}


@pytest.mark.parametrize("family", ACCESS)
def test_a_family_needs_its_variables_and_those_of_no_other(family: str) -> None:
    assert settings(family).family is FAMILIES[family]
    for name in ACCESS[family]:
        given = environ(family)
        del given[name]
        found = problems(given)
        assert list(found) == [name]
        assert found[name].startswith(f"is missing and family {family} needs it; write ")


@pytest.mark.parametrize("family", ACCESS)
def test_its_keys_are_secrets(family: str) -> None:
    keys = {value for name, value in ACCESS[family].items() if name.endswith("_KEY")}
    found = settings(family)
    assert keys <= set(found.secrets)
    assert not any(key in repr(found) for key in keys)


@pytest.mark.parametrize(
    ("family", "default"),
    [("cohere", "search_query"), ("voyage", "query"), ("vertex", "RETRIEVAL_QUERY"), ("azure", None), ("tei", None)],
)
def test_texts_are_embedded_as_queries_unless_the_task_type_says_otherwise(family: str, default: str | None) -> None:
    assert settings(family).embedding.task_type == default
    if default is not None:
        other = FAMILIES[family].task_types[1]
        assert settings(family, EMBEDDING_TASK_TYPE=other.swapcase()).embedding.task_type == other
        found = problems(environ(family, EMBEDDING_TASK_TYPE="poem"))
        assert f"'poem' is not a task type of family {family}; write one of" in found["EMBEDDING_TASK_TYPE"]


def test_several_addresses_are_read_once_each_and_recorded_in_one_order() -> None:
    both = settings("openai", OPENAI_API_KEY="k", OPENAI_API_BASE=" http://b/v1/ ,http://u:pw-012345@a/v1,http://b/v1")
    assert both.bases == ("http://b/v1", "http://u:pw-012345@a/v1")
    assert both.provider_server == "http://a/v1,http://b/v1"
    assert both.at("http://b/v1").bases == ("http://b/v1",)
    assert "pw-012345" in both.secrets
    assert environment_of(both, embeds=True)["OPENAI_API_BASE"] == "http://b/v1,http://***@a/v1"


@pytest.mark.parametrize("base", ["http://a/v1,", "http://a/v1,b:80", "http://a/v1 http://b/v1"])
def test_each_of_several_addresses_must_be_one(base: str) -> None:
    found = problems(environ("openai", OPENAI_API_KEY="k", OPENAI_API_BASE=base))
    assert "is not an http(s) URL; write one such as https://api.openai.com/v1, or several" in found["OPENAI_API_BASE"]


def test_a_provider_that_is_one_has_one_address() -> None:
    found = problems(environ("cohere", COHERE_API_BASE="http://a,http://b"))
    assert found["COHERE_API_BASE"] == "takes one address only; write one such as https://api.cohere.com"


def test_what_a_request_may_carry_is_the_models_then_the_families_unless_it_is_set() -> None:
    assert settings("vertex").request_limits.texts == 1
    assert settings("vertex", EMBEDDING_MODEL="text-embedding-005").request_limits.texts == 250
    assert settings("tei", EMBEDDING_REQUEST_TEXTS="128").request_limits == RequestLimits(128, 16_000)
    own = GOOD | {"EMBEDDING_FAMILY": "custom:a.b:C", "EMBEDDING_REQUEST_TOKENS": "500"}
    assert load_settings(environ=own).request_limits == RequestLimits(32, 500)
    assert list(problems(GOOD | {"EMBEDDING_REQUEST_TEXTS": "0", "EMBEDDING_REQUEST_TOKENS": "many"})) == [
        "EMBEDDING_REQUEST_TEXTS",
        "EMBEDDING_REQUEST_TOKENS",
    ]


@pytest.mark.parametrize("name", ["custom:", "custom:module", "custom:a.b:C.D", "custom:a/b:C", "custom::C"])
def test_a_class_of_ones_own_is_named_by_its_module_and_its_name(name: str) -> None:
    assert find_family(name) is None
    found = problems(GOOD | {"EMBEDDING_FAMILY": name})
    assert "custom:package.module:Class for a class of your own" in found["EMBEDDING_FAMILY"]


@pytest.mark.parametrize(
    ("family", "package"),
    [("cohere", "langchain_cohere"), ("voyage", "langchain_voyageai"), ("mistral", "langchain_mistralai")],
)
def test_a_family_that_is_not_installed_says_how_it_is(
    monkeypatch: pytest.MonkeyPatch, family: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError) as caught:
        make_embeddings(settings(family))
    assert str(caught.value) == (
        f"family {family} needs {FAMILIES[family].package}: pip install 'kai-embedding-migration[{family}]'"
    )


def test_what_computes_the_vectors_goes_on_record() -> None:
    assert tool_of("azure")[0] == "langchain-openai"
    assert tool_of("custom:langchain_core.embeddings:Embeddings")[0] == "langchain-core"
    assert tool_of("custom:ours.models:Own") == ("ours.models", None)
    recorded = environment_of(settings("azure", AZURE_OPENAI_DEPLOYMENT="d1"), embeds=True)
    assert recorded["AZURE_OPENAI_DEPLOYMENT"] == "d1"
    assert recorded["OPENAI_API_VERSION"] == "2024-10-21"
    assert recorded["AZURE_OPENAI_ENDPOINT"] == "https://ours.openai.azure.com"
    assert "AZURE_OPENAI_API_KEY" not in recorded


def test_the_tables_of_the_documentation_are_those_of_the_code() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert renewed(text) == text, "`python -m tests.families.documented` renews them"
    every = [model.name for model in CATALOGUE] + list(FAMILIES)
    assert [name for name in every if f"`{name}`" not in text] == []
