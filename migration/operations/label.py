"""A run's alias and description, given or changed after the fact."""

from __future__ import annotations

from kai.settings import Settings, load_settings
from migration.ledger.records import Labels
from migration.operations.history import RunLine, find_run, lines_of
from migration.operations.setup import open_ledger
from migration.strategies.refusals import Refused

_LONGEST_ALIAS = 200


def label_run(
    run: str,
    *,
    alias: str | None = None,
    description: str | None = None,
    move: bool = False,
    settings: Settings | None = None,
) -> RunLine:
    """Give a run, whatever it did, another alias or description.

    Args:
        run: its name, alias, or `latest`.
        alias: the new one; empty to free the one it has; None leaves it.
        description: likewise.
        move: whether an alias that another run has is taken from that one.
        settings: where the ledger is; None reads `.env` and the environment.

    Returns:
        The run with its new labels.

    Raises:
        Refused: nothing is to be changed, the alias is none, or there is no such run.
        LedgerError: the alias is taken.
    """
    if alias is None and description is None:
        raise Refused("--alias, --no-alias, --description: give at least one of them")
    if move and not alias:
        raise Refused("--move goes with --alias NAME")
    if alias and (alias != alias.strip() or not alias.isprintable() or len(alias) > _LONGEST_ALIAS):
        raise Refused(f"--alias: {alias!r} is no name; write up to {_LONGEST_ALIAS} characters that can be printed")
    labels: Labels = {}
    if alias is not None:
        labels["alias"] = alias or None
    if description is not None:
        labels["description"] = description or None
    with open_ledger(settings or load_settings(needs=())) as ledger:
        changed = ledger.label_run(find_run(ledger, run).id, move=move, **labels)
        return lines_of(ledger, changed)[0]
