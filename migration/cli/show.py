"""`kai-migrate show RUN`: everything about a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from migration.cli.layout import amount, moment, percent, plain, seconds, text, usd
from migration.cli.options import Invocation, common_options

if TYPE_CHECKING:
    from migration.ledger import MetricsRecord
    from migration.operations.history import RunDetails
    from migration.runtime.console import Console

SHOWN_FAILURES = 20


@click.command("show")
@click.argument("run", metavar="RUN")
@click.option("--all-failures", is_flag=True, help="List every document that failed, not only the first 20.")
@common_options
def command(run: str, all_failures: bool, invocation: Invocation) -> None:
    """Show everything about a run.

    RUN is its name, its alias, a beginning of the name that no other run has, or `latest`.
    """
    from migration.operations.history import describe_run

    failures = None if all_failures else SHOWN_FAILURES
    invocation.answer(lambda settings, _: describe_run(run, failures, settings=settings), _lay_out)


def _lay_out(details: RunDetails, console: Console) -> None:
    console.heading(details.run.name)
    console.table(_facts(details))
    _collections(details, console)
    _verification(details, console)
    _failures(details, console)
    measured = [_measures(metrics) for metrics in details.metrics]
    if measured:
        _section(console, "Metrics", [_MEASURES, *measured])


def _facts(details: RunDetails) -> list[tuple[str, str]]:
    run, model = details.run, details.run.model
    facts = [
        ("Kind", run.kind),
        ("Alias", text(run.alias)),
        ("Description", text(run.description)),
        ("State", run.state),
        ("Verdict", text(run.verdict)),
        ("Model", text(f"{model.family}/{model.model}, {model.dimensions} dimensions" if model else None)),
        ("Task type", text(model.task_type if model else None)),
        ("Fingerprint", text(model.fingerprint if model else None)),
        ("Computed by", text(f"{model.tool_source} {model.tool_version}" if model and model.tool_source else None)),
        ("Undoes", text(details.reverts)),
        ("Source", _words(details.source)),
        ("Parameters", _words(details.parameters)),
        ("Started", moment(run.started_at)),
        ("Finished", moment(run.finished_at)),
        ("Time", seconds(run.seconds)),
        ("Documents", f"{amount(run.documents)} of {amount(run.eligible)}, {amount(run.failed)} failed"),
        ("Speed", f"{amount(run.documents_per_second)} documents/s" if run.documents_per_second else text(None)),
        ("Cost", usd(run.cost_usd)),
        ("Process", f"{details.pid} on {details.host}"),
    ]
    return [(name, value) for name, value in facts if value != text(None)]


def _collections(details: RunDetails, console: Console) -> None:
    rows = [
        (
            item.collection,
            item.strategy,
            f"{text(item.old_dimensions)} -> {text(item.new_dimensions)}",
            amount(item.eligible),
            amount(item.done),
            amount(item.failed),
            item.state,
            _pause(item.downtime_seconds),
            _pause(item.incomplete_seconds),
            text(item.backup_path),
        )
        for item in details.collections
    ]
    titles = (
        "COLLECTION", "STRATEGY", "DIMENSIONS", "ELIGIBLE", "DONE", "FAILED", "STATE", "DOWNTIME", "INCOMPLETE",
        "BACKUP",
    )  # fmt: skip
    if rows:
        _section(console, "Collections", [titles, *rows])


def _pause(value: float | None) -> str:
    return text(None) if value is None else f"{value:.2f} s"


def _verification(details: RunDetails, console: Console) -> None:
    rows = [
        (
            record.collection,
            record.verdict,
            check.name,
            "passed" if check.passed else "failed",
            f"{check.count - check.failed} of {check.count}",
            percent(check.confidence),
            text(check.detail),
        )
        for record in details.verifications
        for check in record.checks
    ]
    if rows:
        titles = ("COLLECTION", "VERDICT", "CHECK", "RESULT", "RIGHT", "CONFIDENCE", "DETAIL")
        _section(console, "Verification", [titles, *rows])


def _failures(details: RunDetails, console: Console) -> None:
    rows = [(each.collection, each.document_id, each.stage, text(each.reason)) for each in details.failures]
    if rows:
        _section(console, "Failures", [("COLLECTION", "DOCUMENT", "STAGE", "REASON"), *rows])
        if (more := details.failures_total - len(rows)) > 0:
            console.line(f"… and {more:,} more; --all-failures lists them")


_MEASURES = (
    "OF", "DOCS/S", "TOKENS/S", "P50", "P95", "REQUESTS", "RETRIES", "FAILURES", "BYTES", "TOKENS", "COST", "TIME",
)  # fmt: skip


def _measures(metrics: MetricsRecord) -> tuple[str, ...]:
    return (
        metrics.collection or "the run",
        amount(metrics.documents_per_second),
        amount(metrics.tokens_per_second),
        _milliseconds(metrics.latency_p50_ms),
        _milliseconds(metrics.latency_p95_ms),
        amount(metrics.requests),
        amount(metrics.retries),
        amount(metrics.failures),
        amount(metrics.bytes_sent),
        amount(metrics.tokens),
        usd(metrics.cost_usd),
        seconds(metrics.seconds),
    )


def _milliseconds(value: float | None) -> str:
    return text(None) if value is None else f"{amount(value)} ms"


def _words(values: Mapping[str, Any]) -> str:
    return text(", ".join(f"{name}={_word(value)}" for name, value in values.items()))


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)


def _section(console: Console, title: str, rows: list[tuple[str, ...]]) -> None:
    console.line()
    console.line(title)
    console.table(rows)
