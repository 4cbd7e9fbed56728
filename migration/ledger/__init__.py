"""What was done, by which model, when.

from migration.ledger import Ledger

with Ledger.open(None, Path(".kai-migration")) as ledger:
    ledger.find_run()          # the latest run
"""

from migration.ledger.errors import LedgerError
from migration.ledger.ledger import Ledger
from migration.ledger.records import (
    BatchRecord,
    Call,
    CheckResult,
    CollectionRunRecord,
    CollectionUse,
    DocumentRecord,
    EvaluationRecord,
    FailureReason,
    FailureRecord,
    MetricsRecord,
    ModelRecord,
    ModelUse,
    RunRecord,
    RunSummary,
    StartRecord,
    VerificationRecord,
    WrongDocument,
    vector_hash,
)
from migration.ledger.trends import Drift, Trend, drift, trend
