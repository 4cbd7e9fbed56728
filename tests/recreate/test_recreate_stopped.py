"""What stops a recreate before anything is dropped, and what an operator may interrupt."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pytest

from migration.strategies.shadow_state import DEAD_AFTER, MARK, Mark
from tests.killing import run_watched
from tests.recreate.small import LINKS, NAME, SOURCES, SmallWorld, wrong_joins
from tests.world import field

TARGET = 32
SHADOW = f"{NAME}__shadow"
pytestmark = pytest.mark.usefixtures("warm")


def make_orphans(small: SmallWorld) -> list[str]:
    """One of the sources is gone without its notes; their ids."""
    http = small.world.http
    http.delete(f"/collections/{SOURCES}").raise_for_status()
    http.post("/collections", json={"name": SOURCES, "fields": [field("label")]}).raise_for_status()
    small.world.import_(SOURCES, [{"id": "s0", "label": "zero"}, {"id": "s1", "label": "one"}])
    return [id_ for id_, note in small.expected.items() if note["source_id"] == "s2"]


def test_a_document_whose_reference_is_gone_stops_it_before_anything_is_dropped(
    small: SmallWorld, tmp_path: Path
) -> None:
    orphans = make_orphans(small)
    ended = run_watched(small.options(), small.environment(TARGET, tmp_path / "home"), tmp_path)
    assert ended.status == 3, ended.text
    assert f"{len(orphans)} documents cannot be copied, so nothing was dropped" in ended.text
    for id_ in orphans:
        assert f"document '{id_}' of '{NAME}' (copy): Referenced document having `id: s2` not found" in ended.text
    assert f"DELETE /collections/{NAME}" not in ended.requests
    small.untouched()


def test_an_orphan_that_comes_while_it_catches_up_stops_it_too(small: SmallWorld, tmp_path: Path) -> None:
    exports: list[int] = []

    def write(number: int, name: str) -> None:
        if name.startswith(f"GET /collections/{NAME}/documents/export"):
            exports.append(number)
            if len(exports) == 2:
                small.write_orphan("orphan")

    environment = small.environment(TARGET, tmp_path / "home")
    ended = run_watched(small.options(), environment, tmp_path, at_request=write)
    assert ended.status == 3, ended.text
    assert "1 documents cannot be copied, so nothing was dropped" in ended.text
    assert f"DELETE /collections/{NAME}" not in ended.requests


def test_an_orphan_whose_id_no_filter_can_name_stops_it_too(small: SmallWorld, tmp_path: Path) -> None:
    strange = {**small.expected["n2"], "id": "back`tick"}
    small.world.import_(NAME, [strange])
    small.expected["back`tick"] = strange
    orphans = make_orphans(small)
    assert "back`tick" in orphans
    ended = run_watched(small.options(), small.environment(TARGET, tmp_path / "home"), tmp_path)
    assert ended.status == 3, ended.text
    assert "document 'back`tick' of 'notes' (copy): Referenced document" in ended.text
    small.untouched()


def test_with_allow_partial_the_orphans_are_left_out_and_written_to_a_file(small: SmallWorld, tmp_path: Path) -> None:
    orphans = make_orphans(small)
    home = tmp_path / "home"
    ended = run_watched(small.options(allow_partial=True), small.environment(TARGET, home), tmp_path)
    assert ended.status == 1, ended.text
    (file,) = home.glob(f"runs/*/refused-{NAME}.jsonl")
    assert str(file.relative_to(home)) in ended.text
    assert file.stat().st_mode & 0o777 == 0o600
    refused = [json.loads(line) for line in file.read_text().splitlines()]
    assert [entry["document"]["id"] for entry in refused] == orphans
    for entry in refused:
        document = entry["document"]
        wanted = {key: value for key, value in small.expected[document["id"]].items() if key != "vector"}
        assert {key: value for key, value in document.items() if key != "vector"} == wanted
        assert "s2" in entry["reason"]
    left = {id_: note for id_, note in small.expected.items() if id_ not in orphans}
    small.check(TARGET, documents=left, links=False)
    # The links to what is left lead there; those that name a note that was left out are told.
    assert "documents of 'links' refer to a document that is gone" in ended.text
    assert not [named for named, _ in wrong_joins(small.world).values() if not set(named) & set(orphans)]


def test_a_document_that_is_deleted_together_with_its_source_stops_nothing(small: SmallWorld, tmp_path: Path) -> None:
    # Read by the run while it was there, and gone with its source when it comes to the shadow.
    def delete_source(_: int, name: str) -> None:
        if name.startswith(f"POST /collections/{SHADOW}/documents/import"):
            url = f"{small.world.url}/collections/{SOURCES}/documents/s2"
            httpx.delete(url, headers={"X-TYPESENSE-API-KEY": small.world.key})

    small.world.http.delete(f"/collections/{LINKS}").raise_for_status()
    environment = small.environment(TARGET, tmp_path / "home")
    ended = run_watched(small.options(), environment, tmp_path, at_request=delete_source)
    assert ended.status == 0, ended.text
    assert set(small.world.documents(NAME)) == {
        id_ for id_, note in small.expected.items() if note["source_id"] != "s2"
    }


@pytest.mark.parametrize(
    ("at", "dropped"),
    [
        (f"POST /collections/{SHADOW}/documents/import", False),
        (f"PATCH /collections/{NAME}", False),
        (f"DELETE /collections/{NAME}", True),
        (f"POST /collections/{NAME}/documents/import?action=create", True),
    ],
    ids=["while it is built", "before the drop", "at the drop", "while it is copied back"],
)
def test_ctrl_c_leaves_either_the_old_collection_or_the_new_one_whole(
    small: SmallWorld, tmp_path: Path, at: str, *, dropped: bool
) -> None:
    pressed = False

    def press(_: int, name: str) -> None:
        nonlocal pressed
        if name.startswith(at) and not pressed:
            pressed = True
            os.kill(os.getpid(), signal.SIGINT)

    environment = small.environment(TARGET, tmp_path / "home")
    ended = run_watched(small.options(), environment, tmp_path, at_request=press)
    assert ended.status == 130, ended.text
    assert "Traceback" not in ended.text
    if dropped:
        # It finished the collection first: nothing is left to do but the proof.
        small.check(TARGET)
    else:
        assert f"DELETE /collections/{NAME}" not in ended.requests
        now = small.world.documents(NAME)
        assert {id_: note.get("vector") for id_, note in now.items()} == {
            id_: note.get("vector") for id_, note in small.expected.items()
        }
        assert MARK not in small.world.schema(NAME)["metadata"]
    again = run_watched(small.options(), environment, tmp_path)
    assert again.status == 0, again.text
    small.check(TARGET)


def test_ctrl_c_at_the_keyboard_ends_the_command_with_130(small: SmallWorld) -> None:
    small.fill(count=2000)
    running = subprocess.Popen(
        [sys.executable, "-m", "migration.embedding_migration", *small.arguments("--nice", "0.9")],
        env=small.environment(TARGET, small.folder / "home"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while small.world.http.get(f"/collections/{SHADOW}").status_code == 404:
        assert running.poll() is None
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    text, _ = running.communicate(timeout=60)
    assert running.returncode == 130, text
    assert "Nothing is lost" in text


# -- two runs at once ------------------------------------------------------------------------------------


def mark_of(small: SmallWorld, **changes: Any) -> dict[str, Any]:
    """The mark of a shadow that another machine is building."""
    mark = Mark(NAME, "their-run", "building", "0" * 16, 24, "vector", None, host="elsewhere", pid=17)
    return {MARK: {**asdict(mark), "beat": time.time(), **changes}}


def their_shadow(small: SmallWorld, metadata: dict[str, Any]) -> None:
    """A shadow as another machine left it, a few documents in it."""
    http = small.world.http
    http.post("/collections", params={"src_name": NAME}, json={"name": SHADOW}).raise_for_status()
    http.patch(f"/collections/{SHADOW}", json={"metadata": metadata}).raise_for_status()
    small.world.import_(SHADOW, [{k: v for k, v in small.expected["n1"].items() if k != "vector"}])


def test_a_second_run_is_refused_and_told_which_one_holds_the_collection(small: SmallWorld, tmp_path: Path) -> None:
    second: list[subprocess.CompletedProcess[str]] = []

    def start_another(_: int, name: str) -> None:
        if name.startswith(f"POST /collections/{SHADOW}/documents/import") and not second:
            environment = small.environment(24, tmp_path / "second")
            done = subprocess.run(
                [sys.executable, "-m", "migration.embedding_migration", *small.arguments()],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            second.append(done)
            print(f"SECOND {done.returncode} {done.stderr}", flush=True)

    ended = run_watched(
        small.options(), small.environment(TARGET, tmp_path / "home"), tmp_path, at_request=start_another
    )
    assert ended.status == 0, ended.text
    assert "SECOND 2 " in ended.text
    assert f"collection '{NAME}'" in ended.text
    assert f"is held by run openai-text-embedding-3-small-{TARGET}-" in ended.text
    small.check(TARGET)


def test_a_shadow_that_another_machine_is_building_is_left_alone(small: SmallWorld, tmp_path: Path) -> None:
    their_shadow(small, mark_of(small))
    before = small.world.state((NAME, SHADOW))
    ended = run_watched(small.options(), small.environment(TARGET, tmp_path / "home"), tmp_path)
    assert ended.status == 2, ended.text
    assert "is held by run their-run (process 17 on elsewhere)" in ended.text
    assert small.world.state((NAME, SHADOW)) == before


@pytest.mark.parametrize(
    "dead",
    [
        lambda: {"beat": time.time() - DEAD_AFTER - 1},
        lambda: {"host": "", "pid": 0},
        lambda: {"host": socket.gethostname(), "pid": 2**22 + 1},
    ],
    ids=["silent for a minute", "let go", "dead process of this machine"],
)
def test_a_shadow_that_nobody_builds_any_more_is_taken_over(
    small: SmallWorld, tmp_path: Path, dead: Callable[[], dict[str, Any]]
) -> None:
    their_shadow(small, mark_of(small, **dead()))
    ended = run_watched(small.options(), small.environment(TARGET, tmp_path / "home"), tmp_path)
    assert ended.status == 0, ended.text
    small.check(TARGET)


@pytest.mark.parametrize("documents", [0, 3])
def test_a_collection_of_somebody_else_that_has_the_shadows_name_is_never_touched(
    small: SmallWorld, tmp_path: Path, documents: int
) -> None:
    schema = {"name": SHADOW, "fields": [field("theirs")], "metadata": {"of": "somebody"}}
    small.world.http.post("/collections", json=schema).raise_for_status()
    if documents:
        small.world.import_(SHADOW, [{"theirs": str(number)} for number in range(documents)])
    before = small.world.state((NAME, SHADOW))
    ended = run_watched(small.options(), small.environment(TARGET, tmp_path / "home"), tmp_path)
    assert ended.status == 2, ended.text
    assert f"'{SHADOW}' is there that this tool did not make" in ended.text
    assert small.world.state((NAME, SHADOW)) == before


def test_a_lock_that_a_dead_process_left_is_none(small: SmallWorld, tmp_path: Path) -> None:
    environment = small.environment(TARGET, tmp_path / "home")
    killed = run_watched(small.options(), environment, tmp_path, kill_at=15)
    assert killed.killed
    assert run_watched(small.options(), environment, tmp_path).status == 0
    small.check(TARGET)
