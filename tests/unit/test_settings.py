"""What `load_settings` accepts."""

from __future__ import annotations

from pathlib import Path

import pytest

from kai.settings import EmbeddingSettings, Settings, SettingsError, TypesenseSettings, load_settings

GOOD = {
    "EMBEDDING_FAMILY": "google",
    "EMBEDDING_MODEL": "gemini-embedding-001",
    "EMBEDDING_DIMENSIONS": "768",
    "GOOGLE_API_KEY": "AIzaSy-google-key",
    "TYPESENSE_API_KEY": "typesense-key",
}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder without a .env."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def env_file(folder: Path, text: str | bytes) -> Path:
    path = folder / "some.env"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_what_is_not_written_has_the_documented_default() -> None:
    assert load_settings(environ=GOOD) == Settings(
        embedding=EmbeddingSettings("google", "gemini-embedding-001", 768, "RETRIEVAL_QUERY"),
        typesense=TypesenseSettings("localhost", 8108, "http", "typesense-key", 60.0),
        provider={"GOOGLE_API_KEY": "AIzaSy-google-key"},
        home=Path(".kai-migration"),
        ledger_url=None,
    )


def test_the_embedding_is_described_as_on_the_console() -> None:
    described = str(load_settings(environ=GOOD).embedding.describe())
    assert described == "{'family': 'google', 'model': 'gemini-embedding-001', 'dimensions': 768}"


def test_capitals_and_blanks_are_forgiven_as_in_kais_own_file() -> None:
    settings = load_settings(
        environ=GOOD
        | {
            "EMBEDDING_FAMILY": " Google ",
            "EMBEDDING_DIMENSIONS": " 768",
            "EMBEDDING_TASK_TYPE": "semantic_similarity",
            "TYPESENSE_PROTOCOL": "HTTP",
            "TYPESENSE_TIMEOUT": "2",
            "TYPESENSE_PORT": "443 ",
        }
    )
    assert settings.embedding == EmbeddingSettings("google", "gemini-embedding-001", 768, "SEMANTIC_SIMILARITY")
    assert settings.typesense == TypesenseSettings("localhost", 443, "http", "typesense-key", 2.0)


def test_the_file_is_read_and_the_environment_wins(empty_folder: Path) -> None:
    (empty_folder / ".env").write_text(
        "# a comment\nexport EMBEDDING_FAMILY=google\nEMBEDDING_MODEL='gemini-embedding-001'\n"
        'EMBEDDING_DIMENSIONS="3072" # the longest\nGOOGLE_API_KEY=from-the-file\n'
        "TYPESENSE_API_KEY=typesense-key\nTYPESENSE_HOST=${HOST_OF_ALL}\n"
    )
    environ = {"GOOGLE_API_KEY": "from-the-environment", "HOST_OF_ALL": "search.example.org"}
    settings = load_settings(environ=environ)
    assert settings.embedding.dimensions == 3072
    assert settings.key == "from-the-environment"
    assert settings.typesense.host == "search.example.org"


def test_a_file_of_ones_own_is_read_instead_of_the_one_in_the_folder(empty_folder: Path) -> None:
    (empty_folder / ".env").write_text("TYPESENSE_HOST=wrong\n")
    path = env_file(empty_folder, "\ufeffTYPESENSE_HOST=right\r\n")
    assert load_settings(path, GOOD).typesense.host == "right"


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    assert load_settings().key == GOOD["GOOGLE_API_KEY"]


def test_the_example_file_is_a_good_file_but_for_the_key() -> None:
    example = Path(__file__).parents[2] / ".env.example"
    with pytest.raises(SettingsError) as caught:
        load_settings(example, {})
    assert [problem.variable for problem in caught.value.problems] == ["OPENAI_API_KEY"]
    assert load_settings(example, {"OPENAI_API_KEY": "key"}).embedding.model == "text-embedding-3-small"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("search.example.org", "http://search.example.org:8108"),
        ("10.0.0.7", "http://10.0.0.7:8108"),
        ("kai_typesense", "http://kai_typesense:8108"),
        ("::1", "http://[::1]:8108"),
        ("[::1]", "http://[::1]:8108"),
    ],
)
def test_a_host_becomes_a_url(host: str, url: str) -> None:
    assert load_settings(environ=GOOD | {"TYPESENSE_HOST": host}).typesense.url == url


A, B, C = "http://a.example:8108", "http://b.example:8108", "https://c.example:443"


@pytest.mark.parametrize("nodes", [f"{A},{B},{C}", f" {C}/ , {A},\t{B} ", f"{B},{C},{A},{B}"])
def test_a_cluster_is_known_by_the_same_node_in_whatever_order_its_nodes_are_written(nodes: str) -> None:
    typesense = load_settings(environ=GOOD | {"TYPESENSE_NODES": nodes}).typesense
    assert set(typesense.nodes) == {A, B, C}
    assert len(typesense.nodes) == 3
    assert (typesense.address, typesense.url) == ("a.example:8108", A)


def test_a_cluster_is_known_by_the_host_that_was_set_before_if_that_is_one_of_its_nodes() -> None:
    host = {"TYPESENSE_HOST": "C.example", "TYPESENSE_PORT": "443"}
    typesense = load_settings(environ=GOOD | host | {"TYPESENSE_NODES": f"{A},{B},{C}"}).typesense
    assert (typesense.address, typesense.url) == ("c.example:443", C)


def test_the_nodes_win_over_a_host_that_is_none_of_them() -> None:
    host = {"TYPESENSE_HOST": "elsewhere.example", "TYPESENSE_PROTOCOL": "https"}
    typesense = load_settings(environ=GOOD | host | {"TYPESENSE_NODES": f"{B},{A}"}).typesense
    assert (typesense.address, typesense.nodes) == ("a.example:8108", (B, A))


@pytest.mark.parametrize("nodes", ["", "  "])
def test_without_nodes_the_host_is_the_server(nodes: str) -> None:
    typesense = load_settings(environ=GOOD | {"TYPESENSE_NODES": nodes, "TYPESENSE_HOST": "a.example"}).typesense
    assert (typesense.address, typesense.nodes) == ("a.example:8108", ())


def test_a_node_may_be_an_address_of_ipv6() -> None:
    typesense = load_settings(environ=GOOD | {"TYPESENSE_NODES": "http://[::1]:8108"}).typesense
    assert (typesense.address, typesense.url) == ("localhost:8108", "http://[::1]:8108")


@pytest.mark.parametrize(
    ("family", "model", "dimensions"),
    [
        ("openai", "text-embedding-3-small", "1536"),
        ("openai", "text-embedding-3-small", "1"),
        ("openai", "text-embedding-3-large", "3072"),
        ("openai", "text-embedding-ada-002", "1536"),
        ("openai", "text-embedding-9-from-the-future", "12345"),
        ("google", "gemini-embedding-001", "128"),
        ("google", "models/gemini-embedding-001", "3072"),
        ("ollama", "nomic-embed-text:latest", "768"),
        ("local", "l2_supercat", "64"),
        ("local", "wordllama", "256"),
    ],
)
def test_a_length_that_the_model_can_give_is_accepted(family: str, model: str, dimensions: str) -> None:
    target = {"EMBEDDING_FAMILY": family, "EMBEDDING_MODEL": model, "EMBEDDING_DIMENSIONS": dimensions}
    embedding = load_settings(environ=GOOD | {"OPENAI_API_KEY": "key"} | target).embedding
    assert (embedding.family, embedding.model, embedding.dimensions) == (family, model, int(dimensions))
    assert (embedding.task_type is None) == (family != "google")


@pytest.mark.parametrize("family", ["ollama", "local"])
def test_families_without_keys_need_none(family: str) -> None:
    target = {"EMBEDDING_FAMILY": family, "EMBEDDING_MODEL": "some-model", "EMBEDDING_DIMENSIONS": "64"}
    load_settings(environ={"TYPESENSE_API_KEY": "k"} | target)
