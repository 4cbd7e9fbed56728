"""What every step of a run works with."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kai.settings import EmbeddingSettings
from kai.typesense import Typesense
from migration.embedding.embed import Cached, Embedder
from migration.runtime.console import Console
from migration.runtime.control import Control
from migration.runtime.meter import Meter
from migration.runtime.status import Status

if TYPE_CHECKING:
    from migration.ledger import Ledger, ModelRecord, RunRecord

ChosenStrategy = Literal["auto", "rebuild", "alter"]
"""What a user may ask for; `auto` is in place, or recreate where the dimensions change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What every kind of run works with, also one that embeds nothing.

    Attributes:
        server: where the documents are.
        ledger: what was done.
        run: this run, as the ledger knows it.
        home: MIGRATION_HOME.
        control: stop and pause.
        console: what a person reads.
        status: what a script reads.
        workers: pages prepared at once.
        backup: whether old vectors go to disk before they are overwritten.
    """

    server: Typesense
    ledger: Ledger
    run: RunRecord
    home: Path
    control: Control
    console: Console
    status: Status
    workers: int = 4
    backup: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Context(Workshop):
    """What a migration works with.

    Attributes:
        embedding: the target.
        embedder: texts to vectors of the target.
        model: the target, as the ledger knows it.
        meter: what the run has done so far.
        force: whether documents that are current already are embedded again.
        allow_partial: whether a recreate may leave out documents that cannot be copied.
        keep_old: whether a recreate keeps the previous collection under another name.
        verify_sample: documents that are embedded again and searched for at the end.
        limit: most documents of a collection to write in this run; None for all.
        until: the same as a share of the eligible ones, 0 to 1.
        strategy: what the user chose, for a collection that has to be planned anew.
    """

    embedding: EmbeddingSettings
    embedder: Embedder
    model: ModelRecord
    meter: Meter
    force: bool = False
    allow_partial: bool = False
    keep_old: bool = False
    verify_sample: int = 10
    limit: int | None = None
    until: float | None = None
    strategy: ChosenStrategy = "auto"

    @property
    def past(self) -> Cached:
        """Which vectors of the cache the run goes past when it embeds."""
        return "old" if self.force else "none"

    def limit_of(self, eligible: int) -> int | None:
        """Most documents to write of a collection with so many eligible ones; None for all."""
        bounds = [self.limit, None if self.until is None else math.ceil(self.until * eligible)]
        return min((bound for bound in bounds if bound is not None), default=None)


@dataclass(slots=True)
class Failure:
    """Why a document was not migrated: at which stage (`embed`, `import`, `copy`) and the words of who refused."""

    stage: str
    reason: str
    text_hash: bytes = b""


@dataclass(frozen=True, slots=True)
class Sampled:
    """A document that the last pass saw: its id, its text and the float32 bytes of the vector that it should have."""

    id: str
    text: str
    vector: bytes


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
        missing: documents that a collection had and its backup does not, where it was created anew from that.
        complete: False if the run was stopped before the end.
        limit_reached: whether it was stopped because as many documents are written as it was to write.
        downtime_seconds: time without the full collection; None where it never was away.
        other_fields_changed: documents whose other fields are not what they were when they were first read.
        application_wrote: whether the application was seen writing while the run was under way.
        sample: documents picked at random from the last pass, for the verification.
        verdict: of the verification; empty before it.
        notes: sentences for the operator.
    """

    success: int = 0
    written: int = 0
    left_alone: int = 0
    failures: dict[str, Failure] = field(default_factory=dict)
    passes: int = 0
    changing: int = 0
    missing: int = 0
    complete: bool = True
    limit_reached: bool = False
    downtime_seconds: float | None = None
    other_fields_changed: int = 0
    application_wrote: bool = False
    sample: list[Sampled] = field(default_factory=list)
    verdict: Literal["", "PASS", "FAIL"] = ""
    notes: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Eligible documents, as the last pass saw them."""
        return self.success + len(self.failures)
