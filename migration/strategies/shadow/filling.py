"""From an empty shadow to one that is complete, abreast of the live collection, and checked."""

from __future__ import annotations

from typing import Final

from migration.strategies.shadow.builder import CannotCopy, ShadowBuilder
from migration.strategies.shadow_state import get_exact
from migration.strategies.task import Task

CATCH_UPS: Final = 3


def fill(task: Task, builder: ShadowBuilder) -> bool:
    """Fill the shadow, catch up with what changed meanwhile, and read it back; False if the run was stopped before.

    Raises:
        CannotCopy: the shadow refuses documents, or is not as it should be.
    """
    with task.context.console.progress(f"  Migrating {task.name}", task.server.count(task.name)) as bar:
        builder.build(bar.update)
    if task.is_stopped:
        return False
    task.enter("catching up")
    for _ in range(CATCH_UPS):
        if not (changed := builder.catch_up()) or task.is_stopped:
            break
    else:
        task.outcome.notes.append(
            f"the application keeps writing: {changed} documents changed during the last of {CATCH_UPS} catch-ups"
        )
    if task.is_stopped:
        return False
    check(task, builder)
    account(task, builder)
    return not task.is_stopped


def account(task: Task, builder: ShadowBuilder) -> None:
    """Note what the shadow holds, and what it does not."""
    task.outcome.failures = dict(builder.failures)
    task.outcome.written = builder.held


def check(task: Task, builder: ShadowBuilder) -> None:
    """Read the shadow back.

    Raises:
        CannotCopy: it is not as it should be, even after another catch-up.
    """
    task.enter("checking")
    if _wrong(task, builder) and not task.is_stopped:
        builder.catch_up()
        if wrong := _wrong(task, builder):
            raise CannotCopy(f"the shadow is not as it should be: {'; '.join(wrong)}")


def _wrong(task: Task, builder: ShadowBuilder) -> list[str]:
    live = get_exact(task.server, task.name)
    return [f"collection {task.name!r} is gone"] if live is None else builder.check(live)
