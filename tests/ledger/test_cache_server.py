"""The vector cache on PostgreSQL: the same as in a file, and shared by machines that do not wait for each other."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from sqlalchemy import create_engine, make_url, text

from kai.models import EmbeddingSettings, fingerprint
from migration.__main__ import cli
from migration.embedding.cache import CacheError, VectorCache
from tests.ledger.conftest import sha
from tests.ledger.test_cache import pairs

SMALL = EmbeddingSettings("openai", "text-embedding-3-small", 64)
SPACE = fingerprint(SMALL, "")


@pytest.fixture
def cache(postgresql_url: str, tmp_path: Path) -> Iterator[VectorCache]:
    with VectorCache(tmp_path, url=postgresql_url) as opened:
        yield opened


def rows(url: str, query: str) -> list[Any]:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            return list(connection.execute(text(query)))
    finally:
        engine.dispose()


def test_vectors_come_back_bit_for_bit_on_every_machine(
    cache: VectorCache, postgresql_url: str, tmp_path: Path
) -> None:
    stored = pairs(600)
    cache.put_many("space", stored)
    with VectorCache(tmp_path / "elsewhere", url=postgresql_url) as other:
        found = other.get_many("space", [key for key, _ in stored] + [sha("unknown")])
        assert len(found) == 600
        assert all(found[key].tobytes() == vector.tobytes() for key, vector in stored)
        assert other.has("space")
        assert not other.has("another space")
        other.forget("space")
    assert cache.get_many("space", [key for key, _ in stored]) == {}
    assert not list(tmp_path.iterdir())


def test_what_is_cut_and_what_stays_is_as_in_a_file(cache: VectorCache) -> None:
    cache.name(SPACE, SMALL)
    cache.put_many(SPACE, [(sha("a"), np.ones(64, np.float32))])
    cut = np.full(64, 2, np.float32)
    cache.put_many(SPACE, [(sha("a"), cut), (sha("b"), cut)], cut_from=1536, replaces=False)
    assert cache.get_many(SPACE, [sha("a")])[sha("a")].tolist() == [1.0] * 64
    assert cache.cut_from(SPACE, [sha("a"), sha("b")]) == {sha("b"): 1536}
    cache.put_many(SPACE, [(sha("b"), np.ones(64, np.float32))])
    assert cache.cut_from(SPACE, [sha("a"), sha("b")]) == {}
    cache.put_many(SPACE, [(sha("c"), np.zeros(64, np.float32)), (sha("d"), np.full(64, np.nan, np.float32))])
    assert cache.get_many(SPACE, [sha("c"), sha("d")]) == {}


def test_machines_that_embed_the_same_texts_at_once_lose_nothing_and_do_not_stop_each_other(
    postgresql_url: str, tmp_path: Path
) -> None:
    stored = pairs(1000)

    def work(machine: int) -> int:
        # Each makes the tables if it is first, and takes the texts in an order of its own.
        own = [stored[place] for place in np.random.default_rng(machine).permutation(len(stored))]
        with VectorCache(tmp_path / str(machine), url=postgresql_url) as cache:
            cache.name(SPACE, SMALL)
            for start in range(0, 1000, 200):
                cache.put_many(SPACE, own[start : start + 200])
                cache.count_hits(SPACE, 1)
            return len(cache.get_many(SPACE, [key for key, _ in own]))

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(work, range(6))) == [1000] * 6
    assert [tuple(row) for row in rows(postgresql_url, "SELECT COUNT(*) FROM kai_vectors")] == [(1000,)]
    assert [tuple(row) for row in rows(postgresql_url, "SELECT hits FROM kai_vector_spaces")] == [(30,)]


def test_a_connection_that_the_server_has_ended_is_made_again(cache: VectorCache, postgresql_url: str) -> None:
    cache.put_many("s", pairs(3))
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = "
    rows(postgresql_url, ended + "current_database()")
    assert len(cache.get_many("s", [key for key, _ in pairs(3)])) == 3


def test_a_look_makes_no_tables(postgresql_url: str, tmp_path: Path) -> None:
    assert not VectorCache.is_in(tmp_path, postgresql_url)
    assert rows(postgresql_url, "SELECT 1 FROM pg_tables WHERE tablename LIKE 'kai_%'") == []
    VectorCache(tmp_path, url=postgresql_url).close()
    assert VectorCache.is_in(tmp_path, postgresql_url)


def test_it_is_shown_pruned_written_out_and_read_in_as_a_file_is(
    cache: VectorCache, postgresql_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.setenv("MIGRATION_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MIGRATION_CACHE_URL", postgresql_url)
    cache.name(SPACE, SMALL)
    cache.put_many(SPACE, pairs(300))

    def call(*arguments: str) -> Any:
        done = CliRunner().invoke(cli, ["cache", *arguments, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    found = call()
    assert found["place"].startswith("PostgreSQL 127.0.0.1:")
    assert found["bytes"] > 300 * 256
    assert found["spaces"][0]["entries"] == 300
    assert call("export", str(tmp_path / "x.parquet"))["entries"] == 300
    removed = call("prune", "--keep-size", "38600", "--yes")  # 100 of them
    assert (removed["entries"], removed["given_back"]) == (200, False)
    assert call()["spaces"][0]["entries"] == 100
    assert call("import", str(tmp_path / "x.parquet"))["kept"] == 300
    assert call()["spaces"][0]["entries"] == 300


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://kai:s3cret-word@127.0.0.1:1/x", "the vector cache PostgreSQL 127.0.0.1:1/x cannot be used"),
        ("postgresql://kai:s3cret@word@127.0.0.1:1/x", "MIGRATION_CACHE_URL cannot be understood"),
        ("mysql://kai:s3cret-word@127.0.0.1/x", "MIGRATION_CACHE_URL names 'mysql'"),
    ],
)
def test_what_cannot_be_used_is_told_without_the_password(tmp_path: Path, url: str, words: str) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(CacheError) as caught:
        VectorCache(tmp_path, url=url)
    assert words in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_without_the_driver_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(CacheError, match=r"pip install 'kai-embedding-migration\[postgresql\]'"):
        VectorCache(tmp_path, url="postgresql://127.0.0.1/x")
