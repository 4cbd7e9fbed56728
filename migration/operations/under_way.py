"""What can be asked of a run that is under way, from another terminal: to go on, and to go at another pace."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kai.settings import Settings, load_settings
from migration.operations.history import find_run
from migration.operations.setup import open_ledger
from migration.runtime.holding import Held, find_held, hold_file
from migration.runtime.pace import Pace, WrongPace, parse_changes, tune_file, write_changes
from migration.runtime.status import read_status
from migration.strategies.refusals import Refused

_OF_EMBEDDING = ("rpm", "tpm")


@dataclass(frozen=True, slots=True)
class Tuned:
    """What a run was told.

    Attributes:
        run: its name.
        changes: what it was told, by name; it takes it up within a second.
        in_force: everything that can be told it, as it stood right before.
    """

    run: str
    changes: Mapping[str, str]
    in_force: Mapping[str, str]


def release(run: str | None = None, *, settings: Settings | None = None) -> Held:
    """Let a run go on that holds before its point of no return.

    Args:
        run: name or alias; None for the only one that holds.
        settings: where its folder is; None reads `.env` and the environment.

    Raises:
        Refused: it does not hold, or its process is gone; or several hold.
        LedgerError: several runs begin with this name.
    """
    settings = settings or load_settings(needs=())
    name = None if run is None else _name_of(run, settings)
    known = [each for each in find_held(settings.home) if name in (None, each.run)]
    holding = [each for each in known if each.is_under_way]
    if len(holding) > 1:
        raise Refused(f"RUN: several runs hold, name one of them: {', '.join(each.run for each in holding)}")
    if not holding and known:
        raise Refused(
            f"RUN: run {known[-1].run} held before '{known[-1].collection}', and its process is gone; run the "
            "migration again without --hold, and it goes on from there"
        )
    if not holding:
        raise Refused(f"RUN: run {name} does not hold" if name else f"RUN: no run holds in {settings.home}")
    hold_file(settings.home, holding[0].run).unlink(missing_ok=True)
    return holding[0]


def tune(run: str, changes: Iterable[str] = (), *, settings: Settings | None = None) -> Tuned:
    """Tell a run that is under way how fast to go.

    Args:
        run: name or alias.
        changes: `nice=0.5`, `concurrency=2`, `rpm=60`, `tpm=none`, `max-load=search_latency_ms=50` and the like; none
            at all only looks.
        settings: where its folder is; None reads `.env` and the environment.

    Raises:
        Refused: there is no such run, it is not under way, or a value is none.
        LedgerError: several runs begin with this name.
    """
    settings = settings or load_settings(needs=())
    try:
        wanted = parse_changes(changes)
    except WrongPace as error:
        raise Refused(str(error)) from error
    with open_ledger(settings) as ledger:
        found = find_run(ledger, run)
    status = read_status(settings.home, found.name)
    if status is None or "pace" not in status:
        raise Refused(f"RUN: run {found.name} is not under way; give the options to the run itself")
    if found.kind != "migrate" and (idle := [name for name in _OF_EMBEDDING if name in wanted]):
        raise Refused(f"{', '.join(idle)}: run {found.name} is a {found.kind} and embeds nothing")
    in_force = Pace(**status["pace"]).words()
    if wanted:
        write_changes(tune_file(settings.home, found.name), wanted)
    return Tuned(found.name, wanted, in_force)


def _name_of(run: str, settings: Settings) -> str:
    with open_ledger(settings) as ledger:
        return find_run(ledger, run).name
