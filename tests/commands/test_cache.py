"""`kai-migrate cache`: what it shows, and what it removes only after it was asked."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from kai.models import EmbeddingSettings, fingerprint
from migration.__main__ import cli
from migration.embedding.cache import VectorCache
from migration.ledger import Ledger
from migration.runtime.status import Status, status_file
from tests.ledger.test_cache import pairs

SMALL = EmbeddingSettings("openai", "text-embedding-3-small", 64)
GOOGLE = EmbeddingSettings("google", "gemini-embedding-001", 128, "RETRIEVAL_QUERY")
NAMES = {each.model: fingerprint(each, "") for each in (SMALL, GOOGLE)}

Call = Callable[..., Result]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """The program in a home of its own; nobody is at the terminal."""
    monkeypatch.setenv("MIGRATION_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MIGRATION_CACHE_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(cli, ["cache", *arguments])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A cache with 300 vectors of one model, of which 20 were cut, and 100 of another; the newest of each came now."""
    home = tmp_path / "home"
    with VectorCache(home) as cache:
        for embedding, count in ((SMALL, 300), (GOOGLE, 100)):
            space = fingerprint(embedding, "")
            cache.name(space, embedding)
            cache.put_many(space, pairs(count, embedding.dimensions))
        cache.put_many(NAMES[SMALL.model], pairs(20, 64), cut_from=1536)
        cache.count_hits(NAMES[SMALL.model], 7)
    with closing(sqlite3.connect(home / "vectors.sqlite")) as connection:
        connection.execute("UPDATE vectors SET added_at = added_at - 100 * 86400 + id WHERE id % 2 = 0")
        connection.commit()
    return home


def held(home: Path) -> dict[str, int]:
    with closing(sqlite3.connect(home / "vectors.sqlite")) as connection:
        names = {space: model for model, space in NAMES.items()}
        rows = connection.execute("SELECT space, COUNT(*) FROM vectors GROUP BY space")
        return {names[space]: count for space, count in rows}


def test_what_the_cache_holds_is_shown_by_model(call: Call, home: Path) -> None:
    shown = call("--json")
    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.stdout)
    assert found["place"] == str(home / "vectors.sqlite")
    assert found["bytes"] > 300 * 64 * 4 + 100 * 128 * 4
    small, google = found["spaces"]
    assert (small["family"], small["model"], small["dimensions"]) == ("openai", "text-embedding-3-small", 64)
    assert (small["entries"], small["cut"], small["hits"]) == (300, 20, 7)
    assert (google["entries"], google["task_type"], google["hits"]) == (100, "RETRIEVAL_QUERY", 0)
    table = call().stdout
    assert "400 vectors" in table
    assert "google/gemini-embedding-001" in table


def test_the_names_of_what_an_older_program_has_kept_come_from_the_ledger(call: Call, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with VectorCache(home) as cache:
        cache.put_many(NAMES[SMALL.model], pairs(3))
        cache.put_many("a space that nobody knows", pairs(2))
    with Ledger.open(None, home) as ledger:
        ledger.register_model(family=SMALL.family, model=SMALL.model, dimensions=64, fingerprint=NAMES[SMALL.model])
    found = json.loads(call("--json").stdout)
    assert [(each["model"], each["entries"]) for each in found["spaces"]] == [(SMALL.model, 3), (None, 2)]


def test_where_there_is_no_cache_it_says_so_and_makes_none(call: Call, tmp_path: Path) -> None:
    done = call()
    assert done.exit_code == 2
    assert "MIGRATION_HOME: there is no vector cache in" in done.stderr
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("conditions", "small", "google"),
    [
        (("--older-than", "30d"), 150, 50),
        (("--older-than", "30d", "--model", "google/gemini-embedding-001@128"), 0, 50),
        (("--model", "text-embedding-3-small"), 300, 0),
        (("--keep-size", "0"), 300, 100),
        (("--keep-size", "1GB"), 0, 0),
        # A vector of 128 numbers takes 642 bytes, with all that is beside it.
        (("--keep-size", f"{70 * 642}", "--model", NAMES[GOOGLE.model]), 0, 30),
        (("--keep-size", f"{30 * 642}", "--model", NAMES[GOOGLE.model], "--older-than", "30d"), 0, 50),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_meets_every_condition_is_removed_after_a_yes_and_the_oldest_first(
    call: Call, home: Path, conditions: tuple[str, ...], small: int, google: int
) -> None:
    before = {SMALL.model: 300, GOOGLE.model: 100}
    told = call("prune", "--dry-run", "--json", *conditions)
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["entries"] == small + google
    if small + google:
        refused = call("prune", *conditions)
        assert refused.exit_code == 2
        assert "not confirmed; give --yes" in refused.stderr
    assert held(home) == before
    done = call("prune", "--yes", *conditions)
    assert done.exit_code == 0, done.output
    left = {model: before[model] - gone for model, gone in ((SMALL.model, small), (GOOGLE.model, google))}
    assert held(home) == {model: count for model, count in left.items() if count}


def test_the_room_of_what_was_removed_is_given_back(call: Call, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with VectorCache(home) as cache:
        cache.put_many("space", pairs(2000, 256))
    before = (home / "vectors.sqlite").stat().st_size
    done = call("prune", "--yes", "--keep-size", "0")
    assert "Removed 2,000 vectors, about 2,308,000 bytes." in done.stdout
    assert (home / "vectors.sqlite").stat().st_size < before / 20


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--yes",), "--older-than, --model, --keep-size: give at least one"),
        (("--model", "ada"), "--model: the cache holds no vectors of 'ada'; it holds openai/text-embedding-3-small@64"),
        (("--keep-size", "much"), "'much' is no size; write one such as 500MB or 2GB"),
        (("--older-than", "soon"), "'soon' is no age"),
    ],
)
def test_a_prune_without_a_bound_or_with_one_that_is_none_is_refused(
    call: Call, home: Path, arguments: tuple[str, ...], words: str
) -> None:
    done = call("prune", *arguments)
    assert done.exit_code == 2
    assert words in done.stderr
    assert sum(held(home).values()) == 400


def test_a_file_of_an_older_program_gets_what_it_lacks_and_keeps_its_vectors(tmp_path: Path) -> None:
    stored = pairs(10)
    with closing(sqlite3.connect(tmp_path / "vectors.sqlite")) as connection:
        connection.execute(
            "CREATE TABLE vectors (id INTEGER PRIMARY KEY, space TEXT NOT NULL, text_hash BLOB NOT NULL, "
            "dimensions INTEGER NOT NULL, vector BLOB NOT NULL, UNIQUE (space, text_hash))"
        )
        rows = [("s", key, len(vector), vector.tobytes()) for key, vector in stored]
        connection.executemany("INSERT INTO vectors (space, text_hash, dimensions, vector) VALUES (?, ?, ?, ?)", rows)
        connection.commit()
    for _ in range(2):
        with VectorCache(tmp_path) as cache:
            found = cache.get_many("s", [key for key, _ in stored])
            assert all(np.array_equal(found[key], vector) for key, vector in stored)
            assert cache.cut_from("s", [key for key, _ in stored]) == {}
    assert not list(tmp_path.glob("*.damaged-*"))


def test_what_a_run_that_is_under_way_has_at_hand_is_not_removed(call: Call, home: Path) -> None:
    status = Status(status_file(home, "a-run"))
    with status.kept():
        status.phase("embedding")
        done = call("prune", "--model", "text-embedding-3-small", "--yes")
        assert done.exit_code == 2
        assert "run a-run is under way, and what it has at hand would go too" in done.stderr
        assert call("prune", "--model", "text-embedding-3-small", "--dry-run").exit_code == 0
    assert sum(held(home).values()) == 400
