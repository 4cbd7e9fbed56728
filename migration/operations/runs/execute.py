"""What a run is, whatever it does: begun or resumed, carried out collection by collection, noted, ended.

A migration and a way back are works of the same kind: each collection has a plan, a source of vectors, and words
of its own. What stops one collection stops the run; what was done stays done.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from migration.backup import BackupError
from migration.embedding.throttle import Stopped
from migration.ledger import Ledger, LedgerError, RunRecord
from migration.ledger.records import UNFINISHED, RunKind
from migration.operations.runs.measure import Measures
from migration.operations.runs.results import (
    DONE,
    INTERRUPTED,
    SOME_FAILED,
    STOPS,
    CollectionResult,
    RunResult,
    cause_of,
)
from migration.operations.setup import Session
from migration.runtime.console import RULE, Console
from migration.runtime.holding import hold_file
from migration.runtime.hooks import Hooks
from migration.runtime.load import LoadWatch
from migration.runtime.lock import hold
from migration.runtime.pace import followed, tune_file
from migration.runtime.status import Status, status_file
from migration.runtime.timeline import Timeline, timeline_file
from migration.strategies.context import Outcome, RunContext, StrategyStopped
from migration.strategies.moment import has_moment
from migration.strategies.plan import CollectionPlan
from migration.strategies.refusals import Refused
from migration.strategies.sources import UNDESCRIBED, VectorSource
from migration.strategies.task import Task

_NAMED_FAILURES: Final = 20
"""Failed documents that the console names; all of them are in the ledger."""


class Work(Protocol):
    """One collection of a run.

    Attributes:
        plan: what is to be done.
        stopped: how the line begins that says that it was stopped; `{status}` in it is `stopped` or `interrupted`.
    """

    @property
    def plan(self) -> CollectionPlan: ...
    @property
    def stopped(self) -> str: ...

    def announce(self, console: Console) -> None:
        """Say what begins."""

    def tell_completed(self, console: Console, outcome: Outcome) -> None:
        """Say that every document has its vector."""

    def source(self, context: RunContext, stack: contextlib.ExitStack) -> VectorSource:
        """What its documents should carry; what must be closed at the end goes onto the stack."""

    def carry_out(self, task: Task) -> CollectionPlan:
        """Do it; the plan that it was done by."""

    def conclude(self, context: RunContext, plan: CollectionPlan, outcome: Outcome) -> None:
        """What is to be checked and written down once every document has its vector."""


@contextlib.contextmanager
def running(
    session: Session,
    ledger: Ledger,
    names: Iterable[str],
    begin: Callable[[], RunRecord],
    figures: Callable[[], dict[str, Any]] = dict,
    hooks: Hooks | None = None,
) -> Iterator[RunContext]:
    """A run: its collections are held, and its status is kept, while the block lasts.

    Args:
        session: what the operation works with.
        ledger: what was done.
        names: real names of the collections that it writes to.
        begin: begins the run in the ledger, or resumes one; called once the collections are held.
        figures: further entries of the status.
        hooks: what is carried out at its moments; None for nothing.

    Raises:
        Held: another run holds one of the collections.
    """
    with contextlib.ExitStack() as stack:
        holds = [stack.enter_context(hold(session.server.address, name)) for name in names]
        session.meter.restart()  # The probe, and the time until somebody has confirmed, are not the run's.
        run, home = begin(), session.settings.home
        for held in holds:
            held.name(run.name)
        control, console, file = session.control, session.console, status_file(home, run.name)
        console.about(run=run.name)
        meter, server = session.meter, session.server
        timeline = Timeline(
            timeline_file(home, run.name),
            lambda: status.counts() | meter.counts(),
            lambda: server.stats(patiently=False),
        )
        status = Status(file, lambda: control.facts() | figures(), changing=timeline.note, told=console.event)
        stack.enter_context(timeline.kept())
        stack.enter_context(status.kept())
        with contextlib.suppress(OSError):
            hold_file(home, run.name).unlink(missing_ok=True)  # Of a process that died holding.
        control.excess = LoadWatch(lambda: session.server.stats(patiently=False), console.warn).excess
        stack.enter_context(followed(tune_file(home, run.name), control.pace, control.set_pace))
        yield RunContext(
            server=session.server,
            ledger=ledger,
            run=run,
            home=home,
            options=session.options,
            meter=session.meter,
            control=control,
            console=console,
            status=status,
            hooks=(hooks or Hooks()).knowing(run=run.name, status_file=file.absolute()),
            cache_url=session.settings.cache_url,
        )


def unfinished(
    ledger: Ledger, kind: RunKind, source: Mapping[str, Any], *, model: str | None = None, reverts: str | None = None
) -> RunRecord | None:
    """The last run over these collections, if it was to do the same and did not come to its end.

    Args:
        ledger: where runs are noted.
        kind: what is to be done.
        source: server and collections, as they are noted of a run.
        model: id of the target; None for a way back.
        reverts: id of the run that is to be undone; None for any other work.
    """
    earlier = ledger.last_run_over(source["server"], source["collections"])
    if earlier is None or earlier.state not in (*UNFINISHED, "waiting") or dict(earlier.source) != source:
        return None
    is_same = (earlier.kind, earlier.model_id, earlier.reverts_run_id) == (kind, model, reverts)
    return earlier if is_same else None


def execute(
    context: RunContext,
    works: Sequence[Work],
    measures: Measures,
    trouble: Callable[[], Sequence[str]] = tuple,
    afterwards: Callable[[], object] = lambda: None,
) -> RunResult:
    """Carry out the works one after the other, and note the end of the run.

    Args:
        context: the tools of the run.
        works: a collection each.
        measures: told what was measured.
        trouble: asked, where all went well, for what is wrong all the same.
        afterwards: called where every collection came to its end, before that of the run is noted.
    """
    results: list[CollectionResult] = []
    for work in works:
        if results and results[-1].ends_the_run:
            results.append(CollectionResult(work.plan.collection.name, "not started"))
        else:
            if results:
                context.console.line(RULE)
            results.append(_carry_out(context, work, measures))
    result = RunResult(context.run.name, tuple(results), context.control.interrupted)
    if not result.stopped:
        afterwards()
    if result.exit_status == DONE:
        result = replace(result, trouble=tuple(trouble()))
    states: dict[int, Any] = {DONE: "completed", SOME_FAILED: "partial", INTERRUPTED: "interrupted"}
    if not result.stopped and any(each.outcome and each.outcome.waits for each in results):
        states = dict.fromkeys(states, "waiting")
    ended = {DONE: "done", SOME_FAILED: "done, some failed"}.get(result.exit_status, "stopped")
    if result.rehearsed:
        ended = "rehearsed"
        states = {} if _has_written(context) else dict.fromkeys((DONE, SOME_FAILED), "rehearsed")
    try:
        totals = {each.name: each.summary() for each in results}
        context.ledger.finish_run(context.run.id, states.get(result.exit_status, "stopped"), totals)
        measures.note(context.meter, sum(each.outcome.written for each in results if each.outcome))
    except LedgerError as error:
        result, ended = replace(result, unnoted=str(error)), "stopped"
    # The last word, once the ledger has its own: whoever watches goes by it.
    context.status.end(
        ended,
        done=sum(each.outcome.success for each in results if each.outcome),
        failed=result.failed,
        seconds=context.meter.seconds,
        exit_status=result.exit_status,
    )
    return replace(result, metrics=measures.whole)


def _has_written(context: RunContext) -> bool:
    """Whether the run wrote to anything that serves, before it was resumed as a rehearsal."""
    rows = context.ledger.collection_runs(context.run.id)
    return any(row.done or row.strategy == "in place" for row in rows if row.state != "rehearsed")


def _carry_out(context: RunContext, work: Work, measures: Measures) -> CollectionResult:
    plan, outcome, meter = work.plan, Outcome(), context.meter.part()
    if context.options.rehearse and plan.strategy != "skipped" and not has_moment(plan):
        context.console.line(f"Leaving out '{plan.collection.name}': {plan.strategy}, there is nothing to rehearse")
        return CollectionResult(plan.collection.name, "skipped")
    context.console.about(collection=plan.collection.name)
    work.announce(context.console)
    cause, identity = "", None
    try:
        identity = context.ledger.start_collection(
            context.run.id,
            plan.successor or plan.name,
            "recreate" if plan.strategy == "create" else plan.strategy,
            old_dimensions=plan.old_dimensions,
            new_dimensions=plan.new_dimensions,
            eligible=plan.eligible,
            embedding_field=plan.collection.embedding_field,
            template=plan.collection.template if plan.collection.template != UNDESCRIBED else None,
            filter_by=plan.collection.filter_by,
        )
        if plan.strategy == "skipped":
            return CollectionResult(plan.collection.name, "skipped")
        with contextlib.ExitStack() as stack:
            plan = work.carry_out(Task(context, plan, work.source(context, stack), outcome, identity, stack))
        if outcome.complete:
            work.conclude(context, plan, outcome)
    except Stopped:
        pass
    except (StrategyStopped, Refused, BackupError, *STOPS) as error:
        cause = cause_of(error)  # Refused is what was to follow, once a dead run's work was finished.
    if identity is not None:
        cause = _note_end(context, outcome, identity, cause, lambda: measures.note(meter, outcome.written, plan.name))
    status = _status_of(context, outcome, cause)
    _tell(context, work, outcome, status, cause)
    context.console.about(collection=None)
    return CollectionResult(plan.collection.name, status, outcome, cause)


def _status_of(context: RunContext, outcome: Outcome, cause: str) -> str:
    if outcome.rehearsed and not cause:
        return "rehearsed"
    if outcome.complete and not cause:
        return "completed"
    return "interrupted" if context.control.interrupted and not cause else "stopped"


def _note_end(context: RunContext, outcome: Outcome, identity: str, cause: str, measure: Callable[[], None]) -> str:
    """What became of the collection, into the ledger; returns the cause of a stop, perhaps the ledger itself."""
    status = _status_of(context, outcome, cause)
    state: Any = status
    if status == "completed":
        state = "waiting" if outcome.waits else "partial" if outcome.failures else "completed"
    try:
        context.ledger.update_collection(
            identity,
            done=outcome.success,
            failed=len(outcome.failures),
            state=state,
            downtime_seconds=outcome.downtime_seconds,
            incomplete_seconds=outcome.incomplete_seconds,
        )
        measure()
    except LedgerError as error:
        return cause or str(error)
    return cause


def _tell(context: RunContext, work: Work, outcome: Outcome, status: str, cause: str) -> None:
    console, name = context.console, work.plan.collection.name
    if outcome.downtime_seconds is not None and outcome.incomplete_seconds is None:
        console.line(f"  Full collection not searchable for {outcome.downtime_seconds:.2f} s")
    if status == "completed":
        work.tell_completed(console, outcome)
    elif status == "rehearsed":
        console.line("  Rehearsed: everything is built and checked, and nothing that serves was changed")
    else:
        console.line(f"  {work.stopped.format(status=status)}: {cause or 'as asked'}")
        if cause:
            console.warn(f"Stopped at '{name}': {cause}", level="error", event="stopped")
    if without := sum(failure.stage == "embed" for failure in outcome.failures.values()):
        # The words by which the application's own guide has it, for those who search for them.
        console.warn(
            f"  Failed to compute embedding: {without} documents of '{name}' have none of this model", level="error"
        )
    for document_id, failure in list(outcome.failures.items())[:_NAMED_FAILURES]:
        failed = f"document {document_id!r} of '{name}' ({failure.stage}): {failure.reason}"
        console.warn(f"  Failed: {failed}", level="error", event="failed")
    if (more := len(outcome.failures) - _NAMED_FAILURES) > 0:
        console.warn(f"  … and {more} more; the ledger has them all", level="error")
    for note in (*outcome.notes, *_mixture(context, work.plan, outcome)):
        console.warn(f"  Note: {note}")


def _mixture(context: RunContext, plan: CollectionPlan, outcome: Outcome) -> list[str]:
    """That vectors of several models stand in one collection, where a run ended before all were of one."""
    if outcome.complete and not outcome.failures:
        return []
    try:
        models = context.ledger.models()
    except LedgerError:
        return []  # What stopped the run is told; this is a note on it.
    standing = [
        f"{use.documents} of {known.model.model} ({known.model.dimensions})"
        for known in models
        for use in known.collections
        if (use.source, use.collection) == (context.server.address, plan.name)
        and use.field in ("", plan.collection.embedding_field)
        and use.documents
    ]
    if len(standing) < 2:
        return []
    return [f"'{plan.name}' mixes vectors of several models now, which cannot be compared: {', '.join(standing)}"]
