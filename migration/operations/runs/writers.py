"""Which runs wrote to a collection after another one, and which of them still stand."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from migration.backup.manifest import MANIFEST
from migration.ledger import CollectionRunRecord, Ledger, RunRecord
from migration.ledger.records import UNFINISHED
from migration.strategies.refusals import Refused

UNDOABLE: Final = ("migrate", "rollback", "restore")
_ENDED: Final = ("completed", "partial")


def refuse_another_server(run: RunRecord, address: str) -> None:
    """Refuse what is about a run of one server while the settings name another.

    Raises:
        Refused: naming both.
    """
    theirs = str(run.source.get("server") or "")
    if theirs and theirs != address:
        raise Refused(
            f"TYPESENSE_HOST, TYPESENSE_PORT: run {run.name} was over the server {theirs}, and these name "
            f"{address}; set them to that server"
        )


def names_of(run: RunRecord, row: CollectionRunRecord) -> set[str]:
    """The collection of a run, and the one whose place it took, if it took another's."""
    names = [str(name) for name in run.source.get("collections", ())]
    if row.strategy != "alias" or row.collection not in names[1:]:
        return {row.collection}
    return {row.collection, names[names.index(row.collection) - 1]}


class Writers:
    """The runs that wrote to the collections of a server, and which of them still stand.

    Attributes:
        ledger: what was done.
        address: of the server.
    """

    def __init__(self, ledger: Ledger, address: str) -> None:
        self.ledger = ledger
        self.address = address
        self._runs = [run for run in ledger.runs() if run.kind in UNDOABLE and run.source.get("server") == address]
        """The latest first."""
        self._rows: dict[str, list[CollectionRunRecord]] = {}

    def undone_by(self, run: RunRecord, collection: str) -> RunRecord | None:
        """The rollback that took the run back in this collection and was not taken back itself; None if none did."""
        for later in self._runs:
            if (
                later.kind == "rollback"
                and later.reverts_run_id == run.id
                and any(row.state in _ENDED for row in self._rows_of(later, collection))
                and self.undone_by(later, collection) is None
            ):
                return later
        return None

    def after(self, run: RunRecord, collection: str) -> list[RunRecord]:
        """The runs that wrote to the collection after this one and still stand, the latest first.

        A rollback of this run or of a later one does not count: with what it took back it cancels out.
        """
        return [
            later
            for later in self._runs
            if later.number > run.number
            and self._wrote(later, collection)
            and not self._cancels(later, run)
            and self.undone_by(later, collection) is None
        ]

    def ways_back(self) -> set[str]:
        """The ids of the runs that put vectors back, of which the ledger may not know the model."""
        return {run.id for run in self._runs if run.kind != "migrate"}

    def has_backup(self, run: RunRecord, collection: str) -> bool:
        """Whether the run kept what it overwrote there, and it is on the disk still."""
        paths = [row.backup_path for row in self._rows_of(run, collection)]
        return any(path and (Path(path) / MANIFEST).exists() for path in paths)

    def mixture(self, undone: RunRecord, collection: str) -> list[str]:
        """That other runs' vectors stand among those that came back with a rollback of this run; empty if none do."""
        unfinished = next(
            (
                run
                for run in self._runs
                if run.number < undone.number
                and run.kind == "migrate"
                and self._wrote(run, collection)
                and self.undone_by(run, collection) is None
            ),
            None,
        )
        others = [run for run in self.after(undone, collection) if not self.has_backup(run, collection)]
        if unfinished is not None and unfinished.state in UNFINISHED:
            others.append(unfinished)
        field = self.ledger.field_written(undone.id, collection)
        total, notes = self.ledger.count_documents(self.address, collection, field=field), []
        for run in others:
            if run.model_id is None:
                continue
            count = self.ledger.count_documents(self.address, collection, run.model_id, field=field)
            if not 0 < count < total:
                continue
            remedy = "its backup is not there; migrate again to have one model"
            if self.has_backup(run, collection):
                remedy = f"roll it back too: kai-migrate rollback {run.name}"
            notes.append(f"{count} documents of {collection!r} still carry vectors of run {run.name}; {remedy}")
        return notes

    def _wrote(self, run: RunRecord, collection: str) -> bool:
        without_backup = run.parameters.get("backup") is False
        return any(row.backup_path or (without_backup and row.done) for row in self._rows_of(run, collection))

    def _cancels(self, later: RunRecord, run: RunRecord) -> bool:
        return later.kind == "rollback" and any(
            each.id == later.reverts_run_id and each.number >= run.number for each in self._runs
        )

    def _rows_of(self, run: RunRecord, collection: str) -> list[CollectionRunRecord]:
        if run.id not in self._rows:
            self._rows[run.id] = self.ledger.collection_runs(run.id)
        rows = (row for row in self._rows[run.id] if row.collection == collection)
        return [row for row in rows if row.strategy != "skipped" and row.state != "rehearsed"]


def refuse_out_of_order(writers: Writers, run: RunRecord, collections: Iterable[str]) -> list[str]:
    """Refuse to take a run back while later ones stand on it: what only they wrote would stay, or be lost.

    A later run without a backup can never be taken back, and so is no reason to refuse.

    Returns:
        Sentences about later runs without a backup.

    Raises:
        Refused: naming them in the order in which to take them back.
    """
    standing = [(name, each) for name in collections for each in writers.after(run, name)]
    later = {each.id: each for name, each in standing if writers.has_backup(each, name)}
    if later:
        names = [each.name for each in sorted(later.values(), key=lambda each: each.number, reverse=True)]
        raise Refused(
            f"{len(names)} later run{'s' * (len(names) > 1)} wrote to the same collections after run {run.name}; "
            f"roll back the latest first, in this order: {', '.join([*names, run.name])}"
        )
    return [
        f"Run {each.name} wrote to {name!r} later and has no backup: documents that run {run.name} did not write keep "
        "its vectors, or have none where the dimensions differ."
        for name, each in standing
    ]


def why_superseded(writers: Writers, run: RunRecord, collection: str) -> str:
    """Why the collection cannot have the run's vectors any more; empty if it should have them."""
    if (undone := writers.undone_by(run, collection)) is not None:
        return f"run {run.name} was rolled back by {undone.name}"
    for later in writers.after(run, collection):
        if later.kind != "migrate" or later.model_id != run.model_id:
            return f"run {later.name} wrote to {collection!r} after run {run.name}"
    return ""
