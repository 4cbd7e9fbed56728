"""The reports of an evaluation and of a doctor's look show what was found, and nothing that is not theirs to show."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from kai.settings import EmbeddingSettings, Settings, TypesenseSettings
from migration.assessment.diagnosis.findings import Check, Diagnosis, Finding
from migration.assessment.evaluation.metrics import Interval
from migration.assessment.evaluation.result import Candidate, Change, Evaluation, Figures
from migration.assessment.evaluation.verdict import Rule
from migration.ledger.records import EvaluationVerdict
from migration.operations.reports.assessment_page import keep_report, page_of_diagnosis, page_of_evaluation
from migration.reporting.page import BarPlot, Plots
from migration.reporting.plots import draw
from migration.runtime.console import SILENT, Console

AT = datetime(2026, 11, 22, 2, 20, tzinfo=UTC)
BAD = Finding("error", "no_vector", "2 documents with a text and no vector", "articles.vector", "run it", 2, ("a", "b"))
CLOSE = Finding("warning", "vec_dist", "ip with vectors that are not normalised", "articles.vector")


def diagnosis(*findings: Finding, is_made: bool = True) -> Diagnosis:
    checks = (Check("vectors", "articles.vector", "2 documents", findings, is_made), Check("home", "x", "40 GB free"))
    return Diagnosis("http://localhost:8108", "openai/small/8", checks)


def figures(model: str, mean: float) -> Figures:
    return Figures(model, {"ndcg@10": Interval(mean, mean - 0.1, mean + 0.1)}, 3.0, 9.0, 1.5, None, 2.0, 4_000_000)


def evaluation(difference: float) -> Evaluation:
    change = Change(3, ("a", "b"), 1.0, 0.25)
    between = Interval(difference, difference - 0.05, difference + 0.05)
    verdict: EvaluationVerdict = "GO" if difference > 0 else "NO-GO"
    new = Candidate(figures("new/8", 0.8 + difference), {"ndcg@10": between}, 4, 1, (change,), verdict, "it differs")
    return Evaluation(
        AT, "localhost:8108", "articles", "vector", "", 20, "", 90, 100, Rule(), figures("old/8", 0.8), (new,),
        verdict, ("made questions are easy",),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("findings", "word", "tone"),
    [((BAD, CLOSE), "Not well", "bad"), ((CLOSE,), "Take care", "warning"), ((), "Well", "good")],
)
def test_the_verdict_of_a_look_is_that_of_its_worst_finding(
    findings: tuple[Finding, ...], word: str, tone: str
) -> None:
    verdict = page_of_diagnosis(diagnosis(*findings), AT).verdict
    assert (verdict.word, verdict.tone) == (word, tone)


def test_a_finding_stands_there_with_its_documents_and_its_remedy() -> None:
    findings, documents, checks = page_of_diagnosis(diagnosis(BAD), AT).sections
    assert findings.rows == (("error", "no_vector", "articles.vector", BAD.what, "run it"),)  # type: ignore[union-attr]
    assert [row[-1] for row in documents.rows] == ["a", "b"]  # type: ignore[union-attr]
    assert len(checks.rows) == 2  # type: ignore[union-attr]


def test_a_check_that_was_not_made_is_no_pass() -> None:
    page = page_of_diagnosis(diagnosis(is_made=False), AT)
    assert page.highlights[-1] == ("Not checked", "1")
    assert "1 could not be made" in page.sections[-1].note  # type: ignore[union-attr]


@pytest.mark.parametrize("difference", [0.12, -0.06])
def test_old_and_new_stand_side_by_side_and_their_difference_may_be_negative(difference: float) -> None:
    page = page_of_evaluation(evaluation(difference))
    plots = page.sections[0]
    assert isinstance(plots, Plots)
    both, apart = plots.plots
    assert isinstance(both, BarPlot) and isinstance(apart, BarPlot)
    assert [name for name, _ in both.bars] == ["old/8", "new/8"]
    assert apart.bars[0][1][0].value == difference  # type: ignore[union-attr]
    assert ("-0." in draw(apart)) == (difference < 0)
    assert page.verdict.word == ("GO" if difference > 0 else "NO-GO")


def test_it_is_written_as_two_files_without_a_key(tmp_path: Path) -> None:
    settings = Settings(
        EmbeddingSettings("openai", "small", 8), TypesenseSettings(api_key="secret-key-0123"), home=tmp_path
    )
    found = replace(diagnosis(BAD), server="http://secret-key-0123@localhost")
    html = Path(keep_report(settings, "doctor", AT, page_of_diagnosis(found, AT), found.facts(), SILENT))
    assert html == tmp_path / "reports" / "doctor-20261122-022000" / "report.html"
    for file in (html, html.with_name("report.json")):
        assert "secret-key-0123" not in file.read_text()
    assert orjson.loads(html.with_name("report.json").read_bytes())["findings"][0]["ids"] == ["a", "b"]


def test_one_that_cannot_be_written_is_told_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "reports").write_text("in the way")
    settings = Settings(EmbeddingSettings("local", "l2_supercat", 64), TypesenseSettings(), home=tmp_path)
    assert keep_report(settings, "doctor", AT, page_of_diagnosis(diagnosis(), AT), {}, Console()) == ""
    assert "The report could not be written" in capsys.readouterr().err
