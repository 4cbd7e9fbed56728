"""What every step of a run works with, and what became of a collection."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kai.settings import ChosenStrategy
from kai.typesense import Typesense
from migration.ledger import Ledger, RunRecord, WrongDocument
from migration.ledger.records import Verdict
from migration.runtime.console import Console
from migration.runtime.control import Control
from migration.runtime.hooks import Hooks
from migration.runtime.load import Bounds
from migration.runtime.meter import Meter
from migration.runtime.pace import Pace
from migration.runtime.status import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationOptions:
    """What may be asked of a migration; the command line's help says the same.

    Attributes:
        collections: names, aliases among them; empty or `all` for every known one.
        dry_run: only say what would happen.
        env_file: file with the settings; None for `.env` in the working folder.
        collections_file: TOML file that describes the user's own collections; None for KAI's.
        concurrency: most embedding requests under way at once.
        max_rpm: most embedding requests in any minute; None for no bound.
        max_tpm: most embedding tokens in any minute; None for no bound.
        nice: share of the time, 0 to 0.95, that Typesense is left idle between writes.
        patience: seconds for which a request is repeated while Typesense is unreachable or overloaded.
        strategy: how the vectors are replaced; None for what `MIGRATION_STRATEGY` says, `auto` by default.
        into: name of a second field that is filled beside the one that serves, `{field}` in it for the name of that
            one; None for what the collection's description says.
        follow: seconds between two looks for what the application has written, until the second field is finished;
            None ends the run once it is filled.
        limit: most documents of each collection to write; None for all.
        until: the same as a share of the eligible ones, 0 to 1.
        max_cost: US dollars that embedding may cost at most, by list price; None for no bound.
        force: whether documents that are current already are embedded again.
        from_old: whether vectors of fewer dimensions are cut from the longer ones of the same model that stand there.
            None: where ledger or metadata say whose these are; True: also where nothing says it; False: never.
        backup: whether old vectors go to disk before they are overwritten.
        allow_partial: whether a recreate may leave out documents that cannot be copied.
        hold: seconds for which a run holds before its point of no return, at most, until it is released; infinite for
            as long as it takes; None not to hold.
        rehearse: whether a run ends there, with everything built and nothing changed that serves.
        hooks: folder of what is to be carried out at the moments of a run; None for nothing.
        hook_timeout: seconds that each of them may take.
        max_load: figures of the server's `/stats.json` above which the run waits, by name.
        allow_lag: whether a recreate is begun at a follower, or behind a load balancer, where writes may be lost.
        keep_old: whether a recreate keeps the previous collection under another name.
        alias: a second name for the run.
        description: a note that stays with the run.
        verify_sample: texts whose vectors are known that are embedded again first, to see whether the model of this
            name is still the same; and documents of each collection that are searched for, and embedded again, at the
            end. 0 for neither.
        verbose: whether details are told.
    """

    collections: tuple[str, ...] = ()
    dry_run: bool = False
    env_file: Path | None = None
    collections_file: Path | None = None
    concurrency: int = 4
    max_rpm: int | None = None
    max_tpm: int | None = None
    nice: float = 0.0
    patience: float = 120.0
    strategy: ChosenStrategy | None = None
    into: str | None = None
    follow: float | None = None
    limit: int | None = None
    until: float | None = None
    max_cost: float | None = None
    force: bool = False
    from_old: bool | None = None
    backup: bool = True
    allow_partial: bool = False
    allow_lag: bool = False
    keep_old: bool = False
    hold: float | None = None
    rehearse: bool = False
    hooks: Path | None = None
    hook_timeout: float = 600.0
    max_load: Bounds = field(default_factory=dict)
    alias: str | None = None
    description: str | None = None
    verify_sample: int = 10
    verbose: bool = False

    @property
    def pace(self) -> Pace:
        """How fast it is to begin."""
        return Pace(
            nice=self.nice, concurrency=self.concurrency, rpm=self.max_rpm, tpm=self.max_tpm, max_load=self.max_load
        )

    def limit_of(self, eligible: int) -> int | None:
        """Most documents to write of a collection with so many eligible ones; None for all."""
        bounds = [self.limit, None if self.until is None else math.ceil(self.until * eligible)]
        return min((bound for bound in bounds if bound is not None), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """What every kind of run works with, also one that embeds nothing.

    Attributes:
        server: where the documents are.
        ledger: what was done.
        run: this run, as the ledger knows it.
        home: MIGRATION_HOME.
        options: what was asked for.
        meter: what the run has done so far.
        control: stop and pause.
        console: what a person reads.
        status: what a script reads.
        hooks: what is carried out at the moments of the run.
        given: collections whose moment was given: they neither hold nor call a hook for it again.
        cache_url: where the vector cache is; None for `home`.
    """

    server: Typesense
    ledger: Ledger
    run: RunRecord
    home: Path
    options: MigrationOptions
    meter: Meter
    control: Control
    console: Console
    status: Status
    hooks: Hooks = field(default_factory=Hooks)
    given: set[str] = field(default_factory=set)
    cache_url: str | None = field(default=None, repr=False)


@dataclass(slots=True)
class Failure:
    """Why a document was not migrated: at which stage (`embed`, `import`, `copy`) and the words of who refused."""

    stage: str
    reason: str
    text_hash: bytes = b""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A document that a collection does not take: the server's words, and the line as it was sent."""

    reason: str
    line: bytes


def failures_of(rejected: Mapping[str, Rejected]) -> dict[str, Failure]:
    """What could not be copied, by id, as failures."""
    return {document_id: Failure("copy", each.reason) for document_id, each in rejected.items()}


@dataclass(frozen=True, slots=True)
class Sampled:
    """A document that the last pass saw: its id, its text and the float32 bytes of the vector that it should have."""

    id: str
    text: str
    vector: bytes


@dataclass(slots=True)
class Outcome:
    """What became of one collection; every step of its way adds to the same one.

    Attributes:
        success: documents that carry a vector of the target now.
        written: how many of them this run wrote.
        already_current: how many had the right vector without the ledger knowing.
        failures: by document id.
        passes: how often the collection was read.
        changing: documents that were still changing when the last pass ended.
        unsettled: their ids.
        missing: documents that a collection had and its backup does not, where it was created anew from that.
        unseen: documents by which the server's count at the drop of a collection differed from what had been seen:
            written (above 0) or deleted (below) in its last moment, and so lost or come back.
        complete: False if the run was stopped before the end.
        rehearsed: whether it was stopped before its point of no return because it was a rehearsal.
        limit_reached: whether it was stopped because as many documents are written as it was to write.
        downtime_seconds: time without the full collection, or without its vector field; None where there was none.
        incomplete_seconds: time in which a vector search told only a part of the documents; None where there was none.
        other_fields_changed: documents whose other fields are not what they were when they were first read, with the
            hashes of then and now.
        application_wrote: whether the application was seen writing while the run was under way.
        sample: documents picked at random from the last pass, for the verification.
        verdict: of the verification; empty before it.
        waits: whether what was replaced stands until the run is finished.
        notes: sentences for the operator.
    """

    success: int = 0
    written: int = 0
    already_current: int = 0
    failures: dict[str, Failure] = field(default_factory=dict)
    passes: int = 0
    changing: int = 0
    unsettled: list[str] = field(default_factory=list)
    missing: int = 0
    unseen: int = 0
    complete: bool = False
    rehearsed: bool = False
    limit_reached: bool = False
    downtime_seconds: float | None = None
    incomplete_seconds: float | None = None
    other_fields_changed: list[WrongDocument] = field(default_factory=list)
    application_wrote: bool = False
    sample: list[Sampled] = field(default_factory=list)
    verdict: Verdict | Literal[""] = ""
    waits: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Eligible documents, as the last pass saw them."""
        return self.success + len(self.failures)


class StrategyStopped(Exception):  # noqa: N818
    """A collection's way cannot be gone on with at the moment; the message says what stands where. Run again."""
