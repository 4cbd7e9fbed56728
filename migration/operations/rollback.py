"""Back to what a run replaced: which backups, which collections, and one run of its own for all of them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from kai.settings import Settings, load_settings
from kai.typesense import Typesense
from migration.backup import Backup
from migration.backup.manifest import MANIFEST
from migration.ledger import Call, Ledger, LedgerError, RunRecord
from migration.ledger.records import UNFINISHED, RunKind
from migration.operations.reports.run_report import report_run
from migration.operations.runs.execute import execute, running, unfinished
from migration.operations.runs.measure import Measures
from migration.operations.runs.record import call_of
from migration.operations.runs.results import RunResult
from migration.operations.runs.waiting import Waiting, known_run, latest_of, let_go, marks_of
from migration.operations.runs.writers import (
    UNDOABLE,
    Writers,
    refuse_another_server,
    refuse_out_of_order,
)
from migration.operations.setup import TYPESENSE_ONLY, Session, open_ledger, open_server
from migration.operations.ways_back import AnyWay, Withdrawal, swap_back, ways_back
from migration.runtime.console import SILENT, Console
from migration.runtime.control import Control
from migration.strategies.alias.state import Pair
from migration.strategies.context import RunContext
from migration.strategies.refusals import Refused


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
        schemas = {str(schema["name"]): schema for schema in server.collections()}
        marks = marks_of(list(schemas.values()))
        target = _target(ledger, server, marks, run)
        refuse_another_server(target, server.address)
        if (settled := _settled(ledger, target, marks)) is not None:
            return settled
        filled = [name for name, mark in marks.items() if mark.run == target.name]
        # Where the aliases lead back already, they mean the collection that is still to go.
        taken = {pair.old: pair.new for pair in marks.values() if isinstance(pair, Pair)}
        names = taken | {alias: taken.get(name, name) for alias, name in server.aliases().items()}
        folders = _chosen_folders(ledger, target, collections, names, filled)
        undone = [
            swap_back(server, session.settings, mark, collections_file)
            if isinstance(mark := marks[name], Pair)
            else Withdrawal.of(schemas[name], mark)
            for name in filled
            if folders.pop(name, None)
        ]
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
        ways: list[AnyWay] = [*undone, *ways_back(server, backups, collections_file)]
        call = call_of({"run": target.name, "collections": collections}, session.settings, collections_file)
        return _go_back(session, ledger, ways, confirmed, call, target)


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
        options = {"file": str(backup.folder.absolute()), "collection": collection}
        call = call_of(options, session.settings, collections_file)
        return _go_back(session, ledger, ways_back(session.server, backups, collections_file), confirmed, call)


@contextlib.contextmanager
def _opened(settings: Settings | None, console: Console) -> Iterator[tuple[Session, Ledger]]:
    settings = settings or load_settings(needs=TYPESENSE_ONLY)
    with open_server(settings, console) as server, open_ledger(settings) as ledger:
        control = Control(pause_file=settings.home / "pause", announce=console.tell)
        yield Session(settings=settings, server=server, console=console, control=control), ledger


def _target(ledger: Ledger, server: Typesense, marks: Mapping[str, Waiting], name: str | None) -> RunRecord:
    """The run to undo. One that was itself a way back and did not come to its end is gone on with."""
    if name is not None:
        found = known_run(ledger, server, marks, name)
        if found is None:
            raise Refused(f"there is no run {name!r} in the ledger; kai-migrate history lists them")
        return found
    for run in ledger.runs():
        is_begun = run.kind == "rollback" and run.state in UNFINISHED
        if is_begun and run.reverts_run_id and (earlier := ledger.find_run(run.reverts_run_id)):
            return earlier
        done = ledger.collection_runs(run.id) if run.kind in UNDOABLE else []
        done = [each for each in done if each.state != "rehearsed"]  # Nothing of it stands anywhere.
        if any(each.backup_path for each in done) or any(mark.run == run.name for mark in marks.values()):
            return run
        # A second field or a swap that was taken back had overwritten nothing.
        done = [each for each in done if each.strategy not in ("into", "alias")]
        if run.parameters.get("backup") is False and any(each.done for each in done):
            raise Refused(
                f"the latest run, {run.name}, was made with --no-backup and cannot be undone; name an earlier run "
                "to go back to what that one replaced"
            )
    if marks and (theirs := known_run(ledger, server, marks, latest_of(ledger, marks))) is not None:
        return theirs  # Begun on another machine.
    raise Refused("no run in the ledger has a backup to go back to; kai-migrate backups lists those on disk")


def _settled(ledger: Ledger, target: RunRecord, marks: Mapping[str, Waiting]) -> RunResult | None:
    """A way back that did all it had to do on the server and died before it could note that; None if there is none."""
    rows = ledger.collection_runs(target.id)
    if not rows or any(each.strategy != "alias" or each.backup_path or each.collection in marks for each in rows):
        return None
    for run in ledger.runs():
        if run.kind == "rollback" and run.reverts_run_id == target.id and run.state in UNFINISHED:
            for each in ledger.collection_runs(run.id):
                ledger.update_collection(each.id, state="completed")
            ledger.finish_run(run.id, "completed")
            return RunResult(run.name, ())
    raise Refused(f"run {target.name} was taken back already, or finished: kai-migrate list does not show it any more")


def _chosen_folders(
    ledger: Ledger,
    target: RunRecord,
    collections: Sequence[str],
    aliases: Mapping[str, str],
    filled: Sequence[str],
) -> dict[str, Path]:
    """The run's backups of the collections that were asked for, by their real names.

    Those whose second field the run has `filled` are among them, with a path that says nothing.
    """
    rows = [each for each in ledger.collection_runs(target.id) if each.backup_path]
    if gone := [each for each in rows if each.strategy == "alias" and each.collection not in filled]:
        raise Refused(
            *[
                f"run {target.name} was finished, and the collection that {each.collection!r} replaced is gone; create "
                f"it again with `kai-migrate restore {each.backup_path}`, then point the aliases to it"
                for each in gone
            ]
        )
    every = {each.collection: Path(str(each.backup_path)) for each in rows}
    every |= dict.fromkeys(filled, Path("-"))
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
    ways: Sequence[AnyWay],
    confirmed: Callable[[str], bool],
    call: Call,
    reverts: RunRecord | None = None,
) -> RunResult:
    server, console = session.server, session.console
    for way in ways:
        if way.is_gone:
            console.warn(f"Collection {way.plan.name!r} does not exist on {server.url}: it will be created.")
    if not confirmed(_announcement(ways, server.address, reverts)):
        raise Refused("not confirmed; give --yes to go back without being asked")
    let_go(server, {way.plan.name: way.mark for way in ways if isinstance(way, Withdrawal)})
    server.patience = session.options.patience
    kind: RunKind = "rollback" if reverts else "restore"
    reverted = reverts.id if reverts else None
    names = [name for way in ways for name in way.plan.names]
    source = {"server": server.address, "collections": names}

    def begin() -> RunRecord:
        console.heading(kind.upper())
        if (earlier := unfinished(ledger, kind, source, reverts=reverted)) is not None:
            return ledger.resume_run(earlier.id, call=call)
        name = f"{kind}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
        parameters = {"typesense": server.told_version()}
        return ledger.start_run(name, kind, source=source, parameters=parameters, reverts=reverted, call=call)

    with session.control.signals(), running(session, ledger, names, begin) as context:
        measures = Measures(ledger, context.run.id, None)
        result = execute(context, ways, measures, lambda: _mixtures(context, reverts, names) if reverts else ())
        if reverts and reverts.state == "waiting" and not result.stopped:
            ledger.finish_run(reverts.id, "completed")
        return report_run(session, ledger, context.run, result)


def _mixtures(context: RunContext, undone: RunRecord, names: Sequence[str]) -> list[str]:
    try:
        writers = Writers(context.ledger, context.server.address)
        return [note for name in names for note in writers.mixture(undone, name)]
    except LedgerError:
        return []  # The vectors are back; this is a note on them.


def _announcement(ways: Sequence[AnyWay], address: str, reverts: RunRecord | None) -> str:
    lines = [f"  {way.plan.name}: {way.what_happens(address)}" for way in ways]
    what = f"Undo run {reverts.name}" if reverts else "Restore"
    return "\n".join([f"{what}:", *lines, "Go on?"])
