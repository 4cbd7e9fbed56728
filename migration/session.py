"""From options to an exit status: open everything that a run needs, refuse early, run, sum up, close."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from kai.collections import CollectionsError, EmbeddedCollection, load_collections, select_collections
from kai.embeddings import ArrayEmbeddings, MissingPackageError, ModelNotAvailableError, make_embeddings
from kai.models import estimate_cost, fingerprint, nearest_model, request_limits
from kai.settings import EmbeddingSettings, Settings, SettingsError, load_settings
from kai.typesense import Typesense, TypesenseError
from migration import report
from migration.console import Console
from migration.context import Context
from migration.control import Control
from migration.embed import Embedder, ProbeFailed, WrongVectors
from migration.lock import Held, hold
from migration.meter import Meter
from migration.plan import Plan, Refused, look_at_texts, make_plan
from migration.run import RunResult, execute
from migration.status import Status
from migration.throttle import Throttle

if TYPE_CHECKING:
    from migration.ledger import Ledger, ModelRecord, RunRecord

DONE: Final = 0
SOME_FAILED: Final = 1
REFUSED: Final = 2
STOPPED: Final = 3
INTERRUPTED: Final = 130

_PREFLIGHT_PATIENCE: Final = 5.0
"""Seconds. Before anything is begun nobody wants to wait for a server that is not there."""


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
    force: bool = False
    backup: bool = True
    allow_partial: bool = False
    keep_old: bool = False
    alias: str | None = None
    description: str | None = None
    verbose: bool = False


def migrate(options: RunOptions) -> int:
    """Preview or run a migration; returns the exit status. Whatever is refused has changed nothing."""
    console = Console(verbose=options.verbose)
    try:
        settings = load_settings(options.env_file)
        console = Console(settings.secrets, verbose=options.verbose)
        collections = _selected(options)
        control = Control(pause_file=settings.home / "pause", nice=options.nice, announce=console.warn)
        with control.signals(), _server(settings, console) as server:
            return _with_server(options, settings, collections, server, control, console)
    except SettingsError as error:
        return _refuse(console, [str(problem) for problem in error.problems])
    except (Refused, CollectionsError, Held) as error:
        return _refuse(console, getattr(error, "problems", [str(error)]))
    except KeyboardInterrupt:
        console.warn("Interrupted. Nothing is lost: run the same command again to go on.")
        return INTERRUPTED


def _with_server(
    options: RunOptions,
    settings: Settings,
    collections: Sequence[EmbeddedCollection],
    server: Typesense,
    control: Control,
    console: Console,
) -> int:
    server.patience = _PREFLIGHT_PATIENCE
    plan = make_plan(server, settings.embedding, collections)
    meter = Meter()
    throttle = Throttle(options.concurrency, max_rpm=options.max_rpm, max_tpm=options.max_tpm, stopped=control.stopped)
    if options.dry_run:
        embedder = _embedder(settings, options, None, meter, throttle, control)
        _probe(embedder, settings)
        server.patience = options.patience
        report.banner(console, plan)
        looked_at = [look_at_texts(server, item, settings.embedding) for item in plan.collections]
        report.preview(console, Plan(plan.embedding, tuple(looked_at)))
        return DONE
    _refuse_what_loses(plan, options)
    with contextlib.ExitStack() as stack:
        ledger, cache = stack.enter_context(_storage(settings, options))
        embedder = _embedder(settings, options, cache, meter, throttle, control)
        _probe(embedder, settings)
        server.patience = options.patience
        name = run_name(settings.embedding)
        for item in plan.collections:
            if item.strategy != "skipped":
                stack.enter_context(hold(server.address, item.name, name))
        report.banner(console, plan)
        model = _register(ledger, settings.embedding)
        run = _begin(ledger, options, settings, plan, model, name, server)
        status = Status(settings.home / "runs" / run.name / "status.json", lambda: _figures(meter, settings.embedding))
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
        )
        with status.kept():
            result = execute(context, plan)
            exit_status = _exit_status(result, control)
            status.phase({DONE: "done", SOME_FAILED: "done, some failed"}.get(exit_status, "stopped"))
        _finish(ledger, run, result, exit_status)
        report.summary(console, result)
        if exit_status in (STOPPED, INTERRUPTED):
            console.warn("Nothing is lost. Run the same command again: it goes on where this one ended.")
        return exit_status


def run_name(embedding: EmbeddingSettings) -> str:
    """A run's readable id: family, model, dimensions, date and time (UTC)."""
    model = "".join(character if character.isalnum() or character in "-._" else "-" for character in embedding.model)
    return f"{embedding.family}-{model}-{embedding.dimensions}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"


# -- opening ---------------------------------------------------------------------------------------------


def _selected(options: RunOptions) -> list[EmbeddedCollection]:
    known = load_collections(options.collections_file)
    collections, unknown = select_collections(known, options.collections)
    if unknown:
        raise Refused(
            [f"--collections: unknown collection {name!r}; known: {', '.join(known)}, or all" for name in unknown]
        )
    return collections


@contextlib.contextmanager
def _server(settings: Settings, console: Console) -> Iterator[Typesense]:
    def waiting(error: TypesenseError, seconds: float) -> None:
        console.detail(f"Typesense: {error}; again in {seconds:.1f} s")

    with Typesense(settings.typesense, on_wait=waiting) as server:
        yield server


@contextlib.contextmanager
def _storage(settings: Settings, options: RunOptions) -> Iterator[tuple[Ledger, Any]]:
    from migration.cache import VectorCache
    from migration.ledger import Ledger, LedgerError

    try:
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        ledger = Ledger.open(settings.ledger_url, settings.home)
    except OSError as error:
        raise Refused([f"MIGRATION_HOME: {settings.home} cannot be used: {error.strerror}"]) from error
    except LedgerError as error:
        raise Refused([str(error)]) from error
    with ledger, VectorCache(settings.home) as cache:
        yield ledger, cache


def _embedder(
    settings: Settings, options: RunOptions, cache: Any, meter: Meter, throttle: Throttle, control: Control
) -> Embedder:
    try:
        embeddings = cast(ArrayEmbeddings, make_embeddings(settings))
    except MissingPackageError as error:
        raise Refused([f"EMBEDDING_FAMILY: {error}"]) from error
    except ModelNotAvailableError as error:
        raise Refused([f"EMBEDDING_MODEL: {error}"]) from error
    return Embedder(
        embeddings,
        settings.embedding.dimensions,
        limits=request_limits(settings.embedding.family),
        space=fingerprint(settings.embedding, ""),
        cache=None if options.force else cache,
        throttle=throttle,
        meter=meter,
        patience=max(options.patience, 1.0) * 2.5,
        stopped=control.stopped,
        secrets=settings.secrets,
    )


def _probe(embedder: Embedder, settings: Settings) -> None:
    """One embedding: does the key work, is there such a model, has its vector the right length?"""
    embedding = settings.embedding
    try:
        embedder.probe()
    except WrongVectors as error:
        raise Refused(
            [f"EMBEDDING_DIMENSIONS: {error}; set the length that {embedding.model} gives, or another model"]
        ) from error
    except ProbeFailed as error:
        fault, family = error.fault, embedding.family
        near = nearest_model(family, embedding.model)
        hint = f"; did you mean {near}?" if near else ""
        where = {"openai": "OPENAI_API_BASE", "google": "GOOGLE_API_BASE", "ollama": "OLLAMA_API_BASE"}.get(family, "")
        key = {"openai": "OPENAI_API_KEY", "google": "GOOGLE_API_KEY"}.get(family, where)
        explained = {
            "denied": f"{key}: the provider refuses the key: {fault.message}",
            "model_missing": f"EMBEDDING_MODEL: there is no model {embedding.model!r}{hint} ({fault.message})",
            "refused": f"EMBEDDING_MODEL, EMBEDDING_DIMENSIONS: the provider refuses the probe{hint}: {fault.message}",
        }
        unreachable = f"{where}: the provider does not answer as it should: {fault.message}"
        raise Refused([explained.get(fault.kind, unreachable)]) from error


def _refuse_what_loses(plan: Plan, options: RunOptions) -> None:
    """A recreate copies what is on disk; values that only the index has would be lost."""
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


def _refuse(console: Console, problems: Sequence[str]) -> int:
    console.warn("Refused; nothing was changed:")
    for problem in problems:
        console.warn(f"  - {problem}")
    return REFUSED


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
    """A new run, or the one of the same target and collections that did not come to its end."""
    source = {"server": server.address, "collections": [item.name for item in plan.collections]}
    for earlier in ledger.runs(limit=20):
        if (
            earlier.kind == "migrate"
            and earlier.state in ("running", "stopped", "interrupted")
            and earlier.model_id == model.id
            and dict(earlier.source) == source
            and options.alias in (None, earlier.alias)
        ):
            return ledger.resume_run(earlier.id)
    return ledger.start_run(
        name,
        "migrate",
        model_id=model.id,
        alias=options.alias,
        description=options.description,
        parameters={"concurrency": options.concurrency, "force": options.force, "backup": options.backup},
        source=source,
    )


def _finish(ledger: Ledger, run: RunRecord, result: RunResult, exit_status: int) -> None:
    states: dict[int, Any] = {DONE: "completed", SOME_FAILED: "partial", INTERRUPTED: "interrupted"}
    totals = {item.name: item.summary() for item in result.collections}
    ledger.finish_run(run.id, states.get(exit_status, "stopped"), totals)


def _exit_status(result: RunResult, control: Control) -> int:
    if result.stopped:
        return INTERRUPTED if control.interrupted else STOPPED
    return SOME_FAILED if result.failed else DONE


def _figures(meter: Meter, embedding: EmbeddingSettings) -> dict[str, Any]:
    return {
        "requests": meter.requests,
        "retries": meter.retries,
        "tokens": meter.tokens,
        "spent_usd": estimate_cost(embedding.model, meter.tokens),
    }
