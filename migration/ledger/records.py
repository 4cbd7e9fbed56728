"""The values that go into the ledger and come out of it: plain, frozen, without a trace of SQLAlchemy.

Ids are UUIDs as strings of 36 characters. Times carry a time zone; they come out in UTC. Hashes are the 32
bytes of a SHA-256.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, TypedDict

Json = Mapping[str, Any]

RunKind = Literal["migrate", "rollback", "restore", "backup", "verify"]
RunState = Literal["running", "completed", "partial", "rehearsed", "stopped", "interrupted", "refused", "waiting"]
"""`waiting`: everything was done, and what it replaces stands until `kai-migrate finish`."""
UNFINISHED: Final[tuple[RunState, ...]] = ("running", "rehearsed", "stopped", "interrupted")
"""States of a run that a further start may go on with."""
CollectionState = RunState | Literal["skipped"]
Strategy = Literal["in place", "recreate", "rebuild", "alter", "into", "alias", "skipped"]
Verdict = Literal["PASS", "FAIL", "NOT CHECKED"]
EvaluationVerdict = Literal["GO", "NO-GO", "CANNOT TELL"]
BatchState = Literal["intended", "uploaded", "submitted", "collected", "failed", "cancelled"]
OPEN_BATCHES: Final[tuple[BatchState, ...]] = ("intended", "uploaded", "submitted")
"""States of a batch that the provider has, or may have, or is still to get."""


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """An embedding space: what makes vectors comparable with each other.

    `fingerprint` is unique. `tool_source` and `tool_version` name the library that last computed vectors with it
    (`langchain-openai`, `1.0.3`), `provider_server` and `model_digest` where they last came from: the provider's base
    URL without login or key, None where nobody is asked, and what the server calls this very model, where it says so.
    """

    id: str
    family: str
    model: str
    dimensions: int
    task_type: str | None
    fingerprint: str
    tool_source: str | None
    tool_version: str | None
    first_used_at: datetime
    last_used_at: datetime
    provider_server: str | None = None
    model_digest: str | None = None

    @property
    def name(self) -> str:
        """Family, model and dimensions, as a person names it: `openai/text-embedding-3-small/768`."""
        return f"{self.family}/{self.model}/{self.dimensions}"


@dataclass(frozen=True, slots=True)
class CollectionUse:
    """How many documents of one collection carry vectors of one model in one embedding field.

    `field` is empty where an older version of this program has noted them.
    """

    source: str
    collection: str
    documents: int
    field: str = ""


@dataclass(frozen=True, slots=True)
class ModelUse:
    """A model with the collections in which its vectors stand, by source and name."""

    model: ModelRecord
    collections: tuple[CollectionUse, ...]

    @property
    def documents(self) -> int:
        """Number of documents over all collections."""
        return sum(use.documents for use in self.collections)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One execution. `number` counts runs in the order they began, whatever the clock said.

    `source` names server and collections, `parameters` the options of the run; both without any key.
    `model_id` is None for runs without a model and after the model was deleted. `reverts_run_id` is the run
    that a rollback undoes. `provider_server` and `model_digest` are as in a `ModelRecord`, of the last leg of the run.
    """

    id: str
    number: int
    name: str
    kind: RunKind
    alias: str | None = None
    description: str | None = None
    model_id: str | None = None
    reverts_run_id: str | None = None
    parameters: Json
    source: Json
    started_at: datetime
    finished_at: datetime | None = None
    state: RunState = "running"
    totals: Json = field(default_factory=dict)
    host: str
    pid: int
    provider_server: str | None = None
    model_digest: str | None = None

    @property
    def seconds(self) -> float | None:
        """Seconds from start to finish; None while it runs; never negative, even if the clock went back."""
        if self.finished_at is None:
            return None
        return max(0.0, (self.finished_at - self.started_at).total_seconds())


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What it takes to start a run again as it was started: by whom, with which programs, and with what.

    `options` has every option that was given, by its name; `environment` the settings that the run goes by, without
    keys and logins; both are None where they were not recorded, as of runs of older programs. `collections_file` is
    what was in the file that described the collections, None for KAI's own. `tool_source` and `tool_version` name
    the library that computes the vectors, None for a run that embeds nothing.
    """

    user_name: str | None = None
    program_version: str | None = None
    tool_source: str | None = None
    tool_version: str | None = None
    options: Json | None = None
    environment: Json | None = None
    collections_file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRecord(Call):
    """One start of a run: the first, or one of those that went on with it. Nothing changes it afterwards."""

    run_id: str | None
    number: int
    started_at: datetime
    host: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionRunRecord:
    """One collection within one run.

    `embedding_field`, `template` and `filter_by` describe it as the run found it described; None where that was not
    recorded. `eligible` documents were to be done, of which `done` and `failed` so far. `downtime_seconds` is the time
    without the full collection, or without its vector field, `incomplete_seconds` that in which a vector search
    told only a part of the documents; None where there was none.
    """

    id: str
    run_id: str | None
    collection: str
    strategy: Strategy
    old_dimensions: int | None = None
    new_dimensions: int | None = None
    eligible: int = 0
    done: int = 0
    failed: int = 0
    state: CollectionState = "running"
    backup_path: str | None = None
    started_at: datetime
    finished_at: datetime | None = None
    downtime_seconds: float | None = None
    incomplete_seconds: float | None = None
    embedding_field: str | None = None
    template: str | None = None
    filter_by: str | None = None


class Labels(TypedDict, total=False):
    """What `Ledger.label_run` may change; None takes it away, and what is not named stays."""

    alias: str | None
    description: str | None


class CollectionChanges(TypedDict, total=False):
    """What `Ledger.update_collection` may change; what is not named stays."""

    strategy: Strategy
    done: int
    failed: int
    state: CollectionState
    backup_path: str | None
    downtime_seconds: float | None
    incomplete_seconds: float | None


@dataclass(frozen=True, slots=True)
class DocumentRecord:
    """Which vector a document carries, and from which text, model and run it came.

    `text_hash` is over the embedded text, `vector_hash` over the vector's float32 bytes, `content_hash` over
    the other fields where that was taken. `tenant` is the document's `db_connection_id` where it has one.
    `embedded_at` None means now when it is recorded. `cut_from` is the length of the model's vector that this one was
    cut from; None where it was embedded.
    """

    document_id: str
    text_hash: bytes
    vector_hash: bytes
    model_id: str | None = None
    run_id: str | None = None
    tenant: str | None = None
    content_hash: bytes | None = None
    embedded_at: datetime | None = None
    cut_from: int | None = None

    def has_vector(self, stored: bytes | None) -> bool:
        """Whether a vector, as float32 bytes, is the one that the document is known to carry; none never is."""
        return stored is not None and self.vector_hash == vector_hash(stored)


def vector_hash(stored: bytes) -> bytes:
    """The name under which the ledger knows a vector: SHA-256 of its float32 bytes."""
    return hashlib.sha256(stored).digest()


@dataclass(frozen=True, slots=True)
class FailureRecord:
    """A document that could not be migrated: at which stage (`fetch`, `embed`, `import`, ...) and why."""

    document_id: str
    stage: str
    reason: str
    collection: str = ""
    run_id: str | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class FailureReason:
    """How many documents failed at a stage for one reason; where only numbers differ, `#` stands for them."""

    stage: str
    reason: str
    documents: int


@dataclass(frozen=True, slots=True)
class WrongDocument:
    """A document that failed a check, what was expected of it, and what was found; never its text.

    A hash is the hexadecimal digits of a SHA-256.
    """

    document_id: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check of a verification: of `count` things looked at, `failed` were wrong.

    `passed` is None where the check could not be made, and `detail` says why. `confidence` from 0 to 1: 1.0 where
    everything was looked at, less for a sample. `wrong_documents` are those that failed, in the order in which they
    were found; out of the ledger only as many as were asked for.
    """

    name: str
    passed: bool | None
    count: int
    failed: int = 0
    confidence: float = 1.0
    detail: str = ""
    wrong_documents: tuple[WrongDocument, ...] = ()


@dataclass(frozen=True, slots=True)
class VerificationRecord:
    """The verdict over one collection after a run; `wrong_total` documents are named in the ledger.

    One that failed several checks is named, and counts, for each of them.
    """

    collection: str
    verdict: Verdict
    checks: tuple[CheckResult, ...]
    run_id: str | None = None
    at: datetime | None = None
    wrong_total: int = 0


def verdict_of(checks: Iterable[bool | None] | Iterable[Verdict]) -> Verdict:
    """What several checks, or verdicts, come to: FAIL where one failed, PASS only where each was made and passed."""
    found = set(checks)
    if found & {False, "FAIL"}:
        return "FAIL"
    return "NOT CHECKED" if found & {None, "NOT CHECKED"} else "PASS"


@dataclass(frozen=True, slots=True)
class MetricsRecord:
    """How a run went, in numbers; `collection` None for the run as a whole. None: not measured."""

    collection: str | None = None
    documents_per_second: float | None = None
    tokens_per_second: float | None = None
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    requests: int | None = None
    retries: int | None = None
    failures: int | None = None
    bytes_sent: int | None = None
    tokens: int | None = None
    cost_usd: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRecord:
    """One model against the one of a collection's vectors, by questions with known answers.

    Models are family/model/dimensions. `run` is the one whose vectors the new ones were, None where they were
    computed for the evaluation. `questions_from` is `file` or `documents`, `searched` how many documents were searched
    in. `metrics` has the figures of both models (`old`, `new`) and their `differences` with intervals, `rule` by what
    it was judged.
    """

    at: datetime
    source: str
    collection: str
    field: str
    old_model: str
    new_model: str
    run: str | None = None
    questions: int
    questions_from: Literal["file", "documents"]
    searched: int
    metrics: Json
    verdict: EvaluationVerdict
    rule: Json


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """Texts that a provider embeds within a day, as one batch.

    `name` is ours, unique, and kept by the provider with the batch. `fingerprint` is that of the model, which `model`
    names for people. `provider_state` is what the provider said of it last. `file` has the texts as they were sent.
    `input_file_id` and `batch_id` are the provider's names; None before there are any, and the former also once the
    provider has deleted it. `failures` says by the SHA-256 of a text, in hexadecimal digits, why it was refused.
    """

    name: str
    model: str
    fingerprint: str
    texts: int
    tokens: int
    file: str
    state: BatchState = "intended"
    provider_server: str | None = None
    provider_state: str | None = None
    done: int = 0
    failed: int = 0
    input_file_id: str | None = None
    batch_id: str | None = None
    failures: Mapping[str, str] = field(default_factory=dict)
    reason: str | None = None
    host: str = ""
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether the provider has it, or may have, or is still to get it."""
        return self.state in OPEN_BATCHES


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run with everything that a history shows of it.

    `verdict` is FAIL if any collection failed its verification, PASS if all passed, else NOT CHECKED; None if no
    verification was begun.
    `metrics` are those of the run as a whole, `metrics_of` those of its collections by name. `reasons` says why
    documents failed, the most frequent reason first.
    """

    run: RunRecord
    model: ModelRecord | None
    collections: tuple[CollectionRunRecord, ...] = ()
    failures: int = 0
    verdict: Verdict | None = None
    metrics: MetricsRecord = field(default_factory=MetricsRecord)
    metrics_of: Mapping[str, MetricsRecord] = field(default_factory=dict)
    reasons: tuple[FailureReason, ...] = ()
