"""A run's report in words and plots: the verdict, what happened over time, and what can be done now."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kai.settings import EmbeddingSettings, Settings, TypesenseSettings
from migration.backup.manifest import MANIFEST
from migration.ledger import Ledger, LedgerError
from migration.ledger.records import Call, CheckResult, CollectionState, FailureRecord, RunRecord, RunState, Strategy
from migration.operations.models.neighbours import KeptNeighbours
from migration.operations.models.overlap import Kept, Overlap
from migration.operations.reports.run_course import _phases, _rates
from migration.operations.reports.run_facts import RunReport, Step, collect
from migration.operations.reports.run_page import page_of, verdict_of
from migration.operations.reports.run_report import _told, report_run
from migration.operations.runs.checks import TARGET
from migration.operations.runs.results import CollectionResult, RunResult
from migration.operations.setup import Session
from migration.reporting.page import BarPlot, Commands, Facts, LinePlot, Notes, Page, Plots, Table
from migration.runtime.console import Console
from migration.runtime.timeline import Sample
from migration.strategies.context import Outcome

SERVER = "http://localhost:8108"
Ran = Callable[..., RunRecord]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger without a run, for each test to have a copy of."""
    home = tmp_path_factory.mktemp("empty")
    Ledger.open(None, home).close()
    return next(home.glob("*.sqlite*"))


@pytest.fixture
def ledger(empty: Path, tmp_path: Path) -> Iterator[Ledger]:
    shutil.copy(empty, tmp_path)
    with Ledger.open(None, tmp_path) as opened:
        yield opened


@pytest.fixture
def ran(ledger: Ledger) -> Ran:
    """Note a run in the ledger, as one that came to this state."""

    def note(
        name: str = "a-run",
        state: RunState = "completed",
        *,
        backup: Path | None = None,
        strategy: Strategy = "in place",
        failures: int = 0,
        options: dict[str, Any] | None = None,
        **more: Any,
    ) -> RunRecord:
        model = ledger.register_model(
            family="openai", model="text-embedding-3-small", dimensions=768, task_type=None, fingerprint="f"
        )
        source = {"server": SERVER, "collections": ["notes"]}
        call = Call(options=options or {}, program_version="0.1.0", collections_file=more.pop("file", None))
        run = ledger.start_run(name, more.pop("kind", "migrate"), model_id=model.id, source=source, call=call, **more)
        row = ledger.start_collection(run.id, "notes", strategy, old_dimensions=768, new_dimensions=768, eligible=10)
        ledger.record_failures(
            run.id, "notes", [FailureRecord(f"n{i}", "import", f"refused {'ab'[i % 2]}") for i in range(failures)]
        )
        ended: CollectionState = "completed" if state == "refused" else state
        ledger.update_collection(
            row, done=10 - failures, failed=failures, state=ended, backup_path=str(backup) if backup else None
        )
        return ledger.finish_run(run.id, state) if state != "running" else run

    return note


def backed_up(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).write_text("{}")
    return folder


def report_of(ledger: Ledger, run: RunRecord, home: Path, **more: Any) -> RunReport:
    return collect(ledger, run, home, more.get("told", ()), more.get("neighbours", ()))


def section(page: Page, title: str) -> Any:
    """The section of this title; None where the page has none."""
    return next((each for each in page.sections if each.title == title), None)


# -- the verdict -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "word", "tone"),
    [
        ("completed", "Done", "good"),
        ("waiting", "Filled", "good"),
        ("rehearsed", "Rehearsed", "good"),
        ("stopped", "Stopped", "warning"),
        ("interrupted", "Interrupted", "warning"),
        ("running", "Not ended", "warning"),
        ("refused", "Refused", "warning"),
        ("partial", "Not all right", "bad"),
    ],
)
def test_the_verdict_is_that_of_the_runs_state(
    ledger: Ledger, ran: Ran, tmp_path: Path, state: RunState, word: str, tone: str
) -> None:
    verdict = verdict_of(report_of(ledger, ran(state=state), tmp_path))
    assert (verdict.word, verdict.tone) == (word, tone)


def test_documents_that_failed_and_checks_that_failed_are_the_verdict(ledger: Ledger, ran: Ran, tmp_path: Path) -> None:
    run = ran(state="partial", failures=3)
    verdict = verdict_of(report_of(ledger, run, tmp_path))
    assert (verdict.word, verdict.tone) == ("Some failed", "bad")
    assert "3 documents failed" in verdict.sentence
    ledger.record_verification(run.id, "notes", "FAIL", [CheckResult(TARGET, False, 10, 3)])
    assert verdict_of(report_of(ledger, run, tmp_path)).sentence == "It ended, but 3 documents failed: see Failures."
    ledger.record_verification(run.id, "notes", "FAIL", [CheckResult("documents", False, 10, 2)])
    assert verdict_of(report_of(ledger, run, tmp_path)).sentence.endswith(
        ", and a check of the result failed: see Checks."
    )
    other = ran("other", "partial")
    ledger.record_verification(other.id, "notes", "FAIL", [CheckResult("documents", False, 10, 2)])
    assert verdict_of(report_of(ledger, other, tmp_path)).word == "Check failed"


def test_a_check_that_was_not_made_is_no_pass(ledger: Ledger, ran: Ran, tmp_path: Path) -> None:
    run = ran()
    ledger.record_verification(run.id, "notes", "NOT CHECKED", [CheckResult("sample", None, 0, detail="no key")])
    page = page_of(report_of(ledger, run, tmp_path))
    assert (page.verdict.word, page.verdict.tone) == ("Not checked", "warning")
    assert section(page, "Checks").rows == (("not made", "notes", "sample", "0", "0", "100.0 %", "no key"),)
    assert section(page, "Checks").tones == ("warning",)


# -- what can be done ------------------------------------------------------------------------------------


def lines(steps: tuple[Step, ...]) -> list[str]:
    return [step.command for step in steps]


def test_a_run_with_a_backup_is_taken_back_by_its_name(ledger: Ledger, ran: Ran, tmp_path: Path) -> None:
    report = report_of(ledger, ran(backup=backed_up(tmp_path / "b")), tmp_path)
    assert lines(report.ways_back) == ["kai-migrate rollback a-run"]
    assert lines(report.next_steps) == ["kai-migrate verify a-run"]


def test_commands_name_the_settings_file_and_the_descriptions_that_the_run_was_given(
    ledger: Ledger, ran: Ran, tmp_path: Path
) -> None:
    run = ran(backup=backed_up(tmp_path / "b"), options={"env_file": "/etc/my env"}, file="[notes]\n")
    report = report_of(ledger, run, tmp_path)
    assert lines(report.ways_back) == [
        "kai-migrate show a-run --collections-file --env-file '/etc/my env' > a-run.toml",
        "kai-migrate rollback a-run --collections-file a-run.toml --env-file '/etc/my env'",
    ]
    assert report.run.starts[-1].collections_file is None, "which is the user's, and may hold more than is known here"


def test_what_was_done_afterwards_is_taken_back_first(ledger: Ledger, ran: Ran, tmp_path: Path) -> None:
    first = ran("first", backup=backed_up(tmp_path / "1"))
    ran("second", backup=backed_up(tmp_path / "2"))
    ran("third", backup=backed_up(tmp_path / "3"))
    report = report_of(ledger, first, tmp_path)
    assert lines(report.ways_back) == [f"kai-migrate rollback {name}" for name in ("third", "second", "first")]


def test_a_run_that_was_taken_back_says_by_which(ledger: Ledger, ran: Ran, tmp_path: Path) -> None:
    first = ran("first", backup=backed_up(tmp_path / "1"))
    ran("rollback-1", kind="rollback", reverts=first.id, backup=backed_up(tmp_path / "2"))
    report = report_of(ledger, first, tmp_path)
    assert report.ways_back == (Step("It was taken back already, by rollback-1."),)
    assert report.next_steps == (), "what does not stand any more is not verified"


@pytest.mark.parametrize("folder", [None, "pruned"])
def test_without_a_backup_the_way_back_is_the_model_before(
    ledger: Ledger, ran: Ran, tmp_path: Path, folder: str | None
) -> None:
    report = report_of(ledger, ran(backup=tmp_path / folder if folder else None), tmp_path)
    (step,) = report.ways_back
    assert step.command == ""
    assert "EMBEDDING_MODEL" in step.purpose


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("stopped", ["kai-migrate show a-run --command"]),
        ("interrupted", ["kai-migrate show a-run --command"]),
        ("rehearsed", ["kai-migrate show a-run --command"]),
        ("waiting", ["kai-migrate finish a-run", "kai-migrate verify a-run"]),
    ],
)
def test_what_is_to_be_done_now_follows_from_the_state(
    ledger: Ledger, ran: Ran, tmp_path: Path, state: RunState, expected: list[str]
) -> None:
    report = report_of(ledger, ran(state=state, strategy="into"), tmp_path)
    assert lines(report.next_steps) == expected
    expected_back = ["kai-migrate rollback a-run"] if state == "waiting" else [""] * (state != "rehearsed")
    assert lines(report.ways_back) == expected_back


def test_what_to_do_comes_first_where_something_is_wrong_and_last_where_nothing_is(
    ledger: Ledger, ran: Ran, tmp_path: Path
) -> None:
    fine = page_of(report_of(ledger, ran("fine", backup=backed_up(tmp_path / "1")), tmp_path))
    wrong = page_of(report_of(ledger, ran("wrong", "stopped"), tmp_path))
    titles = [[each.title for each in page.sections] for page in (fine, wrong)]
    assert titles[0].index("What was done") < titles[0].index("What to do now") < titles[0].index("How to go back")
    assert titles[1][0] == "What to do now"


# -- failures --------------------------------------------------------------------------------------------


def test_failures_are_counted_by_reason_and_named(ledger: Ledger, ran: Ran, tmp_path: Path) -> None:
    page = page_of(report_of(ledger, ran(state="partial", failures=5), tmp_path))
    plot = section(page, "Why documents failed").plots[0]
    assert plot.labels == ("A", "B")
    assert plot.legend == ("import: refused a (3)", "import: refused b (2)")
    assert [bar.value for bar in plot.bars[0][1]] == [3, 2]
    assert section(page, "Failures").rows[0] == ("notes", "n0", "import", "refused a")
    assert section(page, "Failures").note == ""


def test_of_many_failures_a_bounded_number_is_listed_with_the_command_that_lists_all(
    ledger: Ledger, ran: Ran, tmp_path: Path
) -> None:
    table = section(page_of(report_of(ledger, ran(state="partial", failures=1_203), tmp_path)), "Failures")
    assert len(table.rows) == 1_000
    assert table.note == "203 more are not listed here; this lists all of them:"
    assert table.command == "kai-migrate show a-run --all-failures"


# -- over time -------------------------------------------------------------------------------------------


def samples(*rows: tuple[float, str, int], leg: int = 1) -> list[Sample]:
    return [
        Sample(leg=leg, at=1e9 + each[0], seconds=each[0], phase=each[1], documents=each[2], requests=int(each[0]))
        for each in rows
    ]


COURSE = samples(
    (0, "starting", 0), (0, "copying", 0), (10, "copying", 100), (20, "copying", 300), (20, "cut-over", 300)
) + samples((25, "cut-over", 0), (26, "checking", 0), (46, "checking", 400), leg=2)


def test_the_speed_is_what_was_gone_through_between_two_looks_phase_by_phase() -> None:
    speed = _rates(COURSE, lambda s: s.documents, lambda s: s.seconds, phase="copying")
    assert [point for point in speed if point[1] is not None] == [(5.0, 10.0), (15.0, 20.0)]
    speed = _rates(COURSE, lambda s: s.documents, lambda s: s.seconds, phase="checking")
    assert [point for point in speed if point[1] is not None] == [(36.0, 20.0)]


def test_no_line_leads_from_one_leg_of_a_run_to_the_next() -> None:
    latency = _rates(COURSE, lambda s: s.documents, lambda s: s.requests)
    assert None in [value for _, value in latency]
    assert all(value is None or value >= 0 for _, value in latency), "counts begin at 0 with each leg"


@given(
    st.lists(
        st.tuples(st.integers(1, 3), st.floats(0, 1e5), st.sampled_from("abc"), st.integers(0, 10**6)), max_size=40
    )
)
def test_speeds_are_never_negative_and_stand_in_order(rows: list[tuple[int, float, str, int]]) -> None:
    course = [
        Sample(leg=leg, at=0.0, seconds=seconds, phase=phase, documents=documents)
        for (leg, seconds, phase), documents in zip(
            sorted(row[:3] for row in rows), sorted(row[3] for row in rows), strict=True
        )
    ]
    course = [
        replace(each, seconds=seconds) for each, seconds in zip(course, sorted(s.seconds for s in course), strict=True)
    ]
    for phase in (None, "a", "b", "c"):
        points = _rates(course, lambda s: s.documents, lambda s: s.seconds, phase=phase)
        assert [x for x, _ in points] == sorted(x for x, _ in points)
        assert all(value is None or value >= 0 for _, value in points)
    assert sum(documents for *_, documents in _phases(course)) <= (course[-1].documents if course else 0)


def test_the_time_of_each_phase_is_told() -> None:
    assert _phases(COURSE) == [("copying", None, 20.0, 300), ("cut-over", None, 1.0, 0), ("checking", None, 20.0, 400)]


def test_searches_are_plotted_where_somebody_searched(ledger: Ledger, ran: Ran, tmp_path: Path) -> None:
    report = report_of(ledger, ran(), tmp_path)
    searched = [replace(each, search_ms=10.0, searches_per_second=2.0) for each in COURSE]
    for course, titles in (
        (COURSE, ["Documents a second"]),
        (searched, ["Documents a second", "Speed of searches meanwhile"]),
        ([], []),
    ):
        found = section(page_of(replace(report, timeline=tuple(course))), "How it went")
        assert [plot.title for plot in found.plots if found] == titles if found else not titles


# -- neighbours ------------------------------------------------------------------------------------------


def test_neighbours_are_counted_and_the_texts_that_changed_most_are_named(
    ledger: Ledger, ran: Ran, tmp_path: Path
) -> None:
    kept = tuple(Kept(f"n{i}", share, share == 1.0) for i, share in enumerate([1.0, 0.5, 1.0, 0.0]))
    found = KeptNeighbours("notes", Overlap(9, 4, 2, 0.625, 0.0, 0.5, 0.25), None, kept)
    other = KeptNeighbours("rules", None, "there is no backup of vectors that the run replaced")
    page = page_of(report_of(ledger, ran(), tmp_path, neighbours=(found, other)))
    plots = section(page, "Old and new neighbours")
    assert [bar.value for bar in plots.plots[0].bars[0][1]] == [1, 1, 2]
    assert "62.5 % kept on average, by chance it would be 25.0 %" in plots.plots[0].note
    assert plots.note == "rules: not compared, there is no backup of vectors that the run replaced."
    changed = section(page, "Texts whose neighbours changed most").rows
    assert changed[0] == ("notes", "n3", "0 of 2", "no")


def test_what_the_run_said_at_its_end_is_kept() -> None:
    stopped = CollectionResult("notes", "stopped", Outcome(notes=["look at it"]), "Typesense: away")
    assert list(_told(RunResult("a-run", (stopped,), trouble=("mixed",), unnoted="disk full"))) == [
        "Stopped at 'notes': Typesense: away",
        "notes: look at it",
        "mixed",
        "The end of the run cannot be noted: disk full",
    ]


def test_every_kind_of_section_has_a_title_and_content(ledger: Ledger, ran: Ran, tmp_path: Path) -> None:
    report = report_of(ledger, ran(state="partial", failures=2), tmp_path, told=("a note",))
    page = page_of(replace(report, timeline=tuple(COURSE), written_at=datetime(2026, 1, 2, tzinfo=UTC)))
    assert {type(each) for each in page.sections} == {Plots, Table, Commands, Facts, Notes}
    assert page.footer.startswith("Written 2026-01-02 00:00:00Z by kai-migrate ")
    assert page.summary.startswith("openai/text-embedding-3-small, 768 dimensions · notes · ")
    assert all(
        isinstance(plot, LinePlot | BarPlot) for each in page.sections if isinstance(each, Plots) for plot in each.plots
    )


class Broken(Ledger):
    """A ledger that nothing can be read from."""

    def __init__(self) -> None: ...

    def find_run(self, *_: Any) -> RunRecord | None:
        raise LedgerError("the disk is gone")


def test_a_report_that_cannot_be_written_is_told_and_changes_nothing_else(
    ledger: Ledger, ran: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, result = ran(kind="rollback"), RunResult("a-run", ())
    settings = Settings(EmbeddingSettings("local", "m", 64), TypesenseSettings(), home=tmp_path / "home")
    session = cast(Session, SimpleNamespace(settings=settings, console=Console()))
    assert report_run(session, Broken(), run, result) == result
    assert capsys.readouterr().err == "The report of run a-run could not be written: the disk is gone\n"
    (tmp_path / "home").write_text("a file where the home should be")
    assert report_run(session, ledger, run, result) == result
    assert "The report of run a-run could not be written: " in capsys.readouterr().err


def test_a_run_that_ended_names_its_report(ledger: Ledger, ran: Ran, tmp_path: Path) -> None:
    run = ran(kind="rollback")
    settings = Settings(EmbeddingSettings("local", "m", 64), TypesenseSettings(), home=tmp_path)
    session = cast(Session, SimpleNamespace(settings=settings, console=Console()))
    found = report_run(session, ledger, run, RunResult("a-run", ()))
    assert found.report == str(tmp_path / "runs" / "a-run" / "report.html")
    assert Path(found.report).exists()
