"""What a shell offers when somebody presses Tab: names of runs and of collections, or nothing at all.

Called at each Tab, so it loads neither the ledger's packages (0.4 s) nor anything else that a command needs, and
whatever is in its way is nothing to offer, not an error in the middle of a command line.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from kai.settings import Settings

_MOST: Final = 200
_LATEST: Final = "latest"


def run_names(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names and aliases of runs, the latest first, and `latest`."""
    from kai.settings import SettingsError, load_settings

    try:
        settings = load_settings(_given(ctx, "env_file"), needs=())
    except SettingsError:
        return []
    names = list(_runs(settings))
    return _items([_LATEST, *names] if names else [], incomplete)


def collection_names(ctx: click.Context, _parameter: click.Parameter | None, incomplete: str) -> list[CompletionItem]:
    """The collections of the collections file that was given before, or KAI's."""
    from kai.collections import CollectionsError, load_collections

    try:
        known = load_collections(_given(ctx, "collections_file"))
    except CollectionsError:
        return []
    return _items(known, incomplete)


def _given(ctx: click.Context, option: str) -> Path | None:
    """The file that an option names, wherever on the line it stands."""
    for each in (ctx, ctx.find_root()):
        if each.params.get(option):
            return Path(each.params[option])
    return None


def _items(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(name) for name in dict.fromkeys(names) if name.startswith(incomplete)]


def _runs(settings: Settings) -> Iterator[str]:
    """By a ledger of SQLite; of another one, or without it, the runs that have a folder here."""
    url = settings.ledger_url or f"sqlite:///{settings.home.absolute() / 'ledger.sqlite'}"
    if url.startswith("sqlite"):
        yield from _in_sqlite(Path(url.partition(":///")[2].partition("?")[0]))
        return
    folders = settings.home.glob("runs/*/status.json")
    with contextlib.suppress(OSError):
        yield from (file.parent.name for file in sorted(folders, key=lambda each: -each.stat().st_mtime))


def _in_sqlite(file: Path) -> Iterator[str]:
    import sqlite3

    with contextlib.suppress(sqlite3.Error, OSError):
        uri = f"file:{quote(str(file.absolute()))}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=0.2)) as connection:
            query = "SELECT name, alias FROM runs ORDER BY number DESC LIMIT ?"
            for name, alias in connection.execute(query, (_MOST,)):
                yield from filter(None, (alias, name))
