"""What a run, and each collection of it, came to; and the exit status that says so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from kai.typesense import TypesenseError
from migration.embedding.cache import CacheError
from migration.embedding.provider import ProviderStopped
from migration.ledger import LedgerError, MetricsRecord
from migration.strategies.context import Outcome

DONE: Final = 0
"""All done: every eligible document carries the new model's vector."""
SOME_FAILED: Final = 1
"""Finished, but some documents failed, or a check did or could not be made; each is named with its reason."""
REFUSED: Final = 2
"""Refused before anything was changed: usage, configuration, key, server, collection."""
STOPPED: Final = 3
"""Stopped before the end. Nothing is lost: the same command goes on where it ended."""
INTERRUPTED: Final = 130
"""Interrupted by Ctrl-C or SIGTERM. The same."""


STOPS: Final = (ProviderStopped, TypesenseError, LedgerError, CacheError, OSError)
"""What may stop any work before its end, through no fault of ours."""


def cause_of(error: Exception) -> str:
    """What stopped the work, in words."""
    match error:
        case ProviderStopped():
            return f"the embedding provider: {error}"
        case TypesenseError():
            return f"Typesense: {error}"
        case OSError():
            return f"{error.filename or 'the disk'}: {error.strerror or error}"
        case _:
            return str(error)


@dataclass(frozen=True, slots=True)
class CollectionResult:
    """What a run did to one collection.

    Attributes:
        name: as it was asked for.
        status: `completed`, `rehearsed`, `skipped`, `stopped`, `interrupted`, or `not started` where the run ended
            before it.
        outcome: None where nothing was tried.
        cause: what stopped it; empty where nothing did, or somebody asked for it.
    """

    name: str
    status: str
    outcome: Outcome | None = None
    cause: str = ""

    @property
    def ends_the_run(self) -> bool:
        """Whether the next collections are left. A limit is one for each collection."""
        return self.is_unfinished and not (self.outcome is not None and self.outcome.limit_reached)

    @property
    def is_unfinished(self) -> bool:
        """Whether a further start has something to go on with."""
        return self.status in ("stopped", "interrupted", "not started")

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
    """What a run did.

    Attributes:
        run: its name.
        collections: in the order of the plan.
        interrupted: whether somebody asked it to end.
        trouble: what was wrong beside the collections, a sentence each; some documents are not as they should be.
        unnoted: why the ledger could not be told of its end; empty where it could.
        metrics: what it took, all of its starts together.
        report: the file of its report; empty where none was written.
    """

    run: str
    collections: tuple[CollectionResult, ...]
    interrupted: bool = False
    trouble: tuple[str, ...] = ()
    unnoted: str = ""
    metrics: MetricsRecord = field(default_factory=MetricsRecord)
    report: str = ""

    @property
    def stopped(self) -> bool:
        """Whether the run ended before its end."""
        return bool(self.unnoted) or any(result.is_unfinished for result in self.collections)

    @property
    def rehearsed(self) -> bool:
        """Whether it was a rehearsal that came to its end."""
        return not self.stopped and any(result.status == "rehearsed" for result in self.collections)

    @property
    def failed(self) -> int:
        """Documents without a vector of the target."""
        outcomes = [result.outcome for result in self.collections if result.outcome]
        return sum(len(outcome.failures) + outcome.changing + outcome.missing for outcome in outcomes)

    @property
    def exit_status(self) -> int:
        """0 all done; 1 some documents failed, or a check, or none could be made; 3 stopped, 130 by request."""
        if self.stopped:
            return INTERRUPTED if self.interrupted else STOPPED
        wrong = any(result.outcome and result.outcome.verdict not in ("", "PASS") for result in self.collections)
        return SOME_FAILED if self.failed or wrong or self.trouble else DONE
