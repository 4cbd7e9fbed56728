"""What a crash, a full disk or a bad disk leaves of a backup."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import orjson
import pytest

from kai.typesense_curation import Curation
from migration.backup import Backup, BackupError, BackupWriter
from tests.backup.making import FIELD, flat, write

RECORDS = "documents.jsonl.zst"


def _ids(folder: Path) -> list[str]:
    return [id_ for id_, _ in flat(Backup.load(folder).records(first_wins=False))]


def test_killed_again_and_again_every_acknowledged_page_is_there_and_writing_goes_on(tmp_path: Path) -> None:
    acknowledged: set[int] = set()
    for attempt in range(6):
        begin = max(acknowledged, default=-1) + 1
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.backup.loop", str(tmp_path), str(begin)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(0.013 * attempt)
        process.kill()
        rest = process.stdout.read()
        process.wait()
        process.stdout.close()
        # A number that was cut in the middle was not said.
        acknowledged |= {int(number) for number in (first + rest).split(b"\n")[:-1] if number}
        backup = Backup.load(tmp_path / "backups" / "run" / "things")
        backup.verify()
        found = {int(id_.split("-")[0]) for id_ in _ids(backup.folder)}
        assert acknowledged <= found
    assert len(acknowledged) >= 6
    with write(tmp_path) as writer:
        writer.add_vectors([("last", [1.0], None)])
        writer.close(complete=True)
    backup = Backup.load(writer.folder)
    backup.verify()
    assert backup.damage == ()
    for id_, vector in flat(backup.vectors())[:-1]:
        page, place = map(int, id_.split("-"))
        assert vector == [float(page), place / 7] * 200


def test_cut_at_any_byte_all_whole_pages_are_read_and_writing_goes_on(tmp_path: Path) -> None:
    with write(tmp_path) as writer:
        path = writer.folder / RECORDS
        ends = [0]
        for page in range(3):
            writer.add_vectors([(f"{page}-{n}", [float(n)], b"h") for n in range(3)])
            ends.append(path.stat().st_size)
    whole = path.read_bytes()
    manifest = (writer.folder / "manifest.json").read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        (writer.folder / "manifest.json").write_bytes(manifest)
        pages = max(number for number, end in enumerate(ends) if end <= cut)
        backup = Backup.load(writer.folder)
        assert _ids(writer.folder) == [f"{page}-{n}" for page in range(pages) for n in range(3)]
        list(backup.records())
        assert backup.damage  # torn, or records missing
        with pytest.raises(BackupError, match=RECORDS):
            backup.verify()
        if cut % 7 == 0:  # each opening is several fsyncs
            with write(tmp_path) as again:
                assert path.stat().st_size == ends[pages]
                again.add_vectors([("new", None, None)])
            assert _ids(writer.folder)[-1] == "new" and len(_ids(writer.folder)) == pages * 3 + 1


def test_a_torn_page_of_a_killed_writer_is_no_fault_but_is_told(tmp_path: Path) -> None:
    writer = write(tmp_path)
    writer.add_vectors([("a", [1.0], None)])
    with (writer.folder / RECORDS).open("ab") as file:
        file.write(b"\x5b\x2a\x4d\x18torn")
    backup = Backup.load(writer.folder)
    backup.verify()
    assert backup.damage == (f"{RECORDS}: 8 bytes at the end are no whole page",)
    writer.close(complete=False)


def test_zeros_that_a_power_cut_left_in_the_last_page_are_cut_off(tmp_path: Path) -> None:
    with write(tmp_path) as writer:
        path = writer.folder / RECORDS
        writer.add_vectors([("a", [1.0], None)])
        end = path.stat().st_size
        writer.add_vectors([("b", [2.0], None)])
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(size - 10)
            file.write(b"\0" * 10)
    with write(tmp_path) as writer:
        assert path.stat().st_size == end
    assert _ids(writer.folder) == ["a"]


def test_damage_in_the_middle_costs_its_page_only(tmp_path: Path) -> None:
    with write(tmp_path) as writer:
        path = writer.folder / RECORDS
        ends = [0]
        for page in range(3):
            writer.add_vectors([(f"{page}", [float(page)], None)])
            ends.append(path.stat().st_size)
    good = path.read_bytes()
    for place in range(ends[1], ends[2]):
        path.write_bytes(good[:place] + bytes([good[place] ^ 0x10]) + good[place + 1 :])
        backup = Backup.load(writer.folder)
        assert flat(backup.vectors()) == [("0", [0.0]), ("2", [2.0])], place
        assert len(backup.damage) == 2  # the page, and the number that the manifest knows of
    with write(tmp_path) as writer:
        assert path.stat().st_size == len(good)
        writer.add_vectors([("3", [3.0], None)])
    assert _ids(writer.folder) == ["0", "2", "3"]


def test_a_later_value_never_stands_in_for_a_damaged_old_one(tmp_path: Path) -> None:
    with write(tmp_path) as writer:
        writer.add_vectors([("a", [1.0], None)])
        path = writer.folder / RECORDS
        end = path.stat().st_size
        writer.add_vectors([("a", [2.0], None), ("b", [2.0], None)])
    content = bytearray(path.read_bytes())
    content[end - 3] ^= 1
    path.write_bytes(content)
    assert flat(Backup.load(writer.folder).vectors()) == [("b", [2.0])]


def test_any_flipped_byte_in_any_file_is_caught_and_the_file_named(tmp_path: Path) -> None:
    synonyms = ({"id": "s", "synonyms": ["a", "b"]},)
    with write(tmp_path, kind="documents", curation=Curation(synonyms, synonyms)) as writer:
        writer.add([b'{"id":"a"}', b'{"id":"b"}'])
        writer.close(complete=True)
    backup = Backup.load(writer.folder)
    backup.verify()
    names = set(backup.manifest.files)
    assert names == {RECORDS, "schema.json", "create.json", "synonyms.jsonl", "overrides.jsonl", "RESTORE.md"}
    for name in names:
        path = writer.folder / name
        good = path.read_bytes()
        for place in range(0, len(good), max(1, len(good) // 40)):
            path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
            with pytest.raises(BackupError, match=name):
                backup.verify()
        path.unlink()
        with pytest.raises(BackupError, match=name):
            backup.verify()
        path.write_bytes(good)
    backup.verify()


def test_a_file_that_is_missing_is_reported_and_not_a_traceback(tmp_path: Path) -> None:
    with write(tmp_path) as writer:
        writer.close(complete=True)
    (writer.folder / RECORDS).unlink()
    (writer.folder / "schema.json").write_text("{")
    backup = Backup.load(writer.folder)
    assert flat(backup.records()) == []
    assert backup.damage and RECORDS in backup.damage[0]
    with pytest.raises(BackupError, match=r"schema\.json"):
        _ = backup.schema


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": 99}', '{"format": 1, "kind": "vectors"}', "\udcff"])
def test_a_damaged_manifest_is_refused_by_name(tmp_path: Path, content: str) -> None:
    with write(tmp_path) as writer:
        pass
    (writer.folder / "manifest.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(BackupError, match=r"manifest\.json|newer version"):
        Backup.load(writer.folder)
    with pytest.raises(BackupError, match="is not a backup"):
        Backup.load(tmp_path)


def test_a_full_disk_leaves_the_file_as_it_was_and_writing_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with write(tmp_path) as writer:
        writer.add_vectors([("a", [1.0], None)])
        path = writer.folder / RECORDS
        before = path.read_bytes()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        # Python ignores SIGXFSZ: a write beyond the limit is first short, then fails, as on a full disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 50, hard))
        try:
            with pytest.raises(BackupError, match=r"File too large.*MIGRATION_HOME"):
                writer.add_vectors([("b", [2.0] * 100, None)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.read_bytes() == before
        monkeypatch.setattr(os, "fsync", _no_space)
        with pytest.raises(BackupError, match=r"No space left on device.*free some space"):
            writer.add_vectors([("b", [2.0], None)])
        monkeypatch.undo()
        assert path.read_bytes() == before
        writer.add_vectors([("c", [3.0], None)])
        writer.close(complete=True)
    assert _ids(writer.folder) == ["a", "c"]


def test_even_where_the_rest_of_a_failed_page_cannot_be_cut_off_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with write(tmp_path) as writer:
        writer.add_vectors([("a", [1.0], None)])
        monkeypatch.setattr(os, "fsync", _no_space)
        monkeypatch.setattr(os, "ftruncate", _no_space)
        with pytest.raises(BackupError):
            writer.add_vectors([(f"b{n}", [float(n)], None) for n in range(500)])
        monkeypatch.undo()
        writer.add_vectors([("c", [3.0], None)])
        assert _ids(writer.folder) == ["a", "c"]


def _no_space(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_too_little_space_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="MIGRATION_HOME") as refused:
        write(tmp_path / "home", free_space_needed=10**18)
    message = str(refused.value)
    assert "1,000,000,000,000,000,000 bytes" in message and "free" in message and "--no-backup" in message
    assert "\n" not in message
    assert not (tmp_path / "home").exists()
    write(tmp_path / "home", free_space_needed=1).close(complete=True)


def test_a_home_that_is_a_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(BackupError, match="cannot be written"):
        write(tmp_path / "home")


def test_a_backup_of_something_else_is_not_continued(tmp_path: Path) -> None:
    write(tmp_path).close(complete=True)
    with pytest.raises(BackupError, match="another kind"):
        write(tmp_path, kind="documents")
    with pytest.raises(BackupError, match="another server"):
        write(tmp_path, server="elsewhere:8108")


def test_a_backup_under_an_older_spelling_of_its_server_is_continued(tmp_path: Path) -> None:
    with write(tmp_path) as writer:
        path = writer.folder / "manifest.json"
    path.write_text(path.read_text().replace('"localhost:8108"', '"127.0.0.1:8108"'))
    write(tmp_path).close(complete=True)
    assert Backup.load(path.parent).manifest.server == "localhost:8108"


def test_a_second_writer_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    with write(tmp_path), pytest.raises(BackupError, match="by another process"):
        write(tmp_path)
    write(tmp_path).close(complete=True)


def test_a_finished_backup_that_goes_on_is_unfinished_until_it_is_closed(tmp_path: Path) -> None:
    with write(tmp_path) as writer:
        writer.add_vectors([("a", [1.0], None)])
        writer.close(complete=True)
    with write(tmp_path) as writer:
        manifest = Backup.load(writer.folder).manifest
        assert (manifest.complete, manifest.closed, manifest.records) == (False, False, 1)
        writer.add_vectors([("b", [1.0], None)])
        writer.close(complete=True)
    Backup.load(writer.folder).verify()
    assert _ids(writer.folder) == ["a", "b"]


def test_threads_may_write_at_once(tmp_path: Path) -> None:
    def pages(writer: BackupWriter, name: int) -> None:
        for page in range(10):
            writer.add_vectors([(f"{name}-{page}-{n}", [n / 3] * 50, None) for n in range(20)])

    with write(tmp_path) as writer:
        threads = [threading.Thread(target=pages, args=(writer, name)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        writer.close(complete=True)
    backup = Backup.load(writer.folder)
    backup.verify()
    assert backup.manifest.distinct_ids == 800


@pytest.mark.parametrize("umask", [0, 0o077])
def test_only_the_owner_can_read_it_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    home = tmp_path / "home"
    previous = os.umask(umask)
    try:
        with write(home, kind="documents", curation=Curation(({"id": "s"},))) as writer:
            writer.add([b'{"id":"a"}'])
            writer.close(complete=True)
    finally:
        os.umask(previous)
    for path in [home, *home.rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_folders_that_were_open_to_others_are_closed_but_not_the_home(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "backups").mkdir(mode=0o755)
    write(tmp_path).close(complete=True)
    assert (tmp_path / "backups").stat().st_mode & 0o777 == 0o700
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_reading_fifty_thousand_records_does_not_hold_them(tmp_path: Path) -> None:
    with write(tmp_path) as writer:
        for start in range(0, 50_000, 1000):
            lines = [
                b'{"id":"document-%08d","%b":[0.25,0.5]}' % (n, FIELD.encode()) for n in range(start, start + 1000)
            ]
            writer.add(lines, ids=[orjson.loads(line)["id"] for line in lines])
    backup = Backup.load(writer.folder)
    tracemalloc.start()
    try:
        count = sum(map(len, backup.records()))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 50_000
    assert peak < 1_000_000  # bytes; the ids alone would be 3,500,000
