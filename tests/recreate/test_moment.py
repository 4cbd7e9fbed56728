"""The point of no return is the operator's: held before, rehearsed up to, told of by hooks; and the pace meanwhile."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kai.settings import ChosenStrategy
from kai.typesense import Typesense
from migration.operations.under_way import release, tune
from migration.strategies.shadow_state import unfinished_refill
from tests.killing import Ended, run_command_watched, run_watched
from tests.recreate.small import NAME, OLD_DIMENSIONS, SmallWorld
from tests.world import Document

TARGET = 32
SHADOW = f"{NAME}__shadow"
pytestmark = pytest.mark.usefixtures("warm")
WAYS = pytest.mark.parametrize("way", ["auto", "alter"])

Act = Callable[[dict[str, Any]], bool]
"""Does something while the run holds, given its status; whether it is done and the run may be let go."""


class Bench:
    """Runs over the small world's notes, and their folder."""

    def __init__(self, small: SmallWorld, folder: Path) -> None:
        self.small, self.home, self._folder = small, folder / "home", folder
        self.environment = small.environment(TARGET, self.home)

    def run(self, way: ChosenStrategy = "auto", **options: Any) -> Ended:
        """To its end; `at_request` and the like go to `run_watched`."""
        how = {key: options.pop(key) for key in ("at_request", "in_child") if key in options}
        return run_watched(self.small.options(strategy=way, **options), self.environment, self._folder, **how)

    def command(self, *arguments: str) -> Ended:
        """`kai-migrate` with these arguments."""
        return run_command_watched(arguments, self.environment, self._folder)

    def holding(self, *acts: Act) -> Callable[[int, str], None]:
        """At each request of a run that holds, the next of these acts, until all of them are done."""
        left = list(acts)

        def at_request(_: int, _name: str) -> None:
            for file in self.home.glob("runs/*/status.json") if left else ():
                status = json.loads(file.read_text())
                holds = (status["phase"], status["pid"]) == ("holding", os.getpid())
                if holds and (file.parent / "hold").exists() and left[0](status):
                    left.pop(0)

        return at_request

    def remove_the_file(self, _: dict[str, Any]) -> bool:
        """As an operator does who has no command at hand."""
        (file,) = self.home.glob("runs/*/hold")
        file.unlink()
        return True

    @property
    def shown(self) -> dict[str, Any]:
        """The latest run, as the ledger knows it."""
        return dict(json.loads(self.command("show", "latest", "--json").text)["run"])

    @property
    def serves_as_before(self) -> bool:
        """Whether nothing that is searched has changed."""
        schema = self.small.world.schema(NAME)
        (vector,) = (field for field in schema["fields"] if field["name"] == "vector")
        there = self.small.world.documents(NAME)
        is_as_it_was = all(
            there[id_].get("vector") == note.get("vector") for id_, note in self.small.expected.items() if id_ in there
        )
        return vector["num_dim"] == OLD_DIMENSIONS and unfinished_refill(schema) is None and is_as_it_was


@pytest.fixture
def bench(small: SmallWorld, tmp_path: Path) -> Bench:
    """The small world, and a home."""
    return Bench(small, tmp_path)


NEW: Document = {"id": "new", "source_id": "s1", "title": "new", "text": "written while it held", "draft": False}


@WAYS
def test_a_run_holds_with_everything_ready_and_keeps_abreast_until_it_is_released(
    bench: Bench, way: ChosenStrategy
) -> None:
    small = bench.small
    changed = {**small.expected["n5"], "text": "changed while it held"}

    def write(status: dict[str, Any]) -> bool:
        if status["hold"]["catch_up_seconds"] is None:
            return False
        assert (status["hold"]["changed"], status["hold"]["until"]) == (0, None)
        assert bench.serves_as_before
        small.world.import_(NAME, [NEW, changed], "upsert")
        return True

    def see(status: dict[str, Any]) -> bool:
        if status["hold"]["changed"] != 2:
            return False
        print("BEHIND BY", status["hold"]["changed"])
        return True

    def let_go(_: dict[str, Any]) -> bool:
        print("RELEASED", release().collection)
        return True

    ended = bench.run(way, hold=float("inf"), at_request=bench.holding(write, see, let_go))
    assert ended.status == 0, ended.text
    assert f"Holding: '{NAME}' is ready, and the point of no return follows" in ended.text
    assert "BEHIND BY 2" in ended.text
    assert f"RELEASED {NAME}" in ended.text
    small.expected |= {"n5": changed, "new": NEW}
    there = small.world.documents(NAME)
    small.check(TARGET, documents={id_: small.expected[id_] for id_ in there} | small.expected)
    assert not list(bench.home.glob("runs/*/hold"))


@WAYS
def test_what_changed_while_it_held_goes_back_to_the_vector_that_it_had_when_it_was_released(
    bench: Bench, way: ChosenStrategy
) -> None:
    small = bench.small
    changed = {**small.expected["n5"], "text": "changed while it held", "vector": [0.5] * OLD_DIMENSIONS}

    def write(_: dict[str, Any]) -> bool:
        small.world.import_(NAME, [{**NEW, "vector": [0.25] * OLD_DIMENSIONS}, changed], "upsert")
        return True

    assert bench.run(way, hold=float("inf"), at_request=bench.holding(write, bench.remove_the_file)).status == 0
    undone = bench.command("rollback", "--yes", "--collections-file", str(small.file))
    assert undone.status == 0, undone.text
    there = small.world.documents(NAME)
    assert there["n5"]["vector"] == changed["vector"]
    assert there["new"]["vector"] == [0.25] * OLD_DIMENSIONS
    assert there["n6"].get("vector") == small.expected["n6"].get("vector")


@WAYS
def test_what_changed_between_a_rehearsal_and_the_run_goes_back_to_the_vector_that_it_had_last(
    bench: Bench, way: ChosenStrategy
) -> None:
    small = bench.small
    changed = {**small.expected["n5"], "text": "changed after the rehearsal", "vector": [0.5] * OLD_DIMENSIONS}
    assert bench.run(way, rehearse=True).status == 0
    small.world.import_(NAME, [changed], "upsert")
    assert bench.run(way).status == 0
    undone = bench.command("rollback", "--yes", "--collections-file", str(small.file))
    assert undone.status == 0, undone.text
    assert small.world.documents(NAME)["n5"]["vector"] == changed["vector"]


@WAYS
def test_what_nobody_releases_in_time_is_given_up_with_everything_kept_and_the_next_start_goes_on(
    bench: Bench, way: ChosenStrategy
) -> None:
    ended = bench.run(way, hold=0.2)
    assert ended.status == 3, ended.text
    assert "nobody released it within 0.2 s (--hold), so nothing that serves was changed" in ended.text
    assert bench.serves_as_before
    embedded = len(bench.small.provider.embedded)
    again = bench.run(way)
    assert again.status == 0, again.text
    assert len(bench.small.provider.embedded) <= embedded + 1 + 10, "nothing but the probe and the sample again"
    bench.small.check(TARGET)
    assert len(list(bench.home.glob("runs/*"))) == 1


@WAYS
def test_killed_while_it_holds_it_is_gone_on_with_and_cannot_be_released(bench: Bench, way: ChosenStrategy) -> None:
    def die(_: dict[str, Any]) -> bool:
        os.kill(os.getpid(), signal.SIGKILL)
        return True

    ended = bench.run(way, hold=float("inf"), at_request=bench.holding(die))
    assert ended.killed
    assert bench.serves_as_before
    released = bench.command("release")
    assert released.status == 2
    assert "its process is gone; run the migration again without --hold" in released.text
    assert "is not under way" in bench.command("tune", "latest", "nice=0.5").text
    again = bench.run(way, hold=float("inf"), at_request=bench.holding(bench.remove_the_file))
    assert again.status == 0, again.text
    assert "Holding" in again.text
    bench.small.check(TARGET)


@WAYS
def test_ctrl_c_while_it_holds_ends_it_with_130_and_nothing_changed(bench: Bench, way: ChosenStrategy) -> None:
    def press(_: dict[str, Any]) -> bool:
        os.kill(os.getpid(), signal.SIGINT)
        return True

    ended = bench.run(way, hold=float("inf"), at_request=bench.holding(press))
    assert ended.status == 130, ended.text
    assert bench.serves_as_before
    assert bench.run(way).status == 0
    bench.small.check(TARGET)


def test_what_cannot_be_caught_up_with_while_it_holds_is_told_and_tried_again(bench: Bench) -> None:
    small = bench.small

    def write(_: dict[str, Any]) -> bool:
        small.write_orphan("orphan")
        return True

    def see(status: dict[str, Any]) -> bool:
        if not status["hold"]["trouble"]:
            return False
        small.world.http.delete(f"/collections/{NAME}/documents/orphan")
        return True

    ended = bench.run(hold=float("inf"), at_request=bench.holding(write, see, bench.remove_the_file))
    assert ended.status == 0, ended.text
    assert "Still holding, though catching up failed: 1 documents cannot be copied" in ended.text
    small.check(TARGET)


# -- rehearsed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("way", "dimensions"), [("auto", TARGET), ("alter", TARGET), ("rebuild", OLD_DIMENSIONS)])
def test_a_rehearsal_builds_everything_changes_nothing_that_serves_and_is_gone_on_with(
    bench: Bench, way: ChosenStrategy, dimensions: int
) -> None:
    small = bench.small
    bench.environment = small.environment(dimensions, bench.home)
    ended = bench.run(way, rehearse=True)
    assert ended.status == 0, ended.text
    assert "'status': 'rehearsed'" in ended.text
    assert bench.serves_as_before
    assert bench.shown["state"] == "rehearsed"
    if way == "auto":
        assert small.world.schema(SHADOW)["num_documents"] == len(small.expected)
    embedded = len(small.provider.embedded)
    for command in (["verify"], ["rollback", "--yes"]):
        refused = bench.command(*command, "--collections-file", str(small.file))
        assert refused.status == 2, refused.text
    again = bench.run(way)
    assert again.status == 0, again.text
    assert len(small.provider.embedded) <= embedded + 1 + 10, "nothing but the probe and the sample again"
    small.check(dimensions)
    assert bench.shown["state"] == "completed"
    assert len(list(bench.home.glob("runs/*"))) == 1


@WAYS
def test_a_rehearsal_is_thrown_away_by_its_name(bench: Bench, way: ChosenStrategy) -> None:
    assert bench.run(way, rehearse=True).status == 0
    name = bench.shown["name"]
    undone = bench.command("rollback", name, "--yes", "--collections-file", str(bench.small.file))
    assert undone.status == 0, undone.text
    bench.small.untouched()
    assert bench.run(way).status == 0
    bench.small.check(TARGET)


def test_a_rehearsal_is_no_run_that_another_one_stands_on(bench: Bench) -> None:
    assert bench.run("alter").status == 0
    bench.environment = bench.small.environment(24, bench.home)
    assert bench.run("alter", rehearse=True).status == 0
    undone = bench.command("rollback", "--yes", "--collections-file", str(bench.small.file))
    assert undone.status == 0, undone.text
    bench.small.check_schema(OLD_DIMENSIONS)


@pytest.mark.parametrize("option", [{"hold": 60.0}, {"rehearse": True}], ids=["hold", "rehearse"])
@pytest.mark.parametrize("dry", [True, False])
def test_in_place_there_is_nothing_to_hold_or_to_rehearse(bench: Bench, option: dict[str, Any], *, dry: bool) -> None:
    bench.environment = bench.small.environment(OLD_DIMENSIONS, bench.home)
    ended = bench.run(dry_run=dry, **option)
    assert ended.status == 2, ended.text
    assert f"--{next(iter(option))}: 'notes' would be migrated in place" in ended.text
    bench.small.untouched()


def test_a_run_that_was_to_hold_and_was_killed_past_its_moment_is_gone_on_with_by_the_same_command(
    bench: Bench,
) -> None:
    def die(_: int, name: str) -> None:
        if name == f"DELETE /collections/{SHADOW}":
            os.kill(os.getpid(), signal.SIGKILL)

    def at_request(number: int, name: str) -> None:
        let_go(number, name)
        die(number, name)

    let_go = bench.holding(bench.remove_the_file)
    assert bench.run(hold=float("inf"), at_request=at_request).killed
    refused = bench.run(rehearse=True)
    assert refused.status == 2, refused.text
    assert "must be finished before anything is rehearsed" in refused.text
    again = bench.run(hold=float("inf"))
    assert again.status == 0, again.text
    bench.small.check(TARGET)


# -- hooks -----------------------------------------------------------------------------------------------


def hook(folder: Path, name: str, then: str = "") -> None:
    """A hook that notes its variables, and then does something."""
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(
        f'#!/bin/sh\nenv | grep ^KAI_MIGRATE_ | sort >> "{folder}/.called"\necho ---- >> "{folder}/.called"\n{then}\n'
    )
    file.chmod(0o755)


def called(folder: Path) -> list[dict[str, str]]:
    """The variables of each hook that was called, in their order."""
    calls = (folder / ".called").read_text().split("----\n")[:-1]
    return [dict(line.removeprefix("KAI_MIGRATE_").split("=", 1) for line in call.splitlines()) for call in calls]


@WAYS
def test_hooks_are_called_at_their_moments_with_what_they_need_to_know(
    bench: Bench, tmp_path: Path, way: ChosenStrategy
) -> None:
    names = ["before-start", "ready", "before-cut-over", "after-cut-over", "succeeded"]
    for name in (*names, "failed"):
        hook(tmp_path / "hooks", name, "exit 7" if name in ("ready", "after-cut-over") else "")
    (tmp_path / "hooks" / "before_start").touch()
    ended = bench.run(way, hooks=tmp_path / "hooks")
    assert ended.status == 0, ended.text
    assert "has before_start, which no moment is called" in ended.text
    assert "The hook ready failed (exit status 7)." in ended.text
    calls = called(tmp_path / "hooks")
    assert [call["HOOK"] for call in calls] == names
    run = bench.shown["name"]
    for call in calls:
        assert call["RUN"] == run
        assert call["SERVER"] == bench.small.world.url
        assert (call["EMBEDDING_FAMILY"], call["EMBEDDING_DIMENSIONS"]) == ("openai", str(TARGET))
        assert json.loads(Path(call["STATUS_FILE"]).read_text())["phase"] == "done"
        assert bench.small.world.key not in call.values()
    for call in calls[1:4]:
        assert (call["COLLECTION"], call["FIELD"]) == (NAME, "vector")
        assert call["STRATEGY"] == {"auto": "recreate"}.get(way, way)
    assert calls[4]["EXIT_STATUS"] == "0"
    bench.small.check(TARGET)


@WAYS
def test_a_hook_that_fails_before_the_cut_over_stops_the_run_there(
    bench: Bench, tmp_path: Path, way: ChosenStrategy
) -> None:
    hook(tmp_path / "hooks", "before-cut-over", "echo the deployment failed; exit 4")
    hook(tmp_path / "hooks", "failed")
    ended = bench.run(way, hooks=tmp_path / "hooks")
    assert ended.status == 3, ended.text
    assert "the hook before-cut-over failed (exit status 4), so nothing that serves was changed" in ended.text
    assert "before-cut-over: the deployment failed" in ended.text
    assert called(tmp_path / "hooks")[-1]["EXIT_STATUS"] == "3"
    assert bench.serves_as_before
    hook(tmp_path / "hooks", "before-cut-over")
    assert bench.run(way, hooks=tmp_path / "hooks").status == 0
    bench.small.check(TARGET)


def test_a_hook_that_fails_before_the_start_refuses_the_run(bench: Bench, tmp_path: Path) -> None:
    hook(tmp_path / "hooks", "before-start", "exit 1")
    ended = bench.run(hooks=tmp_path / "hooks")
    assert ended.status == 2, ended.text
    assert "--hooks: before-start failed: exit status 1" in ended.text
    assert bench.shown["state"] == "refused"
    bench.small.untouched()
    (tmp_path / "hooks" / "before-start").chmod(0o644)
    ended = bench.run(hooks=tmp_path / "hooks")
    assert ended.status == 2, ended.text
    assert "before-start is not executable" in ended.text
    assert "is no folder" in bench.run(hooks=tmp_path / "nowhere").text


# -- the pace --------------------------------------------------------------------------------------------


@WAYS
def test_the_pace_is_changed_while_it_is_under_way(bench: Bench, way: ChosenStrategy) -> None:
    def tell(_: dict[str, Any]) -> bool:
        print("BEFORE", tune("latest", ["concurrency=2", "max-load=search_latency_ms=50"]).in_force["concurrency"])
        return True

    def see(status: dict[str, Any]) -> bool:
        pace = status["pace"]
        return bool(pace["concurrency"] == 2 and pace["max_load"] == {"search_latency_ms": 50.0})

    ended = bench.run(way, hold=float("inf"), at_request=bench.holding(tell, see, bench.remove_the_file))
    assert ended.status == 0, ended.text
    assert "BEFORE 4" in ended.text
    assert "Tuned: concurrency=2 (was 4); max-load=search_latency_ms=50 (was none)." in ended.text
    assert bench.command("tune", "latest", "nice=2").status == 2
    assert "is not under way" in bench.command("tune", "latest").text


@pytest.mark.parametrize(("way", "dimensions"), [("auto", TARGET), ("alter", TARGET), ("auto", OLD_DIMENSIONS)])
def test_a_run_waits_while_the_server_has_more_to_do_than_it_may(
    bench: Bench, way: ChosenStrategy, dimensions: int
) -> None:
    asked: list[bool] = []

    def busy_at_first() -> None:
        def stats(_: Typesense, **_how: Any) -> dict[str, float]:
            asked.append(True)
            return {"search_latency_ms": 83 if 2 < len(asked) < 5 else 3}

        Typesense.stats = stats  # type: ignore[method-assign,assignment]

    bench.environment = bench.small.environment(dimensions, bench.home)
    ended = bench.run(way, max_load={"search_latency_ms": 50.0}, in_child=busy_at_first)
    assert ended.status == 0, ended.text
    assert ended.text.count("Waiting: search_latency_ms is 83, above 50 (--max-load).") == 1
    assert ended.text.count("Going on.") == 1
    bench.small.check(dimensions)


def test_a_bound_that_the_server_cannot_be_asked_about_is_refused(bench: Bench) -> None:
    actions = ["documents:*", "collections:*", "aliases:*", "synonym_sets:*", "curation_sets:*"]
    made = bench.small.world.http.post("/keys", json={"description": "", "actions": actions, "collections": ["*"]})
    key = made.json()["value"]
    bench.environment |= {"TYPESENSE_API_KEY": key}
    ended = bench.run(max_load={"search_latency_ms": 50.0})
    assert ended.status == 2, ended.text
    assert "--max-load: the server does not give its figures" in ended.text
    assert "stats.json:list" in ended.text
    bench.small.untouched()
