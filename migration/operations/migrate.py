"""From options to an exit status: open everything that a run needs, refuse early, run, sum up, close."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from kai.collections import EmbeddedCollection
from kai.models import estimate_cost, fingerprint
from kai.settings import EmbeddingSettings, Settings
from kai.typesense import Typesense
from migration.embedding.cache import VectorCache
from migration.embedding.throttle import Throttle
from migration.ledger.errors import LedgerError
from migration.operations import report
from migration.operations.execute import RunResult, execute
from migration.operations.setup import (
    DONE,
    INTERRUPTED,
    LOCK_PATIENCE,
    SOME_FAILED,
    STOPPED,
    make_embedder,
    open_ledger,
    open_server,
    probe,
    selected_collections,
    with_settings,
)
from migration.runtime import memory
from migration.runtime.console import Console
from migration.runtime.control import Control
from migration.runtime.lock import hold
from migration.runtime.meter import Meter
from migration.runtime.status import Status
from migration.strategies.context import ChosenStrategy, Context
from migration.strategies.plan import Plan, Refused, look_at_texts, make_plan, refuse_unwritable

if TYPE_CHECKING:
    from migration.ledger import Ledger, MetricsRecord, ModelRecord, RunRecord

_PROVIDER_PATIENCE: Final = 2.5
"""How much longer than for Typesense a run waits for the provider, whose outages last longer."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the command line may ask of a run; see its help."""

    collections: tuple[str, ...] = ()
    dry_run: bool = False
    env_file: Path | None = None
    collections_file: Path | None = None
    concurrency: int = 4
    max_rpm: int | None = None
    max_tpm: int | None = None
    nice: float = 0.0
    patience: float = 120.0
    strategy: ChosenStrategy = "auto"
    limit: int | None = None
    until: float | None = None
    max_cost: float | None = None
    force: bool = False
    backup: bool = True
    allow_partial: bool = False
    keep_old: bool = False
    alias: str | None = None
    description: str | None = None
    verbose: bool = False


def migrate(options: RunOptions) -> int:
    """Preview or run a migration; returns the exit status. Whatever is refused has changed nothing."""

    def work(settings: Settings, console: Console) -> int:
        collections = selected_collections(options.collections, options.collections_file)
        control = Control(pause_file=settings.home / "pause", nice=options.nice, announce=console.warn)
        with control.signals(), open_server(settings, console, options.patience, stopped=control.stopped) as server:
            return _with_server(options, settings, collections, server, control, console)

    return with_settings(work, env_file=options.env_file, verbose=options.verbose)


def _with_server(
    options: RunOptions,
    settings: Settings,
    collections: Sequence[EmbeddedCollection],
    server: Typesense,
    control: Control,
    console: Console,
) -> int:
    plan = make_plan(server, settings.embedding, collections, strategy=options.strategy)
    meter = Meter()
    _refuse_what_loses(plan, options)
    plan = _with_notes(plan, options)
    most_tokens = _affordable_tokens(settings.embedding, options.max_cost)
    throttle = Throttle(options.concurrency, max_rpm=options.max_rpm, max_tpm=options.max_tpm, stopped=control.stopped)
    if options.dry_run:
        _refuse_taken_alias(options, settings, plan, server)
        probe(make_embedder(settings, control, meter, throttle), settings)
        memory.loaded()
        server.patience = options.patience
        report.banner(console, plan)
        looked_at = [look_at_texts(server, item, settings.embedding, control.stopped) for item in plan.collections]
        report.preview(console, Plan(plan.embedding, tuple(looked_at)))
        return DONE
    refuse_unwritable(server, plan)
    with contextlib.ExitStack() as stack:
        ledger = stack.enter_context(open_ledger(settings, options.patience))
        cache = stack.enter_context(VectorCache(settings.home, patience=min(options.patience, LOCK_PATIENCE)))
        patience = options.patience * _PROVIDER_PATIENCE
        embedder = make_embedder(
            settings,
            control,
            meter,
            throttle,
            cache=cache,
            patience=patience,
            most_tokens=most_tokens,
        )
        probe(embedder, settings)
        memory.loaded()
        meter.restart()
        server.patience = options.patience
        name = run_name(settings.embedding)
        for item in plan.collections:
            if item.strategy != "skipped":
                stack.enter_context(hold(server.address, item.name, name))
        report.banner(console, plan)
        model = _register(ledger, settings.embedding)
        run = _begin(ledger, options, settings, plan, model, name, server)
        # Of a run that is gone on with, what it has cost and taken so far counts too.
        before = next(iter(ledger.metrics(run.id)), None)
        if before is not None:
            embedder.count_as_spent(before.tokens or 0)
        status = Status(
            settings.home / "runs" / run.name / "status.json", lambda: _figures(meter, settings.embedding, control)
        )
        context = Context(
            server=server,
            embedding=settings.embedding,
            embedder=embedder,
            ledger=ledger,
            run=run,
            model=model,
            home=settings.home,
            meter=meter,
            control=control,
            console=console,
            status=status,
            workers=options.concurrency,
            backup=options.backup,
            force=options.force,
            allow_partial=options.allow_partial,
            keep_old=options.keep_old,
            limit=options.limit,
            until=options.until,
            strategy=options.strategy,
        )
        with status.kept():
            result = execute(context, plan)
            exit_status = _exit_status(result, control)
            status.end(
                {DONE: "done", SOME_FAILED: "done, some failed"}.get(exit_status, "stopped"),
                done=sum(item.outcome.success for item in result.collections if item.outcome),
                failed=result.failed,
                seconds=meter.seconds,
            )
        try:
            _finish(ledger, run, result, exit_status)
            ledger.record_metrics(run.id, _metrics(meter, result, settings.embedding, before))
        except LedgerError as error:
            console.warn(f"The end of the run cannot be noted: {error}")
            exit_status = INTERRUPTED if control.interrupted else STOPPED
        report.summary(console, result)
        if exit_status in (STOPPED, INTERRUPTED):
            console.warn("Nothing is lost. Run the same command again: it goes on where this one ended.")
        return exit_status


def run_name(embedding: EmbeddingSettings) -> str:
    """A run's readable id: family, model, dimensions, date and time (UTC)."""
    model = "".join(character if character.isalnum() or character in "-._" else "-" for character in embedding.model)
    return f"{embedding.family}-{model}-{embedding.dimensions}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"


def _affordable_tokens(embedding: EmbeddingSettings, max_cost: float | None) -> int | None:
    """How many tokens the bound on cost buys; None for no bound."""
    if max_cost is None:
        return None
    million = estimate_cost(embedding.model, 1_000_000)
    if million is None:
        raise Refused([f"--max-cost: the price of {embedding.model!r} is not known, so its cost cannot be bounded"])
    return int(max_cost / million * 1_000_000) if million else None


def _with_notes(plan: Plan, options: RunOptions) -> Plan:
    """The plan, with a word on options that do nothing in it."""
    if not options.keep_old:
        return plan
    note = "--keep-old has no effect: the collection is not recreated, so there is no previous one to keep"
    items = (
        item if item.strategy in ("recreate", "skipped") else replace(item, hazards=(note, *item.hazards))
        for item in plan.collections
    )
    return replace(plan, collections=tuple(items))


def _refuse_taken_alias(options: RunOptions, settings: Settings, plan: Plan, server: Typesense) -> None:
    """The ledger refuses an alias that is taken when a run begins; a preview is to refuse it too.

    Only a ledger that is there already is asked: a preview makes none.
    """
    if options.alias is None:
        return
    from migration.ledger.database import resolve
    from migration.ledger.runs import LATEST

    if options.alias == LATEST:
        raise Refused([f"--alias: {LATEST!r} always names the latest run; choose another"])
    place = resolve(settings.ledger_url, settings.home)
    if place.get_backend_name() != "sqlite" or not Path(place.database or "").is_file():
        return
    with open_ledger(settings, options.patience) as ledger:
        wanted = fingerprint(settings.embedding, "")
        model = next((known.model.id for known in ledger.models() if known.model.fingerprint == wanted), None)
        if _unfinished(ledger, options, plan, model, server) is None:
            ledger.refuse_taken(options.alias)


def _refuse_what_loses(plan: Plan, options: RunOptions) -> None:
    """A recreate copies what is on disk; values that only the index has would be lost."""
    whole = [
        f"{item.name} ({item.strategy})"
        for item in plan.collections
        if item.strategy in ("recreate", "rebuild", "alter")
    ]
    if whole and (options.limit or options.until):
        raise Refused([f"--limit, --until: {', '.join(whole)} can only be migrated as a whole"])
    bare = [
        f"the field {item.collection.embedding_field!r} of {item.name!r} must have a value in every document, and "
        f"{item.documents - item.eligible} documents outside the filter would have none with --strategy alter; leave "
        "--strategy out: a recreate embeds them too"
        for item in plan.collections
        if item.strategy == "alter" and item.documents > item.eligible
        for field in item.schema["fields"]
        if field["name"] == item.collection.embedding_field and not field.get("optional")
    ]
    if bare:
        raise Refused(bare)
    problems = [
        f"the field {field['name']!r} of {item.name!r} has `store: false`: recreating the collection would lose its "
        "values; give --allow-partial if that is all right"
        for item in plan.collections
        if item.strategy == "recreate" and not options.allow_partial
        for field in item.schema["fields"]
        if field.get("store") is False
    ]
    if problems:
        raise Refused(problems)


# -- the ledger's side -----------------------------------------------------------------------------------


def _register(ledger: Ledger, embedding: EmbeddingSettings) -> ModelRecord:
    packages = {
        "openai": "langchain-openai",
        "google": "langchain-google-genai",
        "ollama": "langchain-ollama",
    }
    package = packages.get(embedding.family, "wordllama")
    from importlib.metadata import version

    return ledger.register_model(
        family=embedding.family,
        model=embedding.model,
        dimensions=embedding.dimensions,
        fingerprint=fingerprint(embedding, ""),
        task_type=embedding.task_type,
        tool_source=package,
        tool_version=version(package),
    )


def _begin(
    ledger: Ledger,
    options: RunOptions,
    settings: Settings,
    plan: Plan,
    model: ModelRecord,
    name: str,
    server: Typesense,
) -> RunRecord:
    """A new run, or the last one here, if it was for the same and did not come to its end."""
    earlier = _unfinished(ledger, options, plan, model.id, server)
    if earlier is not None:
        return ledger.resume_run(earlier.id)
    return ledger.start_run(
        name,
        "migrate",
        model_id=model.id,
        alias=options.alias,
        description=options.description,
        parameters={"concurrency": options.concurrency, "force": options.force, "backup": options.backup},
        source=_source(plan, server),
    )


def _source(plan: Plan, server: Typesense) -> dict[str, Any]:
    return {"server": server.address, "collections": [item.name for item in plan.collections]}


def _unfinished(
    ledger: Ledger, options: RunOptions, plan: Plan, model_id: str | None, server: Typesense
) -> RunRecord | None:
    """The last run here, if it was for the same and did not come to its end."""
    source = _source(plan, server)
    earlier = ledger.last_run_over(server.address, source["collections"])
    if (
        earlier is not None
        and earlier.kind == "migrate"
        and earlier.state in ("running", "stopped", "interrupted")
        and earlier.model_id == model_id
        and dict(earlier.source) == source
        and options.alias in (None, earlier.alias)
        and not _would_mix(ledger, earlier, plan)
    ):
        return earlier
    return None


def _would_mix(ledger: Ledger, earlier: RunRecord, plan: Plan) -> bool:
    """Whether this plan's backups, whole documents or vectors, are of another kind than the earlier run's."""
    recreates = {item.name: item.strategy == "recreate" for item in plan.collections if item.strategy != "skipped"}
    return any(
        each.backup_path
        and each.collection in recreates
        and (each.strategy == "recreate") != recreates[each.collection]
        for each in ledger.collection_runs(earlier.id)
    )


def _finish(ledger: Ledger, run: RunRecord, result: RunResult, exit_status: int) -> None:
    states: dict[int, Any] = {DONE: "completed", SOME_FAILED: "partial", INTERRUPTED: "interrupted"}
    totals = {item.name: item.summary() for item in result.collections}
    ledger.finish_run(run.id, states.get(exit_status, "stopped"), totals)


def _exit_status(result: RunResult, control: Control) -> int:
    if result.stopped:
        return INTERRUPTED if control.interrupted else STOPPED
    return DONE if result.right else SOME_FAILED


def _metrics(
    meter: Meter, result: RunResult, embedding: EmbeddingSettings, before: MetricsRecord | None
) -> MetricsRecord:
    """What was measured, together with what the run had taken before it was gone on with."""
    from migration.ledger import MetricsRecord

    before = before or MetricsRecord()
    earlier_seconds, earlier_tokens = before.seconds or 0.0, before.tokens or 0
    written = sum(item.outcome.written for item in result.collections if item.outcome)
    documents = written + (before.documents_per_second or 0.0) * earlier_seconds
    embedding_seconds = meter.embedding_seconds
    if before.tokens_per_second:
        embedding_seconds += earlier_tokens / before.tokens_per_second
    seconds, tokens = meter.seconds + earlier_seconds, meter.tokens + earlier_tokens
    p50, p95 = meter.latency(0.5), meter.latency(0.95)
    return MetricsRecord(
        documents_per_second=documents / seconds if documents else None,
        tokens_per_second=tokens / embedding_seconds if embedding_seconds else None,
        latency_p50_ms=before.latency_p50_ms if p50 is None else 1000 * p50,
        latency_p95_ms=before.latency_p95_ms if p95 is None else 1000 * p95,
        requests=meter.requests + (before.requests or 0),
        retries=meter.retries + (before.retries or 0),
        failures=meter.request_failures + (before.failures or 0),
        bytes_sent=meter.bytes_sent + (before.bytes_sent or 0),
        tokens=tokens,
        cost_usd=estimate_cost(embedding.model, tokens),
        seconds=seconds,
    )


def _figures(meter: Meter, embedding: EmbeddingSettings, control: Control) -> dict[str, Any]:
    return {
        "paused": control.paused,
        "requests": meter.requests,
        "retries": meter.retries,
        "tokens": meter.tokens,
        "spent_usd": estimate_cost(embedding.model, meter.tokens),
    }
