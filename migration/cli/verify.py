"""`kai-migrate verify`: is what stands there what a run put there?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from migration.cli.completion import run_names
from migration.cli.options import COLLECTIONS_FILE, Invocation, common_options

if TYPE_CHECKING:
    from migration.ledger import VerificationRecord
    from migration.operations.verify import Verified
    from migration.runtime.console import Console


@click.command("verify")
@click.argument("run", required=False, shell_complete=run_names)
@COLLECTIONS_FILE
@click.option(
    "--sample",
    type=click.IntRange(0, 250),
    default=10,
    show_default=True,
    help="Documents to embed again and to search for by their own vector.",
)
@common_options
def command(run: str | None, collections_file: Path | None, sample: int, invocation: Invocation) -> int:
    """Read every document that RUN migrated (by default the latest) and compare it with what was written.

    PASS, FAIL or NOT CHECKED for each collection, with numbers; only PASS for all of them is exit status 0, the
    others are 1. A check that could not be made is no pass, and says why. The first 20 documents that failed a
    check are named, and all of them with --json. A sample is embedded again if the configured model is the run's.
    """
    from migration.cli.exits import answer
    from migration.operations.verify import verify

    return answer(
        invocation,
        lambda _, console: verify(
            run,
            sample=sample,
            collections_file=collections_file,
            env_file=invocation.env_file,
            verified=lambda record: None if invocation.as_json else _lay_out(record, console),
            console=console,
        ),
        lambda *_: None,  # Each collection is laid out as soon as it is verified.
        needs=["typesense"],
        facts=_facts,
    )


def _facts(found: Verified) -> dict[str, object]:
    names = ("collection", "verdict", "checks")
    return {"collections": [{name: getattr(each, name) for name in names} for each in found.collections]}


def _lay_out(record: VerificationRecord, console: Console) -> None:
    from migration.operations.runs.checks import told, told_wrong

    console.line(f"{record.collection}: {record.verdict}")
    for check in record.checks:
        console.line(f"  {_MARKS[check.passed]} {told(check)}")
    for line in told_wrong(record.checks):
        console.line(f"  ! {line}")


_MARKS: Final = {True: " ", False: "!", None: "?"}
"""Passed, failed, not checked."""
