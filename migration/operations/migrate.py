"""Migrate collections to another embedding model: look, refuse early, run, sum up."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from kai.models import EmbeddingSettings, estimate_cost, fingerprint
from kai.settings import Settings, load_settings
from kai.typesense import Schema, Typesense, TypesenseError
from kai.typesense_schemas import signature_of
from migration.embedding.cache import VectorCache
from migration.embedding.embed import Embedder
from migration.embedding.throttle import Throttle
from migration.ledger import Ledger, MetricsRecord, ModelRecord, RunRecord
from migration.ledger.database import resolve
from migration.ledger.runs import LATEST
from migration.operations import report
from migration.operations.checks import check_run, record_verdict, told
from migration.operations.execute import RunResult, begin_or_resume, execute, running
from migration.operations.measure import figures, measured
from migration.operations.setup import (
    LOCK_PATIENCE,
    make_embedder,
    open_ledger,
    open_server,
    probe,
    selected_collections,
)
from migration.runtime import memory
from migration.runtime.console import SILENT, Console
from migration.runtime.control import Control
from migration.runtime.meter import Meter
from migration.runtime.status import wrote_lately
from migration.strategies.context import MigrationOptions, Outcome, RunContext
from migration.strategies.curation import refuse_unusable
from migration.strategies.plan import CollectionPlan, Plan, look_at_texts, make_plan, plan_collection, refuse_unwritable
from migration.strategies.refusals import Refused
from migration.strategies.sources import Embedded

_PROVIDER_PATIENCE: Final = 2.5
"""How much longer than for Typesense a run waits for the provider, whose outages last longer."""
_TOOLS: Final = {"openai": "langchain-openai", "google": "langchain-google-genai", "ollama": "langchain-ollama"}
"""The package that computes the vectors, by family."""


def preview(options: MigrationOptions, settings: Settings | None = None, console: Console = SILENT) -> Plan:
    """What a migration would do, its texts counted; no write, and no embedding but one probe.

    Args:
        options: what is asked for.
        settings: the model and Typesense; None reads `options.env_file` and the environment.
        console: where to tell of waiting; nothing by default.

    Raises:
        Refused: what the run itself would refuse.
    """
    settings, options = _settled(settings, options)
    with _looked_at(options, settings, console) as (server, plan, control):
        _refuse_taken_alias(options, settings, plan, server)
        probe(make_embedder(settings, control, Meter(), _throttle(options, control)), settings)
        memory.loaded()
        server.patience = options.patience
        looked_at = [look_at_texts(server, item, settings.embedding, control.stopped) for item in plan.collections]
        return replace(plan, collections=tuple(looked_at))


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
    settings, options = _settled(settings, options)
    with _looked_at(options, settings, console) as (server, plan, control):
        refuse_unwritable(server, plan)
        return _run(options, settings, console, server, plan, control)


def _settled(settings: Settings | None, options: MigrationOptions) -> tuple[Settings, MigrationOptions]:
    """What is not given, by the environment."""
    settings = settings or load_settings(options.env_file)
    return settings, options if options.strategy else replace(options, strategy=settings.strategy)


@contextlib.contextmanager
def _looked_at(
    options: MigrationOptions, settings: Settings, console: Console
) -> Iterator[tuple[Typesense, Plan, Control]]:
    """The server, and the plan, which nothing speaks against."""
    collections = selected_collections(options.collections, options.collections_file)
    control = Control(pause_file=settings.home / "pause", nice=options.nice, announce=console.warn)
    with control.signals(), open_server(settings, console, options.patience, stopped=control.stopped) as server:
        strategy = options.strategy or "auto"
        plan = make_plan(
            server,
            settings.embedding,
            collections,
            strategy=strategy,
            allow_lag=options.allow_lag,
            wrote_lately=wrote_lately(settings.home),
        )
        _refuse_what_loses(plan, options)
        refuse_unusable(server, plan.copied, contents=options.backup, preview=options.dry_run)
        _affordable_tokens(settings.embedding, options.max_cost)
        yield server, _with_notes(plan, options), control


def _run(
    options: MigrationOptions, settings: Settings, console: Console, server: Typesense, plan: Plan, control: Control
) -> RunResult:
    meter, embedding = Meter(), settings.embedding
    with contextlib.ExitStack() as stack:
        ledger = stack.enter_context(open_ledger(settings, options.patience))
        cache = stack.enter_context(VectorCache(settings.home, patience=min(options.patience, LOCK_PATIENCE)))
        embedder = make_embedder(
            settings,
            control,
            meter,
            _throttle(options, control),
            cache=cache,
            patience=options.patience * _PROVIDER_PATIENCE,
            most_tokens=_affordable_tokens(embedding, options.max_cost),
        )
        probe(embedder, settings)
        memory.loaded()
        meter.restart()
        server.patience = options.patience

        def begin() -> RunRecord:
            report.banner(console, plan)
            model = _register(ledger, embedding)
            return begin_or_resume(
                ledger,
                run_name(embedding),
                "migrate",
                _unfinished(ledger, options, plan, model.id, server),
                model_id=model.id,
                alias=options.alias,
                description=options.description,
                parameters={
                    "concurrency": options.concurrency,
                    "force": options.force,
                    "backup": options.backup,
                    "typesense": plan.version,
                },
                source=_source(plan, server),
            )

        context = stack.enter_context(
            running(
                settings,
                options,
                server,
                ledger,
                control,
                console,
                names=[item.name for item in plan.collections if item.strategy != "skipped"],
                begin=begin,
                meter=meter,
                figures=lambda: figures(meter, embedding, control),
            )
        )
        # Of a run that is resumed, what it has cost and taken so far counts too.
        before = next(iter(ledger.metrics(context.run.id)), None) or MetricsRecord()
        embedder.count_as_spent(before.tokens or 0)
        model = ledger.find_model(context.run.model_id or "")
        assert model is not None  # noqa: S101 - registered right before
        works = [_Migration(item, embedding, embedder, model, options) for item in plan.collections]
        return execute(
            context,
            works,
            measure=lambda result: ledger.record_metrics(context.run.id, measured(meter, result, embedding, before)),
        )


@dataclass(frozen=True, slots=True)
class _Migration:
    """One collection of a migration."""

    plan: CollectionPlan
    embedding: EmbeddingSettings
    embedder: Embedder
    model: ModelRecord
    options: MigrationOptions
    stopped: str = "Migration {status}"

    def announce(self, console: Console) -> None:
        plan, name = self.plan, self.plan.collection.name
        if plan.strategy == "skipped":
            console.line(f"Skipping '{name}': {plan.collection.skipped}")
            return
        console.line(f"Starting migration for '{name}'...")
        console.line(f"  - Embedding field: {plan.collection.embedding_field}")
        console.line(f"  - Filter: {plan.collection.filter_by or 'none'}")
        if plan.strategy == "recreate":
            console.line(f"  - Strategy: recreate ({plan.old_dimensions} -> {plan.new_dimensions} dimensions)")
        console.line(f"  Found {plan.eligible} documents to migrate")
        for hazard in plan.hazards:
            console.warn(f"  ! {hazard}")

    def tell_completed(self, console: Console, outcome: Outcome) -> None:
        if outcome.success and not outcome.written:
            console.warn(f"  All {outcome.success} were current already; nothing was written.")
        console.line(f"  Migration complete: {outcome.success} succeeded, {len(outcome.failures)} failed")

    def source(self, context: RunContext, _stack: contextlib.ExitStack) -> Embedded:
        return Embedded(context, self.plan.collection, self.embedder, self.embedding, self.model)

    def plan_anew(self, context: RunContext) -> CollectionPlan:
        server, collection = context.server, self.plan.collection
        strategy = self.options.strategy or "auto"
        return plan_collection(server, self.embedding, collection, server.collections(), strategy)

    def conclude(self, context: RunContext, plan: CollectionPlan, outcome: Outcome) -> None:
        """The checks at the end; then the collection says which model its vectors are from."""
        context.status.phase("verifying", collection=plan.name)
        schema = _schema_of(context, plan)
        checks = check_run(context, self.embedder, plan.name, schema, plan.collection.embedding_field, outcome)
        outcome.verdict = record_verdict(context.ledger, context.run, plan.name, checks).verdict
        context.console.warn(f"  Verification: {outcome.verdict}")
        for check in checks:
            tell = context.console.detail if check.passed else context.console.warn
            tell(f"    {told(check)}")
        _sign(context, plan, self.embedding, outcome)


def _schema_of(context: RunContext, plan: CollectionPlan) -> Schema:
    schema = context.server.collection(plan.name)
    if schema is None:
        raise TypesenseError(f"the collection {plan.name!r} is not there any more", status=404)
    return schema


def _sign(context: RunContext, plan: CollectionPlan, embedding: EmbeddingSettings, outcome: Outcome) -> None:
    """Say on the server which model the collection's vectors are from, beside whatever its metadata says."""
    schema = _schema_of(context, plan)
    metadata = dict(schema.get("metadata") or {})
    mark = fingerprint(embedding, plan.collection.template)
    if metadata.get("embedding") is not None and not isinstance(metadata["embedding"], dict):
        outcome.notes.append(
            f"the metadata of '{plan.name}' has an `embedding` that is not this program's; it is left as it is, and "
            "nobody can read there which model the vectors are from"
        )
        return
    standing = signature_of(schema)
    if not outcome.written and standing.get("fingerprint") == mark:
        return
    metadata["embedding"] = standing | {
        **embedding.describe(),
        "fingerprint": mark,
        "run": context.run.name,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    context.server.set_metadata(plan.name, metadata)


def run_name(embedding: EmbeddingSettings) -> str:
    """A run's readable id: family, model, dimensions, date and time (UTC)."""
    model = "".join(character if character.isalnum() or character in "-._" else "-" for character in embedding.model)
    return f"{embedding.family}-{model}-{embedding.dimensions}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"


def _throttle(options: MigrationOptions, control: Control) -> Throttle:
    return Throttle(options.concurrency, max_rpm=options.max_rpm, max_tpm=options.max_tpm, stopped=control.stopped)


# -- what speaks against it ------------------------------------------------------------------------------


def _affordable_tokens(embedding: EmbeddingSettings, max_cost: float | None) -> int | None:
    """How many tokens the bound on cost buys; None for no bound."""
    if max_cost is None:
        return None
    million = estimate_cost(embedding.model, 1_000_000)
    if million is None:
        raise Refused(f"--max-cost: the price of {embedding.model!r} is not known, so its cost cannot be bounded")
    return int(max_cost / million * 1_000_000) if million else None


def _with_notes(plan: Plan, options: MigrationOptions) -> Plan:
    """The plan, with a word on options that do nothing in it."""
    if not options.keep_old:
        return plan
    note = "--keep-old has no effect: the collection is not recreated, so there is no previous one to keep"
    items = (
        item if item.strategy in ("recreate", "skipped") else replace(item, hazards=(note, *item.hazards))
        for item in plan.collections
    )
    return replace(plan, collections=tuple(items))


def _refuse_taken_alias(options: MigrationOptions, settings: Settings, plan: Plan, server: Typesense) -> None:
    """The ledger refuses an alias that is taken when a run begins; a preview is to refuse it too.

    Only a ledger that is there already is asked: a preview makes none.
    """
    if options.alias is None:
        return
    if options.alias == LATEST:
        raise Refused(f"--alias: {LATEST!r} always names the latest run; choose another")
    place = resolve(settings.ledger_url, settings.home)
    if place.get_backend_name() != "sqlite" or not Path(place.database or "").is_file():
        return
    with open_ledger(settings, options.patience) as ledger:
        wanted = fingerprint(settings.embedding, "")
        model = next((known.model.id for known in ledger.models() if known.model.fingerprint == wanted), None)
        if _unfinished(ledger, options, plan, model, server) is None:
            ledger.refuse_taken(options.alias)


def _refuse_what_loses(plan: Plan, options: MigrationOptions) -> None:
    """A recreate copies what is on disk; values that only the index has would be lost."""
    whole = [
        f"{item.name} ({item.strategy})"
        for item in plan.collections
        if item.strategy in ("recreate", "rebuild", "alter")
    ]
    if whole and (options.limit or options.until):
        raise Refused(f"--limit, --until: {', '.join(whole)} can only be migrated as a whole")
    problems = [
        f"the field {field['name']!r} of {item.name!r} has `store: false`: recreating the collection would lose its "
        "values; give --allow-partial if that is all right"
        for item in plan.collections
        if item.strategy == "recreate" and not options.allow_partial
        for field in item.schema["fields"]
        if field.get("store") is False
    ]
    if problems:
        raise Refused(*problems)


# -- the ledger's side -----------------------------------------------------------------------------------


def _register(ledger: Ledger, embedding: EmbeddingSettings) -> ModelRecord:
    package = _TOOLS.get(embedding.family, "wordllama")
    return ledger.register_model(
        family=embedding.family,
        model=embedding.model,
        dimensions=embedding.dimensions,
        fingerprint=fingerprint(embedding, ""),
        task_type=embedding.task_type,
        tool_source=package,
        tool_version=version(package),
    )


def _source(plan: Plan, server: Typesense) -> dict[str, Any]:
    return {"server": server.address, "collections": [item.name for item in plan.collections]}


def _unfinished(
    ledger: Ledger, options: MigrationOptions, plan: Plan, model_id: str | None, server: Typesense
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
