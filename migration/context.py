"""What every step of a run works with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kai.settings import EmbeddingSettings
from kai.typesense import Typesense
from migration.console import Console
from migration.control import Control
from migration.embed import Embedder
from migration.meter import Meter
from migration.status import Status

if TYPE_CHECKING:
    from migration.ledger import Ledger, ModelRecord, RunRecord


@dataclass(frozen=True, slots=True)
class Context:
    """The tools of one run.

    Attributes:
        server: where the documents are.
        embedding: the target.
        embedder: texts to vectors of the target.
        ledger: what was done.
        run: this run, as the ledger knows it.
        model: the target, as the ledger knows it.
        home: MIGRATION_HOME.
        meter: what the run has done so far.
        control: stop and pause.
        console: what a person reads.
        status: what a script reads.
        workers: pages prepared at once.
        backup: whether old vectors go to disk before they are overwritten.
        force: whether documents that are current already are embedded again.
        allow_partial: whether a recreate may leave out documents that cannot be copied.
        keep_old: whether a recreate keeps the previous collection under another name.
        limit: most documents to write in this run; None for all.
    """

    server: Typesense
    embedding: EmbeddingSettings
    embedder: Embedder
    ledger: Ledger
    run: RunRecord
    model: ModelRecord
    home: Path
    meter: Meter
    control: Control
    console: Console
    status: Status
    workers: int = 4
    backup: bool = True
    force: bool = False
    allow_partial: bool = False
    keep_old: bool = False
    limit: int | None = None


@dataclass(slots=True)
class Failure:
    """Why a document was not migrated: at which stage (`embed`, `import`, `copy`) and the words of who refused."""

    stage: str
    reason: str
    text_hash: bytes = b""


@dataclass(slots=True)
class Outcome:
    """What became of one collection.

    Attributes:
        success: documents that carry a vector of the target now.
        written: how many of them this run wrote.
        left_alone: how many had the right vector without the ledger knowing.
        failures: by document id.
        passes: how often the collection was read.
        changing: documents that were still changing when the last pass ended.
        complete: False if the run was stopped before the end.
        downtime_seconds: time without the full collection; None where it never was away.
        notes: sentences for the operator.
    """

    success: int = 0
    written: int = 0
    left_alone: int = 0
    failures: dict[str, Failure] = field(default_factory=dict)
    passes: int = 0
    changing: int = 0
    complete: bool = True
    downtime_seconds: float | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Eligible documents, as the last pass saw them."""
        return self.success + len(self.failures)
