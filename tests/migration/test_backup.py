"""What is overwritten is on disk first."""

from __future__ import annotations

import stat
from pathlib import Path

import orjson

from migration.backup import Backup, list_backups
from tests.providers import OpenAIStandIn
from tests.world import EMBEDDING_FIELDS, World, made_up, openai


def test_the_old_vectors_are_in_the_backup_bit_for_bit(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(), 64)
    before = {name: world.documents(name) for name in EMBEDDING_FIELDS}
    assert world.run(**openai(provider, 64)).status == 0
    summaries = list_backups(world.home)
    assert {each.collection for each in summaries} == set(before)
    for each in summaries:
        assert each.complete
        backup = Backup.load(each.folder)
        backup.verify()
        vectors = {id_: vector for page in backup.vectors() for id_, vector in page}
        field = EMBEDDING_FIELDS[each.collection]
        assert vectors == {id_: d[field] for id_, d in before[each.collection].items() if not d.get("is_default")}


def test_a_recreate_backs_up_whole_documents(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(), 64)
    before = {name: world.documents(name) for name in EMBEDDING_FIELDS}
    assert world.run(**openai(provider, 128)).status == 0
    for each in list_backups(world.home):
        assert each.complete
        backup = Backup.load(each.folder)
        backup.verify()
        assert {id_: orjson.loads(line) for page in backup.records() for id_, line in page} == before[each.collection]


def test_backups_and_ledger_are_their_owners_only(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=20), 64)
    assert world.run(**openai(provider, 64)).status == 0
    paths = [path for path in world.home.rglob("*") if not path.is_symlink()]
    assert len(paths) > 10
    open_to_others = [path for path in paths if stat.S_IMODE(path.stat().st_mode) & 0o077]
    assert open_to_others == []


def test_no_key_and_no_text_is_in_the_ledger_or_a_report(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=20), 64)
    assert world.run("-v", **openai(provider, 64)).status == 0
    text = next(iter(world.documents("context_stores").values()))["prompt_text"].encode()
    for path in world.home.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert provider.key.encode() not in content, path
            assert world.key.encode() not in content, path
            if "backups" not in path.parts:
                assert text not in content, path


def test_without_a_backup_none_is_made(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=20), 64)
    assert world.run("--no-backup", **openai(provider, 64)).status == 0
    assert list_backups(world.home) == []


def test_a_run_that_overwrites_nothing_leaves_no_backup(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=20), 64)
    assert world.run(**openai(provider, 64)).status == 0
    count = len(list_backups(world.home))
    assert world.run(**openai(provider, 64)).status == 0
    assert len(list_backups(world.home)) == count


def test_a_full_disk_stops_the_run_before_anything_is_overwritten(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=20), 64)
    before = world.state()
    blocked = world.home / "backups"
    blocked.parent.mkdir(parents=True)
    blocked.write_text("a file where the folder should be")
    done = world.run(**openai(provider, 64))
    assert done.status in (2, 3), done.text
    assert "MIGRATION_HOME" in done.err
    assert "Traceback" not in done.text
    assert world.state() == before
    assert Path(blocked).is_file()
