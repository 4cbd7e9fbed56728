"""`kai-migrate show RUN`: everything about a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from migration.cli.completion import run_names
from migration.cli.layout import amount, moment, percent, plain, seconds, section, text, usd
from migration.cli.options import Invocation, common_options

if TYPE_CHECKING:
    from kai.settings import Settings
    from migration.ledger import (
        CheckResult,
        CollectionRunRecord,
        FailureReason,
        FailureRecord,
        MetricsRecord,
        StartRecord,
        VerificationRecord,
        WrongDocument,
    )
    from migration.operations.history import RunDetails
    from migration.runtime.console import Console

T = TypeVar("T")
SHOWN_FAILURES = 20


@click.command("show")
@click.argument("run", metavar="RUN", shell_complete=run_names)
@click.option(
    "--all-failures", is_flag=True, help="List every document that failed, or failed a check, not only the first 20."
)
@click.option("--command", "as_command", is_flag=True, help="Print the command line that does the run again.")
@click.option(
    "--collections-file",
    "as_file",
    is_flag=True,
    help="Print what was in the collections file that the run was given.",
)
@common_options
def command(run: str, all_failures: bool, as_command: bool, as_file: bool, invocation: Invocation) -> int:
    """Show everything about a run.

    RUN is its name, its alias, a beginning of the name that no other run has, or `latest`.

    The command line of --command is for a shell: it sets the model, the provider and the server as they were, and
    takes the keys from .env or the environment. On a copy of the server, change TYPESENSE_HOST and TYPESENSE_PORT.
    """
    from migration.cli.exits import answer
    from migration.cli.replay import command_of, notes_on, recorded
    from migration.operations.history import describe_run
    from migration.strategies.refusals import Refused

    wrong = None if all_failures or invocation.as_json else SHOWN_FAILURES

    def ask(settings: Settings, console: Console) -> Any:
        if as_command and as_file:
            raise Refused("--command, --collections-file: give one of them")
        failures = None if all_failures else SHOWN_FAILURES
        details = describe_run(run, failures, wrong, settings=settings)
        if as_command:
            for note in notes_on(details):
                console.warn(note)
            return command_of(details)
        if as_file and (file := recorded(details).collections_file) is None:
            raise Refused(f"RUN: {details.run.name} was given no --collections-file")
        return file if as_file else details

    def lay_out(found: Any, console: Console) -> None:
        if isinstance(found, str):
            click.echo(found, nl=as_command)
        else:
            _lay_out(found, console, wrong)

    name = "command" if as_command else "collections_file"
    return answer(
        invocation, ask, lay_out, needs=(), facts=lambda found: {name: found} if isinstance(found, str) else found
    )


def _lay_out(details: RunDetails, console: Console, most_wrong: int | None) -> None:
    console.heading(details.run.name)
    console.table(_facts(details))
    checks = [(record, check) for record in details.verifications for check in record.checks]
    section(console, "Collections", _COLLECTIONS, details.collections)
    section(console, "What was embedded", _TEXTS, [each for each in details.collections if each.embedding_field])
    if len(details.starts) > 1:
        section(console, "Starts", _STARTS, details.starts)
    section(console, "Verification", _CHECKS, checks)
    wrong = [(*each, document) for each in checks for document in each[1].wrong_documents][:most_wrong]
    section(console, "Wrong documents", _WRONG, wrong)
    if wrong and (more := sum(record.wrong_total for record in details.verifications) - len(wrong)) > 0:
        console.line(f"… and {more:,} more; --all-failures lists them")
    section(console, "Failures by reason", _REASONS, details.run.failure_reasons)
    section(console, "Failures", _FAILURES, details.failures)
    if details.failures and (more := details.failures_total - len(details.failures)) > 0:
        console.line(f"… and {more:,} more; --all-failures lists them")
    section(console, "Metrics", _METRICS, details.metrics)


def _facts(details: RunDetails) -> list[tuple[str, str]]:
    from migration.ledger import Call

    run, model = details.run, details.run.model
    last = details.starts[-1] if details.starts else Call()
    facts = [
        ("Kind", run.kind),
        ("Alias", text(run.alias)),
        ("Description", text(run.description)),
        ("State", run.state),
        ("Verdict", text(run.verdict)),
        ("Model", text(f"{model.family}/{model.model}, {model.dimensions} dimensions" if model else None)),
        ("Task type", text(model.task_type if model else None)),
        ("Fingerprint", text(model.fingerprint if model else None)),
        ("Provider", text(details.provider_server)),
        ("Digest", text(details.model_digest)),
        ("Computed by", text(", ".join(dict.fromkeys(filter(None, map(_tool, details.starts)))))),
        ("Undoes", text(details.reverts)),
        ("Source", _words(details.source)),
        ("Parameters", _words(details.parameters)),
        ("Options", _words(last.options or {})),
        ("Settings", _words(last.environment or {})),
        ("Started", moment(run.started_at)),
        ("Finished", moment(run.finished_at)),
        ("Time", seconds(run.seconds)),
        ("Documents", f"{amount(run.documents)} of {amount(run.eligible)}, {amount(run.failed)} failed"),
        ("Speed", f"{amount(run.documents_per_second)} documents/s" if run.documents_per_second else text(None)),
        ("Cost", usd(run.cost_usd)),
        ("Started by", text(last.user_name)),
        ("Program", text(last.program_version and f"kai-migrate {last.program_version}")),
        ("Process", f"{details.pid} on {details.host}"),
    ]
    return [(name, value) for name, value in facts if value != text(None)]


def _tool(start: StartRecord) -> str:
    return f"{start.tool_source} {start.tool_version}" if start.tool_source else ""


def _pause(value: float | None) -> str:
    return text(None) if value is None else f"{value:.2f} s"


def _milliseconds(value: float | None) -> str:
    return text(None) if value is None else f"{amount(value)} ms"


def _words(values: Mapping[str, Any]) -> str:
    return text(", ".join(f"{name}={_word(value)}" for name, value in values.items()))


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)


def _short(value: str) -> str:
    from migration.operations.runs.checks import shortened

    return text(shortened(value))


_COLLECTIONS: dict[str, Callable[[CollectionRunRecord], str]] = {
    "COLLECTION": lambda item: item.collection,
    "STRATEGY": lambda item: item.strategy,
    "DIMENSIONS": lambda item: f"{text(item.old_dimensions)} -> {text(item.new_dimensions)}",
    "ELIGIBLE": lambda item: amount(item.eligible),
    "DONE": lambda item: amount(item.done),
    "FAILED": lambda item: amount(item.failed),
    "STATE": lambda item: item.state,
    "DOWNTIME": lambda item: _pause(item.downtime_seconds),
    "INCOMPLETE": lambda item: _pause(item.incomplete_seconds),
    "BACKUP": lambda item: text(item.backup_path),
}
_TEXTS: dict[str, Callable[[CollectionRunRecord], str]] = {
    "COLLECTION": lambda item: item.collection,
    "FIELD": lambda item: text(item.embedding_field),
    "FILTER": lambda item: text(item.filter_by),
    "TEMPLATE": lambda item: text(item.template),
}
_STARTS: dict[str, Callable[[StartRecord], str]] = {
    "START": lambda start: str(start.number),
    "AT": lambda start: moment(start.started_at),
    "BY": lambda start: f"{text(start.user_name)} on {start.host}",
    "PROGRAM": lambda start: text(start.program_version),
    "COMPUTED BY": lambda start: text(_tool(start)),
    "OPTIONS": lambda start: _words(start.options or {}),
}
_CHECKS: dict[str, Callable[[tuple[VerificationRecord, CheckResult]], str]] = {
    "COLLECTION": lambda each: each[0].collection,
    "VERDICT": lambda each: each[0].verdict,
    "CHECK": lambda each: each[1].name,
    "RESULT": lambda each: {True: "passed", False: "failed", None: "not checked"}[each[1].passed],
    "RIGHT": lambda each: f"{each[1].count - each[1].failed} of {each[1].count}",
    "CONFIDENCE": lambda each: percent(each[1].confidence),
    "DETAIL": lambda each: text(each[1].detail),
}
_WRONG: dict[str, Callable[[tuple[VerificationRecord, CheckResult, WrongDocument]], str]] = {
    "COLLECTION": lambda each: each[0].collection,
    "DOCUMENT": lambda each: each[2].document_id,
    "CHECK": lambda each: each[1].name,
    "EXPECTED": lambda each: _short(each[2].expected),
    "FOUND": lambda each: _short(each[2].found),
}
_REASONS: dict[str, Callable[[FailureReason], str]] = {
    "DOCUMENTS": lambda each: amount(each.documents),
    "STAGE": lambda each: each.stage,
    "REASON": lambda each: text(each.reason),
}
_FAILURES: dict[str, Callable[[FailureRecord], str]] = {
    "COLLECTION": lambda failure: failure.collection,
    "DOCUMENT": lambda failure: failure.document_id,
    "STAGE": lambda failure: failure.stage,
    "REASON": lambda failure: text(failure.reason),
}
_METRICS: dict[str, Callable[[MetricsRecord], str]] = {
    "OF": lambda metrics: metrics.collection or "the run",
    "DOCS/S": lambda metrics: amount(metrics.documents_per_second),
    "TOKENS/S": lambda metrics: amount(metrics.tokens_per_second),
    "P50": lambda metrics: _milliseconds(metrics.latency_p50_ms),
    "P95": lambda metrics: _milliseconds(metrics.latency_p95_ms),
    "REQUESTS": lambda metrics: amount(metrics.requests),
    "RETRIES": lambda metrics: amount(metrics.retries),
    "FAILURES": lambda metrics: amount(metrics.failures),
    "BYTES": lambda metrics: amount(metrics.bytes_sent),
    "TOKENS": lambda metrics: amount(metrics.tokens),
    "COST": lambda metrics: usd(metrics.cost_usd),
    "TIME": lambda metrics: seconds(metrics.seconds),
}
