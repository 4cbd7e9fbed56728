"""Keys and passwords stay out of everything that can be printed."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kai.settings import SettingsError, load_settings, redact
from tests.unit.test_settings import GOOD

SECRETS = {
    "OPENAI_API_KEY": "sk-openai-0123456789",
    "GOOGLE_API_KEY": "AIza-google-0123456789",
    "TYPESENSE_API_KEY": "typesense-0123456789",
    "MIGRATION_LEDGER_URL": "postgresql+psycopg://kai:p%40ss-w%2Frd-0123@db.example.org/ledger",
    "MIGRATION_CACHE_URL": "postgresql://kai:cache-0123456789@db.example.org/vectors",
    "OLLAMA_API_BASE": "http://kai:ollama-0123456789@ollama.example.org",
}


def test_no_secret_is_in_the_repr() -> None:
    settings = load_settings(environ=GOOD | SECRETS)
    for shown in (repr(settings), str(settings), f"{settings}", repr(settings.typesense)):
        assert "0123" not in shown


def test_all_keys_and_passwords_are_known_as_secrets() -> None:
    assert set(load_settings(environ=GOOD | SECRETS).secrets) == {
        "sk-openai-0123456789",
        "AIza-google-0123456789",
        "typesense-0123456789",
        "p%40ss-w%2Frd-0123",
        "p@ss-w/rd-0123",
        "cache-0123456789",
        "ollama-0123456789",
    }


def test_a_settings_object_survives_pickling() -> None:
    settings = load_settings(environ=GOOD | SECRETS)
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301 - our own bytes


def test_a_key_in_the_wrong_variable_is_not_quoted() -> None:
    key = SECRETS["OPENAI_API_KEY"]
    with pytest.raises(SettingsError) as caught:
        load_settings(environ=GOOD | {"OPENAI_API_KEY": key, "OPENAI_API_BASE": key, "TYPESENSE_PORT": key})
    assert key not in str(caught.value)
    assert "'***' is not a port" in str(caught.value)


@given(
    before=st.text(max_size=20),
    secret=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=60),
    after=st.text(max_size=20),
)
def test_a_secret_is_gone_wherever_it_stands(before: str, secret: str, after: str) -> None:
    for spelling in (secret, quote(secret, safe="")):
        text = redact(f"{before}{spelling}{after}", [secret])
        assert spelling not in text or spelling in "***"


@pytest.mark.parametrize("variable", ["TYPESENSE_API_KEY", "OPENAI_API_KEY"])
def test_a_key_that_is_no_text_is_refused_by_its_name(variable: str) -> None:
    key = os.fsdecode(b"a-key-with-\xff-in-it")
    with pytest.raises(SettingsError) as caught:
        load_settings(environ=GOOD | {variable: key, "TYPESENSE_PORT": "no port"})
    assert variable in str(caught.value)


def test_a_short_secret_is_replaced_as_a_word_and_leaves_other_words_alone() -> None:
    text = redact("key=xyz, 'xyz' and xyzzy: X-TYPESENSE-API-KEY: xyz", ["xyz"])
    assert text == "key=***, '***' and xyzzy: X-TYPESENSE-API-KEY: ***"


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("postgresql://me:secret@host/db", "postgresql://me:***@host/db"),
        ("postgresql+psycopg://me:a/b@host", "postgresql+psycopg://me:***@host"),
        ("postgresql:///db?user=me&password=secret&x=1", "postgresql:///db?user=me&password=***&x=1"),
        ("http://localhost:8108/collections", "http://localhost:8108/collections"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_a_password_in_a_url_is_found_without_being_known(text: str, redacted: str) -> None:
    assert redact(text, []) == redacted


def test_redacting_with_an_empty_secret_changes_nothing() -> None:
    assert redact("text", ["", *replace(load_settings(environ=GOOD), provider={}).secrets]) == "text"


_FORMS = (
    lambda c: c,
    lambda c: "".join(f"%{byte:02x}" for byte in c.encode()),
    lambda c: "".join(f"%{byte:02X}" for byte in c.encode()),
    lambda c: f"\\u{ord(c):04x}",
    lambda c: f"\\u{ord(c):04X}",
    lambda c: f"&#{ord(c)};",
    lambda c: f"&#x{ord(c):X};",
    lambda c: f"\\{c}" if c == "/" else c,
)


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_characters="\x7f*"), min_size=8, max_size=20),
    st.lists(st.sampled_from(_FORMS), min_size=20, max_size=20),
)
def test_a_secret_is_found_however_each_of_its_characters_is_written(secret: str, forms: list[object]) -> None:
    written = "".join(form(character) for form, character in zip(forms, secret, strict=False))  # type: ignore[operator]
    assert redact(f"before {written} after", [secret]) == "before *** after"


def test_the_providers_server_is_known_without_login_or_key() -> None:
    openai = {"EMBEDDING_FAMILY": "openai", "EMBEDDING_MODEL": "text-embedding-3-small"}
    known = GOOD | SECRETS | openai
    key = SECRETS["OPENAI_API_KEY"]
    for base, server in (
        ({}, "https://api.openai.com/v1"),
        ({"OPENAI_API_BASE": f"https://u:pass-0123@Gate.example/{key}/v1/?key={key}"}, "https://gate.example/***/v1"),
        ({"OPENAI_BASE_URL": "http://127.0.0.1:4000/v1"}, "http://localhost:4000/v1"),
        ({"OPENAI_API_BASE": "http://a/v1", "OPENAI_BASE_URL": "http://b/v1"}, "http://a/v1"),
    ):
        assert load_settings(environ=known | base).provider_server == server
    ollama = known | {"EMBEDDING_FAMILY": "ollama", "EMBEDDING_MODEL": "nomic-embed-text"}
    assert load_settings(environ=ollama).provider_server == "http://ollama.example.org"
    local = known | {"EMBEDDING_FAMILY": "local", "EMBEDDING_MODEL": "l2_supercat", "EMBEDDING_DIMENSIONS": "64"}
    assert load_settings(environ=local).provider_server is None
