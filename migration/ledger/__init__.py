"""What was done, by which model, when.

    from migration.ledger import Ledger

    with Ledger.open(None, Path(".kai-migration")) as ledger:
        ledger.find_run()          # the latest run

Names are looked up on first use, so that importing this package does not import SQLAlchemy: a command line
that only prints its help should not wait for a database library.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from migration.ledger.errors import LedgerError
    from migration.ledger.ledger import Ledger
    from migration.ledger.records import (
        CheckResult,
        CollectionRunRecord,
        CollectionUse,
        DocumentRecord,
        FailureRecord,
        MetricsRecord,
        ModelRecord,
        ModelUse,
        RunRecord,
        RunSummary,
        VerificationRecord,
    )
    from migration.ledger.trends import Trend, trend

_HOMES = {
    "LedgerError": "errors",
    "Ledger": "ledger",
    "CheckResult": "records",
    "CollectionRunRecord": "records",
    "CollectionUse": "records",
    "DocumentRecord": "records",
    "FailureRecord": "records",
    "MetricsRecord": "records",
    "ModelRecord": "records",
    "ModelUse": "records",
    "RunRecord": "records",
    "RunSummary": "records",
    "VerificationRecord": "records",
    "Trend": "trends",
    "trend": "trends",
}

__all__ = [
    "CheckResult",
    "CollectionRunRecord",
    "CollectionUse",
    "DocumentRecord",
    "FailureRecord",
    "Ledger",
    "LedgerError",
    "MetricsRecord",
    "ModelRecord",
    "ModelUse",
    "RunRecord",
    "RunSummary",
    "Trend",
    "VerificationRecord",
    "trend",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
