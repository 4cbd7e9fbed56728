"""`history`, `show` and `models` over ledgers filled by hand, on both databases."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from migration.ledger import Call, CheckResult, FailureRecord, Ledger, MetricsRecord, RunRecord
from tests.commands.conftest import Invoke
from tests.ledger.conftest import document

SERVER = "search:8108"
FIRST = "openai-small-64-20261101-100000"
SECOND = "google-gemini-64-20261102-100000"


def migrated(
    ledger: Ledger,
    name: str,
    *,
    model: str = "small",
    documents: int = 100,
    failed: int = 0,
    speed: float | None = None,
    cost: float | None = None,
    alias: str | None = None,
    tokens: int = 1000,
) -> RunRecord:
    """A finished migration of one collection."""
    known = ledger.register_model(
        family="openai", model=model, dimensions=64, fingerprint=f"f-{model}", tool_source="langchain-openai",
        tool_version="1.0",
    )  # fmt: skip
    run = ledger.start_run(
        name, "migrate", model_id=known.id, alias=alias, parameters={"concurrency": 4},
        source={"server": SERVER, "collections": ["articles"]},
        call=Call(tool_source="langchain-openai", tool_version="1.0", user_name="ada", program_version="0.1.0"),
    )  # fmt: skip
    item = ledger.start_collection(
        run.id, "articles", "in place", old_dimensions=64, new_dimensions=64, eligible=documents + failed
    )
    ledger.update_collection(
        item,
        done=documents,
        failed=failed,
        state="partial" if failed else "completed",
        backup_path="backups/x/articles",
        downtime_seconds=0.25,
        incomplete_seconds=1.5,
    )
    ledger.record_failures(run.id, "articles", [FailureRecord(f"d{n}", "embed", "too\nlong") for n in range(failed)])
    ledger.record_verification(run.id, "articles", "PASS", [CheckResult("documents", True, documents)])
    ledger.record_metrics(
        run.id,
        MetricsRecord(
            documents_per_second=speed, latency_p50_ms=12.5, latency_p95_ms=40.0, requests=9, retries=2,
            failures=failed, tokens=tokens, cost_usd=cost, seconds=3.0,
        ),
    )  # fmt: skip
    return ledger.finish_run(run.id, "partial" if failed else "completed")


def test_history_lists_the_latest_run_first(ledger: Ledger, ask: Invoke) -> None:
    migrated(ledger, FIRST, alias="spring", speed=250.0, cost=0.5)
    migrated(ledger, SECOND, failed=3)
    listed = ask("history").text.splitlines()
    assert listed[0].split()[:3] == ["RUN", "ALIAS", "KIND"]
    assert [line.split()[0] for line in listed[1:3]] == [SECOND, FIRST]
    assert "spring" in listed[2]
    assert "openai/small/64" in listed[2]
    for cell in (" 100 ", " 0 ", " 250 ", " $0.5 ", " PASS ", " completed"):
        assert cell in listed[2] + " ", cell
    assert " 3 " in listed[1]
    assert listed[-1] == "Last migrations: speed unknown, failures unknown, cost unknown"


def test_history_as_json_has_numbers_and_times_in_utc(ledger: Ledger, ask: Invoke) -> None:
    run = migrated(ledger, FIRST, alias="spring", failed=1, speed=250.0, cost=0.5)
    (line,) = ask("history", "--json").json["runs"]
    assert {name: line[name] for name in ("name", "alias", "kind", "state", "verdict", "collections")} == {
        "name": FIRST,
        "alias": "spring",
        "kind": "migrate",
        "state": "partial",
        "verdict": "PASS",
        "collections": ["articles"],
    }
    assert (line["eligible"], line["documents"], line["failed"]) == (101, 100, 1)
    assert (line["documents_per_second"], line["cost_usd"], line["seconds"]) == (250.0, 0.5, 3.0)
    assert line["model"]["model"] == "small"
    assert line["started_at"].endswith("Z")
    begun = datetime.fromisoformat(line["started_at"])
    assert begun.tzinfo == UTC
    assert abs((begun - run.started_at).total_seconds()) < 0.001


def test_the_trend_does_not_depend_on_how_many_runs_are_listed(ledger: Ledger, ask: Invoke) -> None:
    for number in range(6):
        migrated(ledger, f"run-{number}", speed=100.0 + 50 * number, failed=number, cost=1.0)
        ledger.finish_run(ledger.start_run(f"backup-{number}", "backup").id, "completed")
    found = ask("history", "--limit", "1", "--json").json
    assert len(found["runs"]) == 1
    assert found["trends"] == {"speed": "improving", "failures": "declining", "cost": "stable"}
    assert "speed improving, failures declining, cost stable" in ask("history").text


def test_a_run_that_found_everything_current_says_nothing_about_speed_or_cost(ledger: Ledger, ask: Invoke) -> None:
    for number in range(5):
        migrated(ledger, f"run-{number}", speed=100.0, cost=1.0)
    for number in range(5):
        migrated(ledger, f"idle-{number}", speed=9000.0, cost=0.0, tokens=0)
    assert ask("history", "--json").json["trends"] == {"speed": "stable", "failures": "stable", "cost": "stable"}


def test_without_measurements_speed_is_documents_by_seconds(ledger: Ledger, ask: Invoke) -> None:
    run = ledger.start_run("run", "migrate")
    item = ledger.start_collection(run.id, "articles", "in place", eligible=7)
    ledger.update_collection(item, done=7, state="completed")
    ended = ledger.finish_run(run.id, "completed")
    (line,) = ask("history", "--json").json["runs"]
    assert ended.seconds
    assert line["documents_per_second"] == pytest.approx(7 / ended.seconds, rel=0.01)


def test_a_run_under_way_counts_the_failures_so_far(ledger: Ledger, ask: Invoke) -> None:
    run = ledger.start_run("run", "migrate")
    ledger.start_collection(run.id, "articles", "in place", eligible=7)
    ledger.record_failures(run.id, "articles", [FailureRecord("a", "embed", "x"), FailureRecord("b", "embed", "x")])
    (line,) = ask("history", "--json").json["runs"]
    assert (line["state"], line["failed"], line["finished_at"], line["seconds"]) == ("running", 2, None, None)


def test_of_a_collection_that_was_taken_up_again_the_last_time_counts(ledger: Ledger, ask: Invoke) -> None:
    run = ledger.start_run("run", "migrate")
    for done in (3, 7):
        item = ledger.start_collection(run.id, "articles", "in place", eligible=7)
        ledger.update_collection(item, done=done, state="interrupted" if done == 3 else "completed")
    (line,) = ask("history", "--json").json["runs"]
    assert (line["eligible"], line["documents"], line["collections"]) == (7, 7, ["articles"])
    assert [item["done"] for item in ask("show", "run", "--json").json["collections"]] == [7]


def test_show_tells_everything_about_a_run(ledger: Ledger, ask: Invoke) -> None:
    migrated(ledger, FIRST, alias="spring", failed=2, speed=250.0, cost=0.5)
    text = ask("show", FIRST).text
    for words in (
        "openai/small, 64 dimensions",
        "langchain-openai 1.0",
        "Started by   ada",
        "Program      kai-migrate 0.1.0",
        f"server={SERVER}",
        "concurrency=4",
        "100 of 102, 2 failed",
        "articles    in place  64 -> 64",
        "0.25 s    1.50 s      backups/x/articles",
        "documents  passed  100 of 100  100.0 %",
        "articles    d1        embed  too long",
        "12.5 ms",
    ):
        assert words in text, text


def test_a_run_is_named_by_name_alias_beginning_or_latest(ledger: Ledger, ask: Invoke) -> None:
    migrated(ledger, FIRST, alias="spring")
    migrated(ledger, SECOND)
    for name, expected in ((FIRST, FIRST), ("spring", FIRST), ("openai", FIRST), ("latest", SECOND)):
        assert ask("show", name, "--json").json["run"]["name"] == expected


def test_a_run_that_is_not_there_is_refused_in_clear_words(ledger: Ledger, ask: Invoke) -> None:
    answer = ask("show", "latest")
    assert (answer.status, "holds no run at all" in answer.text) == (2, True)
    migrated(ledger, "a-1")
    migrated(ledger, "a-2")
    answer = ask("show", "winter")
    assert answer.status == 2
    assert "RUN: the ledger" in answer.text
    assert "holds no run 'winter'; `kai-migrate history` lists them" in answer.text
    answer = ask("show", "a")
    assert answer.status == 2
    assert "several runs begin with 'a': a-2, a-1" in answer.text


def test_show_lists_twenty_failures_unless_all_are_asked_for(ledger: Ledger, ask: Invoke) -> None:
    migrated(ledger, FIRST, failed=23)
    text = ask("show", "latest").text
    assert text.count("articles    d") == 20
    assert "… and 3 more; --all-failures lists them" in text
    assert ask("show", "latest", "--all-failures").text.count("articles    d") == 23
    found = ask("show", "latest", "--json").json
    assert (len(found["failures"]), found["failures_total"]) == (20, 23)
    assert len(ask("show", "latest", "--json", "--all-failures").json["failures"]) == 23


def test_show_names_the_run_that_a_rollback_undoes(ledger: Ledger, ask: Invoke) -> None:
    undone = migrated(ledger, FIRST)
    ledger.start_run("rollback-1", "rollback", reverts=undone.id)
    assert ask("show", "rollback-1", "--json").json["reverts"] == FIRST
    assert re.search(rf"^Undoes +{FIRST}$", ask("show", "rollback-1").text, re.MULTILINE)


def test_models_are_listed_with_the_documents_that_carry_them(ledger: Ledger, ask: Invoke) -> None:
    assert ask("models", "--json").json == {"models": [], "mixed": []}
    old = ledger.register_model(family="openai", model="old", dimensions=64, fingerprint="f1")
    new = ledger.register_model(family="google", model="new", dimensions=64, fingerprint="f2", task_type="X")
    ledger.record_documents(SERVER, "a", [document("1", model_id=old.id), document("2", model_id=new.id)])
    ledger.record_documents(SERVER, "b", [document(str(n), model_id=new.id) for n in range(1200)])
    found = ask("models", "--json").json
    assert [(use["model"]["model"], use["collections"]) for use in found["models"]] == [
        (
            "new",
            [
                {"source": SERVER, "collection": "a", "documents": 1, "field": ""},
                {"source": SERVER, "collection": "b", "documents": 1200, "field": ""},
            ],
        ),
        ("old", [{"source": SERVER, "collection": "a", "documents": 1, "field": ""}]),
    ]
    assert found["mixed"] == [f"{SERVER}/a"]
    text = ask("models").text
    assert "google/new  64" in text
    assert f"{SERVER}/b  1,200" in text
    assert f"Vectors of several models stand in {SERVER}/a" in text


def test_no_secret_is_printed_and_json_stays_json(ledger: Ledger, ask: Invoke) -> None:
    ledger.start_run("run", "migrate", description="key sekret-key-123 used", parameters={"n": 100, "flag": True})
    for key in ("sekret-key-123", "100", "true", "run"):
        found = ask("show", "latest", "--json", OPENAI_API_KEY=key).json
        assert found["parameters"] == {"n": 100, "flag": True}
        if key.startswith("sekret"):
            assert found["run"]["description"] == "key *** used"
    assert "sekret" not in ask("show", "latest", OPENAI_API_KEY="sekret-key-123").text


def test_a_cheap_and_a_large_model_do_not_make_a_decline(ledger: Ledger, ask: Invoke) -> None:
    for number in range(5):
        migrated(ledger, f"cheap-{number}", model="small", speed=500.0, cost=0.02)
    for number in range(5):
        migrated(ledger, f"large-{number}", model="large", speed=100.0, cost=0.9)
    found = ask("history", "--json").json
    assert found["trends"] == {"speed": "stable", "failures": "stable", "cost": "stable"}
    assert [(each["model"], each["collection"], each["speed"]["latest"]) for each in found["series"]] == [
        ("openai/large/64", "articles", 100.0),
        ("openai/small/64", "articles", 500.0),
    ]
    assert "declining" not in ask("history").text


def test_a_model_that_gets_slower_is_told_with_its_numbers_beside_one_that_does_not(
    ledger: Ledger, ask: Invoke
) -> None:
    for number in range(5):
        migrated(ledger, f"a-{number}", model="small", speed=100.0 - 10 * number, cost=0.5)
        migrated(ledger, f"b-{number}", model="large", speed=50.0, cost=0.5)
    found = ask("history", "--json").json
    assert found["trends"]["speed"] == "declining"
    by_model = {each["model"]: each for each in found["series"]}
    speed = by_model["openai/small/64"]["speed"]
    assert speed == {
        "count": 5,
        "latest": 60.0,
        "typical": 80.0,
        "change": pytest.approx(-0.5),
        "trend": "declining",
    }
    assert by_model["openai/large/64"]["speed"]["trend"] == "stable"
    text = ask("history").text
    assert re.search(r"^openai/small/64 +articles +5 +60\.0 \(-50\.0%\) declining +", text, re.MULTILINE)
    assert re.search(r"^openai/large/64 +articles +5 +50\.0 \(\+0\.0%\) stable +", text, re.MULTILINE)


def test_collections_of_one_run_develop_each_by_itself(ledger: Ledger, ask: Invoke) -> None:
    for number in range(5):
        run = migrated(ledger, f"run-{number}", speed=1.0, cost=1.0)
        item = ledger.start_collection(run.id, "notes", "in place", eligible=10)
        ledger.update_collection(item, done=10, state="completed")
        for name, speed in (("articles", 100.0), ("notes", 10.0 + 10 * number)):
            ledger.record_metrics(run.id, MetricsRecord(name, documents_per_second=speed, cost_usd=1.0))
    series = ask("history", "--json").json["series"]
    assert {each["collection"]: each["speed"]["trend"] for each in series} == {
        "articles": "stable",
        "notes": "improving",
    }
    only = ask("history", "--collection", "articles", "--json").json["series"]
    assert [each["collection"] for each in only] == ["articles"]


def test_the_history_is_asked_by_model_collection_time_and_kind(ledger: Ledger, ask: Invoke) -> None:
    migrated(ledger, "a", model="small")
    migrated(ledger, "b", model="large")
    ledger.start_run("c", "backup", source={"server": SERVER, "collections": ["notes"]})

    def names(*arguments: str) -> list[str]:
        answer = ask("history", *arguments, "--json")
        assert answer.status == 0, answer.text
        return [run["name"] for run in answer.json["runs"]]

    assert names() == ["c", "b", "a"]
    assert names("--model", "large") == names("--model", "openai/large") == names("--model", "openai/large/64") == ["b"]
    assert names("--collection", "notes") == ["c"]
    assert names("--kind", "backup") == ["c"]
    assert names("--kind", "backup", "--kind", "migrate", "--model", "small") == ["a"]
    assert names("--since", "1d") == names("--since", "2020-01-01") == ["c", "b", "a"]
    assert names("--since", "2999-01-01T00:00:00+02:00") == []
    assert ask("history", "--since", "2999-01-01").text == "No such runs.\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "none"], "--model: the ledger knows no model 'none'"),
        (["--since", "yesterday"], "'yesterday' is no time; write an age such as 30d"),
        (["--since", "9999999d"], "is no age"),
        (["--kind", "verify"], "'verify' is not one of"),
    ],
)
def test_a_question_that_cannot_be_understood_is_refused(
    ask: Invoke, ledger: Ledger, arguments: list[str], words: str
) -> None:
    answer = ask("history", *arguments)
    assert answer.status == 2
    assert words in answer.text


def test_failures_are_counted_by_reason_also_where_only_numbers_differ(ledger: Ledger, ask: Invoke) -> None:
    run = migrated(ledger, FIRST)
    reasons = ["400: too long, 9001 tokens", "400: too long, 9500 tokens", "no text"]
    failed = [FailureRecord(str(number), "embed", reason) for number, reason in enumerate(reasons)]
    ledger.record_failures(run.id, "articles", [*failed, FailureRecord("x", "import", "no text")])
    expected = [
        {"stage": "embed", "reason": "#: too long, # tokens", "documents": 2},
        {"stage": "embed", "reason": "no text", "documents": 1},
        {"stage": "import", "reason": "no text", "documents": 1},
    ]
    assert ask("show", FIRST, "--json").json["run"]["failure_reasons"] == expected
    assert ask("history", "--json").json["runs"][0]["failure_reasons"] == expected
    for text in (ask("show", FIRST).text, ask("history").text):
        assert re.search(r"2 +embed +#: too long, # tokens$", text, re.MULTILINE)
        assert re.search(r"1 +import +no text$", text, re.MULTILINE)
