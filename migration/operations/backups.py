"""Remove backups that nobody will go back to."""

from __future__ import annotations

from collections.abc import Sequence

from kai.settings import Settings, load_settings
from migration.backup import BackupSummary, list_backups, prune
from migration.operations.setup import open_ledger
from migration.strategies.refusals import Refused


def prune_backups(
    *,
    keep: int | None = None,
    older_than: int | None = None,
    runs: Sequence[str] = (),
    settings: Settings | None = None,
) -> list[BackupSummary]:
    """Remove backups for good. What several of the conditions are given for must meet all of them.

    Args:
        keep: spare the newest runs, so many.
        older_than: only those begun more than so many days ago.
        runs: only those of these runs, each by its name, its alias, the beginning of its name, or `latest`.
        settings: where backups and ledger are; None reads `.env` and the environment.

    Returns:
        What was removed.

    Raises:
        Refused: there is no condition, or no backup of a run that is named.
        BackupError: a backup cannot be removed.
    """
    if keep is None and older_than is None and not runs:
        raise Refused("--prune needs --keep, --older-than or --run, so that not everything goes by mistake")
    settings = settings or load_settings(needs=())
    return prune(settings.home, keep, older_than, _whole_names(settings, runs) if runs else ())


def _whole_names(settings: Settings, asked: Sequence[str]) -> list[str]:
    there = {each.run for each in list_backups(settings.home)}
    with open_ledger(settings) as ledger:
        found = {name: name if name in there else getattr(ledger.find_run(name), "name", None) for name in asked}
    if unknown := [name for name, run in found.items() if run not in there]:
        raise Refused(*[f"--run: there is no backup of a run {name!r}" for name in unknown])
    return [run for run in found.values() if run]
