"""The reports of what only looks: a doctor's findings, and an evaluation of models."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from kai.settings import Settings
from migration.assessment.diagnosis.findings import Check, Diagnosis, Finding, Severity
from migration.assessment.evaluation.metrics import Interval
from migration.assessment.evaluation.result import Candidate, Evaluation, Figures
from migration.reporting.files import signed, write
from migration.reporting.page import (
    Bar,
    BarPlot,
    Facts,
    Notes,
    Page,
    Plots,
    Section,
    Table,
    Tone,
    Verdict,
    with_content,
)
from migration.runtime.console import Console
from migration.runtime.values import amount, megabytes, moment, seconds, text, typical_and_slow, usd

_TONES: Final[Mapping[Severity, Tone]] = {"error": "bad", "warning": "warning", "info": "unknown"}
_CHECKED: Final[Mapping[str, Tone]] = {"PASS": "good", "WARN": "warning", "FAIL": "bad", "NOT CHECKED": "unknown"}
_JUDGED: Final[Mapping[str, Tone]] = {"GO": "good", "NO-GO": "bad", "CANNOT TELL": "unknown"}
_NAMED: Final = 200
"""Documents of a finding that its table names."""


def keep_report(settings: Settings, kind: str, at: datetime, page: Page, facts: Any, console: Console) -> str:
    """Write a report of this kind into a folder of its own, `reports/KIND-TIME` in MIGRATION_HOME.

    Returns:
        The HTML file; empty where it could not be written, which is told and changes nothing else.
    """
    folder = Path(settings.home).absolute() / "reports" / f"{kind}-{at.astimezone(UTC):%Y%m%d-%H%M%S}"
    try:
        return str(write(folder, page, facts, settings.secrets))
    except Exception as error:  # Whatever it is: what was found is told all the same.
        console.warn(f"The report could not be written: {error or type(error).__name__} (see MIGRATION_HOME)")
        return ""


# -- doctor ----------------------------------------------------------------------------------------------


def page_of_diagnosis(found: Diagnosis, at: datetime) -> Page:
    """What is shown of a doctor's look."""
    by_severity = {each: [f for f in found.findings if f.severity == each] for each in _TONES}
    errors, warnings = len(by_severity["error"]), len(by_severity["warning"])
    if errors:
        verdict = Verdict("Not well", f"{amount(errors)} things are wrong: see Findings.", "bad")
    elif warnings:
        verdict = Verdict("Take care", f"Nothing is wrong, and {amount(warnings)} things may become so.", "warning")
    else:
        verdict = Verdict("Well", "Nothing is wrong with what was checked.", "good")
    left_out = [check for check in found.checks if not check.is_made]
    sections: list[Section] = [
        Table(
            "Findings",
            ("Severity", "Code", "Where", "What", "Remedy"),
            tuple((f.severity, f.code, f.where, f.what, text(f.remedy)) for f in found.findings),
            tuple(_TONES[f.severity] for f in found.findings),
        ),
        _documents(found.findings),
        Table(
            "Checks",
            ("Check", "Where", "Verdict", "Seen"),
            tuple((check.name, check.where, check.verdict, text(check.detail)) for check in found.checks),
            tuple(_CHECKED[check.verdict] for check in found.checks),
            note=_not_made(left_out),
        ),
    ]
    return Page(
        subject="Doctor",
        title=found.server,
        summary=found.model or "no model configured",
        verdict=verdict,
        highlights=(
            ("Errors", amount(errors)),
            ("Warnings", amount(warnings)),
            ("Checks", amount(len(found.checks))),
            ("Not checked", amount(len(left_out))),
        ),
        sections=with_content(sections),
        footer=signed(at),
    )


def _not_made(left_out: list[Check]) -> str:
    return f"{amount(len(left_out))} could not be made, and say nothing either way." if left_out else ""


def _documents(findings: tuple[Finding, ...]) -> Table:
    named = [finding for finding in findings if finding.ids]
    rows = tuple((f.code, f.where, document_id) for f in named for document_id in f.ids[:_NAMED])
    tones = tuple(_TONES[f.severity] for f in named for _ in f.ids[:_NAMED])
    more = any(finding.count > _NAMED for finding in named)
    return Table(
        "Documents",
        ("Code", "Where", "Document"),
        rows,
        tones,
        note=f"The first {_NAMED} of each finding." if more else "",
        command="kai-migrate doctor --json" if more else "",
    )


# -- evaluation ------------------------------------------------------------------------------------------


def page_of_evaluation(found: Evaluation) -> Page:
    """What is shown of an evaluation."""
    measure, best = (
        found.rule.measure,
        max(found.candidates, key=lambda each: each.differences[found.rule.measure].mean),
    )
    models = [found.old, *(each.figures for each in found.candidates)]
    source = "made from the documents" if not found.questions_file else "of a file"
    sections: list[Section] = [
        Plots("How much is found", (_recall(models), _difference(found))),
        Table(
            "Judged",
            ("Verdict", "Reason"),
            tuple((each.verdict, each.reason) for each in found.candidates),
            tuple(_JUDGED[each.verdict] for each in found.candidates),
            note=f"Rule: {found.rule}.",
        ),
        Table(
            f"For all {found.documents:,} documents",
            ("Model", "Query p50 / p95, ms", "#Cost", "#Embedding", "#Server", "#Memory, MB"),
            tuple(_costs(each, is_old=each is found.old) for each in models),
        ),
        *(_worst(each, measure) for each in found.candidates),
        Facts(
            "How it was asked",
            (
                ("Questions", f"{found.questions:,}, {source}"),
                ("Searched", f"{found.searched:,} of {found.documents:,} documents"),
                ("Collection", f"{found.collection}.{found.field}"),
                ("Server", found.server),
                ("Against", text(found.against)),
            ),
        ),
        Notes("To be known", found.notes),
    ]
    return Page(
        subject="Evaluation",
        title=found.collection,
        summary=f"{found.old.model} → {', '.join(each.figures.model for each in found.candidates)}"
        f" · {moment(found.at)}",
        verdict=Verdict(found.verdict, f"{best.reason}.", _JUDGED[found.verdict]),
        highlights=(
            (f"{measure}, old", f"{found.old.metrics[measure].mean:.3f}"),
            (f"{measure}, new", f"{best.figures.metrics[measure].mean:.3f}"),
            ("Difference", f"{best.differences[measure].mean:+.3f}"),
            ("Questions", amount(found.questions)),
        ),
        sections=with_content(sections),
        footer=signed(found.at),
    )


def _bar(value: Interval) -> Bar:
    return Bar(value.mean, value.low, value.high)


def _recall(models: list[Figures]) -> BarPlot:
    names = tuple(models[0].metrics)
    bars = tuple((each.model, tuple(_bar(each.metrics[name]) for name in names)) for each in models)
    return BarPlot("Old and new", "", names, bars, note="Means over the questions, with 95 % intervals.")


def _difference(found: Evaluation) -> BarPlot:
    names = tuple(found.old.metrics)
    bars = tuple(
        (each.figures.model, tuple(_bar(each.differences[name]) for name in names)) for each in found.candidates
    )
    return BarPlot("New less old", "", names, bars, note="Question by question; an interval across 0 says nothing.")


def _costs(each: Figures, *, is_old: bool) -> tuple[str, ...]:
    return (
        f"{each.model} (old)" if is_old else each.model,
        typical_and_slow(each.latency_p50_ms, each.latency_p95_ms),
        usd(each.cost_usd),
        seconds(each.embedding_seconds),
        seconds(each.server_seconds),
        megabytes(each.storage_bytes),
    )


def _worst(each: Candidate, measure: str) -> Table:
    return Table(
        f"What became worst by {each.figures.model}",
        ("#Question", "Documents", "#Old", "#New", "Difference"),
        tuple(
            (str(c.line), ", ".join(c.relevant[:5]), f"{c.old:.3f}", f"{c.new:.3f}", f"{c.new - c.old:+.3f}")
            for c in each.worst
        ),
        note=f"By {measure}; {each.better:,} questions are answered better, {each.worse:,} worse.",
    )
