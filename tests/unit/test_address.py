"""A server has one address, however it is spelt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kai.address import canonical_address, canonical_url
from kai.settings import TypesenseSettings
from kai.typesense import Typesense


@pytest.mark.parametrize(
    ("spelt", "canonical"),
    [
        ("127.0.0.1:8108", "localhost:8108"),
        ("LocalHost:8108", "localhost:8108"),
        ("localhost.:8108", "localhost:8108"),
        ("::1:8108", "localhost:8108"),
        ("[::1]:8108", "localhost:8108"),
        ("0:0:0:0:0:0:0:1:8108", "localhost:8108"),
        ("127.0.0.2:8108", "127.0.0.2:8108"),
        ("Search.Example.org.:443", "search.example.org:443"),
        ("2001:DB8:0::7:8108", "[2001:db8::7]:8108"),
        ("[2001:db8::7]:8108", "[2001:db8::7]:8108"),
        ("localhost", "localhost"),
        ("", ""),
    ],
)
def test_every_spelling_of_an_address_becomes_the_same(spelt: str, canonical: str) -> None:
    assert canonical_address(spelt) == canonical


@given(st.text(max_size=40))
def test_a_canonical_address_stays_as_it_is(address: str) -> None:
    once = canonical_address(address)
    assert canonical_address(once) == once


@pytest.mark.parametrize("host", ["127.0.0.1", "LOCALHOST", "::1"])
def test_a_connection_knows_its_server_by_the_canonical_address(host: str) -> None:
    with Typesense(TypesenseSettings(host, 8108, api_key="key")) as server:
        assert server.address == "localhost:8108"


@pytest.mark.parametrize(
    ("spelt", "canonical"),
    [
        ("https://API.OpenAI.com/v1/", "https://api.openai.com/v1"),
        ("https://api.openai.com:443/v1", "https://api.openai.com/v1"),
        ("http://127.0.0.1:11434", "http://localhost:11434"),
        ("http://kai:secret@[::1]:80/x?key=secret#y", "http://localhost/x"),
        ("http://[2001:db8::7]:9000/", "http://[2001:db8::7]:9000"),
    ],
)
def test_a_base_url_has_one_spelling_without_login_and_query(spelt: str, canonical: str) -> None:
    assert canonical_url(spelt) == canonical
    assert canonical_url(canonical) == canonical
