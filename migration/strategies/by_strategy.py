"""The way that a collection goes, by the strategy of its plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from migration.strategies.alias.forward import Alias, settle_new
from migration.strategies.context import RunContext, StrategyStopped
from migration.strategies.create_anew import CreateAnew
from migration.strategies.passes import Passes
from migration.strategies.plan import CollectionPlan
from migration.strategies.recreate import Recreate, settle_leftover
from migration.strategies.refill import Refill
from migration.strategies.refusals import way_problem
from migration.strategies.second_field.expand import Expand
from migration.strategies.shadow.cutover import KeepsWriting
from migration.strategies.shadow_state import past_the_drop
from migration.strategies.task import Task


def by_strategy(task: Task, plan_anew: Callable[[RunContext], CollectionPlan]) -> CollectionPlan:
    """Give each document what the task's source says, by the plan's strategy.

    Args:
        task: what is to be done.
        plan_anew: makes the plan after what a dead run had left was finished or removed.

    Returns:
        The plan that it was done by.
    """
    if settle_leftover(task) or settle_new(task):
        task.server.settle()
        task = replace(task, plan=plan_anew(task.context))
    return _migrate(task)


def _migrate(task: Task) -> CollectionPlan:
    """The plan of what then has the vectors. A collection that cannot be dropped without losing writes is emptied."""
    plan = task.plan
    if plan.strategy == "alias":
        return Alias(task).run()
    if plan.strategy == "in place":
        limit = task.context.options.limit_of(plan.eligible)
        Passes(task, plan.schema, backs_up=True, limit=limit).run(plan.eligible)
    elif plan.strategy == "create" and plan.backup is not None:
        CreateAnew(task, plan.backup).run()
    elif plan.strategy in ("rebuild", "alter"):
        Refill(task).run()
    elif plan.strategy == "into":
        Expand(task).run()
    else:
        _recreate(task)
    return plan


def _recreate(task: Task) -> None:
    plan, outcome, console = task.plan, task.outcome, task.context.console
    backup = None if past_the_drop(plan.leftover, plan.schema) else task.open_backup("documents")
    try:
        Recreate(task, backup).run()
        return
    except KeepsWriting as reason:
        if problem := way_problem(plan.collection, plan.schema, "alter"):
            if backup is not None:
                backup.is_complete = True
            raise StrategyStopped(
                f"{reason}; stop it and run again, or give --strategy recreate. It cannot be emptied and filled "
                f"instead: {problem}"
            ) from reason
        outcome.notes.append(f"{reason}: its vector field was emptied and filled instead (--strategy alter)")
        console.warn(f"  {reason}; going on by emptying and filling its vector field (--strategy alter)")
    task.context.ledger.update_collection(task.identity, strategy="alter")
    outcome.written, outcome.failures = 0, {}
    refilled = replace(task, plan=replace(plan, strategy="alter", leftover=None))
    Refill(refilled, backup).run()
