"""What is on this side: the settings, the home with its room, the ledger."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from kai.settings import Problem, Settings
from migration.assessment.diagnosis.findings import Check, Finding, Severity
from migration.backup.files import free_space, roughly
from migration.ledger import Ledger, LedgerError
from migration.ledger.database import resolve
from migration.ledger.schema import REVISIONS
from migration.ledger.upgrade import current, head

_PATIENCE = 5.0
"""Seconds to wait for a lock that another process holds on the ledger."""


def check_settings(problems: Iterable[Problem], *, asks_provider: bool) -> Check:
    """What is wrong with the configuration; what only a provider needs is a warning where none is to be asked."""
    findings = tuple(
        Finding(
            "error" if asks_provider or problem.variable.startswith("TYPESENSE_") else "warning",
            "setting",
            problem.message,
            problem.variable,
            "correct it in .env or the environment",
        )
        for problem in problems
    )
    return Check("settings", ".env and environment", f"{len(findings) or 'no'} problems", findings)


def check_home(home: Path, needed: int) -> Check:
    """Whether the home can be written to, and has room for the backups that a migration makes.

    Args:
        home: where ledger, cache and backups live; it need not be there yet.
        needed: bytes that the backups take.
    """
    standing = next(path for path in (home.absolute(), *home.absolute().parents) if path.exists())
    if not standing.is_dir() or not os.access(standing, os.W_OK | os.X_OK):
        what = f"{standing} cannot be written to" if standing.is_dir() else f"{standing} is not a folder"
        finding = Finding("error", "home", what, "MIGRATION_HOME", "set it to a folder that you may write to")
        return Check("home", str(home), what, (finding,))
    free = free_space(home)
    told = f"{roughly(free)} free"
    if free >= needed:
        return Check("home", str(home), told)
    what = f"backups need {roughly(needed)}, and {roughly(free)} are free"
    remedy = "free some space, set MIGRATION_HOME to another disk, or migrate with --no-backup"
    return Check("home", str(home), told, (Finding("error", "little_disk_here", what, "MIGRATION_HOME", remedy),))


@contextlib.contextmanager
def ledger_as_it_is(settings: Settings) -> Iterator[tuple[Ledger | None, Check]]:
    """The ledger, and what is to be said of it; none where there is none, or where opening would change it."""
    where, setting = str(settings.home), "MIGRATION_LEDGER_URL" if settings.ledger_url else "MIGRATION_HOME"
    severity: Severity = "error"
    with contextlib.ExitStack() as stack:
        ledger = None
        try:
            standing = current(resolve(settings.ledger_url, settings.home))
            if standing is None:
                check = Check("ledger", setting, "there is none yet; the first run makes it")
            elif standing in REVISIONS and standing != head():
                severity = "info"
                raise LedgerError(f"it has schema {standing}, and this program {head()}: the next run upgrades it")
            else:
                ledger = stack.enter_context(Ledger.open(settings.ledger_url, settings.home, patience=_PATIENCE))
                check = Check("ledger", setting, f"schema {standing}")
        except (LedgerError, OSError) as error:
            remedy = "`kai-migrate ledger upgrade` does it now" if severity == "info" else f"see {setting}"
            finding = Finding(severity, "ledger", str(error), setting, remedy)
            check = Check("ledger", where, "not read", (finding,), is_made=False)
        yield ledger, check
