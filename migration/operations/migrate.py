"""Migrate collections to another embedding model: look, refuse early, run, sum up."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from kai.models import EmbeddingSettings, estimate_cost, fingerprint
from kai.settings import Settings, load_settings
from kai.typesense import Schema, TypesenseError
from kai.typesense_schemas import signature_of, signed
from migration.embedding.embed import Embedder
from migration.ledger import Ledger, MetricsRecord, ModelRecord, RunRecord
from migration.ledger.records import RunState
from migration.ledger.runs import LATEST
from migration.operations.batches import told_of_batches
from migration.operations.models.fewer_dimensions import offer_cuts
from migration.operations.models.same_model import disown, recognise
from migration.operations.reports.run_report import report_run
from migration.operations.runs import summary
from migration.operations.runs.checks import TARGET, check_run, record_verdict, told, told_wrong
from migration.operations.runs.execute import execute, running, unfinished
from migration.operations.runs.follow import follow
from migration.operations.runs.measure import Measures
from migration.operations.runs.option_checks import hooks_of, refuse_unusable_options, refuse_without_moment, with_notes
from migration.operations.runs.record import call_of_migration
from migration.operations.runs.results import DONE, REFUSED, RunResult
from migration.operations.setup import (
    PROVIDER_PATIENCE,
    Session,
    affordable_tokens,
    cache_is_there,
    ledger_if_there,
    make_embedder,
    open_cache,
    open_ledger,
    open_server,
    probe,
    register_model,
    selected_collections,
)
from migration.runtime import memory
from migration.runtime.console import SILENT, Console
from migration.runtime.control import Control
from migration.runtime.hooks import HookName
from migration.runtime.log import Level
from migration.runtime.status import wrote_lately
from migration.strategies.by_strategy import by_strategy
from migration.strategies.context import MigrationOptions, Outcome, RunContext
from migration.strategies.curation import refuse_unusable
from migration.strategies.cut import cut_ahead, expected
from migration.strategies.plan import CollectionPlan, Plan
from migration.strategies.planning.decision import make_plan, plan_collection, refuse_unwritable, refuse_what_loses
from migration.strategies.planning.inspection import look_around
from migration.strategies.planning.preview import look_at_texts, paces_of
from migration.strategies.planning.ways import corrected
from migration.strategies.refusals import Refused
from migration.strategies.sources import Embedded
from migration.strategies.task import Task

_LEVELS: Final[dict[str, Level]] = {"PASS": "info", "FAIL": "error", "NOT CHECKED": "warning"}


def preview(options: MigrationOptions, settings: Settings | None = None, console: Console = SILENT) -> Plan:
    """What a migration would do, its texts counted; no write, and no embedding but one probe and a sample.

    Args:
        options: what is asked for.
        settings: the model and Typesense; None reads `options.env_file` and the environment.
        console: where to tell of waiting; nothing by default.

    Raises:
        Refused: what the run itself would refuse.
    """
    with _planned(options, settings, console) as (session, plan):
        embedder = make_embedder(session)
        with ledger_if_there(session.settings, session.options.patience) as ledger, contextlib.ExitStack() as stack:
            earlier = _earlier(session, ledger, plan) if ledger is not None else None
            refuse_without_moment(plan, options, resumes=earlier is not None)
            if ledger is not None and options.alias is not None and earlier is None:
                ledger.refuse_taken(options.alias)
            probe(embedder, session.settings)
            cache = stack.enter_context(open_cache(session.settings)) if cache_is_there(session.settings) else None
            same = recognise(session, embedder, plan, ledger, cache)
            offered = offer_cuts(session, embedder, same.told(told_of_batches(plan, ledger)), ledger)
            paces = paces_of(session.server.address, ledger)
            memory.loaded()
            server = session.server
            server.patience = session.options.patience
            embedding, stopped = session.settings.embedding, session.control.stopped
            looked_at = [
                look_at_texts(server, item, embedding, stopped, partial(expected, server, ledger, item))
                for item in offered.collections
            ]
        compared = tuple(
            replace(item, ways=corrected(item.ways, item.documents * item.new_dimensions, paces)) for item in looked_at
        )
        return replace(offered, collections=compared, limits=session.settings.request_limits)


def migrate(options: MigrationOptions, settings: Settings | None = None, console: Console = SILENT) -> RunResult:
    """Bring the embeddings of the collections to the configured model; going on with a run that did not end.

    Args:
        options: what is asked for.
        settings: the model, Typesense, and where the ledger is; None reads `options.env_file` and the environment.
        console: where to tell; nothing by default.

    Raises:
        SettingsError: the settings cannot be used.
        Refused: nothing was changed, and nothing will be before the cause is mended.
        Held: another run holds a collection.
        LedgerError, CacheError, BackupError, TypesenseError: before anything was changed.
    """
    with _planned(options, settings, console) as (session, plan):
        refuse_unwritable(session.server, plan)
        return _run(session, plan)


@contextlib.contextmanager
def _planned(options: MigrationOptions, settings: Settings | None, console: Console) -> Iterator[tuple[Session, Plan]]:
    """What is not given is read from the environment; the plan is one that nothing speaks against."""
    settings = settings or load_settings(options.env_file)
    if options.into is not None and options.strategy not in (None, "auto", "into"):
        raise Refused(
            f"--into, --strategy: a second field is a way of its own; leave --strategy {options.strategy} out"
        )
    strategy = "into" if options.into is not None else options.strategy or settings.strategy
    options = replace(options, strategy=strategy)
    collections = selected_collections(options.collections, options.collections_file)
    if options.alias == LATEST:
        raise Refused(f"--alias: {LATEST!r} always names the latest run; choose another")
    control = Control(pause_file=settings.home / "pause", pace=options.pace, announce=console.tell)
    with control.signals(), open_server(settings, console, options.patience, stopped=control.stopped) as server:
        plan = make_plan(server, settings.embedding, collections, options, wrote_lately=wrote_lately(settings.home))
        refuse_what_loses(plan, options)
        refuse_unusable_options(server, options)
        refuse_unusable(server, plan.copied, contents=options.backup, preview=options.dry_run)
        affordable_tokens(settings.embedding, options.max_cost)
        session = Session(settings=settings, server=server, console=console, options=options, control=control)
        yield session, with_notes(plan, options)


def _run(session: Session, plan: Plan) -> RunResult:
    settings, options, embedding = session.settings, session.options, session.settings.embedding
    with contextlib.ExitStack() as stack:
        ledger = stack.enter_context(open_ledger(settings, options.patience))
        refuse_without_moment(plan, options, resumes=_earlier(session, ledger, plan) is not None)
        cache = stack.enter_context(open_cache(settings, options.patience))
        embedder = make_embedder(
            session,
            cache=cache,
            patience=options.patience * PROVIDER_PATIENCE,
            most_tokens=affordable_tokens(embedding, options.max_cost),
        )
        probe(embedder, settings)
        same = recognise(session, embedder, plan, ledger, cache)
        plan = offer_cuts(session, embedder, told_of_batches(plan, ledger), ledger, keeps=cache.keeps)
        memory.loaded()
        session.server.patience = options.patience
        provider = {"provider_server": same.server, "model_digest": same.digest}
        call = call_of_migration(options, settings)
        before_it: RunRecord | None = None

        def begin() -> RunRecord:
            nonlocal before_it
            summary.banner(session.console, same.told(plan))
            model = register_model(ledger, embedding, same.server, same.digest)
            if (before_it := _earlier(session, ledger, plan)) is not None:
                return ledger.resume_run(before_it.id, call=call, **provider)
            return ledger.start_run(
                run_name(embedding),
                "migrate",
                model_id=model.id,
                alias=options.alias,
                description=options.description,
                parameters={
                    "concurrency": options.concurrency,
                    "force": options.force,
                    "backup": options.backup,
                    "typesense": plan.version,
                },
                source=_source(session, plan),
                call=call,
                **provider,
            )

        names = [name for item in plan.collections if item.strategy != "skipped" for name in item.names]
        hooks = hooks_of(session, plan)
        context = stack.enter_context(running(session, ledger, names, begin, lambda: _figures(session), hooks))
        if why := context.hooks.call("before-start", phase="starting"):
            context.status.end("refused", done=0, failed=0, seconds=0.0, exit_status=REFUSED)
            ledger.finish_run(context.run.id, _state_before(before_it))
            raise Refused(f"--hooks: before-start failed: {why}")
        measures = Measures(ledger, context.run.id, embedding.model)
        # Of a run that is resumed, what it has cost and taken so far counts too.
        embedder.count_as_spent(measures.before.get(None, MetricsRecord()).tokens or 0)
        model = ledger.find_model(context.run.model_id or "")
        assert model is not None  # noqa: S101 - registered right before
        if same.is_other:
            disown(session, ledger, cache, plan, model)
        works = [_Migration(item, embedding, embedder, model) for item in plan.collections]
        result = execute(
            context,
            works,
            measures,
            afterwards=lambda: follow(context, [work for work in works if work.plan.beside]),
        )
        result = report_run(session, ledger, context.run, result)
        name: HookName = "succeeded" if result.exit_status == DONE else "failed"
        context.hooks.call(name, phase=context.status.facts()["phase"], exit_status=result.exit_status)
        return result


@dataclass(frozen=True, slots=True)
class _Migration:
    """One collection of a migration."""

    plan: CollectionPlan
    embedding: EmbeddingSettings
    embedder: Embedder
    model: ModelRecord
    stopped: str = "Migration {status}"

    def announce(self, console: Console) -> None:
        plan, name = self.plan, self.plan.collection.name
        if plan.strategy == "skipped":
            console.line(f"Skipping '{name}': {plan.collection.skipped}")
            return
        console.line(f"Starting migration for '{name}'...")
        console.line(f"  - Embedding field: {plan.collection.embedding_field}")
        console.line(f"  - Filter: {plan.collection.filter_by or 'none'}")
        if plan.strategy in ("recreate", "into", "alias"):
            beside = f", beside {plan.beside}" if plan.beside else ""
            successor = f", {plan.name} -> {plan.successor}" if plan.successor else ""
            dimensions = f"{plan.old_dimensions} -> {plan.new_dimensions} dimensions"
            console.line(f"  - Strategy: {plan.strategy} ({dimensions}{beside}{successor})")
        console.line(f"  Found {plan.eligible} documents to migrate")
        for hazard in plan.hazards:
            console.warn(f"  ! {hazard}")

    def tell_completed(self, console: Console, outcome: Outcome) -> None:
        if outcome.success and not outcome.written:
            console.tell(f"  All {outcome.success} were current already; nothing was written.")
        console.line(f"  Migration complete: {outcome.success} succeeded, {len(outcome.failures)} failed")

    def source(self, context: RunContext, _stack: contextlib.ExitStack) -> Embedded:
        return Embedded(context, self.plan.collection, self.embedder, self.embedding, self.model)

    def carry_out(self, task: Task) -> CollectionPlan:
        if self.plan.cut is not None:
            cut_ahead(task, self.plan.cut, self.embedder)
        return by_strategy(task, self._plan_anew)

    def _plan_anew(self, context: RunContext) -> CollectionPlan:
        server, options = context.server, replace(context.options, allow_lag=True)  # What was begun is finished.
        serving = self.plan.beside or self.plan.collection.embedding_field
        collection = replace(self.plan.collection, embedding_field=serving)
        return plan_collection(server, self.embedding, collection, look_around(server), options)

    def conclude(self, context: RunContext, plan: CollectionPlan, outcome: Outcome) -> None:
        """The checks at the end; then the collection says which model its vectors are from."""
        context.status.phase("verifying", collection=plan.name)
        checks = check_run(context, self.embedder, plan, _schema_of(context, plan), outcome)
        outcome.verdict = record_verdict(context.ledger, context.run, plan.name, checks).verdict
        context.console.warn(f"  Verification: {outcome.verdict}", level=_LEVELS[outcome.verdict])
        for check in checks:
            tell = context.console.detail if check.passed else context.console.warn
            tell(f"    {told(check)}")
        for line in told_wrong(
            [check for check in checks if check.name != TARGET]
        ):  # Failures are named with the rest.
            context.console.warn(f"    ! {line}")
        _sign(context, plan, self.embedding, outcome)
        if outcome.waits and plan.beside:
            outcome.notes.append(
                f"searches by {plan.beside!r} are answered as before. Set the application to the field "
                f"{plan.collection.embedding_field!r} and {self.embedding.model}, both at one moment; then "
                f"`kai-migrate finish {context.run.name}` takes {plan.beside!r} out of '{plan.name}'. "
                f"`kai-migrate rollback {context.run.name}` takes it back"
            )


def _schema_of(context: RunContext, plan: CollectionPlan) -> Schema:
    context.server.settle()
    schema = context.server.collection(plan.name)
    if schema is None:
        raise TypesenseError(f"the collection {plan.name!r} is not there any more", status=404)
    return schema


def _sign(context: RunContext, plan: CollectionPlan, embedding: EmbeddingSettings, outcome: Outcome) -> None:
    """Say on the server which model the collection's vectors are from, beside whatever its metadata says."""
    schema = _schema_of(context, plan)
    metadata, field = dict(schema.get("metadata") or {}), plan.collection.embedding_field
    mark = fingerprint(embedding, plan.collection.template)
    if metadata.get("embedding") is not None and not isinstance(metadata["embedding"], dict):
        outcome.notes.append(
            f"the metadata of '{plan.name}' has an `embedding` that is not this program's; it is left as it is, and "
            "nobody can read there which model the vectors are from"
        )
        return
    standing = signature_of(schema, field)
    if not outcome.written and standing.get("fingerprint") == mark:
        return
    signature = {
        **embedding.describe(),
        "fingerprint": mark,
        "run": context.run.name,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "field": field,
        "replaces": standing.get("replaces"),
    }
    known = {name: value for name, value in signature.items() if value is not None}
    metadata["embedding"] = signed(schema, field, known, beside=bool(plan.beside))
    context.server.set_metadata(plan.name, metadata)


def run_name(embedding: EmbeddingSettings) -> str:
    """A run's readable id: family, model, dimensions, date and time (UTC)."""
    what = f"{embedding.family}-{embedding.model}-{embedding.dimensions}"
    name = "".join(character if character.isalnum() or character in "-._" else "-" for character in what)
    return f"{name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"


def _source(session: Session, plan: Plan) -> dict[str, Any]:
    names = [name for item in plan.collections for name in item.names]
    return {"server": session.server.address, "collections": names}


def _state_before(earlier: RunRecord | None) -> RunState:
    """Of a run that was refused before it did anything; one that was resumed is no worse than it was."""
    if earlier is None:
        return "refused"
    return "stopped" if earlier.state == "running" else earlier.state


def _earlier(session: Session, ledger: Ledger, plan: Plan) -> RunRecord | None:
    """The last run here, if this one is to go on with it."""
    model = ledger.find_model(fingerprint(session.settings.embedding, ""))
    earlier = unfinished(ledger, "migrate", _source(session, plan), model=model.id if model else None)
    if earlier is None or session.options.alias not in (None, earlier.alias) or _would_mix(ledger, earlier, plan):
        return None
    return earlier


def _would_mix(ledger: Ledger, earlier: RunRecord, plan: Plan) -> bool:
    """Whether this plan's backups, whole documents or vectors, are of another kind than the earlier run's."""
    recreates = {item.name: item.strategy == "recreate" for item in plan.collections if item.strategy != "skipped"}
    return any(
        each.backup_path
        and each.collection in recreates
        and (each.strategy == "recreate") != recreates[each.collection]
        for each in ledger.collection_runs(earlier.id)
    )


def _figures(session: Session) -> dict[str, Any]:
    """What the status of a migration says beside how far it is."""
    meter = session.meter
    return {
        "requests": meter.requests,
        "retries": meter.retries,
        "tokens": meter.tokens,
        "spent_usd": estimate_cost(session.settings.embedding.model, meter.tokens),
    }
