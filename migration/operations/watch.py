"""Look on while a run is under way, from another terminal or, by the ledger, from another machine."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from kai.settings import Settings, load_settings
from migration.ledger import Ledger, RunRecord
from migration.ledger.runs import LATEST
from migration.operations.history import find_run
from migration.operations.runs.results import DONE, INTERRUPTED, REFUSED, SOME_FAILED, STOPPED
from migration.operations.setup import ledger_if_there
from migration.runtime.status import is_running, look_at, runs_under_way, status_file
from migration.strategies.refusals import Refused

DIED: Final = "died"
"""The phase of a run whose process is gone, though it has not ended."""

_BY_STATE: Final[Mapping[str, int]] = {
    "completed": DONE,
    "waiting": DONE,
    "rehearsed": DONE,
    "partial": SOME_FAILED,
    "refused": REFUSED,
    "interrupted": INTERRUPTED,
}
"""Exit status of a run by its state in the ledger; any other state is 3."""


@dataclass(frozen=True, slots=True)
class Update:
    """How far a run is at one moment.

    Attributes:
        run: its name.
        origin: who says so: `status`, true within a second, or `ledger`, which is told of a collection's beginning
            and end only, and not of a death on another machine.
        facts: what is said; `phase` and `ended` in any case, with `exit_status` where it has ended.
    """

    run: str
    origin: Literal["status", "ledger"]
    facts: Mapping[str, Any]

    @property
    def phase(self) -> str:
        """What it is doing; how it ended, at the end."""
        return str(self.facts["phase"])

    @property
    def has_ended(self) -> bool:
        """Whether nothing more is to be expected."""
        return bool(self.facts["ended"])

    @property
    def exit_status(self) -> int:
        """Of the run; 3 of one that died."""
        return int(self.facts.get("exit_status", STOPPED))


def watch(
    run: str | None = None,
    *,
    interval: float = 1.0,
    told: Callable[[Update], object] = lambda _: None,
    settings: Settings | None = None,
    wait: Callable[[float], object] = time.sleep,
) -> Update:
    """Return when a run has ended, with its last word; one that ended long ago at once.

    Args:
        run: name, alias or `latest`; None for the one that is under way here, or else the latest.
        interval: seconds between two looks.
        told: called with each update, the last one too.
        settings: where its folder and the ledger are; None reads `.env` and the environment.
        wait: lets so many seconds pass.

    Raises:
        Refused: there is no such run, or several are under way and none is named.
        LedgerError: several runs begin with this name, or the ledger cannot be read.
    """
    settings = settings or load_settings(needs=())
    with ledger_if_there(settings) as ledger:
        name = _name_of(run, settings, ledger)
        is_doubted = False
        while True:
            update = _look(name, settings, ledger)
            if update.phase == DIED and not is_doubted:
                # A machine that slept shows a file that is old, until the run that slept with it writes again.
                is_doubted = True
                wait(interval)
                continue
            is_doubted = False
            told(update)
            if update.has_ended:
                return update
            wait(interval)


def _name_of(run: str | None, settings: Settings, ledger: Ledger | None) -> str:
    if run is None:
        under_way = runs_under_way(settings.home)
        if len(under_way) > 1:
            raise Refused(f"RUN: several runs are under way, name one of them: {', '.join(under_way)}")
        if under_way:
            return under_way[0]
    elif look_at(status_file(settings.home, run)) is not None:
        return run
    if ledger is None:
        raise Refused(f"RUN: there is no ledger and no run in {settings.home} (MIGRATION_HOME, MIGRATION_LEDGER_URL)")
    return find_run(ledger, run or LATEST).name


def _look(name: str, settings: Settings, ledger: Ledger | None) -> Update:
    reading = look_at(status_file(settings.home, name))
    if reading is not None and (reading.is_under_way or reading.has_ended):
        return Update(name, "status", reading.facts)
    record = ledger.find_run(name) if ledger is not None else None
    if ledger is not None and record is not None and (reading is None or record.state != "running"):
        return Update(name, "ledger", _facts_of(ledger, record))
    return Update(name, "status", {**(reading.facts if reading else {}), "phase": DIED, "ended": True})


def _facts_of(ledger: Ledger, run: RunRecord) -> dict[str, Any]:
    """What the ledger knows of a run, by the names of the status file."""
    collections = ledger.collection_runs(run.id)
    facts: dict[str, Any] = {
        "phase": run.state,
        "collection": next((each.collection for each in collections if each.state == "running"), None),
        "total": sum(each.eligible for each in collections),
        "done": sum(each.done for each in collections),
        "failed": sum(each.failed for each in collections),
        "host": run.host,
        "pid": run.pid,
        "ended": run.state != "running",
    }
    if run.state == "running" and run.host == socket.gethostname() and not is_running(run.pid):
        return facts | {"phase": DIED, "ended": True}
    return facts | ({"exit_status": _BY_STATE.get(run.state, STOPPED)} if facts["ended"] else {})
