"""`kai-migrate cache export` and `import`: what goes out comes in again, and what is wrong is named and refused."""

from __future__ import annotations

import hashlib
import json
import math
import sys
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from kai.models import EmbeddingSettings, fingerprint
from migration.__main__ import cli
from migration.embedding.cache import VectorCache
from migration.operations import cache_exchange
from tests.ledger.test_cache import pairs

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

SMALL = EmbeddingSettings("openai", "text-embedding-3-small", 4)
SPACE = fingerprint(SMALL, "")
GOOD: dict[str, Any] = {
    "family": "openai", "model": "text-embedding-3-small", "dimensions": 4, "task_type": None, "text": "a text",
    "text_hash": None, "vector": [0.5, 0.5, 0.5, 0.5], "cut_from": None,
}  # fmt: skip

Call = Callable[..., Result]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """The program in a home of its own, with the model configured."""
    variables = {
        "MIGRATION_HOME": str(tmp_path / "home"), "EMBEDDING_FAMILY": "openai", "OPENAI_API_KEY": "sk-not-a-key",
        "EMBEDDING_MODEL": SMALL.model, "EMBEDDING_DIMENSIONS": "4",
    }  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MIGRATION_CACHE_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(cli, ["cache", *arguments])


def sha(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def write(file: Path, rows: Iterable[dict[str, Any]], kinds: dict[str, Any] | None = None) -> None:
    rows = list(rows)
    names = {name: None for row in rows for name in row}
    usual = {"vector": pa.list_(pa.float64()), "dimensions": pa.int64(), "cut_from": pa.int64()}
    kinds = usual | (kinds or {})
    columns = {name: pa.array([row.get(name) for row in rows], kinds.get(name, pa.string())) for name in names}
    pq.write_table(pa.table(columns), file)


def kept(home: Path, *texts: str) -> dict[str, list[float]]:
    with VectorCache(home) as cache:
        found = cache.get_many(SPACE, [sha(text) for text in texts])
    return {text: found[sha(text)].tolist() for text in texts if sha(text) in found}


def test_what_is_written_can_be_read_on_another_machine_bit_for_bit(call: Call, tmp_path: Path) -> None:
    other = EmbeddingSettings("google", "gemini-embedding-001", 128, "RETRIEVAL_QUERY")
    stored = {SMALL: pairs(700, 4), other: pairs(30, 128)}
    with VectorCache(tmp_path / "home") as cache:
        for embedding, vectors in stored.items():
            cache.name(fingerprint(embedding, ""), embedding)
            cache.put_many(fingerprint(embedding, ""), vectors)
        cache.put_many(SPACE, stored[SMALL][:5], cut_from=1536)
        cache.put_many("of nobody", pairs(2))
    done = call("export", "all.parquet")
    assert done.exit_code == 0, done.output
    assert "Wrote 730 vectors" in done.stdout
    assert "Left out 2 vectors" in done.stderr
    assert call("export", "all.parquet").exit_code == 2
    assert call("export", "one.parquet", "--model", "google/gemini-embedding-001").stdout.startswith("Wrote 30 ")
    (tmp_path / "home").rename(tmp_path / "first home")
    done = call("import", "all.parquet")
    assert done.exit_code == 0, done.output
    assert "Read 730 rows: 730 vectors are in the cache, 0 refused." in done.stdout
    with VectorCache(tmp_path / "home") as cache:
        for embedding, vectors in stored.items():
            found = cache.get_many(fingerprint(embedding, ""), [key for key, _ in vectors])
            assert all(found[key].tobytes() == vector.tobytes() for key, vector in vectors)
        assert cache.cut_from(SPACE, [key for key, _ in stored[SMALL]]) == {key: 1536 for key, _ in stored[SMALL][:5]}
    shown = json.loads(call("--json").stdout)["spaces"]
    assert {(each["model"], each["entries"]) for each in shown} == {(SMALL.model, 700), (other.model, 30)}
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float32(), 4), pa.list_(pa.float16())]
)
@pytest.mark.parametrize(
    "names", [{"text": "a text"}, {"text_hash": sha("a text")}, {"text_hash": sha("a text").hex()}]
)
def test_a_text_or_its_hash_and_any_list_of_floats_will_do(
    call: Call, tmp_path: Path, names: dict[str, Any], kind: Any
) -> None:
    row = {key: value for key, value in GOOD.items() if key not in ("text", "text_hash", "task_type", "cut_from")}
    row["vector"] = np.array([0.5, 0.5, 0.5, 0.5], np.float16)
    kinds = {"vector": kind, "text_hash": pa.binary() if isinstance(names.get("text_hash"), bytes) else pa.string()}
    write(tmp_path / "x.parquet", [row | names], kinds)
    done = call("import", "x.parquet")
    assert done.exit_code == 0, done.output
    assert kept(tmp_path / "home", "a text") == {"a text": [0.5, 0.5, 0.5, 0.5]}


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"family": "closedai"}, "family is 'closedai', not one of openai, google"),
    ({"model": ""}, "there is no model"),
    ({"dimensions": 0}, "dimensions is 0, not a number from 1"),
    ({"dimensions": None}, "dimensions is None, not a number from 1"),
    ({"dimensions": 2000}, "text-embedding-3-small has no vectors of 2000 dimensions, but of 1 to 1536"),
    ({"task_type": "CLUSTERING"}, "task_type is 'CLUSTERING', and openai has none"),
    ({"family": "google", "model": "m"}, "task_type is None, and google needs one; KAI embeds as RETRIEVAL_QUERY"),
    ({"text": None}, "there is neither a text nor a text_hash"),
    ({"text": ""}, "the text is empty"),
    ({"text_hash": "zz"}, "text_hash is not hexadecimal"),
    ({"text_hash": "abcd"}, "text_hash is no SHA-256, which has 32 bytes"),
    ({"text_hash": "0" * 64}, "text_hash is not that of the text"),
    ({"vector": None}, "there is no vector"),
    ({"vector": []}, "the file has vectors of length 0, not 4"),
    ({"vector": [1.0, 2.0, 3.0]}, "the file has vectors of length 3, not 4"),
    ({"vector": [1.0, 2.0, 3.0, math.nan]}, "the file has a vector with a number that is not finite"),
    ({"vector": [1.0, 2.0, 3.0, None]}, "the file has a vector with a number that is not finite"),
    ({"vector": [1.0, 2.0, 3.0, 1e300]}, "the file has a vector with a number that is not finite"),
    ({"vector": [0.0, 0.0, 0.0, 0.0]}, "the file has a vector of zeros"),
    ({"cut_from": 4}, "cut_from is 4, which is no more than the dimensions"),
]


def test_rows_that_are_wrong_are_named_and_the_others_are_kept(call: Call, tmp_path: Path) -> None:
    good = GOOD | {"text": "the last one"}
    write(tmp_path / "x.parquet", [*(GOOD | changes for changes, _ in WRONG), good])
    done = call("import", "x.parquet", "--json")
    assert done.exit_code == 1, done.output
    found = json.loads(done.stdout)
    assert (found["rows"], found["kept"], found["refused"]) == (len(WRONG) + 1, 1, len(WRONG))
    reasons = [row["reason"] for row in found["first_refused"]]
    assert [row["row"] for row in found["first_refused"]] == list(range(1, len(WRONG) + 1))
    for (changes, words), reason in zip(WRONG, reasons, strict=True):
        assert reason.startswith(words), changes
    assert kept(tmp_path / "home", "a text", "the last one") == {"the last one": [0.5] * 4}


def test_a_vector_that_was_paid_for_stays(call: Call, tmp_path: Path) -> None:
    with VectorCache(tmp_path / "home") as cache:
        cache.put_many(SPACE, [(sha("a text"), np.ones(4, np.float32))])
    write(tmp_path / "x.parquet", [GOOD, GOOD | {"text": "another"}])
    assert call("import", "x.parquet").exit_code == 0
    assert kept(tmp_path / "home", "a text", "another") == {"a text": [1.0] * 4, "another": [0.5] * 4}


@pytest.mark.parametrize(
    ("rows", "kinds", "words"),
    [
        ([{"text": "x", "vector": [1.0]}], {}, "has no column 'family'"),
        ([{k: v for k, v in GOOD.items() if k not in ("text", "text_hash")}], {}, "neither a column 'text' nor"),
        ([GOOD | {"vector": [1, 2]}], {"vector": pa.list_(pa.int8())}, "'vector' of x.parquet is list<element: int8>"),
        ([GOOD | {"vector": "1,2"}], {"vector": pa.string()}, "is string, not a list of floats"),
    ],
)
def test_a_file_that_lacks_what_is_needed_is_refused(
    call: Call, tmp_path: Path, rows: list[dict[str, Any]], kinds: dict[str, Any], words: str
) -> None:
    write(tmp_path / "x.parquet", rows, kinds)
    done = call("import", "x.parquet")
    assert done.exit_code == 2
    assert words in done.stderr


def test_what_is_no_parquet_file_is_refused(call: Call, tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_text("id,vector\n")
    assert "cannot be read as Parquet" in call("import", "x.parquet").stderr
    no_text = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff"))
    write(tmp_path / "y.parquet", [GOOD])
    table = pq.read_table(tmp_path / "y.parquet")
    pq.write_table(table.set_column(table.column_names.index("text"), "text", [no_text]), tmp_path / "y.parquet")
    assert "cannot be read as Parquet" in call("import", "y.parquet").stderr
    assert "there is no file nowhere.parquet" in call("import", "nowhere.parquet").stderr


def test_without_pyarrow_it_says_what_to_install(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for name in ("import", "export"):
        done = call(name, "x.parquet")
        assert done.exit_code == 2
        assert "pip install 'kai-embedding-migration[parquet]'" in done.stderr


class Model:
    """Gives the same vector for every text but one."""

    def embed(self, texts: Iterable[str], *, cache: str) -> dict[str, Any]:
        """Which passes the cache by."""
        assert cache == "bypass"
        return {text: np.array([1, -1, 1, -1] if "wrong" in text else [1, 1, 1, 1], np.float32) for text in texts}


def test_a_sample_is_compared_before_anything_is_kept(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_exchange, "embedder_of", lambda *_: Model())
    write(tmp_path / "good.parquet", [GOOD | {"text": f"text {number}"} for number in range(50)])
    write(
        tmp_path / "bad.parquet",
        [GOOD | {"text": f"text {number}"} for number in range(9)] + [GOOD | {"text": "wrong"}],
    )
    write(tmp_path / "other.parquet", [GOOD | {"model": "text-embedding-3-large"}])
    done = call("import", "bad.parquet", "--check", "10")
    assert done.exit_code == 2
    assert "of 10 texts of bad.parquet embedded again" in done.stderr
    assert "1 have other vectors (row 10; least cosine 0.000000); nothing was imported" in done.stderr
    assert "no row of other.parquet has a `text`" in call("import", "other.parquet", "--check", "1").stderr
    assert not (tmp_path / "home").exists()
    done = call("import", "good.parquet", "--check", "10")
    assert done.exit_code == 0, done.output
    assert "Compared 10 of them with the provider's: the same." in done.stdout


def test_memory_does_not_grow_with_the_file(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_exchange, "_GROUP_BYTES", 200_000)
    monkeypatch.setattr(cache_exchange, "_BATCH", 100)
    space = EmbeddingSettings("openai", "text-embedding-3-small", 512)
    with VectorCache(tmp_path / "home") as cache:
        cache.name(fingerprint(space, ""), space)
        for seed in range(8):
            cache.put_many(fingerprint(space, ""), pairs(400, 512, seed))
    call("import", "nowhere.parquet")  # loads what is needed
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    assert call("export", "x.parquet").exit_code == 0
    assert call("import", "x.parquet").exit_code == 0
    left, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Of 6.5 MB of vectors: a page of the cache, a row group, and what is made of it.
    assert peak < 4_000_000
    assert left < 1_000_000
    assert pa.total_allocated_bytes() - before < 1_000_000
