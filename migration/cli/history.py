"""`kai-migrate history`: the runs, and whether they get better."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from migration.cli.layout import EVALUATIONS, amount, moment, percent, rows_of, seconds, section, text, usd
from migration.cli.options import Invocation, common_options, moment_since

if TYPE_CHECKING:
    from datetime import datetime

    from migration.ledger import Drift, EvaluationRecord, FailureReason
    from migration.ledger.records import RunKind
    from migration.operations.history import History, RunLine
    from migration.operations.trends import Series
    from migration.runtime.console import Console


KINDS = ("migrate", "rollback", "restore", "backup")


@click.command("history")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, metavar="N", help="Most runs to list.")
@click.option(
    "--model", metavar="NAME", help="Only runs to this model: model, family/model or family/model/dimensions."
)
@click.option("--collection", metavar="NAME", help="Only runs over this collection, by its real name.")
@click.option("--since", metavar="TIME", callback=moment_since, help="Only runs begun since: 30d, 12h, or 2026-11-01.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(KINDS), help="Only runs of this kind. Repeatable.")
@click.option("--evaluations", is_flag=True, help="What `evaluate` has found instead of the runs.")
@common_options
def command(
    limit: int,
    model: str | None,
    collection: str | None,
    since: datetime | None,
    kinds: tuple[RunKind, ...],
    evaluations: bool,
    invocation: Invocation,
) -> int:
    """List the runs, the latest first, and whether they get better.

    Below the list stands why documents failed, and how speed, failures and cost of the last migrations develop, for
    each model and collection by itself: the latest value, its change over the last ten, and whether that is
    improving, stable or declining; unknown below five migrations.
    """
    from migration.cli.exits import answer
    from migration.operations.history import list_evaluations, list_runs

    is_filtered = bool(model or collection or since or kinds)
    if evaluations and kinds:
        raise click.UsageError("--evaluations lists no runs; leave --kind out.")
    if evaluations:
        return answer(
            invocation,
            lambda settings, _: list_evaluations(
                limit, model=model, collection=collection, since=since, settings=settings
            ),
            lambda found, console: _lay_out_evaluations(found, console, is_filtered=is_filtered),
            needs=(),
        )
    return answer(
        invocation,
        lambda settings, _: list_runs(
            limit, model=model, collection=collection, since=since, kinds=kinds, settings=settings
        ),
        lambda found, console: _lay_out(found, console, is_filtered=is_filtered),
        needs=(),
    )


def _lay_out(history: History, console: Console, *, is_filtered: bool) -> None:
    if not history.runs:
        console.line("No such runs." if is_filtered else "No runs yet.")
        return
    console.table(rows_of(_COLUMNS, history.runs))
    section(
        console, "Failures by reason", _REASONS, [(run, each) for run in history.runs for each in run.failure_reasons]
    )
    section(console, "Migrations by model and collection", _SERIES, history.series)
    trends = history.trends
    console.line()
    console.line(f"Last migrations: speed {trends.speed}, failures {trends.failures}, cost {trends.cost}")


def _lay_out_evaluations(found: tuple[EvaluationRecord, ...], console: Console, *, is_filtered: bool) -> None:
    if not found:
        console.line("No such evaluations." if is_filtered else "No evaluations yet.")
        return
    console.table(rows_of(EVALUATIONS, found))


def _drift(drift: Drift, latest: str) -> str:
    change = "" if drift.change is None else f" ({drift.change:+.1%})"
    return text(None) if drift.latest is None else f"{latest}{change} {drift.trend}"


_REASONS: dict[str, Callable[[tuple[RunLine, FailureReason]], str]] = {
    "RUN": lambda each: each[0].name,
    "DOCUMENTS": lambda each: amount(each[1].documents),
    "STAGE": lambda each: each[1].stage,
    "REASON": lambda each: text(each[1].reason),
}
_SERIES: dict[str, Callable[[Series], str]] = {
    "MODEL": lambda series: text(series.model),
    "COLLECTION": lambda series: series.collection,
    "MIGRATIONS": lambda series: str(series.failures.count),
    "DOCS/S": lambda series: _drift(series.speed, amount(series.speed.latest)),
    "FAILED": lambda series: _drift(series.failures, percent(series.failures.latest)),
    "COST/1000": lambda series: _drift(series.cost, usd(1000 * (series.cost.latest or 0))),
}
_COLUMNS: dict[str, Callable[[RunLine], str]] = {
    "RUN": lambda run: run.name,
    "ALIAS": lambda run: text(run.alias),
    "KIND": lambda run: run.kind,
    "STARTED": lambda run: moment(run.started_at),
    "MODEL": lambda run: text(run.model.name if run.model else None),
    "COLLECTIONS": lambda run: text(", ".join(run.collections)),
    "DOCUMENTS": lambda run: amount(run.documents),
    "FAILED": lambda run: amount(run.failed),
    "TIME": lambda run: seconds(run.seconds),
    "DOCS/S": lambda run: amount(run.documents_per_second),
    "COST": lambda run: usd(run.cost_usd),
    "VERDICT": lambda run: text(run.verdict),
    "STATE": lambda run: run.state,
}
