"""Carry out a plan: collection after collection, each by its strategy, and say what became of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from kai.models import fingerprint
from kai.typesense import Schema, TypesenseError
from migration.backup import BackupError, BackupWriter, Kind
from migration.documents.schemas import signature_of
from migration.embedding.cache import CacheError
from migration.embedding.provider import ProviderStopped
from migration.embedding.throttle import Stopped
from migration.ledger import LedgerError
from migration.operations.verify import check_run
from migration.strategies.context import Context, Outcome
from migration.strategies.passes import InPlace
from migration.strategies.plan import CollectionPlan, Plan, plan_collection
from migration.strategies.rebuild import Rebuild, RebuildStopped
from migration.strategies.recreate import CannotCopy, Recreate, settle_leftover
from migration.strategies.shadow.cutover import CutOverStopped
from migration.strategies.shadow_state import past_the_drop

BYTES_A_NUMBER = 12
"""Bytes that a number of a vector takes in a backup at most; zstd brings it to about half."""
BYTES_A_DOCUMENT = 4096
BYTES_TO_SPARE = 64_000_000
NAMED_FAILURES = 20
"""Failed documents that the console names; all of them are in the ledger."""


@dataclass(frozen=True, slots=True)
class CollectionResult:
    """What a run did to one collection.

    Attributes:
        status: `completed`, `skipped`, `stopped`, `interrupted`, or `not started` where the run ended before it.
    """

    name: str
    status: str
    outcome: Outcome | None = None
    cause: str = ""

    @property
    def ends_the_run(self) -> bool:
        """Whether the next collections are left. A limit is one for each collection."""
        stopped = self.status in ("stopped", "interrupted", "not started")
        return stopped and not (self.outcome is not None and self.outcome.limit_reached)

    def summary(self) -> dict[str, Any]:
        """As the console's summary shows it."""
        if self.outcome is None:
            return {"status": self.status, "count": 0}
        outcome = self.outcome
        return {
            "status": self.status,
            "count": outcome.count,
            "success": outcome.success,
            "failed": len(outcome.failures),
        }


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run did."""

    collections: tuple[CollectionResult, ...]

    @property
    def stopped(self) -> bool:
        """Whether the run ended before its end."""
        return any(result.status in ("stopped", "interrupted", "not started") for result in self.collections)

    @property
    def failed(self) -> int:
        """Documents without a vector of the target."""
        return sum(len(r.outcome.failures) + r.outcome.changing for r in self.collections if r.outcome)

    @property
    def right(self) -> bool:
        """Whether every document has its vector and every verification passed."""
        return not self.failed and all(r.outcome is None or r.outcome.verdict != "FAIL" for r in self.collections)


def execute(context: Context, plan: Plan) -> RunResult:
    """Carry out the plan. What stops one collection stops the run, a limit aside; what was done stays done."""
    results: list[CollectionResult] = []
    for collection_plan in plan.collections:
        if results and results[-1].ends_the_run:
            results.append(CollectionResult(collection_plan.collection.name, "not started"))
        else:
            results.append(_migrate(context, collection_plan))
    return RunResult(tuple(results))


def _migrate(context: Context, plan: CollectionPlan) -> CollectionResult:
    console, name = context.console, plan.collection.name
    if plan.strategy == "skipped":
        console.line(f"Skipping '{name}': {plan.collection.skipped}")
        try:
            context.ledger.start_collection(context.run.id, name, "skipped")
        except LedgerError as error:
            return CollectionResult(name, "stopped", cause=str(error))
        return CollectionResult(name, "skipped")
    console.line(f"Starting migration for '{name}'...")
    console.line(f"  - Embedding field: {plan.collection.embedding_field}")
    console.line(f"  - Filter: {plan.collection.filter_by or 'none'}")
    if plan.strategy == "recreate":
        console.line(f"  - Strategy: recreate ({plan.old_dimensions} -> {plan.new_dimensions} dimensions)")
    console.line(f"  Found {plan.eligible} documents to migrate")
    for hazard in plan.hazards:
        console.warn(f"  ! {hazard}")
    cause, identity = "", None
    outcome = Outcome(complete=False)
    try:
        identity = context.ledger.start_collection(
            context.run.id,
            plan.name,
            plan.strategy,
            old_dimensions=plan.old_dimensions,
            new_dimensions=plan.new_dimensions,
            eligible=plan.eligible,
        )
        earlier = settle_leftover(context, plan)
        if earlier is not None:
            everything = context.server.collections()
            plan = plan_collection(context.server, context.embedding, plan.collection, everything, context.strategy)
        steps = _steps(context, plan, identity)
        outcome = steps.outcome
        if earlier is not None:
            outcome.notes += earlier.notes
            outcome.downtime_seconds = earlier.downtime_seconds
        steps.run(plan.eligible)
        if outcome.complete:
            _verify(context, plan, outcome)
            _sign(context, plan, outcome)
    except Stopped:
        pass
    except (CannotCopy, CutOverStopped, RebuildStopped) as error:
        cause = str(error)
    except ProviderStopped as error:
        cause = f"the embedding provider: {error}"
    except TypesenseError as error:
        cause = f"Typesense: {error}"
    except (LedgerError, CacheError, BackupError) as error:
        cause = str(error)
    except OSError as error:
        cause = f"{error.filename or 'the disk'}: {error.strerror or error}"
    if identity is not None:
        cause = _note_end(context, plan, outcome, identity, cause)
    status = _status_of(context, outcome, cause)
    _tell(context, plan, outcome, status, cause)
    return CollectionResult(name, status, outcome, cause)


def _status_of(context: Context, outcome: Outcome, cause: str) -> str:
    if outcome.complete and not cause:
        return "completed"
    return "interrupted" if context.control.interrupted and not cause else "stopped"


def _note_end(context: Context, plan: CollectionPlan, outcome: Outcome, identity: str, cause: str) -> str:
    """What became of the collection, into the ledger; returns the cause of a stop, perhaps the ledger itself."""
    status = _status_of(context, outcome, cause)
    state: Any = status if status != "completed" else "partial" if outcome.failures else "completed"
    try:
        context.ledger.update_collection(
            identity,
            done=outcome.success,
            failed=len(outcome.failures),
            state=state,
            downtime_seconds=outcome.downtime_seconds,
        )
    except LedgerError as error:
        return cause or str(error)
    return cause


def _verify(context: Context, plan: CollectionPlan, outcome: Outcome) -> None:
    """The checks at the end, into the ledger and to the operator."""
    context.status.phase("verifying", collection=plan.name)
    schema = _schema_of(context, plan)
    checks = check_run(context, plan.name, schema, plan.collection.embedding_field, outcome)
    outcome.verdict = "PASS" if all(check.passed for check in checks) else "FAIL"
    context.ledger.record_verification(context.run.id, plan.name, outcome.verdict, checks)
    context.console.warn(f"  Verification: {outcome.verdict}")
    for check in checks:
        tell = context.console.detail if check.passed else context.console.warn
        right = f"{check.count - check.failed} of {check.count}"
        tell(f"    {check.name}: {right}{f' ({check.detail})' if check.detail else ''}")


def _schema_of(context: Context, plan: CollectionPlan) -> Schema:
    schema = context.server.collection(plan.name)
    if schema is None:
        raise TypesenseError(f"the collection {plan.name!r} is not there any more", status=404)
    return schema


def _sign(context: Context, plan: CollectionPlan, outcome: Outcome) -> None:
    """Say on the server which model the collection's vectors are from, beside whatever its metadata says."""
    schema = _schema_of(context, plan)
    metadata = dict(schema.get("metadata") or {})
    mark = fingerprint(context.embedding, plan.collection.template)
    if metadata.get("embedding") is not None and not isinstance(metadata["embedding"], dict):
        outcome.notes.append(
            f"the metadata of '{plan.name}' has an `embedding` that is not this program's; it is left as it is, and "
            "nobody can read there which model the vectors are from"
        )
        return
    standing = signature_of(schema)
    if not outcome.written and standing.get("fingerprint") == mark:
        return
    metadata["embedding"] = standing | {
        **context.embedding.describe(),
        "fingerprint": mark,
        "run": context.run.name,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    context.server.set_metadata(plan.name, metadata)


def _steps(context: Context, plan: CollectionPlan, identity: str) -> InPlace | Recreate | Rebuild:
    if plan.strategy == "recreate":
        dropped = past_the_drop(plan.leftover, plan.schema)
        backup = _open_backup(context, plan, "documents", identity) if context.backup and not dropped else None
        return Recreate(context, plan, backup)
    opener = (lambda: _open_backup(context, plan, "vectors", identity)) if context.backup else None
    if plan.strategy in ("rebuild", "alter"):
        return Rebuild(context, plan, opener)
    return InPlace(context, plan.collection, plan.name, schema=plan.schema, open_backup=opener)


def _open_backup(context: Context, plan: CollectionPlan, kind: Kind, identity: str) -> BackupWriter:
    """The backup of what this run overwrites in a collection, noted in the ledger before anything is overwritten.

    Raises:
        BackupError: the disk has no room for it, say.
    """
    vectors = plan.eligible * (plan.old_dimensions or plan.new_dimensions) * BYTES_A_NUMBER
    whole = kind == "documents"
    server = context.server
    writer = BackupWriter.open(
        context.home,
        context.run.name,
        plan.name,
        kind=kind,
        embedding_field=plan.collection.embedding_field,
        server=server.address,
        schema=plan.schema,
        synonyms=server.synonyms(plan.name) if whole else (),
        overrides=server.overrides(plan.name) if whole else (),
        free_space_needed=vectors + (plan.documents * BYTES_A_DOCUMENT if whole else 0) + BYTES_TO_SPARE,
        model=signature_of(plan.schema).get("model"),
    )
    try:
        # A way back must be found even if this process ends at the next line.
        context.ledger.update_collection(identity, backup_path=str(writer.folder.absolute()))
    except LedgerError:
        writer.close(complete=False)
        raise
    return writer


def _tell(context: Context, plan: CollectionPlan, outcome: Outcome, status: str, cause: str) -> None:
    console = context.console
    failed = len(outcome.failures)
    if outcome.downtime_seconds is not None and plan.strategy not in ("rebuild", "alter"):
        console.line(f"  Full collection not searchable for {outcome.downtime_seconds:.2f} s")
    if status == "completed":
        if outcome.success and not outcome.written:
            console.warn(f"  All {outcome.success} were current already; nothing was written.")
        console.line(f"  Migration complete: {outcome.success} succeeded, {failed} failed")
    else:
        console.line(f"  Migration {status}: {cause or 'as asked'}")
        if cause:
            console.warn(f"Stopped at '{plan.collection.name}': {cause}")
    for document_id, failure in list(outcome.failures.items())[:NAMED_FAILURES]:
        console.warn(
            f"  Failed: document {document_id!r} of '{plan.collection.name}' ({failure.stage}): {failure.reason}"
        )
    if failed > NAMED_FAILURES:
        console.warn(f"  … and {failed - NAMED_FAILURES} more; the ledger has them all")
    for note in (*outcome.notes, *_mixture(context, plan, outcome)):
        console.warn(f"  Note: {note}")


def _mixture(context: Context, plan: CollectionPlan, outcome: Outcome) -> list[str]:
    """That vectors of several models stand in one collection, where a run ended before all were of one."""
    if outcome.complete and not outcome.failures:
        return []
    try:
        models = context.ledger.models()
    except LedgerError:
        return []  # What stopped the run is told; this is a note on it.
    standing = [
        f"{use.documents} of {known.model.model} ({known.model.dimensions})"
        for known in models
        for use in known.collections
        if (use.source, use.collection) == (context.server.address, plan.name) and use.documents
    ]
    if len(standing) < 2:
        return []
    return [f"'{plan.name}' mixes vectors of several models now, which cannot be compared: {', '.join(standing)}"]
