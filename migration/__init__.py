"""Migrate the embeddings of a Typesense search to another model, from Python: see docs/library.md.

    from migration import MigrationOptions, migrate

    result = migrate(MigrationOptions(collections=("articles",)))

What is named here is imported when it is first used: a command line that prints its help waits for nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from migration.assessment.evaluation.verdict import Rule
    from migration.operations.ahead import EmbedOptions
    from migration.operations.backup import back_up, prune_backups
    from migration.operations.batches import batch_status, cancel_batches, collect_batches
    from migration.operations.compare import compare
    from migration.operations.discover import discover
    from migration.operations.doctor import doctor
    from migration.operations.embed import EmbedResult, embed
    from migration.operations.evaluate import evaluate
    from migration.operations.explain import explain
    from migration.operations.finish import finish
    from migration.operations.history import describe_run, list_evaluations, list_models, list_runs
    from migration.operations.label import label_run
    from migration.operations.migrate import migrate, preview
    from migration.operations.reports.run_report import write_report
    from migration.operations.rollback import restore, rollback
    from migration.operations.runs.results import RunResult
    from migration.operations.search import search
    from migration.operations.under_way import release, tune
    from migration.operations.unfinished import list_unfinished
    from migration.operations.verify import verify
    from migration.operations.watch import watch
    from migration.strategies.context import MigrationOptions
    from migration.strategies.plan import Plan
    from migration.strategies.refusals import Refused

__all__ = [
    "EmbedOptions", "EmbedResult", "MigrationOptions", "Plan", "Refused", "Rule", "RunResult", "back_up",
    "batch_status", "cancel_batches", "collect_batches", "compare", "describe_run", "discover", "doctor", "embed",
    "evaluate", "explain", "finish", "label_run", "list_evaluations", "list_models", "list_runs", "list_unfinished",
    "migrate", "preview", "prune_backups", "release", "restore", "rollback", "search", "tune", "verify", "watch",
    "write_report",
]  # fmt: skip

_PLACES = {
    "assessment.evaluation.verdict": ("Rule",),
    "operations.ahead": ("EmbedOptions",),
    "operations.backup": ("back_up", "prune_backups"),
    "operations.batches": ("batch_status", "cancel_batches", "collect_batches"),
    "operations.compare": ("compare",),
    "operations.discover": ("discover",),
    "operations.doctor": ("doctor",),
    "operations.embed": ("EmbedResult", "embed"),
    "operations.evaluate": ("evaluate",),
    "operations.explain": ("explain",),
    "operations.finish": ("finish",),
    "operations.history": ("describe_run", "list_evaluations", "list_models", "list_runs"),
    "operations.label": ("label_run",),
    "operations.migrate": ("migrate", "preview"),
    "operations.reports.run_report": ("write_report",),
    "operations.rollback": ("restore", "rollback"),
    "operations.runs.results": ("RunResult",),
    "operations.search": ("search",),
    "operations.under_way": ("release", "tune"),
    "operations.unfinished": ("list_unfinished",),
    "operations.verify": ("verify",),
    "operations.watch": ("watch",),
    "strategies.context": ("MigrationOptions",),
    "strategies.plan": ("Plan",),
    "strategies.refusals": ("Refused",),
}


def __getattr__(name: str) -> object:
    for place, names in _PLACES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{place}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
