"""What must hold after every run, however it ended; written down apart from the code under test."""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import zstandard

from tests.faults.bench import DIMENSIONS, PREVIOUS, Bench
from tests.world import EMBEDDING_FIELDS, Document, Finished, as_float32, eligible, text_of


def target(bench: Bench, name: str, document: Document) -> bytes:
    """The vector that the document should end with, as float32."""
    return bench.provider.vector_for(text_of(name, document), dimensions=DIMENSIONS).tobytes()


def check_documents(bench: Bench, names: Collection[str]) -> dict[str, set[str]]:
    """1, 2, 6: every document is there, unchanged but for its vector, which is the old one or exactly the target's.

    Returns:
        By collection, the ids of the eligible documents that carry the target's.
    """
    right: dict[str, set[str]] = {}
    for name, before in bench.before.items():
        now = bench.world.documents(name)
        assert set(now) == set(before), f"documents of {name} were lost or came up"
        field = EMBEDDING_FIELDS[name]
        may_change = {id_ for id_, _ in eligible(name, before)} if name in names else set()
        right[name] = set()
        for id_, document in now.items():
            assert {k: v for k, v in document.items() if k != field} == {
                k: v for k, v in before[id_].items() if k != field
            }, f"{name} {id_}: another field changed"
            vector, old = as_float32(document.get(field)), as_float32(before[id_].get(field))
            if id_ in may_change and vector == target(bench, name, document):
                right[name].add(id_)
            else:
                assert vector == old, f"{name} {id_}: a wrong vector landed"
        if name in names:
            schema = bench.world.schema(name)
            assert {entry["name"]: entry for entry in schema["fields"]}[field]["num_dim"] == DIMENSIONS
            assert schema["metadata"]["owner"] == PREVIOUS["owner"]
    return right


def check_summary(bench: Bench, ended: Finished, right: dict[str, set[str]], names: Collection[str]) -> None:
    """4: what the summary says is so; a collection that is said to be completed is, but for failures it names."""
    if ended.status == 2:
        assert "MIGRATION SUMMARY" not in ended.out
        return
    for name in names:
        said = ended.summary(name)
        wanted = {id_ for id_, _ in eligible(name, bench.before[name])}
        if said["status"] == "completed":
            assert said["count"] == len(wanted)
            assert said["success"] == len(right[name])
            assert said["failed"] == len(wanted - right[name])
            for id_ in sorted(wanted - right[name])[:20]:
                assert f"Failed: document {id_!r} of '{name}'" in ended.err or said["failed"] > 20
        elif said["status"] != "not started":
            assert said.get("success", 0) <= len(right[name])
            assert said.get("success", 0) + said.get("failed", 0) == said["count"] <= len(wanted)
    if ended.status == 0:
        assert all(ended.summary(name)["failed"] == 0 for name in names)


def check_secrets(bench: Bench, ended: Finished) -> None:
    """7: no key in what was printed or kept, and what is kept is its owner's only."""
    keys = (bench.provider.key, bench.world.key)
    assert not any(key in ended.text for key in keys), "a key was printed"
    for path in bench.home.rglob("*"):
        assert path.is_symlink() or path.stat().st_mode & 0o077 == 0, f"{path} can be read by others"
        if path.is_file():
            content = path.read_bytes()
            assert not any(key.encode() in content for key in keys), f"a key is in {path}"
    for line in backed_up_lines(bench.home):
        assert not any(key.encode() in line for key in keys), "a key is in the backup"


def check_backup(bench: Bench, right: dict[str, set[str]]) -> None:
    """1: every vector that was overwritten is in a backup, as it was."""
    kept: dict[str, set[bytes | None]] = {}
    for line in backed_up_lines(bench.home):
        record = json.loads(line)
        field = next(key for key in record if key != "id")
        kept.setdefault(f"{field} {record['id']}", set()).add(as_float32(record[field]))
    for name, ids in right.items():
        field = EMBEDDING_FIELDS[name]
        for id_ in ids:
            old = as_float32(bench.before[name][id_].get(field))
            assert old in kept.get(f"{field} {id_}", ()), f"{name} {id_} was overwritten without a backup"


def check_ledger(bench: Bench, right: dict[str, set[str]]) -> None:
    """4: what the ledger says stands somewhere, stands there."""
    path = bench.home / "ledger.sqlite"
    if not path.exists():
        return
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "document_embeddings" not in tables:
            return
        rows = connection.execute(
            "SELECT c.collection, d.document_id, d.vector_hash FROM document_embeddings d "
            "JOIN document_collections c ON c.id = d.collection_id"
        ).fetchall()
    for name, id_, vector_hash in rows:
        assert id_ in right[name], f"the ledger says that {name} {id_} is done"
        expected = target(bench, name, bench.before[name][id_])
        assert bytes(vector_hash) == hashlib.sha256(expected).digest()


def check_words(bench: Bench, ended: Finished, right: dict[str, set[str]]) -> None:
    """8: nothing is changed by a run that says so; nothing ends in a traceback."""
    assert "Traceback" not in ended.text, ended.text
    assert ended.status in (0, 1, 2, 3), ended.text
    if ended.status == 2:
        assert "Refused; nothing was changed" in ended.err
        assert not any(right.values()), "something was changed by a run that was refused"
    if ended.status == 3:
        assert "Run the same command again" in ended.err


def check_everything(bench: Bench, ended: Finished, names: Collection[str]) -> dict[str, set[str]]:
    """All of it, after one run of a fresh world."""
    try:
        right = check_documents(bench, names)
        check_words(bench, ended, right)
        check_summary(bench, ended, right, names)
        check_secrets(bench, ended)
        check_backup(bench, right)
        check_ledger(bench, right)
    except AssertionError as error:
        error.add_note(ended.text)
        raise
    return right


def check_done(bench: Bench, ended: Finished, names: Collection[str]) -> None:
    """Everything above, and every eligible document carries the target's vector."""
    right = check_everything(bench, ended, names)
    assert ended.status == 0, ended.text
    for name in names:
        assert right[name] == {id_ for id_, _ in eligible(name, bench.before[name])}
        metadata: Any = bench.world.schema(name)["metadata"]
        assert metadata["embedding"]["model"] == bench.provider.model


def backed_up_lines(home: Path) -> Iterator[bytes]:
    """The records of every backup, read with zstd alone."""
    for path in sorted((home / "backups").rglob("*.zst")):
        reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(path.read_bytes()), read_across_frames=True)
        try:
            content = reader.read()
        except zstandard.ZstdError:
            raise AssertionError(f"{path} is damaged") from None
        yield from (line for line in content.split(b"\n") if line)
