"""One run at a time on one collection of one server, by whatever name the server goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from migration.runtime.lock import Held, hold


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("migration.runtime.lock.tempfile.gettempdir", lambda: str(tmp_path))


@pytest.mark.parametrize(
    ("one", "other"),
    [("localhost:8108", "127.0.0.1:8108"), ("LocalHost:8108", "::1:8108"), ("Search.Example:80", "search.example:80")],
)
def test_a_collection_is_held_under_every_name_of_its_server(one: str, other: str) -> None:
    with hold(one, "notes") as held:
        held.name("first")
        with pytest.raises(Held, match="first"), hold(other, "notes"):
            pass


@pytest.mark.parametrize("other", ["localhost:8109", "search.example:8108", "127.0.0.2:8108"])
def test_another_server_is_not_held_with_it(other: str) -> None:
    with hold("localhost:8108", "notes"), hold(other, "notes"):
        pass
