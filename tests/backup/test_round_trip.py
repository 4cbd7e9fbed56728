"""What goes into a backup comes out of it."""

from __future__ import annotations

import json
import math
import tempfile
from array import array
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kai.typesense_curation import NOTHING, Curation
from migration.backup import Backup, BackupError, BackupWriter, backup_folder, vector_line
from tests.backup.making import FIELD, SCHEMA, flat, write

IDS = st.text(st.characters(codec="utf-8"), min_size=1)
VECTORS = st.none() | st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=8)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(IDS, st.tuples(VECTORS, st.none() | st.binary(min_size=32, max_size=32)), max_size=20))
def test_any_id_and_any_number_comes_back_bit_for_bit(rows: dict[str, tuple[list[float] | None, bytes | None]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with write(Path(folder)) as writer:
            writer.add_vectors([(id_, vector, content) for id_, (vector, content) in rows.items()])
            writer.close(complete=True)
        backup = Backup.load(writer.folder)
        backup.verify()
        restored = dict(flat(backup.vectors()))
        assert list(restored) == list(rows)
        for id_, (vector, _) in rows.items():
            assert _bits(restored[id_]) == _bits(vector)
        contents = dict(flat(backup.contents()))
        assert contents == {id_: content for id_, (_, content) in rows.items() if content is not None}


def _bits(vector: list[float] | None) -> bytes | None:
    return None if vector is None else array("d", vector).tobytes()


@settings(max_examples=40, deadline=None)
@given(run=st.text(st.characters(codec="utf-8")), collection=st.text(st.characters(codec="utf-8")))
def test_any_name_has_a_folder_of_its_own_inside_the_backups(run: str, collection: str) -> None:
    home = Path("/home/of/backups")
    folder = backup_folder(home, run, collection)
    assert folder.parent.parent == home / "backups"
    assert folder.name not in (".", "..") and len(folder.name.encode()) <= 255
    assert backup_folder(home, run, collection + "x") != folder


@pytest.mark.parametrize("collection", ["../../etc", "..", ".", "a/b", "", "é" * 300, "%2E%2E"])
def test_a_collection_with_an_odd_name_is_backed_up_and_listed_under_its_name(tmp_path: Path, collection: str) -> None:
    write(tmp_path, collection=collection).close(complete=True)
    assert Backup.load(backup_folder(tmp_path, "run", collection)).manifest.collection == collection


def test_a_line_is_what_an_update_imports_and_nothing_else() -> None:
    assert orjson.loads(vector_line('a"\n', FIELD, [1, 0.1])) == {"id": 'a"\n', FIELD: [1, 0.1]}
    assert vector_line("a", FIELD, None) == b'{"id":"a","embedding":null}'


@pytest.mark.parametrize("make", [list, tuple, np.array, lambda numbers: array("d", numbers)])
def test_every_kind_of_sequence_makes_the_same_line(make: type[list[float]]) -> None:
    numbers = np.random.default_rng(7).standard_normal(50).tolist()
    assert vector_line("a", FIELD, make(numbers)) == vector_line("a", FIELD, numbers)


def test_a_float32_array_keeps_its_exact_value() -> None:
    vector = np.random.default_rng(7).standard_normal(50).astype(np.float32)
    restored = orjson.loads(vector_line("a", FIELD, vector))[FIELD]
    assert restored == vector.astype(np.float64).tolist()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_cannot_say_is_refused(tmp_path: Path, bad: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        vector_line("a", FIELD, [bad])
    with pytest.raises(ValueError, match="not finite"):
        vector_line("a", FIELD, np.array([bad]))
    with write(tmp_path) as writer:
        with pytest.raises(ValueError, match="not finite"):
            writer.add_vectors([("fine", [1.0], None), ("bad", [bad], None)])
        assert flat(Backup.load(writer.folder).records()) == []


def test_the_first_record_of_an_id_wins(tmp_path: Path) -> None:
    with write(tmp_path) as writer:
        writer.add_vectors([("a", [1.0], b"1"), ("b", None, None), ("a", [2.0], b"2")])
        writer.add_vectors([("b", [3.0], b"3"), ("c", [4.0], None)])
        writer.close(complete=True)
    backup = Backup.load(writer.folder)
    assert flat(backup.vectors()) == [("a", [1.0]), ("b", None), ("c", [4.0])]
    assert flat(backup.contents()) == [("a", b"1")]
    assert len(flat(backup.records(first_wins=False))) == 5
    assert (backup.manifest.records, backup.manifest.distinct_ids) == (5, 3)


def test_the_last_record_wins_of_those_that_were_read_while_nothing_was_overwritten(tmp_path: Path) -> None:
    with write(tmp_path) as writer:
        writer.add_vectors([("a", [1.0], b"1"), ("b", [2.0], b"2"), ("c", [3.0], b"3")])
        writer.add_vectors([("a", [4.0], b"4")], is_newer=True)
        writer.add_vectors([("a", [5.0], b"5"), ("d", [6.0], b"6")], is_newer=True)
        writer.add_vectors([("a", [7.0], b"7"), ("b", [8.0], b"8"), ("e", [9.0], b"9")])
        writer.close(complete=True)
    backup = Backup.load(writer.folder)
    backup.verify()
    assert sorted(flat(backup.vectors())) == [("a", [5.0]), ("b", [2.0]), ("c", [3.0]), ("d", [6.0]), ("e", [9.0])]
    assert dict(flat(backup.contents())) == {"a": b"5", "b": b"2", "c": b"3", "d": b"6", "e": b"9"}


def test_records_come_in_pages_of_250_however_they_were_written(tmp_path: Path) -> None:
    with write(tmp_path) as writer:
        for start in range(0, 600, 7):
            writer.add_vectors([(str(number), [1.0], None) for number in range(start, min(start + 7, 600))])
    sizes = [len(page) for page in Backup.load(writer.folder).records()]
    assert sizes == [250, 250, 100]


def test_whole_documents_come_back_byte_for_byte(tmp_path: Path) -> None:
    lines = [
        '{"b":1,"id":"é","embedding":[1,2.50]}'.encode(),
        b'{ "id" : "x" , "a" : null }',
    ]
    with write(tmp_path, kind="documents") as writer:
        writer.add([lines[0], lines[1] + b"\n"])
        writer.close(complete=True)
    backup = Backup.load(writer.folder)
    assert flat(backup.records()) == [("é", lines[0]), ("x", lines[1])]
    assert flat(backup.vectors()) == [("é", [1, 2.5]), ("x", None)]


def test_the_content_hash_of_a_whole_document_leaves_the_embedding_out(tmp_path: Path) -> None:
    with write(tmp_path, kind="documents") as writer:
        writer.add([b'{"b":1,"id":"x","embedding":[1]}', b'{"id":"y","b":1}'])
    contents = dict(flat(Backup.load(writer.folder).contents()))
    with write(tmp_path, kind="documents", run="other") as writer:
        writer.add([b'{"embedding":[2],"id":"x","b":1}', b'{"id":"y","b":2}'])
    others = dict(flat(Backup.load(writer.folder).contents()))
    assert contents["x"] == others["x"]
    assert contents["y"] != others["y"]


@pytest.mark.parametrize("line", [b"[]", b"{}", b'{"id":1}', b"no json", b'{"id":\n"a"}', b"", b'{"id":"\xff"}'])
def test_a_line_that_is_no_record_is_refused_and_its_page_not_written(tmp_path: Path, line: bytes) -> None:
    with write(tmp_path) as writer:
        with pytest.raises(ValueError):
            writer.add([b'{"id":"a"}', line])
        assert (writer.folder / "documents.jsonl.zst").stat().st_size == 0


@pytest.mark.parametrize("by_sets", [False, True], ids=["own", "sets"])
def test_schema_synonyms_and_curations_come_back(tmp_path: Path, by_sets: bool) -> None:
    synonyms = {"id": "money", "root": "", "synonyms": ["revenue", "income"]}
    overrides = ({"id": "pin", "rule": {"query": "q", "match": "exact"}}, {"id": "Ä", "rule": {}})
    sets = ({"name": "words", "items": [synonyms]},), ({"name": "pins", "items": list(overrides)},)
    curation = Curation((), (), *sets) if by_sets else Curation((synonyms,), overrides)
    schema = SCHEMA | ({"synonym_sets": ["words"], "curation_sets": ["pins"]} if by_sets else {})
    with write(tmp_path, schema=schema, curation=curation) as writer:
        pass
    backup = Backup.load(writer.folder)
    backup.verify()
    assert (backup.schema, backup.curation) == (schema, curation)
    for name in ("synonym_sets.jsonl", "curation_sets.jsonl") if by_sets else ():
        assert (writer.folder / name).stat().st_mode & 0o777 == 0o600
        assert name in backup.manifest.files
        content = (writer.folder / name).read_bytes()
        (writer.folder / name).write_bytes(content.upper())
        with pytest.raises(BackupError, match=name):
            backup.verify()
        (writer.folder / name).write_bytes(content)


def test_a_backup_of_version_30_that_was_made_without_the_sets_is_readable(tmp_path: Path) -> None:
    schema = {**SCHEMA, "synonym_sets": ["words"], "curation_sets": []}
    with write(tmp_path, schema=schema) as writer:
        pass
    for name in ("synonym_sets.jsonl", "curation_sets.jsonl"):
        (writer.folder / name).unlink()
    assert Backup.load(writer.folder).curation == NOTHING


def test_going_on_keeps_the_first_schema(tmp_path: Path) -> None:
    write(tmp_path).close(complete=False)
    with write(tmp_path, schema={**SCHEMA, "fields": []}) as writer:
        pass
    assert Backup.load(writer.folder).schema == SCHEMA


def test_the_manifest_says_what_it_is(tmp_path: Path) -> None:
    with BackupWriter.open(
        tmp_path,
        "run",
        "things",
        kind="vectors",
        embedding_field=FIELD,
        server="localhost:8108",
        schema=SCHEMA,
        model="some-model",
    ) as writer:
        during = Backup.load(writer.folder).manifest
        writer.add_vectors([("a", [1.0], None)])
        writer.close(complete=True)
    after = Backup.load(writer.folder).manifest
    assert (during.complete, during.closed, after.complete, after.closed) == (False, False, True, True)
    assert (after.kind, after.server, after.collection, after.run) == ("vectors", "localhost:8108", "things", "run")
    assert (after.model, after.embedding_field) == ("some-model", FIELD)
    assert set(after.files) == {path.name for path in writer.folder.iterdir()} - {"manifest.json", ".lock"}
    assert after.bytes == sum(facts.bytes for facts in after.files.values())


def test_the_manifest_of_an_older_version_is_read_whatever_else_it_says(tmp_path: Path) -> None:
    with write(tmp_path) as writer:
        writer.close(complete=True)
    path = writer.folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fingerprint": "abc"}))
    assert Backup.load(writer.folder).manifest.complete


def test_a_closed_backup_takes_nothing_more(tmp_path: Path) -> None:
    writer = write(tmp_path)
    writer.close(complete=True)
    writer.close(complete=False)
    with pytest.raises(BackupError, match="closed"):
        writer.add_vectors([("a", None, None)])
    assert Backup.load(writer.folder).manifest.complete
