"""Back to what a run replaced: which backups, which collections, and one run of its own for all of them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kai.collections import EmbeddedCollection, described_as, load_collections
from kai.settings import ChosenStrategy, Settings, load_settings
from kai.typesense import Schema, Typesense, embedding_field
from migration.backup import Backup
from migration.backup.manifest import MANIFEST
from migration.backup.old_vectors import OldVectors
from migration.backup.shelf import folder_name
from migration.embedding.cache import CacheError, VectorCache
from migration.ledger import Ledger, LedgerError, RunRecord
from migration.ledger.records import RunKind
from migration.operations.execute import RunResult, by_strategy, execute, running, unfinished
from migration.operations.order import (
    UNDOABLE,
    UNFINISHED,
    Writers,
    refuse_another_server,
    refuse_out_of_order,
)
from migration.operations.setup import TYPESENSE_ONLY, Session, open_ledger, open_server
from migration.runtime.console import SILENT, Console
from migration.runtime.control import Control
from migration.strategies.context import Outcome, RunContext
from migration.strategies.curation import refuse_unusable
from migration.strategies.plan import CollectionPlan
from migration.strategies.refusals import Refused, Strategy, decide, way_problem
from migration.strategies.restorable_curation import restorable
from migration.strategies.shadow_state import find_shadow, past_the_drop, read_mark, role_of, unfinished_refill
from migration.strategies.sources import UNDESCRIBED, KnownModels, PutBack, fingerprint_before
from migration.strategies.task import Task


def rollback(
    run: str | None = None,
    *,
    collections: Sequence[str] = (),
    collections_file: Path | None = None,
    confirmed: Callable[[str], bool] = lambda _: True,
    settings: Settings | None = None,
    console: Console = SILENT,
) -> RunResult:
    """Put the vectors back that a run replaced; nothing is embedded.

    Args:
        run: name or alias; None for the latest run that replaced something.
        collections: only these; empty for all of the run.
        collections_file: descriptions of the user's own collections; None for KAI's.
        confirmed: asked with a summary before anything is changed; agrees by default.
        settings: Typesense and the ledger; None reads `.env` and the environment.
        console: where to tell; nothing by default.

    Raises:
        Refused: there is no such run, or no backup of it.
    """
    with _opened(settings, console) as (session, ledger):
        server = session.server
        target = _target(ledger, run)
        refuse_another_server(target, server.address)
        folders = _chosen_folders(ledger, target, collections, server.aliases())
        for warning in refuse_out_of_order(Writers(ledger, server.address), target, folders):
            console.warn(warning)
        if removed := [folder for folder in folders.values() if not (folder / MANIFEST).exists()]:
            raise Refused(
                *[
                    f"the backup {folder} of run {target.name} was removed, by kai-migrate backups --prune or by hand, "
                    "and so the run cannot be rolled back"
                    for folder in removed
                ]
            )
        backups = {name: Backup.load(folder) for name, folder in folders.items()}
        return _go_back(session, ledger, _ways(server, backups, collections_file), confirmed, target)


def restore(
    folder: Path,
    *,
    collection: str | None = None,
    collections_file: Path | None = None,
    confirmed: Callable[[str], bool] = lambda _: True,
    settings: Settings | None = None,
    console: Console = SILENT,
) -> RunResult:
    """Put a backup's vectors back, whichever run made it; a collection that is gone is created from whole documents.

    Args:
        folder: of the backup, or a file in it.
        collection: another collection than the backup's own; None for that one.
        collections_file: descriptions of the user's own collections; None for KAI's.
        confirmed: asked with a summary before anything is changed; agrees by default.
        settings: Typesense and the ledger; None reads `.env` and the environment.
        console: where to tell; nothing by default.

    Raises:
        Refused: the backup does not fit what stands there.
    """
    backup = Backup.load(folder if folder.is_dir() else folder.parent)
    with _opened(settings, console) as (session, ledger):
        name = collection or backup.manifest.collection
        backups = {session.server.aliases().get(name, name): backup}
        return _go_back(session, ledger, _ways(session.server, backups, collections_file), confirmed)


@contextlib.contextmanager
def _opened(settings: Settings | None, console: Console) -> Iterator[tuple[Session, Ledger]]:
    settings = settings or load_settings(needs=TYPESENSE_ONLY)
    with open_server(settings, console) as server, open_ledger(settings) as ledger:
        control = Control(pause_file=settings.home / "pause", announce=console.warn)
        yield Session(settings=settings, server=server, console=console, control=control), ledger


def _target(ledger: Ledger, name: str | None) -> RunRecord:
    """The run to undo. One that was itself a way back and did not come to its end is gone on with."""
    if name is not None:
        found = ledger.find_run(name)
        if found is None:
            raise Refused(f"there is no run {name!r} in the ledger; kai-migrate history lists them")
        return found
    for run in ledger.runs():
        is_begun = run.kind == "rollback" and run.state in UNFINISHED
        if is_begun and run.reverts_run_id and (earlier := ledger.find_run(run.reverts_run_id)):
            return earlier
        done = ledger.collection_runs(run.id) if run.kind in UNDOABLE else []
        if any(each.backup_path for each in done):
            return run
        if run.parameters.get("backup") is False and any(each.done for each in done):
            raise Refused(
                f"the latest run, {run.name}, was made with --no-backup and cannot be undone; name an earlier run "
                "to go back to what that one replaced"
            )
    raise Refused("no run in the ledger has a backup to go back to; kai-migrate backups lists those on disk")


def _chosen_folders(
    ledger: Ledger, target: RunRecord, collections: Sequence[str], aliases: Mapping[str, str]
) -> dict[str, Path]:
    """The run's backups of the collections that were asked for, by their real names."""
    every = {each.collection: Path(each.backup_path) for each in ledger.collection_runs(target.id) if each.backup_path}
    wanted = {aliases.get(name, name): name for name in collections if name != "all"}
    if unknown := [name for real, name in wanted.items() if real not in every]:
        there = ", ".join(sorted(every))
        raise Refused(
            *[f"--collections: run {target.name} has no backup of {name!r}; there are: {there}" for name in unknown]
        )
    if not every:
        raise Refused(f"run {target.name} has no backup of any collection")
    return every if not wanted or "all" in collections else {name: every[name] for name in every if name in wanted}


def _go_back(
    session: Session,
    ledger: Ledger,
    ways: Sequence[_Way],
    confirmed: Callable[[str], bool],
    reverts: RunRecord | None = None,
) -> RunResult:
    server, console = session.server, session.console
    for way in ways:
        if way.is_gone:
            console.warn(f"Collection {way.plan.name!r} does not exist on {server.url}: it will be created.")
    if not confirmed(_announcement(ways, server.address, reverts)):
        raise Refused("not confirmed; give --yes to go back without being asked")
    server.patience = session.options.patience
    kind: RunKind = "rollback" if reverts else "restore"
    reverted = reverts.id if reverts else None
    names = [way.plan.name for way in ways]
    source = {"server": server.address, "collections": names}

    def begin() -> RunRecord:
        console.heading(kind.upper())
        if (earlier := unfinished(ledger, kind, source, reverts=reverted)) is not None:
            return ledger.resume_run(earlier.id)
        name = f"{kind}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
        parameters = {"typesense": server.told_version()}
        return ledger.start_run(name, kind, source=source, parameters=parameters, reverts=reverted)

    with session.control.signals(), running(session, ledger, names, begin) as context:
        return execute(context, ways, trouble=lambda: _mixtures(context, reverts, names) if reverts else ())


@dataclass(frozen=True, slots=True)
class _Way:
    """One collection's way back.

    Attributes:
        plan: how it goes.
        backup: what it goes back to.
        is_gone: whether there is no such collection, nor what a dead run made of it.
        stopped: how the line begins that says that it was stopped.
    """

    plan: CollectionPlan
    backup: Backup
    is_gone: bool
    stopped: str = "Stopped"

    def announce(self, console: Console) -> None:
        plan = self.plan
        console.line(f"Going back for '{plan.name}' to what run {self.backup.manifest.run} replaced...")
        dimensions = f"{plan.old_dimensions or 'none'} -> {plan.new_dimensions or 'none'}"
        console.line(f"  - Dimensions: {dimensions}, {plan.strategy}")

    def tell_completed(self, console: Console, outcome: Outcome) -> None:
        failed = len(outcome.failures)
        console.line(f"  Complete: {outcome.success} vectors stand as they stood, {failed} failed")

    def source(self, context: RunContext, stack: contextlib.ExitStack) -> PutBack:
        scratch = context.home / "runs" / context.run.name / f"{folder_name(self.plan.name)}.vectors"
        vectors = stack.enter_context(contextlib.closing(OldVectors(self.backup, scratch)))
        return PutBack(context, self.plan, self.backup.manifest.run, vectors, _known_models(context, stack))

    def carry_out(self, task: Task) -> CollectionPlan:
        return by_strategy(task, self._plan_anew)

    def _plan_anew(self, context: RunContext) -> CollectionPlan:
        return _way(context.server, self.plan.name, self.backup, self.plan.collection).plan

    def conclude(self, context: RunContext, plan: CollectionPlan, outcome: Outcome) -> None:
        """The collection's metadata names the model that it named before."""
        schema = context.server.collection(plan.name) or {}
        metadata = dict(schema.get("metadata") or {})
        earlier = (self.backup.schema.get("metadata") or {}).get("embedding")
        if metadata.get("embedding") != earlier:
            metadata.pop("embedding", None)
            context.server.set_metadata(plan.name, {**metadata, **({"embedding": earlier} if earlier else {})})


def _ways(server: Typesense, backups: Mapping[str, Backup], collections_file: Path | None) -> list[_Way]:
    known, aliases = load_collections(collections_file), server.aliases()
    return [_way(server, name, backup, described_as(known, name, aliases)) for name, backup in backups.items()]


def _way(server: Typesense, name: str, backup: Backup, collection: EmbeddedCollection | None) -> _Way:
    """How a collection goes back to a backup.

    Raises:
        Refused: it cannot, and why.
    """
    field_name = backup.manifest.embedding_field
    schema, shadow = server.collection(name), find_shadow(server.collections(), name)
    mark = read_mark(shadow) if shadow else None
    if mark is not None and mark.held_elsewhere:
        raise Refused(mark.holder)
    collection = collection or EmbeddedCollection(name, field_name, UNDESCRIBED)
    new = _length(backup.schema, field_name)
    refill = unfinished_refill(schema) if schema else None
    # One of this very way back is gone on with.
    if refill and refill.get("fingerprint") != fingerprint_before(backup.manifest.run, new or 0, collection.template):
        raise Refused(
            f"run {refill.get('run')} took the vector field of {name!r} out and did not finish; run that "
            "migration again, which puts it back, and go back then"
        )
    if schema is not None and not refill and embedding_field(schema, field_name) is None:
        raise Refused(
            f"collection {name!r} has no field {field_name!r}, which the backup "
            f"{backup.folder} of {backup.manifest.collection!r} holds the vectors of"
        )
    backup.verify()
    is_gone = schema is None and shadow is None
    if is_gone and backup.manifest.kind == "vectors":
        raise Refused(
            f"collection {name!r} does not exist on {server.url}, and the backup holds vectors, not documents"
        )
    old = refill["old_dimensions"] if refill else _length(schema, field_name)
    standing = shadow if schema is None or past_the_drop(mark, schema) else schema
    documents = int(standing["num_documents"]) if standing else backup.count()[1]
    # A run that emptied and filled backed up vectors alone, and goes back in the same way where it can.
    as_it_came = backup.manifest.kind == "vectors" or server.lags
    may_refill = as_it_came and old != new and schema is not None and not way_problem(collection, schema, "alter")
    chosen: ChosenStrategy = "alter" if refill or may_refill else "auto"
    strategy: Strategy = "in place" if new is None else decide(old, new, chosen)
    if is_gone or (schema is not None and role_of(schema) == "restored"):
        strategy = "create"
    elif past_the_drop(mark, schema):
        strategy = "recreate"
    if strategy == "create":
        restorable(server, backup, name)
    elif strategy == "recreate" and schema is not None and not past_the_drop(mark, schema):
        refuse_unusable(server, [schema], contents=True)
    return _Way(
        CollectionPlan(
            collection,
            name,
            standing or backup.schema,
            strategy,
            old,
            new or 0,
            documents,
            documents,
            leftover=mark,
            backup=backup,
        ),
        backup,
        is_gone,
    )


def _length(schema: Schema | None, field_name: str) -> int | None:
    found = embedding_field(schema, field_name) if schema else None
    return found.get("num_dim") if found else None


def _known_models(context: RunContext, stack: contextlib.ExitStack) -> KnownModels:
    """By the vector cache; without one no model is known, which keeps nobody from going back."""
    try:
        cache = stack.enter_context(VectorCache(context.home))
    except (CacheError, OSError) as error:
        context.console.detail(f"The vector cache cannot be read: {error}")
        return KnownModels(None, ())
    return KnownModels(cache, [known.model for known in context.ledger.models()])


def _mixtures(context: RunContext, undone: RunRecord, names: Sequence[str]) -> list[str]:
    try:
        writers = Writers(context.ledger, context.server.address)
        return [note for name in names for note in writers.mixture(undone, name)]
    except LedgerError:
        return []  # The vectors are back; this is a note on them.


def _announcement(ways: Sequence[_Way], address: str, reverts: RunRecord | None) -> str:
    lines = [f"  {way.plan.name}: {_what_happens(way, address)}" for way in ways]
    what = f"Undo run {reverts.name}" if reverts else "Restore"
    return "\n".join([f"{what}:", *lines, "Go on?"])


def _what_happens(way: _Way, address: str) -> str:
    count, theirs = way.backup.count()[1], way.backup.manifest.server
    origin = "" if theirs == address else f"; the backup is of ANOTHER SERVER, {theirs}, this one is {address}"
    if way.is_gone:
        return f"DOES NOT EXIST; it will be CREATED, with the {count} documents of the backup{origin}"
    return f"{count} old vectors of {way.plan.new_dimensions or 'any'} dimensions, {way.plan.strategy}{origin}"
