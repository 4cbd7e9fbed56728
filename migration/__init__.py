"""Migrate the embeddings of a Typesense search to another model, from Python: see docs/library.md.

    from migration import MigrationOptions, migrate

    result = migrate(MigrationOptions(collections=("articles",)))

What is named here is imported when it is first used: a command line that prints its help waits for nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from migration.operations.backup import back_up
    from migration.operations.execute import RunResult
    from migration.operations.migrate import migrate, preview
    from migration.operations.rollback import restore, rollback
    from migration.strategies.context import MigrationOptions
    from migration.strategies.plan import Plan
    from migration.strategies.refusals import Refused

__all__ = ["MigrationOptions", "Plan", "Refused", "RunResult", "back_up", "migrate", "preview", "restore", "rollback"]

_PLACES = {
    "MigrationOptions": "strategies.context",
    "Plan": "strategies.plan",
    "Refused": "strategies.refusals",
    "RunResult": "operations.execute",
    "back_up": "operations.backup",
    "migrate": "operations.migrate",
    "preview": "operations.migrate",
    "restore": "operations.rollback",
    "rollback": "operations.rollback",
}


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
