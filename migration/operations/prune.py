"""What may go out of the ledger and off the disk, and why the rest stays.

A run's backup leads back behind that run, and its record explains the vectors that it wrote. So the two are looked at
apart: of an old run whose vectors stand only the backup goes. To take a run back, later ones over the same
collections must be taken back first; they stay, with their backups, as long as it can be. A run and the one that
undoes it cancel out, and so they go together.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from migration.backup import BackupSummary, list_backups
from migration.backup import prune as remove_backups
from migration.ledger import Ledger, ModelRecord, RunRecord
from migration.ledger.records import UNFINISHED
from migration.reporting.files import HTML, JSON
from migration.runtime.status import status_file
from migration.runtime.timeline import timeline_file
from migration.strategies.refusals import Refused


@dataclass(frozen=True, slots=True)
class Prunable:
    """What would go.

    Attributes:
        runs: the oldest first.
        backups: of these runs, and of runs whose record stays.
        spared: why other runs stay to which the conditions apply, by name.
    """

    runs: tuple[RunRecord, ...]
    backups: tuple[BackupSummary, ...]
    spared: Mapping[str, str]

    @property
    def bytes(self) -> int:
        """What the backups take on the disk."""
        return sum(each.bytes for each in self.backups)


def prunable(ledger: Ledger, home: Path, *, keep: int | None = None, older_than: timedelta | None = None) -> Prunable:
    """What of a ledger, and of the backups under a home, nothing needs any more. Only reads.

    Args:
        ledger: to be pruned.
        home: where its backups are.
        keep: spare the newest runs, so many.
        older_than: only runs begun longer ago than this. Of the two conditions, what are given must both be met.

    Raises:
        Refused: there is no condition.
    """
    if keep is None and older_than is None:
        raise Refused("--keep, --older-than: give at least one of them, so that not everything goes by mistake")
    every = sorted(ledger.runs(), key=lambda run: run.number)
    old = every[: max(0, len(every) - (keep or 0))]
    if older_than is not None:
        before = _before(older_than)
        old = [run for run in old if run.started_at < before]
    spared = _needed_whole(ledger, every, old)
    rest = [run for run in old if run.name not in spared]
    records = _needed_records(ledger, every, rest)
    gone = tuple(run for run in rest if run.name not in records)
    names = {run.name for run in rest} - _being_restored(ledger, home, every)
    backups = tuple(each for each in list_backups(home) if each.run in names)
    return Prunable(gone, backups, spared | records)


def prune(
    ledger: Ledger, home: Path, agreed: Prunable, *, keep: int | None = None, older_than: timedelta | None = None
) -> Prunable:
    """Remove for good what was found and agreed to, if it may go still. Stopped in between, the same command goes on.

    Returns:
        What was removed.

    Raises:
        BackupError: a backup cannot be removed.
        LedgerError: a run is needed by now.
    """
    # Somebody may have thought it over for long, and a rollback of one of these runs may have begun meanwhile.
    now = prunable(ledger, home, keep=keep, older_than=older_than)
    runs = [run for run in agreed.runs if run in now.runs]
    names = sorted({each.run for each in agreed.backups} & {each.run for each in now.backups})
    # The backups first: a run without its backup is told as such, a backup without its run is told by nobody.
    removed = remove_backups(home, runs=names) if names else []
    ledger.delete_runs([run.id for run in runs])
    for run in runs:
        _remove_folder(home, run.name)
    return Prunable(tuple(runs), tuple(removed), now.spared)


def find_model(ledger: Ledger, words: str) -> ModelRecord:
    """The one model of this name, with or without family and dimensions, or of this fingerprint.

    Raises:
        Refused: there is none, or several.
    """
    found = ledger.find_models(words)
    if len(found) == 1:
        return found[0]
    if not found:
        raise Refused(f"MODEL: the ledger knows no model {words!r}; `kai-migrate models` lists them")
    several = ", ".join(f"{each.fingerprint} ({each.family}/{each.model}/{each.dimensions})" for each in found)
    raise Refused(f"MODEL: several are called {words!r}; name one by its fingerprint: {several}")


def _before(older_than: timedelta) -> datetime:
    with contextlib.suppress(OverflowError):
        return datetime.now(UTC) - older_than
    return datetime.min.replace(tzinfo=UTC)


def _needed_whole(ledger: Ledger, every: Sequence[RunRecord], old: Sequence[RunRecord]) -> dict[str, str]:
    """Those of the old runs that stay with their backups, and why: unfinished ones, and what taking one back needs."""
    names = {run.name for run in old}
    being_undone = {run.reverts_run_id for run in every if run.state in UNFINISHED}
    kept: list[tuple[RunRecord, set[str]]] = []
    spared: dict[str, str] = {}
    for run in every:  # The oldest first: whether a run stays depends on earlier ones alone.
        if run.name in names:
            touched = set(run.source.get("collections", ()))
            server = run.source.get("server")
            below = next(
                (each for each, theirs in kept if each.source.get("server") == server and theirs & touched), None
            )
            if run.state in UNFINISHED:
                spared[run.name] = f"it did not come to its end ({run.state})"
            elif run.id in being_undone:
                spared[run.name] = "a rollback of it did not come to its end"
            elif below is not None and run.kind != "backup":
                spared[run.name] = f"it must be taken back before run {below.name} can be"
            else:
                continue
        backed_up = {each.collection for each in ledger.collection_runs(run.id) if each.backup_path}
        if backed_up:
            kept.append((run, backed_up))
    return spared


def _being_restored(ledger: Ledger, home: Path, every: Sequence[RunRecord]) -> set[str]:
    """The runs whose backups are read by a restore that did not come to its end."""
    begun = [run for run in every if run.kind == "restore" and run.state in UNFINISHED]
    folders = {str((start.options or {}).get("file")) for run in begun for start in ledger.starts(run.id)}
    return {each.run for each in list_backups(home) if str(each.folder.absolute()) in folders} if folders else set()


def _needed_records(ledger: Ledger, every: Sequence[RunRecord], rest: Sequence[RunRecord]) -> dict[str, str]:
    """Those of the rest whose record stays, without a backup, and why."""
    documents = ledger.documents_by_run()
    by_id = {run.id: run for run in every}
    records = {run.name: f"{documents[run.id]} documents carry its vectors" for run in rest if run.id in documents}
    open_names = {run.name for run in rest} - records.keys()
    pairs = [(run, by_id[run.reverts_run_id]) for run in every if run.reverts_run_id in by_id]
    changed = True
    while changed:
        changed = False
        for undoing, undone in pairs:
            for one, other, what in ((undoing, undone, "undoes"), (undone, undoing, "is undone by")):
                if one.name in open_names and other.name not in open_names:
                    open_names.discard(one.name)
                    records[one.name] = f"it {what} run {other.name}, which stays"
                    changed = True
    return records


def _remove_folder(home: Path, run: str) -> None:
    """The run's folder, unless there is more in it than what tells of the run, as documents that were not copied."""
    status = status_file(home, run)
    telling = {status.name, timeline_file(home, run).name, HTML, JSON}
    with contextlib.suppress(OSError):
        if {path.name for path in status.parent.iterdir()} <= telling:
            for name in telling:
                (status.parent / name).unlink(missing_ok=True)
            status.parent.rmdir()
