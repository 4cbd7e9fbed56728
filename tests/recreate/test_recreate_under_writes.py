"""The application goes on writing throughout, and creates the collection whenever it finds it missing.

`WRITER_SEEDS=20` tries that many seeds of each kind.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.killing import run_forked
from tests.recreate.small import LINKS, NAME, OLD_DIMENSIONS, SmallWorld, check_documents
from tests.recreate.writer import Writer, windows

TARGET = 32
SEEDS = int(os.environ.get("WRITER_SEEDS", "3"))


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("idea", ["wrong dimensions", "right dimensions", "another schema"])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_that_the_application_wrote_is_lost_and_nothing_that_it_deleted_is_back(
    small: SmallWorld, tmp_path: Path, idea: str, seed: int
) -> None:
    small.fill(count=(40, 300, 700)[seed % 3])
    small.world.http.delete(f"/collections/{LINKS}").raise_for_status()
    writer = Writer(
        small.world.url,
        small.world.key,
        small.expected,
        dimensions=TARGET if idea == "right dimensions" else OLD_DIMENSIONS,
        extra_field=idea == "another schema",
        seed=seed,
        journal=tmp_path / "writes.jsonl",
        pause=(0.002, 0.01, 0.03)[seed % 3],
    )
    writer.start()
    environment = small.environment(TARGET, tmp_path / "home")
    ended = run_forked(small.options(), environment, tmp_path / "run")
    time.sleep(0.1)
    account, created = writer.stop()
    # 1: finished, but documents were still changing when the last pass ended.
    assert ended.status in (0, 1), ended.text

    hidden = windows(ended.text, time.time())
    assert hidden, ended.text
    expected = writer.expected(account)
    now = small.world.documents(NAME)
    for document in now.values():
        document.pop("vector", None)
    last = {write.id: write for write in account}
    differing = {id_ for id_ in now.keys() | expected.keys() if now.get(id_) != expected.get(id_)}
    lost = {id_ for id_ in differing if id_ in last and any(window.hides(last[id_]) for window in hidden)}
    width = ", ".join(f"{1000 * (w.until - w.since):.0f}/{1000 * (w.until - w.changes_since):.0f} ms" for w in hidden)
    inside = sum(any(window.hides(write) for window in hidden) for write in account)
    downtime = next((line.strip() for line in ended.text.splitlines() if "not searchable" in line), "")
    print(
        f"\nseed {seed}: {len(account)} writes, {created} collections created, blind {width}, "
        f"{inside} writes in it, {len(lost)} lost; {downtime}; exit {ended.status}"
    )
    for id_ in sorted(differing - lost):
        print(id_, now.get(id_), expected.get(id_), last.get(id_), hidden, sep="\n   ")
    assert differing == lost, ended.text

    again = run_forked(small.options(), environment, tmp_path / "run")
    assert again.status == 0, again.text
    kept = {id_: document for id_, document in expected.items() if id_ not in lost}
    kept |= {id_: now[id_] for id_ in lost if id_ in now}
    check_documents(small.world, kept, TARGET, written=True)
    small.check_schema(TARGET)
