"""The product's waits, shortened: a server of the tests holds a few documents and answers in a moment.

What counts as standing still, or as over, is then seen in the next moment. What the waits are for is tested where
they stay as they are, with a writer or an alter that takes its time.
"""

from __future__ import annotations

import contextlib
from typing import Final
from unittest.mock import patch

from kai import typesense_changes, typesense_nodes
from migration.operations import finish, migrate, rollback
from migration.strategies import moment
from migration.strategies.shadow import cutover

_SECONDS: Final = (
    (moment, "_CATCHES_UP_EVERY", 0.05),
    (moment, "_LOOKS_EVERY", 0.01),
    (moment, "_REST", 1),
    (cutover, "_QUIET", 0.05),
    (cutover, "_QUIET_AFTER_CHANGES", 0.3),
    (typesense_changes, "SETTLED", 0.2),
    (typesense_changes, "_POLL", 0.02),
)


def hurried() -> contextlib.ExitStack:
    """Within this context, or for good in a child process that never leaves it, a run waits no longer than it must.

    And it leaves out what `unencumbered` does.
    """
    stack = unencumbered()
    for module, name, seconds in _SECONDS:
        stack.enter_context(patch.object(module, name, seconds))
    return stack


def unencumbered() -> contextlib.ExitStack:
    """Within this context, a run writes no report, and looks but once whether a load balancer is before it.

    Together a third of a short run's time. Reports are written in tests/commands/test_report.py, and those who send
    a run to a load balancer do not hurry it.
    """
    stack = contextlib.ExitStack()
    stack.enter_context(patch.object(typesense_nodes, "_LOOKS", 1))
    for module in (finish, migrate, rollback):
        stack.enter_context(patch.object(module, "report_run", lambda *so_far: so_far[-1]))
    return stack
