"""What the vector cache holds, and taking out of it what nobody needs any more."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

from kai.settings import Settings, load_settings
from migration.embedding.cache_upkeep import Condition, Space, Upkeep
from migration.ledger import Ledger
from migration.operations.setup import cache_is_there, ledger_if_there, open_cache
from migration.runtime.status import read_status
from migration.strategies.refusals import Refused


@dataclass(frozen=True, slots=True)
class CacheContents:
    """What the vector cache holds.

    Attributes:
        place: the file, or the database without user and password.
        bytes: what it takes on the disk.
        spaces: a model each, the largest first.
    """

    place: str
    bytes: int
    spaces: tuple[Space, ...]


@dataclass(frozen=True, slots=True)
class Removed:
    """What was removed from the vector cache, or would be.

    Attributes:
        entries: vectors.
        bytes: about what they took.
        by_model: entries by the model's name.
        is_dry: whether they are still there.
        given_back: whether their room is free on the disk now; else the cache fills it with what comes next.
    """

    entries: int
    bytes: int
    by_model: dict[str, int]
    is_dry: bool
    given_back: bool


def cache_contents(settings: Settings | None = None) -> CacheContents:
    """What the vector cache holds, by model. Reads all of it.

    Args:
        settings: where it is; None reads `.env` and the environment.

    Raises:
        Refused: there is none yet.
        CacheError: it cannot be read.
    """
    settings = settings or load_settings(needs=())
    with standing_cache(settings) as cache:
        return CacheContents(cache.place, cache.size(), tuple(named_spaces(settings, cache)))


def prune_cache(
    *,
    older_than: timedelta | None = None,
    model: str | None = None,
    keep_bytes: int | None = None,
    dry_run: bool = False,
    confirmed: Callable[[str], bool] = lambda _: True,
    settings: Settings | None = None,
) -> Removed:
    """Remove vectors for good. What several of the conditions are given for must meet all of them.

    Args:
        older_than: only those that came longer ago.
        model: only those of this model: its name, `FAMILY/MODEL`, `FAMILY/MODEL@DIMENSIONS` or its fingerprint.
        keep_bytes: spare the newest, up to so many bytes.
        dry_run: only say what would go.
        confirmed: asked before anything is removed.
        settings: where it is; None reads `.env` and the environment.

    Raises:
        Refused: there is no condition, no such model, or no cache; a run is under way; or it was not confirmed.
        CacheError: it cannot be written.
    """
    if older_than is None and model is None and keep_bytes is None:
        raise Refused("--older-than, --model, --keep-size: give at least one, so that not everything goes by mistake")
    settings = settings or load_settings(needs=())
    with standing_cache(settings) as cache:
        spaces = named_spaces(settings, cache)
        meant = spaces_of(spaces, model) if model is not None else spaces
        before = None if older_than is None else time.time() - older_than.total_seconds()
        condition = Condition(tuple(space.fingerprint for space in meant), before, keep_bytes)
        found = cache.prunable(condition) if meant else {}
        names = {space.fingerprint: space.name for space in spaces}
        by_model = {names[space]: entries for space, (entries, _) in found.items()}
        entries, size = sum(by_model.values()), sum(size for _, size in found.values())
        if dry_run or not entries:
            return Removed(entries, size, by_model, is_dry=dry_run, given_back=False)
        told = ", ".join(f"{count:,} of {name}" for name, count in by_model.items())
        if (run := _under_way(settings)) is not None:
            raise Refused(f"run {run} is under way, and what it has at hand would go too; wait until it has ended")
        if not confirmed(f"Remove {entries:,} vectors ({told}), which would have to be paid for again?"):
            raise Refused("not confirmed; give --yes to go on without being asked")
        removed = cache.prune(condition)
        return Removed(removed, size, by_model, is_dry=False, given_back=cache.shrink())


@contextlib.contextmanager
def standing_cache(settings: Settings) -> Iterator[Upkeep]:
    """The vector cache where there is one already.

    Raises:
        Refused: there is none.
    """
    if not cache_is_there(settings):
        where = "MIGRATION_CACHE_URL: there is no vector cache on that server"
        if not settings.cache_url:
            where = f"MIGRATION_HOME: there is no vector cache in {settings.home}"
        raise Refused(f"{where} yet; a run makes one")
    with open_cache(settings) as cache:
        yield Upkeep(cache)


def named_spaces(settings: Settings, cache: Upkeep) -> list[Space]:
    """What the cache holds, with the names that the ledger has for what an older program has kept."""
    spaces = cache.spaces()
    if all(space.model for space in spaces):
        return spaces
    with ledger_if_there(settings) as ledger:
        return [space if space.model else _named(space, ledger) for space in spaces]


def spaces_of(spaces: list[Space], words: str) -> list[Space]:
    """Those of the spaces that are of a model.

    Raises:
        Refused: there is none.
    """
    found = [space for space in spaces if words in _names(space)]
    if not found:
        there = ", ".join(space.name for space in spaces) or "nothing"
        raise Refused(f"--model: the cache holds no vectors of {words!r}; it holds {there}")
    return found


def _under_way(settings: Settings) -> str | None:
    """The name of a run of this home that is under way."""
    runs = (file.parent.name for file in settings.home.glob("runs/*/status.json"))
    return next((run for run in runs if read_status(settings.home, run) is not None), None)


def _named(space: Space, ledger: Ledger | None) -> Space:
    model = ledger.find_model(space.fingerprint) if ledger is not None else None
    if model is None:
        return space
    return replace(
        space, family=model.family, model=model.model, dimensions=model.dimensions, task_type=model.task_type
    )


def _names(space: Space) -> set[str | None]:
    family_and_model = f"{space.family}/{space.model}"
    lengths = {f"{family_and_model}@{space.dimensions}", f"{family_and_model}/{space.dimensions}"}
    return {space.fingerprint, space.model, family_and_model, *lengths}
