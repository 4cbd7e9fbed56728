"""The point of no return: all is built, and what follows is seen by those who search. The moment is the operator's.

Every strategy that has such a point (the drop of a recreate, the swap of an alias, the pause of an alter or a rebuild)
asks here before it, and tells when it is past it. In place there is none: the vectors change one after the other; nor
where a second field is filled, which changes nothing that serves.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Final

from kai.typesense import TypesenseError
from migration.runtime.holding import HOLDING, held, hold_file
from migration.runtime.hooks import HookName
from migration.strategies.context import StrategyStopped
from migration.strategies.plan import CollectionPlan
from migration.strategies.shadow_state import past_the_drop, unfinished_refill
from migration.strategies.task import Task

_LOOKS_EVERY: Final = 0.2
"""Seconds between two looks at whether the run is let go."""
_CATCHES_UP_EVERY: Final = 5.0
"""Seconds from the end of a catch-up to the next one, at least; more where it takes long, so that the server is not
read all the time."""
_REST: Final = 10
"""How many times as long as a catch-up has taken it is left alone afterwards."""
_LONGEST_REST: Final = 300.0


class Withheld(StrategyStopped):
    """The moment was not given. Nothing that serves was changed; what was built stays, and the next start goes on."""


def has_moment(plan: CollectionPlan) -> bool:
    """Whether the way that is planned has a point of no return that is still to come."""
    if plan.strategy == "recreate":
        return not past_the_drop(plan.leftover, plan.schema)
    if plan.strategy == "alias":
        return not plan.is_swapped
    return plan.strategy in ("rebuild", "alter") and unfinished_refill(plan.schema) is None


def ready(task: Task, catch_up: Callable[[], int], check: Callable[[], object] = lambda: None) -> bool:
    """Everything is built, backed up and checked, and the point of no return follows: whether to go past it.

    Holds where that was asked for, catching up all the while. A collection's moment is given once, also where it then
    goes another way.

    Args:
        task: whose point it is.
        catch_up: brings what was built abreast of the collection; how many documents had changed.
        check: whether it is whole, asked where anything was caught up with after it was first checked.

    Returns:
        False where the run is to end here: it was stopped, or is a rehearsal.

    Raises:
        Withheld: nobody gave the moment in time, or the hook before it failed.
    """
    context, name = task.context, task.name
    if name in context.given:
        return not task.is_stopped
    _call(task, "ready")
    if context.options.rehearse:
        task.outcome.rehearsed = not task.is_stopped
        return False
    if context.options.hold is not None and not task.is_stopped:
        holding = _Holding(task, catch_up, context.options.hold)
        holding.run()
        # Once more, so that the least is left to do after the hook.
        if not task.is_stopped and (catch_up() or holding.has_caught_up):
            check()
    if task.is_stopped:
        return False
    if why := _call(task, "before-cut-over"):
        raise Withheld(f"the hook before-cut-over failed ({why}), so nothing that serves was changed")
    context.given.add(name)
    return not task.is_stopped


def passed(task: Task) -> None:
    """The collection is past its point of no return, and takes the new vectors."""
    _call(task, "after-cut-over")


def _call(task: Task, name: HookName) -> str:
    context, plan = task.context, task.plan
    phase = context.status.facts()["phase"]
    return context.hooks.call(name, collection=task.name, strategy=plan.strategy, field=task.field, phase=phase)


class _Holding:
    """One collection that holds before its point of no return.

    Attributes:
        has_caught_up: whether anything was brought meanwhile, or may have been.
    """

    def __init__(self, task: Task, catch_up: Callable[[], int], most: float) -> None:
        self._task = task
        self._context = task.context
        self._catch_up = catch_up
        self._most = most
        self._file = hold_file(task.context.home, task.context.run.name)
        self._began = time.monotonic()
        self._since = time.time()
        self._trouble = ""
        self.has_caught_up = False

    def run(self) -> None:
        """Until it is released, or the run is stopped.

        Raises:
            Withheld: nobody released it in time.
        """
        context = self._context
        self._task.enter(HOLDING)
        context.status.say(hold=self._facts())
        with held(self._file, self._task.name):
            context.console.tell(
                f"  Holding: '{self._task.name}' is ready, and the point of no return follows. To go on: kai-migrate "
                f"release {context.run.name}, or remove {self._file}"
            )
            rest = 0.0
            while self._holds(rest):
                rest = self._abreast()
        if not self._task.is_stopped:
            context.console.tell("  Released.")

    def _holds(self, seconds: float) -> bool:
        """Wait so long; whether it holds after that."""
        until = time.monotonic() + seconds
        while self._file.exists() and not self._task.is_stopped:
            if time.monotonic() - self._began >= self._most:
                raise Withheld(
                    f"nobody released it within {self._most:g} s (--hold), so nothing that serves was changed; what "
                    "was built stays"
                )
            if time.monotonic() >= until:
                return True
            self._context.control.stopped.wait(_LOOKS_EVERY)
        return False

    def _abreast(self) -> float:
        """Catch up once; seconds to leave the server alone after that."""
        began = time.monotonic()
        self._context.control.wait_while_paused()
        changed: int | None = None
        trouble = ""
        try:
            changed = self._catch_up()
        except (TypesenseError, StrategyStopped) as error:
            if isinstance(error, TypesenseError) and not error.transient:
                raise
            # Nothing is lost by trying again: by then the server may be back, or what could not be copied mended.
            trouble = str(error)
        if trouble and trouble != self._trouble:
            self._context.console.warn(f"  Still holding, though catching up failed: {trouble}")
        self._trouble = trouble
        self.has_caught_up |= changed != 0
        seconds = time.monotonic() - began
        self._context.status.say(
            hold=self._facts(catch_up_seconds=round(seconds, 3), changed=changed, trouble=trouble or None)
        )
        return min(max(_CATCHES_UP_EVERY, _REST * seconds), _LONGEST_REST)

    def _facts(self, **last: Any) -> dict[str, Any]:
        until = None if math.isinf(self._most) else self._since + self._most
        looked_at = time.time() if last else None
        times = {"since": self._since, "until": until, "looked_at": looked_at}
        said = {name: None if moment is None else _clock(moment) for name, moment in times.items()}
        return {"catch_up_seconds": None, "changed": None, "trouble": None, **said, **last}


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
