"""Batches that a provider embeds within a day: opened for whoever sends them, shown, fetched, cancelled."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from filelock import FileLock, Timeout

from kai.models import estimate_cost, fingerprint
from kai.provider_errors import provider_fault
from kai.settings import Settings, load_settings
from migration.embedding.ahead.batch import Batches
from migration.embedding.ahead.patience import Waiting
from migration.embedding.ahead.service import BatchService, NoBatches
from migration.embedding.ahead.services import make_service
from migration.embedding.ahead.target import Target
from migration.embedding.provider import ProviderStopped
from migration.ledger import BatchRecord, Ledger
from migration.operations.runs.results import DONE, SOME_FAILED, STOPPED
from migration.operations.setup import ledger_if_there, open_cache, open_ledger
from migration.runtime.console import SILENT, Console
from migration.runtime.control import Control
from migration.runtime.status import read_status_file
from migration.strategies.plan import Plan
from migration.strategies.refusals import Refused

BATCH_PRICE: Final = 0.5
"""Share of the list price that a text in a batch costs, at OpenAI, Azure and Google."""


def folder_of(home: Path) -> Path:
    """Where embedding ahead keeps what it needs."""
    return home / "embed"


def batch_folder(home: Path) -> Path:
    """Where the files of batches are."""
    return folder_of(home) / "batches"


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """How the batches are.

    Attributes:
        batches: the oldest first; all that are known, or what became of those that were looked after.
        under_way: what a process says that embeds ahead at this moment; None where there is none.
        failed: texts that came back without a vector, where answers were fetched.
        exit_status: 0; 1 if some texts have no vector; 3 if batches are under way that were to be fetched.
    """

    batches: tuple[BatchRecord, ...]
    under_way: Mapping[str, Any] | None = None
    failed: int = 0
    exit_status: int = DONE


@contextlib.contextmanager
def alone(home: Path) -> Iterator[None]:
    """One process at a time embeds ahead into a home; the lock of one that has died is none.

    Raises:
        Refused: another does.
    """
    folder = folder_of(home)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = FileLock(folder / "lock", timeout=0, mode=0o600)
    try:
        lock.acquire()
    except Timeout:
        raise Refused(
            f"MIGRATION_HOME: another `kai-migrate embed` is under way in {home}, and looks after its batches itself; "
            "wait until it has ended, or stop it; --status shows how far it is"
        ) from None
    try:
        yield
    finally:
        lock.release()


def service_of(settings: Settings) -> BatchService:
    """The provider's batch interface, which is there.

    Raises:
        Refused: it has none.
    """
    try:
        service = make_service(settings, batch_folder(settings.home))
        service.check()
    except NoBatches as error:
        raise Refused(
            f"{settings.family.where}: the provider has no batch interface ({error}); use --via direct"
        ) from error
    except Exception as error:
        fault = provider_fault(error, settings.secrets)
        if fault.kind == "bug":
            raise
        raise Refused(f"{settings.family.where}: the provider does not answer as it should: {fault.message}") from error
    return service


def target_of(settings: Settings) -> Target:
    """What batches are embedded with, and where their files are."""
    embedding = settings.embedding
    return Target(
        model=embedding.name,
        fingerprint=fingerprint(embedding, ""),
        dimensions=embedding.dimensions,
        server=settings.provider_server,
        folder=batch_folder(settings.home),
        secrets=settings.secrets,
    )


def batch_cost(model: str, tokens: float) -> float | None:
    """List price in USD of embedding so many tokens in batches; None if it is not known."""
    whole = estimate_cost(model, round(tokens))
    return None if whole is None else whole * BATCH_PRICE


def told_of_batches(plan: Plan, ledger: Ledger | None) -> Plan:
    """The plan that says so where texts of its model are under way in batches, and would be bought a second time."""
    space = fingerprint(plan.embedding, "")
    rows = ledger.batches(space, only_open=True) if ledger is not None else []
    if not rows:
        return plan
    note = (
        f"{sum(row.texts for row in rows)} texts are under way in batches of this model and would be paid for a second "
        "time; wait for them (kai-migrate embed --via batch), or fetch what is done (kai-migrate embed --collect)"
    )
    return replace(plan, hazards=(*plan.hazards, note))


def batch_status(settings: Settings | None = None) -> BatchStatus:
    """How the batches of every model are, as far as the ledger knows; nobody is asked.

    Args:
        settings: where the ledger is; None reads `.env` and the environment.

    Raises:
        Refused: the ledger cannot be opened.
    """
    settings = settings or load_settings(needs=())
    with ledger_if_there(settings) as ledger:
        known = tuple(ledger.batches()) if ledger is not None else ()
    return BatchStatus(known, read_status_file(folder_of(settings.home) / "status.json"))


def collect_batches(settings: Settings | None = None, console: Console = SILENT) -> BatchStatus:
    """Fetch what is done of the configured model's batches, without waiting, and send nothing.

    Args:
        settings: the model, and where ledger and cache are; None reads `.env` and the environment.
        console: where to tell; nothing by default.

    Raises:
        Refused: another process is at it, or the provider has no batch interface.
        CacheError, LedgerError: what was fetched cannot be kept.
    """
    return _looked_after(settings, console, lambda batches: batches.collect(), waits_for_all=True)


def cancel_batches(settings: Settings | None = None, console: Console = SILENT) -> BatchStatus:
    """Cancel the configured model's batches: the provider ends them, and what it has done by then is fetched later.

    Args:
        settings, console: as for `collect_batches`.

    Raises:
        Refused, CacheError, LedgerError: likewise.
    """
    return _looked_after(settings, console, lambda batches: batches.cancel(), waits_for_all=False)


def _looked_after(
    settings: Settings | None, console: Console, work: Callable[[Batches], object], *, waits_for_all: bool
) -> BatchStatus:
    settings = settings or load_settings(needs=["embedding"])
    control = Control(announce=console.warn)
    with contextlib.ExitStack() as stack:
        stack.enter_context(control.signals())
        stack.enter_context(alone(settings.home))
        ledger = stack.enter_context(open_ledger(settings))
        target = target_of(settings)
        before = {row.name for row in ledger.batches(target.fingerprint, only_open=True)}
        if before or any(target.folder.glob(f"{target.prefix}*")):
            cache = stack.enter_context(open_cache(settings))
            waiting = Waiting(stopped=control.stopped)
            batches = Batches(service_of(settings), target, ledger, cache, waiting=waiting, announce=console.line)
            try:
                work(batches)
            except ProviderStopped as error:
                raise Refused(f"the embedding provider: {error}") from error
        after = tuple(row for row in ledger.batches(target.fingerprint) if row.name in before or row.is_open)
        failed = sum(row.failed for row in after if row.state == "collected")
        _tell_of_others(ledger, target, console)
    is_open = waits_for_all and any(row.is_open for row in after)
    return BatchStatus(after, None, failed, STOPPED if is_open else SOME_FAILED if failed else DONE)


def _tell_of_others(ledger: Ledger, target: Target, console: Console) -> None:
    others = {row.model for row in ledger.batches(only_open=True) if row.fingerprint != target.fingerprint}
    if others:
        console.warn(
            f"! batches of {', '.join(sorted(others))} are under way, too; configure that model to look after them"
        )
