"""From settings to an exit status: what is wrong is told as a refusal that names the setting, never as a traceback."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import TypeVar

from kai.collections import CollectionsError
from kai.settings import LogFormat, Need, Settings, SettingsError, load_settings
from kai.typesense import TypesenseError
from migration.backup import BackupError
from migration.cli.layout import print_json
from migration.cli.options import Invocation
from migration.embedding.cache import CacheError
from migration.embedding.throttle import Stopped
from migration.ledger import LedgerError
from migration.operations.runs.results import DONE, INTERRUPTED, REFUSED, STOPPED, RunResult
from migration.operations.runs.summary import took
from migration.runtime.console import RULE, Console, prepare_streams
from migration.runtime.lock import Held
from migration.strategies.refusals import Refused

T = TypeVar("T")


def answer(
    invocation: Invocation,
    ask: Callable[[Settings, Console], T],
    lay_out: Callable[[T, Console], None],
    *,
    needs: Collection[Need] = ("embedding", "typesense"),
    facts: Callable[[T], object] = lambda found: found,
) -> int:
    """Make the one call of a command, print what it returns, and return its exit status, or that of its refusal.

    Args:
        invocation: where the settings are, how much is told, and to whom.
        ask: the call; may raise `Refused`, `Held`, `LedgerError` and the like before it changes anything.
        lay_out: prints the value for a person.
        needs: which settings the call uses.
        facts: what a program reads of the value.
    """
    # Ledger, backups, status and locks are their owner's only, whatever makes the file.
    os.umask(0o077)
    prepare_streams()
    # What is wrong with the settings is told as the environment asks for it, since they cannot be read.
    log_format: LogFormat = "json" if os.environ.get("MIGRATION_LOG_FORMAT", "").strip().lower() == "json" else "text"
    console = Console(verbose=invocation.verbose, log_format=invocation.log_format or log_format)
    try:
        settings = load_settings(invocation.env_file, needs=needs)
        log_format = invocation.log_format or settings.log_format
        console = Console(settings.secrets, verbose=invocation.verbose, log_format=log_format)
        found = ask(settings, console)
        if invocation.as_json:
            print_json(facts(found), settings.secrets)
        else:
            lay_out(found, console)
        return int(getattr(found, "exit_status", DONE))
    except (SettingsError, Refused) as error:
        problems = [str(problem) for problem in error.problems]
    except (CollectionsError, Held, LedgerError, CacheError, BackupError) as error:
        problems = [str(error)]
    except TypesenseError as error:
        problems = [f"{error.setting}: Typesense: {error}" if error.setting else f"Typesense: {error}"]
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        problems = [f"{where}{error.strerror or error} (see MIGRATION_HOME)"]
    except (KeyboardInterrupt, Stopped):
        console.warn("Interrupted. Nothing is lost: run the same command again to go on.")
        return INTERRUPTED
    console.warn("Refused; nothing was changed:", level="error", event="refused")
    for problem in problems:
        console.warn(f"  - {problem}", level="error", event="refused")
    return REFUSED


def tell_result(result: RunResult, console: Console, title: str = "SUMMARY") -> None:
    """One line per collection of a run that ended, and how to go on where it did not come to its end."""
    for sentence in result.trouble:
        console.warn(f"  Note: {sentence}")
    if result.unnoted:
        console.warn(f"The end of the run cannot be noted: {result.unnoted}", level="error")
    console.heading(title)
    for item in result.collections:
        console.line(f"{item.name}: {item.summary()}")
    console.line(RULE)
    took(console, result.metrics)
    if result.report:
        console.warn(f"Report: {result.report}")
    if result.exit_status in (STOPPED, INTERRUPTED):
        console.tell("Nothing is lost. Run the same command again: it goes on where this one ended.")
