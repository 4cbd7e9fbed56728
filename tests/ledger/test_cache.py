"""Vectors that were paid for are found again, whatever happens to the process or to the file."""

import hashlib
import logging
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stnp

from kai.vectors import Vector
from migration.embedding.cache import CacheError, VectorCache
from migration.embedding.cache_file import CacheFile
from tests.ledger.conftest import sha

WRITER = """
import hashlib, sys
from pathlib import Path
import numpy as np
from migration.embedding.cache import VectorCache

with VectorCache(Path(sys.argv[1])) as cache:
    for page in range(int(sys.argv[2]), 10**9):
        vector = np.full(64, page + 1, dtype=np.float32)
        cache.put_many("s", [(hashlib.sha256(f"{page}-{row}".encode()).digest(), vector) for row in range(20)])
        print(page, flush=True)
"""


def pairs(count: int, dimensions: int = 64, seed: int = 1) -> list[tuple[bytes, Vector]]:
    vectors = np.random.default_rng(seed).standard_normal((count, dimensions)).astype(np.float32)
    return [(sha(f"{seed} {number}"), vector) for number, vector in enumerate(vectors)]


def test_vectors_come_back_bit_for_bit(tmp_path: Path) -> None:
    stored = pairs(600)
    with VectorCache(tmp_path) as cache:
        cache.put_many("space", stored)
    with VectorCache(tmp_path) as cache:
        found = cache.get_many("space", [text_hash for text_hash, _ in stored] + [sha("unknown")])
        assert len(found) == 600
        for text_hash, vector in stored:
            assert found[text_hash].dtype == np.float32
            assert found[text_hash].tobytes() == vector.tobytes()
        assert cache.get_many("other space", [stored[0][0]]) == {}
        assert cache.get_many("space", []) == {}
        cache.put_many("space", [])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    vector=stnp.arrays(np.float32, st.integers(0, 20), elements=st.floats(width=32)),
    space=st.text(max_size=10),
)
def test_a_vector_comes_back_unless_it_is_wrong(tmp_path: Path, vector: Vector, space: str) -> None:
    key = hashlib.sha256(vector.tobytes() + space.encode()).digest()
    with VectorCache(tmp_path) as cache:
        cache.put_many(space, [(key, vector)])
        found = cache.get_many(space, [key])
    if len(vector) and np.isfinite(vector).all() and vector.any():
        assert found[key].tobytes() == vector.tobytes()
    else:
        assert found == {}


def test_a_vector_of_another_precision_is_kept_as_float32(tmp_path: Path) -> None:
    with VectorCache(tmp_path) as cache:
        cache.put_many("s", [(sha("a"), np.array([0.1, 0.2], dtype=np.float64))])
        assert cache.get_many("s", [sha("a")])[sha("a")].tolist() == np.array([0.1, 0.2], np.float32).tolist()


def test_a_vector_put_again_replaces_the_old_one(tmp_path: Path) -> None:
    with VectorCache(tmp_path) as cache:
        cache.put_many("s", [(sha("a"), np.ones(4, np.float32))])
        cache.put_many("s", [(sha("a"), np.full(8, 2, np.float32))])
        assert cache.get_many("s", [sha("a")])[sha("a")].tolist() == [2] * 8


def test_rows_that_hold_no_proper_vector_are_ignored(tmp_path: Path) -> None:
    with VectorCache(tmp_path) as cache:
        cache.put_many("s", pairs(6, 4))
        keys = [text_hash for text_hash, _ in pairs(6, 4)]
    wrong = [
        b"short",
        np.full(4, np.nan, np.float32).tobytes(),
        np.zeros(4, np.float32).tobytes(),
        "text",
        np.ones(5, np.float32).tobytes(),
    ]
    with closing(sqlite3.connect(tmp_path / "vectors.sqlite")) as connection:
        for key, value in zip(keys[1:], wrong, strict=True):
            connection.execute("UPDATE vectors SET vector = ? WHERE text_hash = ?", [value, key])
        connection.commit()
    with VectorCache(tmp_path) as cache:
        assert list(cache.get_many("s", keys)) == keys[:1]
        assert list(cache.get_many("s", keys, dimensions=4)) == keys[:1]
        assert cache.get_many("s", keys, dimensions=5) == {}


def test_a_killed_writer_leaves_every_vector_that_it_reported(tmp_path: Path) -> None:
    chance = random.Random(8)  # noqa: S311
    reported: list[int] = []
    for attempt in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(attempt * 100_000)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        reported.append(int(writer.stdout.readline()))
        time.sleep(chance.uniform(0, 0.2))
        writer.send_signal(signal.SIGKILL)
        reported.extend(int(line) for line in writer.stdout.read().splitlines() if line)
        writer.wait()
        with VectorCache(tmp_path) as cache:
            for page in reported:
                keys = [sha(f"{page}-{row}") for row in range(20)]
                found = cache.get_many("s", keys)
                assert len(found) == 20
                assert all((vector == page + 1).all() for vector in found.values())
    assert [path.name for path in tmp_path.iterdir()] == ["vectors.sqlite"]


def test_threads_share_a_cache(tmp_path: Path) -> None:
    def work(thread: int) -> int:
        own = pairs(200, seed=thread)
        for start in range(0, 200, 50):
            cache.put_many("s", own[start : start + 50])
        return len(cache.get_many("s", [text_hash for text_hash, _ in own]))

    with VectorCache(tmp_path) as cache, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [200] * 8


@pytest.mark.parametrize("content", [b"not a database " * 1000, b"SQLite format 3\0" + b"\7" * 50_000])
def test_a_damaged_file_is_set_aside_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    (tmp_path / "vectors.sqlite").write_bytes(content)
    with caplog.at_level(logging.WARNING), VectorCache(tmp_path) as cache:
        assert cache.get_many("s", [sha("a")]) == {}
        cache.put_many("s", [(sha("a"), np.ones(4, np.float32))])
        assert len(cache.get_many("s", [sha("a")])) == 1
    (aside,) = tmp_path.glob("vectors.sqlite.damaged-*")
    assert aside.read_bytes() == content
    assert "set aside as vectors.sqlite.damaged-" in caplog.text


def test_a_file_damaged_while_it_is_used_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with VectorCache(tmp_path) as cache:
        cache.put_many("s", pairs(500))
    with (tmp_path / "vectors.sqlite").open("r+b") as file:
        file.seek(16384 * 3)
        file.write(b"\xff" * 16384 * 4)
    keys = [text_hash for text_hash, _ in pairs(500)]
    with caplog.at_level(logging.WARNING), VectorCache(tmp_path) as cache:
        assert len(cache.get_many("s", keys)) < 500
        cache.put_many("s", pairs(500))
        assert len(cache.get_many("s", keys)) == 500
    assert "set aside" in caplog.text


def test_a_file_of_other_making_is_set_aside(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "vectors.sqlite")) as connection:
        connection.execute("CREATE TABLE vectors (direction TEXT)")
    with VectorCache(tmp_path) as cache:
        cache.put_many("s", pairs(1))
        assert len(cache.get_many("s", [pairs(1)[0][0]])) == 1


def test_a_folder_in_the_place_of_the_file_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "vectors.sqlite").mkdir()
    with VectorCache(tmp_path) as cache:
        cache.put_many("s", pairs(1))
        assert len(cache.get_many("s", [pairs(1)[0][0]])) == 1


def test_without_a_place_the_cache_finds_and_keeps_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING), VectorCache(tmp_path / "file") as cache:
        cache.put_many("s", pairs(1))
        assert cache.get_many("s", [pairs(1)[0][0]]) == {}
    assert "going on without the vector cache" in caplog.text


def test_a_full_disk_is_an_error_that_says_so(tmp_path: Path) -> None:
    with VectorCache(tmp_path) as cache:
        cache.put_many("s", pairs(10))
        assert isinstance(cache.store, CacheFile)
        connection = cache.store.connection
        assert connection is not None
        connection.execute("PRAGMA max_page_count=1")
        with pytest.raises(CacheError, match=r"cannot grow.*free some space.*MIGRATION_HOME"):
            cache.put_many("s", pairs(5000, seed=2))
        assert len(cache.get_many("s", [text_hash for text_hash, _ in pairs(10)])) == 10


def test_a_locked_cache_is_an_error_that_says_so(tmp_path: Path) -> None:
    with VectorCache(tmp_path, patience=0.2) as cache:
        cache.put_many("s", pairs(1))
        with closing(sqlite3.connect(tmp_path / "vectors.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(CacheError, match="locked by another process"):
                cache.put_many("s", pairs(1))
            assert len(cache.get_many("s", [pairs(1)[0][0]])) == 1
        cache.put_many("s", pairs(2))


def test_two_processes_may_find_the_same_file_damaged(tmp_path: Path) -> None:
    first = VectorCache(tmp_path)
    first.put_many("s", pairs(10))
    for path in tmp_path.glob("vectors.sqlite*"):
        path.replace(path.with_name(path.name.replace("vectors.sqlite", "vectors.sqlite.damaged-1")))
    with VectorCache(tmp_path) as second:
        second.put_many("s", pairs(1, seed=2))
        first.put_many("s", pairs(1, seed=3))
        assert len(second.get_many("s", [pairs(1, seed=2)[0][0], pairs(1, seed=3)[0][0]])) == 2
    first.close()


def test_only_the_owner_may_read_the_cache(tmp_path: Path) -> None:
    with VectorCache(tmp_path / "home") as cache:
        cache.put_many("s", pairs(1))
        modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "home").iterdir()}
        assert modes == {0o600}
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700


def test_memory_does_not_grow_with_the_cache(tmp_path: Path) -> None:
    with VectorCache(tmp_path) as cache:
        cache.put_many("s", pairs(250, 256))
        tracemalloc.start()
        for seed in range(2, 22):
            stored = pairs(250, 256, seed)
            cache.put_many("s", stored)
            cache.get_many("s", [text_hash for text_hash, _ in stored])
        left, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert left < 1_000_000  # of 5 MB that were stored
    assert peak < 3_000_000


def test_a_space_is_forgotten_and_the_others_stay(tmp_path: Path) -> None:
    stored = pairs(300)
    with VectorCache(tmp_path) as cache:
        for space in ("one", "two"):
            cache.put_many(space, stored)
        assert cache.has("one")
        cache.forget("one")
        assert (cache.has("one"), cache.has("two")) == (False, True)
        hashes = [text_hash for text_hash, _ in stored]
        assert cache.get_many("one", hashes) == {}
        assert len(cache.get_many("two", hashes)) == 300
