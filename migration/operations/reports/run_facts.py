"""What a report of a run has to say, collected from the ledger and the run's folder."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from migration.backup import Backup, BackupError
from migration.backup.manifest import MANIFEST
from migration.ledger import CollectionRunRecord, Ledger, RunRecord, StartRecord
from migration.operations.history import RunDetails, details_of
from migration.operations.models.neighbours import KeptNeighbours
from migration.operations.runs.writers import UNDOABLE, Writers
from migration.operations.trends import last_of_each
from migration.runtime.status import read_status
from migration.runtime.timeline import Sample, read_timeline, timeline_file

MOST_FAILURES: Final = 1_000
"""Failed documents that a report lists."""
MOST_WRONG: Final = 200
"""Documents that failed a check, likewise."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something that can be done now: what for, and the line to type; empty where nothing is to be typed."""

    purpose: str
    command: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """Everything that a report of a run shows. No text, no vector, no key.

    Attributes:
        run: what the ledger knows; failures and wrong documents only as many as a report lists.
        under_way: whether it is at work at this moment.
        models_before: by collection, the model whose vectors it replaced; None where nobody knows.
        told: what the run said at its end, a sentence each; empty where it did not come to one.
        timeline: how it went over time.
        neighbours: how far it kept who stands near whom.
        next_steps: what is to be done, where something is.
        ways_back: how to take back what it did.
        written_at: when the report was made.
        format: of this JSON; a higher one when a name changes its meaning.
    """

    run: RunDetails
    under_way: bool
    models_before: dict[str, str | None]
    told: tuple[str, ...]
    timeline: tuple[Sample, ...]
    neighbours: tuple[KeptNeighbours, ...]
    next_steps: tuple[Step, ...]
    ways_back: tuple[Step, ...]
    written_at: datetime
    format: int = 1


def collect(
    ledger: Ledger, run: RunRecord, home: Path, told: tuple[str, ...], neighbours: tuple[KeptNeighbours, ...]
) -> RunReport:
    details = details_of(ledger, run, MOST_FAILURES, MOST_WRONG)
    # What was in a file of the user's own is not the report's to pass on; `show --collections-file` prints it.
    starts = tuple(replace(start, collections_file=None) for start in details.starts)
    status = read_status(home, run.name)
    under_way = run.state == "running" and status is not None
    writers = Writers(ledger, str(run.source.get("server", "")))
    rows = rows_of_run(ledger, run)
    undone = sorted({by.name for row in rows if (by := writers.undone_by(run, row.collection))})
    return RunReport(
        run=replace(details, starts=starts),
        under_way=under_way,
        models_before={row.collection: _model_before(ledger, run, row) for row in rows if row.strategy != "skipped"},
        told=told,
        timeline=tuple(read_timeline(timeline_file(home, run.name))),
        neighbours=neighbours,
        next_steps=tuple(_next_steps(details, under_way, undone)),
        ways_back=tuple(_ways_back(writers, run, rows, details, undone)),
        written_at=datetime.now(UTC),
    )


def rows_of_run(ledger: Ledger, run: RunRecord) -> list[CollectionRunRecord]:
    """Each collection as the run left it, with the backup of whichever leg noted one."""
    every = ledger.collection_runs(run.id)
    backups = {row.collection: row.backup_path for row in every if row.backup_path}
    return [replace(row, backup_path=backups.get(row.collection)) for row in last_of_each(every)]


def _model_before(ledger: Ledger, run: RunRecord, row: CollectionRunRecord) -> str | None:
    """The model whose vectors the run found: as the collection said itself, or as an earlier run is known for."""
    if row.backup_path:
        with contextlib.suppress(BackupError, OSError):
            if model := Backup.load(Path(row.backup_path)).manifest.model:
                return model
    for earlier in ledger.runs():
        if (
            earlier.number < run.number
            and earlier.kind == "migrate"
            and earlier.source.get("server") == run.source.get("server")
            and row.collection in earlier.source.get("collections", ())
        ):
            model_record = ledger.find_model(earlier.model_id) if earlier.model_id else None
            return model_record.model if model_record else None
    return None


# -- what can be done ------------------------------------------------------------------------------------


def _next_steps(details: RunDetails, under_way: bool, undone: Sequence[str]) -> Iterator[Step]:
    run, state = details.run, details.run.state
    if under_way:
        yield Step("The run is under way; write the report again when it has ended.", _line(details, "report"))
        return
    if state in ("running", "stopped", "interrupted"):
        yield Step(
            "Go on where it ended: give the same command again. This prints it:", _line(details, "show", "--command")
        )
    if state == "rehearsed":
        yield Step(
            "Carry it out: the same command without --rehearse uses what is built. This prints it:",
            _line(details, "show", "--command"),
        )
    if state == "waiting":
        yield Step(
            "Set the application to the new field or collection and the new model; then take the old one out:",
            _line(details, "finish"),
        )
    if details.failures_total:
        yield Step("Every document that failed, with its reason:", _line(details, "show", "--all-failures"))
        if state == "partial":
            yield Step(
                "Once the reasons are mended, the same command tries these documents again, and no others. "
                "This prints it:",
                _line(details, "show", "--command"),
            )
    if run.kind == "migrate" and state in ("completed", "partial", "waiting") and not undone:
        yield Step("Check again that what stands on the server is what should:", _line(details, "verify"))


def _ways_back(
    writers: Writers, run: RunRecord, rows: Sequence[CollectionRunRecord], details: RunDetails, undone: Sequence[str]
) -> Iterator[Step]:
    """The runs that must be taken back first, then this one."""
    done = [row for row in rows if row.strategy != "skipped"]
    if run.kind not in UNDOABLE or run.state in ("rehearsed", "refused") or not done:
        return
    if undone:
        yield Step(f"It was taken back already, by {', '.join(undone)}.")
        return
    gone = [row.collection for row in done if not _has_way_back(row)]
    if len(gone) == len(done):
        yield Step(
            "Nothing was replaced that a backup or the server still has. To go back, set EMBEDDING_FAMILY, "
            "EMBEDDING_MODEL and EMBEDDING_DIMENSIONS to the model before and run a migration again; what was embedded "
            "before is in the vector cache, and is not paid for twice."
        )
        return
    later = {each.number: each for row in done for each in writers.after(run, row.collection)}
    for number in sorted(later, reverse=True):
        yield Step("First take back what was done after it:", _line(details, "rollback", run=later[number].name))
    file = f"{run.name}.toml" if any(start.collections_file is not None for start in details.starts) else None
    if file is not None:
        yield Step(
            "Write the descriptions of the collections, as they were, into a file:",
            f"{_line(details, 'show', '--collections-file')} > {shlex.quote(file)}",
        )
    words = ["--collections-file", file] if file is not None else []
    left = f" ({', '.join(gone)} had nothing replaced, or no backup)" if gone else ""
    yield Step(
        f"Put back what this run replaced; nothing is embedded, and it asks before it begins{left}:",
        _line(details, "rollback", *words),
    )


def _has_way_back(row: CollectionRunRecord) -> bool:
    if row.backup_path:
        return (Path(row.backup_path) / MANIFEST).exists()
    return row.strategy in ("into", "alias") and row.state == "waiting"


def start_of(details: RunDetails) -> StartRecord | None:
    """The last start that was recorded whole; that of `finish` is not."""
    return next((start for start in reversed(details.starts) if start.options is not None), None)


def _line(details: RunDetails, command: str, *words: str, run: str = "") -> str:
    options = start.options or {} if (start := start_of(details)) else {}
    env_file = ["--env-file", str(options["env_file"])] if options.get("env_file") else []
    return shlex.join(["kai-migrate", command, run or details.run.name, *words, *env_file])
