"""A run's report in words and plots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from migration.ledger.records import CollectionRunRecord, StartRecord
from migration.operations.history import RunDetails, RunLine
from migration.operations.models.neighbours import KeptNeighbours
from migration.operations.reports.run_course import course_of, times_of
from migration.operations.reports.run_facts import RunReport, Step, start_of
from migration.operations.runs.checks import TARGET
from migration.reporting.files import signed
from migration.reporting.page import (
    Bar,
    BarPlot,
    Commands,
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
from migration.runtime.values import NOTHING, amount, moment, percent, seconds, text, usd

_SUBJECTS: Final = {"migrate": "Migration", "rollback": "Rollback", "restore": "Restore", "backup": "Backup"}
_REASONS: Final = "ABCDEFGHIJ"
"""Letters for reasons, whose words are too long for an axis; what has none is counted together."""
_CHANGED_MOST: Final = 5
"""Documents of a collection that are named because they kept fewest of their neighbours."""


def page_of(report: RunReport) -> Page:
    """What is shown of a run."""
    run, details = report.run.run, report.run
    verdict = verdict_of(report)
    steps = _commands("What to do now", report.next_steps)
    sections: list[Section] = []
    if verdict.tone != "good":
        sections += steps
    told = [Notes("What the run said", report.told)]
    if verdict.tone != "good":
        sections += told
    sections += _collections(report)
    sections += course_of(report.timeline)
    sections += times_of(report.timeline)
    if verdict.tone == "good":
        sections += told
    sections += _neighbours(report.neighbours)
    sections += _failures(details)
    sections += _checks(details)
    if verdict.tone == "good":
        sections += steps
    sections += _commands("How to go back", report.ways_back)
    sections += _environment(report)
    return Page(
        subject=_SUBJECTS.get(run.kind, run.kind.capitalize()),
        title=run.name,
        summary=_summary(report),
        verdict=verdict,
        highlights=tuple(_highlights(run)),
        sections=with_content(sections),
        footer=f"{signed(report.written_at)} `{_again(run.name)}` writes it anew.",
    )


def _again(name: str) -> str:
    return f"kai-migrate report {name}"


# -- the head --------------------------------------------------------------------------------------------


def verdict_of(report: RunReport) -> Verdict:
    """What a run came to, in a word and a sentence."""
    run, total = report.run.run, report.run.failures_total
    ended = {
        "running": Verdict("Not ended", "Its process is gone. Nothing is lost; the same command goes on.", "warning"),
        "stopped": Verdict("Stopped", "It stopped before its end. Nothing is lost; it can be gone on with.", "warning"),
        "interrupted": Verdict("Interrupted", "It ended early, as asked. Nothing is lost; go on any time.", "warning"),
        "refused": Verdict("Refused", "It was refused before it changed anything.", "warning"),
        "rehearsed": Verdict("Rehearsed", "Everything is built, and nothing that serves was changed.", "good"),
    }
    if report.under_way:
        return Verdict("Under way", "This is how far it was when the report was written.", "unknown")
    if run.state in ended:
        return ended[run.state]
    if run.failed or total:
        checks = (check for record in report.run.verifications for check in record.checks)
        # Documents that failed lack the target's vector, which is a check by itself.
        more = any(check.passed is False and check.name != TARGET for check in checks)
        also = ", and a check of the result failed: see Checks" if more else ""
        count = max(run.failed, total)
        return Verdict("Some failed", f"It ended, but {amount(count)} documents failed: see Failures{also}.", "bad")
    if run.verdict == "FAIL":
        return Verdict("Check failed", "It came to its end, and a check of the result failed: see Checks.", "bad")
    if run.state == "partial":
        return Verdict("Not all right", "It came to its end, but something is not as it should be.", "bad")
    if run.verdict == "NOT CHECKED":
        return Verdict("Not checked", "Every document was done; a check of the result could not be made.", "warning")
    if run.state == "waiting":
        return Verdict("Filled", "Every document has its new vector, beside what serves until it is finished.", "good")
    if run.kind == "migrate":
        checked = "and the checks at the end passed" if run.verdict == "PASS" else "and nothing failed"
        return Verdict("Done", f"Every eligible document carries the new model's vector, {checked}.", "good")
    return Verdict("Done", "Everything stands as it stood before.", "good")


def _summary(report: RunReport) -> str:
    run, details = report.run.run, report.run
    told = []
    if run.model is not None:
        before = sorted({name for name in report.models_before.values() if name})
        target = f"{run.model.family}/{run.model.model}, {run.model.dimensions} dimensions"
        told.append(f"{', '.join(before)} → {target}" if before else target)
    if details.reverts:
        told.append(f"takes back {details.reverts}")
    told += [", ".join(run.collections), moment(run.started_at)]
    return " · ".join(part for part in (run.description, *told) if part)


def _highlights(run: RunLine) -> Iterator[tuple[str, str]]:
    some = f" of {amount(run.eligible)}" if run.documents != run.eligible else ""
    yield "Documents", f"{amount(run.documents)}{some}"
    yield "Failed", amount(run.failed)
    yield "Time", seconds(run.seconds)
    yield "Speed", f"{amount(run.documents_per_second)}/s" if run.documents_per_second else NOTHING
    if run.model is not None:
        yield "Cost", "free" if run.cost_usd == 0 else usd(run.cost_usd)
        yield "Tokens", amount(run.metrics.tokens)
        yield "Checks", text(run.verdict)


# -- what was done ---------------------------------------------------------------------------------------


def _collections(report: RunReport) -> Iterator[Section]:
    columns = ("Collection", "Strategy", "Dimensions", "#Eligible", "#Done", "#Failed", "State", "#Pause", "#Partial")
    rows = report.run.collections
    yield Table(
        "What was done",
        columns,
        tuple(_collection(row) for row in rows),
        note="Pause: how long a collection, or its vector field, was not there for searches. "
        "Partial: how long a vector search told only a part of the documents.",
    )


def _collection(row: CollectionRunRecord) -> tuple[str, ...]:
    pauses = (row.downtime_seconds, row.incomplete_seconds)
    return (
        row.collection,
        row.strategy,
        f"{text(row.old_dimensions)} → {text(row.new_dimensions)}",
        amount(row.eligible),
        amount(row.done),
        amount(row.failed),
        row.state,
        *(NOTHING if pause is None else f"{pause:.2f} s" for pause in pauses),
    )


# -- neighbours, failures, checks ------------------------------------------------------------------------


def _neighbours(every: Sequence[KeptNeighbours]) -> Iterator[Section]:
    plots: list[BarPlot] = []
    rows: list[tuple[str, ...]] = []
    told: list[str] = []
    for each in every:
        if (found := each.overlap) is None:
            told.append(f"{each.collection}: not compared, {each.reason}.")
            continue
        kept = [round(document.share * found.neighbours) for document in each.documents]
        counts = tuple(Bar(kept.count(number)) for number in range(found.neighbours + 1))
        plots.append(
            BarPlot(
                f"{each.collection}: texts by how many of {found.neighbours} neighbours they kept",
                "",
                tuple(map(str, range(found.neighbours + 1))),
                (("texts", counts),),
                f"{percent(found.mean)} kept on average, by chance it would be {percent(found.by_chance)}; the nearest "
                f"is the same for {percent(found.same_nearest)}. {amount(found.sample)} texts among "
                f"{amount(found.corpus)} documents.",
            )
        )
        fewest = sorted(each.documents, key=lambda document: (document.share, document.document_id))[:_CHANGED_MOST]
        rows += [
            (
                each.collection,
                document.document_id,
                f"{round(document.share * found.neighbours)} of {found.neighbours}",
                "yes" if document.same_nearest else "no",
            )
            for document in fewest
        ]
    if told and not plots:
        yield Notes("Old and new neighbours", tuple(told))
    yield Plots("Old and new neighbours", tuple(plots), " ".join(told))
    yield Table(
        "Texts whose neighbours changed most",
        ("Collection", "Document", "#Kept", "Same nearest"),
        tuple(rows),
        note="Worth a look by eye: `kai-migrate search COLLECTION TEXT` shows what stands next to a text now.",
    )


def _failures(details: RunDetails) -> Iterator[Section]:
    reasons = details.run.failure_reasons
    named, rest = reasons[: len(_REASONS)], reasons[len(_REASONS) :]
    labels = [*_REASONS[: len(named)], *(["…"] if rest else [])]
    counts = [*(each.documents for each in named), *([sum(each.documents for each in rest)] if rest else [])]
    legend = [f"{each.stage}: {each.reason} ({amount(each.documents)})" for each in named]
    legend += [f"{len(rest)} further reasons ({amount(counts[-1])})"] if rest else []
    if reasons:
        bars = tuple(Bar(count) for count in counts)
        plot = BarPlot("Documents by reason", "", tuple(labels), (("documents", bars),), legend=tuple(legend))
        yield Plots("Why documents failed", (plot,))
    more = details.failures_total - len(details.failures)
    yield Table(
        "Failures",
        ("Collection", "Document", "Stage", "Reason"),
        tuple((each.collection, each.document_id, each.stage, each.reason) for each in details.failures),
        note=f"{amount(more)} more are not listed here; this lists all of them:" if more > 0 else "",
        command=f"kai-migrate show {details.run.name} --all-failures" if more > 0 else "",
    )


def _checks(details: RunDetails) -> Iterator[Section]:
    told: dict[bool | None, tuple[str, Tone]] = {
        True: ("passed", "good"),
        False: ("failed", "bad"),
        None: ("not made", "warning"),
    }
    checks = [(record, check) for record in details.verifications for check in record.checks]
    yield Table(
        "Checks",
        ("Result", "Collection", "Check", "#Looked at", "#Wrong", "#Confidence", "Detail"),
        tuple(
            (
                told[check.passed][0],
                record.collection,
                check.name,
                amount(check.count),
                amount(check.failed),
                percent(check.confidence),
                text(check.detail),
            )
            for record, check in checks
        ),
        tuple(told[check.passed][1] for _, check in checks),
    )
    wrong = [(record, check, document) for record, check in checks for document in check.wrong_documents]
    more = sum(record.wrong_total for record in details.verifications) - len(wrong)
    yield Table(
        "Documents that failed a check",
        ("Collection", "Document", "Check", "Expected", "Found"),
        tuple(
            (record.collection, each.document_id, check.name, each.expected, each.found)
            for record, check, each in wrong
        ),
        note=f"{amount(more)} more are not listed here; this lists all of them:" if more > 0 else "",
        command=f"kai-migrate show {details.run.name} --all-failures" if more > 0 else "",
    )


# -- what to type, and what it ran on --------------------------------------------------------------------


def _commands(title: str, steps: Sequence[Step]) -> list[Section]:
    return [Commands(title, tuple((step.purpose, step.command) for step in steps))]


def _environment(report: RunReport) -> Iterator[Section]:
    details, run = report.run, report.run.run
    metrics = run.metrics
    last = start_of(details)
    provider = ", ".join(filter(None, (details.provider_server, details.model_digest)))
    legs = len(details.starts)
    facts = [
        ("Run", run.name),
        ("Alias", text(run.alias)),
        ("State", run.state),
        ("Started", moment(run.started_at)),
        ("Finished", moment(run.finished_at)),
        ("Starts", amount(legs) if legs > 1 else NOTHING),
        ("Typesense", f"{text(details.parameters.get('typesense'))} at {text(details.source.get('server'))}"),
        ("Program", text(last and last.program_version and f"kai-migrate {last.program_version}")),
        ("Vectors computed by", text(_tool(last))),
        ("Provider", text(provider)),
        ("Model", text(run.model.name if run.model else None)),
        ("Task type", text(run.model.task_type if run.model else None)),
        ("Fingerprint", text(run.model.fingerprint if run.model else None)),
        ("Embedding requests", _requests(report)),
        ("Tokens", f"about {amount(metrics.tokens)}" if metrics.tokens else NOTHING),
        ("Time of a request", _latency(report)),
        ("Sent to Typesense", f"{amount(metrics.bytes_sent / 1e6)} MB" if metrics.bytes_sent else NOTHING),
        ("Options", ", ".join(f"{name}={value}" for name, value in (last.options or {}).items()) if last else NOTHING),
    ]
    facts += [
        (f"Backup of {row.collection}", row.backup_path) for row in details.collections if row.backup_path is not None
    ]
    yield Facts("What it ran on", tuple((name, value) for name, value in facts if value not in (NOTHING, "")))


def _tool(start: StartRecord | None) -> str:
    return f"{start.tool_source} {start.tool_version}" if start is not None and start.tool_source else ""


def _requests(report: RunReport) -> str:
    metrics = report.run.run.metrics
    if not metrics.requests:
        return NOTHING
    return f"{amount(metrics.requests)}, {amount(metrics.retries)} repeated, {amount(metrics.failures)} failed"


def _latency(report: RunReport) -> str:
    metrics = report.run.run.metrics
    if metrics.latency_p50_ms is None:
        return NOTHING
    return f"{amount(metrics.latency_p50_ms)} ms for half of them, {amount(metrics.latency_p95_ms)} ms for 95 %"
