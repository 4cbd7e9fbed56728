"""The application goes on writing throughout, and creates the collection whenever it finds it missing.

`WRITER_SEEDS=20` tries that many seeds of each kind.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from kai.settings import ChosenStrategy
from tests.killing import run_watched
from tests.recreate.small import LINKS, NAME, SmallWorld, check_documents
from tests.recreate.writer import IDEAS, Idea, Writer, Written, gap, schema_of, windows

TARGET = 32
SEEDS = int(os.environ.get("WRITER_SEEDS", "2"))


@pytest.fixture
def of_either_version(request: pytest.FixtureRequest, seed: int) -> SmallWorld:
    """The small world, on one version of the server and the other in turn."""
    found: SmallWorld = request.getfixturevalue(("small", "small_29")[seed % 2])
    return found


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("idea", IDEAS)
def test_what_the_application_wrote_into_a_collection_of_its_own_and_then_deleted_stays_deleted(
    small: SmallWorld, tmp_path: Path, idea: Idea
) -> None:
    http = small.world.http
    changed = {key: value for key, value in small.expected["n5"].items() if key != "vector"} | {"text": "newer"}

    def at_request(number: int, name: str) -> None:
        if not created and name == f"GET /collections/{NAME}" and http.get(f"/collections/{NAME}").status_code == 404:
            http.post("/collections", json=schema_of(idea, TARGET)).raise_for_status()
            small.world.import_(NAME, [changed])
            created.append(number)
        elif created and not deleted and name == f"PATCH /collections/{NAME}":
            http.delete(f"/collections/{NAME}/documents/n5").raise_for_status()
            deleted.append(number)

    created: list[int] = []
    deleted: list[int] = []
    ended = run_watched(small.options(), small.environment(TARGET, tmp_path / "home"), tmp_path, at_request=at_request)
    assert ended.status == 0, ended.text
    assert "stays deleted" in ended.text or idea == "another schema"
    del small.expected["n5"]
    check_documents(small.world, small.expected, TARGET, written=True)
    small.check_schema(TARGET)


@pytest.mark.usefixtures("warm")
def test_what_the_application_wrote_and_deleted_while_the_copy_was_made_stays_deleted(
    small: SmallWorld, tmp_path: Path
) -> None:
    small.fill(count=300)
    http = small.world.http
    changed = {key: value for key, value in small.expected["n299"].items() if key != "vector"} | {"text": "newer"}
    imports: list[int] = []

    def at_request(number: int, name: str) -> None:
        if name.startswith(f"POST /collections/{NAME}/documents/import?action=create"):
            imports.append(number)
            if len(imports) == 2:
                small.world.import_(NAME, [changed])
            elif len(imports) == 3:
                time.sleep(0.3)  # Long enough for another look.
            elif len(imports) == 4:
                http.delete(f"/collections/{NAME}/documents/n299").raise_for_status()

    ended = run_watched(small.options(), small.environment(TARGET, tmp_path / "home"), tmp_path, at_request=at_request)
    assert ended.status == 0, ended.text
    assert "deleted stays deleted" in ended.text
    del small.expected["n299"]
    check_documents(small.world, small.expected, TARGET, written=True)


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("idea", IDEAS)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_that_the_application_wrote_is_lost_and_nothing_that_it_deleted_is_back(
    of_either_version: SmallWorld, tmp_path: Path, idea: Idea, seed: int
) -> None:
    small = of_either_version
    small.fill(count=(40, 300, 700)[seed % 3])
    small.world.http.delete(f"/collections/{LINKS}").raise_for_status()
    writer = Writer(
        small.world.url,
        small.world.key,
        small.expected,
        schema=schema_of(idea, TARGET),
        seed=seed,
        journal=tmp_path / "writes.jsonl",
        pause=(0.002, 0.01, 0.03)[seed % 3],
    )
    writer.start()
    environment = small.environment(TARGET, tmp_path / "home")
    ended = run_watched(small.options(strategy="recreate"), environment, tmp_path / "run", apart=True)
    time.sleep(0.1)
    account, created = writer.stop()
    # 1: finished, but documents were still changing when the last pass ended, or were lost at the drop.
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
    dropped = min(window.until for window in hidden)
    back = {id_ for id_ in differing if written_and_deleted_within(gap(ended.text), account, id_, dropped)}
    width = ", ".join(f"{1000 * (w.until - w.since):.0f}/{1000 * (w.until - w.changes_since):.0f} ms" for w in hidden)
    inside = sum(any(window.hides(write) for window in hidden) for write in account)
    downtime = next((line.strip() for line in ended.text.splitlines() if "not searchable" in line), "")
    print(
        f"\nseed {seed}: {len(account)} writes, {created} collections created, blind {width}, "
        f"{inside} writes in it, {len(lost)} lost; written and deleted within {1000 * gap(ended.text):.0f} ms "
        f"and back: {len(back)}; {downtime}; exit {ended.status}"
    )
    lost |= back
    for id_ in sorted(differing - lost):
        print(id_, now.get(id_), expected.get(id_), last.get(id_), hidden, sep="\n   ")
    assert differing == lost, ended.text

    again = run_watched(small.options(), environment, tmp_path / "run")
    assert again.status == 0, again.text
    kept = {id_: document for id_, document in expected.items() if id_ not in lost}
    kept |= {id_: now[id_] for id_ in lost if id_ in now}
    check_documents(small.world, kept, TARGET, written=True)
    small.check_schema(TARGET)


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("strategy", ["auto", "alter"])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_not_a_write_is_lost_where_nobody_insists_on_a_recreate(
    of_either_version: SmallWorld, tmp_path: Path, strategy: ChosenStrategy, seed: int
) -> None:
    small = of_either_version
    small.fill(count=(40, 300, 700)[seed % 3])
    writer = Writer(
        small.world.url,
        small.world.key,
        small.expected,
        schema=schema_of("wrong dimensions", TARGET),
        seed=seed,
        journal=tmp_path / "writes.jsonl",
        pause=(0.002, 0.01, 0.03)[seed % 3],
    )
    writer.start()
    environment = small.environment(TARGET, tmp_path / "home")
    ended = run_watched(small.options(strategy=strategy), environment, tmp_path / "run", apart=True)
    account, created = writer.stop()
    assert ended.status in (0, 1), ended.text
    assert ("going on by emptying and filling" in ended.text) == (strategy == "auto")
    assert not created
    now = small.world.documents(NAME)
    for document in now.values():
        document.pop("vector", None)
    assert now == writer.expected(account), ended.text

    again = run_watched(small.options(strategy=strategy), environment, tmp_path / "run")
    assert again.status == 0, again.text
    check_documents(small.world, writer.expected(account), TARGET, written=True)
    small.check_schema(TARGET)


@pytest.mark.usefixtures("warm")
def test_what_the_count_at_the_drop_shows_to_be_lost_is_a_failure(small: SmallWorld, tmp_path: Path) -> None:
    def at_request(_number: int, name: str) -> None:
        if name == f"DELETE /collections/{NAME}":
            new = {"id": "late", "source_id": "s1", "title": "late", "text": "in the last moment", "draft": False}
            small.world.import_(NAME, [new, {**new, "id": "later"}])

    environment = small.environment(TARGET, tmp_path / "home")
    options = small.options(strategy="recreate")
    ended = run_watched(options, environment, tmp_path, at_request=at_request)
    assert ended.status == 1, ended.text
    assert "Verification: FAIL" in ended.text
    assert "2 documents were written, and are lost" in ended.text
    small.check(TARGET)


def written_and_deleted_within(seconds: float, account: list[Written], id_: str, since: float) -> bool:
    """Whether the last two writes of this document came so soon after another while the collection was filled."""
    writes = [write for write in account if write.id == id_ and write.sent >= since][-2:]
    return [write.document is None for write in writes] == [False, True] and writes[1].answered - writes[
        0
    ].sent <= seconds
