"""Back to what a run replaced: which backups, which collections, and one run of its own for all of them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kai.collections import EmbeddedCollection, described_as, load_collections
from kai.settings import Settings
from kai.typesense import Typesense, TypesenseError
from migration.backup import Backup, BackupError, BackupWriter
from migration.backup.manifest import MANIFEST
from migration.backup.old_vectors import OldVectors
from migration.backup.shelf import folder_name
from migration.embedding.cache import CacheError, VectorCache
from migration.embedding.throttle import Stopped
from migration.ledger.errors import LedgerError
from migration.operations.execute import BYTES_A_DOCUMENT, BYTES_A_NUMBER, BYTES_TO_SPARE
from migration.operations.order import (
    UNDOABLE,
    UNFINISHED,
    Writers,
    refuse_another_server,
    refuse_out_of_order,
    same_server,
)
from migration.operations.setup import DONE, INTERRUPTED, SOME_FAILED, STOPPED, open_ledger, open_server
from migration.runtime.console import RULE, Console
from migration.runtime.control import Control
from migration.runtime.lock import hold
from migration.runtime.status import Status
from migration.strategies.context import Outcome, Workshop
from migration.strategies.plan import Refused
from migration.strategies.restore_in_place import KnownModels, RestoreInPlace, Way
from migration.strategies.restore_recreating import RestoreByRecreating, RestoreStopped, settle
from migration.strategies.shadow_state import find_shadow, unfinished_rebuild

if TYPE_CHECKING:
    from migration.ledger import Ledger, RunRecord


def rollback(
    settings: Settings,
    console: Console,
    *,
    run: str | None,
    collections: Sequence[str],
    confirmed: Callable[[str], bool],
    collections_file: Path | None = None,
) -> int:
    """Put the vectors back that a run replaced; returns the exit status.

    Args:
        settings: Typesense and the ledger; nothing is embedded.
        console: where to tell.
        run: name or alias; None for the latest run that replaced something.
        collections: only these; empty for all of the run.
        confirmed: asked with a summary before anything is changed.
        collections_file: descriptions of the user's own collections.

    Raises:
        Refused: there is no such run, or no backup of it.
    """
    with open_server(settings, console) as server, open_ledger(settings) as ledger:
        target = _target(ledger, run)
        refuse_another_server(target, server.address)
        every = {
            each.collection: Path(each.backup_path) for each in ledger.collection_runs(target.id) if each.backup_path
        }
        aliases = server.aliases()
        wanted = {aliases.get(name, name): name for name in collections if name != "all"}
        if unknown := [name for real, name in wanted.items() if real not in every]:
            raise Refused(
                [
                    f"--collections: run {target.name} has no backup of {name!r}; there are: {', '.join(sorted(every))}"
                    for name in unknown
                ]
            )
        folders = {
            name: folder for name, folder in every.items() if not wanted or "all" in collections or name in wanted
        }
        if not folders:
            raise Refused([f"run {target.name} has no backup of any collection"])
        for warning in refuse_out_of_order(Writers(ledger, server.address), target, folders):
            console.warn(warning)
        if removed := [folder for folder in folders.values() if not (folder / MANIFEST).exists()]:
            raise Refused(
                [
                    f"the backup {folder} of run {target.name} was removed, by kai-migrate backups --prune or by hand, "
                    "and so the run cannot be rolled back"
                    for folder in removed
                ]
            )
        backups = {name: Backup.load(folder) for name, folder in folders.items()}
        return _go_back(
            settings,
            console,
            server,
            ledger,
            backups,
            kind="rollback",
            reverts=target,
            confirmed=confirmed,
            collections_file=collections_file,
        )


def restore(
    settings: Settings,
    console: Console,
    *,
    folder: Path,
    collection: str | None,
    confirmed: Callable[[str], bool],
    collections_file: Path | None = None,
) -> int:
    """Put a backup's vectors back, whichever run made it; returns the exit status.

    Args:
        settings: Typesense and the ledger; nothing is embedded.
        console: where to tell.
        folder: of the backup.
        collection: another collection than the backup's own; None for that one.
        confirmed: asked with a summary before anything is changed.
        collections_file: descriptions of the user's own collections.
    """
    backup = Backup.load(folder if folder.is_dir() else folder.parent)
    with open_server(settings, console) as server, open_ledger(settings) as ledger:
        name = collection or backup.manifest.collection
        return _go_back(
            settings,
            console,
            server,
            ledger,
            {server.aliases().get(name, name): backup},
            kind="restore",
            reverts=None,
            confirmed=confirmed,
            collections_file=collections_file,
        )


def _target(ledger: Ledger, name: str | None) -> RunRecord:
    """The run to undo. One that was itself a way back and did not come to its end is gone on with."""
    if name is not None:
        found = ledger.find_run(name)
        if found is None:
            raise Refused([f"there is no run {name!r} in the ledger; kai-migrate history lists them"])
        return found
    for run in ledger.runs():
        if run.kind == "rollback" and run.state in UNFINISHED and run.reverts_run_id:
            earlier = next((each for each in ledger.runs() if each.id == run.reverts_run_id), None)
            if earlier is not None:
                return earlier
        done = ledger.collection_runs(run.id) if run.kind in UNDOABLE else []
        if any(each.backup_path for each in done):
            return run
        if run.parameters.get("backup") is False and any(each.done for each in done):
            raise Refused(
                [
                    f"the latest run, {run.name}, was made with --no-backup and cannot be undone; name an earlier run "
                    "to go back to what that one replaced"
                ]
            )
    raise Refused(["no run in the ledger has a backup to go back to; kai-migrate backups lists those on disk"])


def _go_back(
    settings: Settings,
    console: Console,
    server: Typesense,
    ledger: Ledger,
    backups: dict[str, Backup],
    *,
    kind: Any,
    reverts: RunRecord | None,
    confirmed: Callable[[str], bool],
    collections_file: Path | None,
) -> int:
    known, aliases = load_collections(collections_file), server.aliases()
    everything = server.collections()
    ways = [
        Way(name, backup, server.collection(name), find_shadow(everything, name)) for name, backup in backups.items()
    ]
    for way in ways:
        if way.schema and (rebuild := unfinished_rebuild(way.schema)):
            raise Refused(
                [
                    f"run {rebuild.get('run')} took the vector field of {way.name!r} out and did not finish; run that "
                    "migration again, which puts it back, and go back then"
                ]
            )
        if way.lacks_the_field:
            raise Refused(
                [
                    f"collection {way.name!r} has no field {way.backup.manifest.embedding_field!r}, which the backup "
                    f"{way.backup.folder} of {way.backup.manifest.collection!r} holds the vectors of"
                ]
            )
        way.backup.verify()
        if way.is_gone and way.backup.manifest.kind == "vectors":
            raise Refused(
                [f"collection {way.name!r} does not exist on {server.url}, and the backup holds vectors, not documents"]
            )
    for way in ways:
        if way.is_gone:
            console.warn(f"Collection {way.name!r} does not exist on {server.url}: it will be created.")
    if not confirmed(_announcement(ways, server.address, reverts)):
        raise Refused(["not confirmed; give --yes to go back without being asked"])
    server.patience = 120.0
    began = time.time()
    name = f"{kind}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    control = Control(pause_file=settings.home / "pause", announce=console.warn)
    with contextlib.ExitStack() as stack:
        for way in ways:
            stack.enter_context(hold(server.address, way.name, name))
        stack.enter_context(control.signals())
        run = _begin(ledger, server, name, kind, reverts, [way.name for way in ways])
        status = Status(settings.home / "runs" / run.name / "status.json")
        stack.enter_context(status.kept())
        workshop = Workshop(
            server=server,
            ledger=ledger,
            run=run,
            home=settings.home,
            control=control,
            console=console,
            status=status,
        )
        console.heading("ROLLBACK" if kind == "rollback" else "RESTORE")
        outcomes: dict[str, Outcome] = {}
        causes: dict[str, str] = {}
        for way in ways:
            outcomes[way.name], causes[way.name] = _restore_one(workshop, way, described_as(known, way.name, aliases))
            if causes[way.name] or control.stopped.is_set():
                break
        exit_status = _exit_status(outcomes, causes, control, complete=len(outcomes) == len(ways))
        if exit_status == DONE and reverts is not None and (mixtures := _mixtures(ledger, server, reverts, ways)):
            exit_status = SOME_FAILED
            for mixture in mixtures:
                console.warn(f"  Note: {mixture}")
        states: dict[int, Any] = {DONE: "completed", SOME_FAILED: "partial", INTERRUPTED: "interrupted"}
        totals = {each: _summary(outcome, causes[each]) for each, outcome in outcomes.items()}
        try:
            ledger.finish_run(run.id, states.get(exit_status, "stopped"), totals)
        except LedgerError as error:
            console.warn(f"The end of the run cannot be noted: {error}")
            exit_status = INTERRUPTED if control.interrupted else STOPPED
        done, failed = (sum(total[key] for total in totals.values()) for key in ("success", "failed"))
        status.end("done" if exit_status == DONE else "stopped", done=done, failed=failed, seconds=time.time() - began)
    console.heading("SUMMARY")
    for each, total in totals.items():
        console.line(f"{each}: {total}")
    console.line(RULE)
    if exit_status in (STOPPED, INTERRUPTED):
        console.warn("Nothing is lost. Run the same command again: it goes on where this one ended.")
    return exit_status


def _restore_one(
    workshop: Workshop,
    way: Way,
    collection: EmbeddedCollection | None,
) -> tuple[Outcome, str]:
    console, ledger = workshop.console, workshop.ledger
    console.line(f"Going back for '{way.name}' to what run {way.backup.manifest.run} replaced...")
    cause, identity, outcome = "", None, Outcome(complete=False)
    try:
        way = settle(workshop, way, collection)
        console.line(f"  - Dimensions: {way.dimensions or 'none'} -> {way.old_dimensions or 'none'}, {way.strategy}")
        total = int(way.schema["num_documents"]) if way.schema else way.backup.count()[1]
        identity = ledger.start_collection(
            workshop.run.id,
            way.name,
            "in place" if way.strategy == "in place" else "recreate",
            old_dimensions=way.dimensions,
            new_dimensions=way.old_dimensions,
            eligible=total,
        )
        with contextlib.ExitStack() as stack:
            scratch = workshop.home / "runs" / workshop.run.name / f"{folder_name(way.name)}.vectors"
            vectors = stack.enter_context(contextlib.closing(OldVectors(way.backup, scratch)))
            steps = _steps(workshop, way, collection, vectors, _known_models(workshop, stack), identity, total)
            try:
                steps.run(total)
            finally:
                outcome = steps.outcome
        if outcome.complete:
            cause = _sign(workshop.server, way)
    except Stopped:
        pass
    except TypesenseError as error:
        cause = f"Typesense: {error}"
    except (BackupError, CacheError, LedgerError, RestoreStopped) as error:
        cause = str(error)
    except OSError as error:
        cause = f"{error.filename or 'the disk'}: {error.strerror or error}"
    if identity is not None:
        try:
            ledger.update_collection(
                identity,
                done=outcome.success,
                failed=len(outcome.failures),
                state="stopped" if cause or not outcome.complete else "partial" if outcome.failures else "completed",
                downtime_seconds=outcome.downtime_seconds,
            )
        except LedgerError as error:
            cause = cause or str(error)
    _tell(console, way, outcome, cause)
    return outcome, cause


def _steps(
    workshop: Workshop,
    way: Way,
    collection: EmbeddedCollection | None,
    vectors: OldVectors,
    models: KnownModels,
    identity: str,
    total: int,
) -> RestoreInPlace | RestoreByRecreating:
    def open_backup() -> BackupWriter:
        return _open_backup(workshop, way, identity, total)

    if way.strategy != "in place":
        return RestoreByRecreating(workshop, way, vectors, collection=collection, open_backup=open_backup)
    return RestoreInPlace(
        workshop,
        way.name,
        way.schema or {},
        way.backup.manifest.embedding_field,
        vectors,
        models=models,
        collection=collection,
        open_backup=open_backup,
    )


def _known_models(workshop: Workshop, stack: contextlib.ExitStack) -> KnownModels:
    """By the vector cache; without one no model is known, which keeps nobody from going back."""
    try:
        cache = stack.enter_context(VectorCache(workshop.home))
    except (CacheError, OSError) as error:
        workshop.console.detail(f"The vector cache cannot be read: {error}")
        return KnownModels(None, ())
    return KnownModels(cache, [known.model for known in workshop.ledger.models()])


def _open_backup(workshop: Workshop, way: Way, identity: str, total: int) -> BackupWriter:
    """The backup of what the way back overwrites, noted in the ledger before anything is overwritten.

    Raises:
        BackupError: the disk has no room for it, say.
    """
    server, whole = workshop.server, way.strategy == "recreate"
    vectors = total * (way.dimensions or way.old_dimensions or 0) * BYTES_A_NUMBER
    writer = BackupWriter.open(
        workshop.home,
        workshop.run.name,
        way.name,
        kind="documents" if whole else "vectors",
        embedding_field=way.backup.manifest.embedding_field,
        server=server.address,
        schema=way.schema or way.backup.schema,
        synonyms=server.synonyms(way.name) if whole and way.schema else (),
        overrides=server.overrides(way.name) if whole and way.schema else (),
        free_space_needed=vectors + (total * BYTES_A_DOCUMENT if whole else 0) + BYTES_TO_SPARE,
    )
    try:
        workshop.ledger.update_collection(identity, backup_path=str(writer.folder.absolute()))
    except LedgerError:
        writer.close(complete=False)
        raise
    return writer


def _sign(server: Typesense, way: Way) -> str:
    """The collection's metadata names the model that it named before; what went wrong with that, or nothing."""
    try:
        schema = server.collection(way.name) or {}
        metadata = dict(schema.get("metadata") or {})
        earlier = (way.backup.schema.get("metadata") or {}).get("embedding")
        if metadata.get("embedding") != earlier:
            metadata.pop("embedding", None)
            server.set_metadata(way.name, {**metadata, **({"embedding": earlier} if earlier else {})})
    except TypesenseError as error:
        return f"Typesense: {error}"
    return ""


def _begin(
    ledger: Ledger, server: Typesense, name: str, kind: Any, reverts: RunRecord | None, names: list[str]
) -> RunRecord:
    source = {"server": server.address, "collections": names}
    earlier = ledger.last_run_over(server.address, names)
    if (
        earlier is not None
        and earlier.kind == kind
        and earlier.state in UNFINISHED
        and earlier.reverts_run_id == (reverts.id if reverts else None)
        and dict(earlier.source) == source
    ):
        return ledger.resume_run(earlier.id)
    return ledger.start_run(name, kind, source=source, reverts=reverts.id if reverts else None)


def _mixtures(ledger: Ledger, server: Typesense, undone: RunRecord, ways: Sequence[Way]) -> list[str]:
    try:
        writers = Writers(ledger, server.address)
        return [note for way in ways for note in writers.mixture(undone, way.name)]
    except LedgerError:
        return []  # The vectors are back; this is a note on them.


def _announcement(ways: Sequence[Way], address: str, reverts: RunRecord | None) -> str:
    lines = [f"  {way.name}: {_what_happens(way, address)}" for way in ways]
    what = f"Undo run {reverts.name}" if reverts else "Restore"
    return "\n".join([f"{what}:", *lines, "Go on?"])


def _what_happens(way: Way, address: str) -> str:
    count, theirs = way.backup.count()[1], way.backup.manifest.server
    origin = (
        "" if same_server(theirs, address) else f"; the backup is of ANOTHER SERVER, {theirs}, this one is {address}"
    )
    if way.is_gone:
        return f"DOES NOT EXIST; it will be CREATED, with the {count} documents of the backup{origin}"
    return f"{count} old vectors of {way.old_dimensions or 'any'} dimensions, {way.strategy}{origin}"


def _tell(console: Console, way: Way, outcome: Outcome, cause: str) -> None:
    if outcome.downtime_seconds is not None:
        console.line(f"  Full collection not searchable for {outcome.downtime_seconds:.2f} s")
    if cause or not outcome.complete:
        console.line(f"  Stopped: {cause or 'as asked'}")
    else:
        console.line(f"  Complete: {outcome.success} vectors stand as they stood, {len(outcome.failures)} failed")
    for document_id, failure in list(outcome.failures.items())[:20]:
        console.warn(f"  Failed: document {document_id!r} of '{way.name}' ({failure.stage}): {failure.reason}")
    for note in outcome.notes:
        console.warn(f"  Note: {note}")


def _summary(outcome: Outcome, cause: str) -> dict[str, Any]:
    status = "stopped" if cause else "completed" if outcome.complete else "interrupted"
    return {"status": status, "count": outcome.count, "success": outcome.success, "failed": len(outcome.failures)}


def _exit_status(outcomes: dict[str, Outcome], causes: dict[str, str], control: Control, *, complete: bool) -> int:
    if any(causes.values()) or not complete or not all(outcome.complete for outcome in outcomes.values()):
        return INTERRUPTED if control.interrupted else STOPPED
    return SOME_FAILED if any(o.failures or o.changing or o.missing for o in outcomes.values()) else DONE
