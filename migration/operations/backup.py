"""Whole collections on disk, by hand; and the backups removed that nobody will go back to."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from kai.collections import EmbeddedCollection
from kai.settings import Settings, load_settings
from kai.typesense import Schema, Typesense, TypesenseError
from kai.typesense_schemas import serving_field
from migration.backup import BackupError, BackupSummary, BackupWriter, list_backups, prune
from migration.documents.fetch import PAGE_SIZE, Selection, whole_export
from migration.ledger.errors import LedgerError
from migration.operations.runs.record import call_of
from migration.operations.runs.results import DONE, STOPPED
from migration.operations.setup import (
    PREFLIGHT_PATIENCE,
    TYPESENSE_ONLY,
    open_ledger,
    open_server,
    selected_collections,
)
from migration.runtime.console import SILENT, Console
from migration.strategies.curation import read_curation, refuse_unusable
from migration.strategies.refusals import Refused
from migration.strategies.shadow_state import unfinished

_BYTES_A_DOCUMENT = 20_000


@dataclass(frozen=True, slots=True)
class BackedUp:
    """What a backup by hand came to.

    Attributes:
        run: its name.
        documents: how many are in the backup, by collection.
        folders: where they are, by collection; those that are complete.
        cause: what stopped it; empty where nothing did.
    """

    run: str
    documents: Mapping[str, int]
    folders: Mapping[str, Path]
    cause: str = ""

    @property
    def exit_status(self) -> int:
        """0 all done, 3 stopped before the end."""
        return STOPPED if self.cause else DONE


def back_up(
    collections: Sequence[str] = (),
    *,
    collections_file: Path | None = None,
    settings: Settings | None = None,
    console: Console = SILENT,
) -> BackedUp:
    """Back up whole collections, each from one snapshot.

    Args:
        collections: names, aliases among them; empty or `all` for every known one.
        collections_file: descriptions of the user's own collections; None for KAI's.
        settings: Typesense, and where backups live; None reads `.env` and the environment.
        console: where to tell; nothing by default.

    Raises:
        Refused: a collection is unknown or not there.
    """
    settings = settings or load_settings(needs=TYPESENSE_ONLY)
    selected = selected_collections(collections, collections_file)
    with open_server(settings, console) as server, open_ledger(settings) as ledger:
        schemas = {each.name: server.collection(each.name) for each in selected}
        everything, aliases = server.collections(), server.aliases()
        if undone := list(filter(None, (unfinished(everything, aliases.get(name, name)) for name in schemas))):
            raise Refused(*[f"{what}; run the migration again, which finishes it" for what in undone])
        if missing := [name for name, schema in schemas.items() if schema is None]:
            raise Refused(
                *[f"Collection not found: collection {name!r} does not exist on {server.url}" for name in missing]
            )
        refuse_unusable(server, [schema for schema in schemas.values() if schema], contents=True)
        server.patience = max(server.patience, 24 * PREFLIGHT_PATIENCE)
        source = {"server": server.address, "collections": list(schemas)}
        name = f"backup-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
        run = ledger.start_run(
            name,
            "backup",
            source=source,
            parameters={"typesense": server.told_version()},
            call=call_of({"collections": collections}, settings, collections_file),
        )
        totals: dict[str, int] = {}
        folders: dict[str, Path] = {}
        cause = ""
        try:
            for each in selected:
                schema = schemas[each.name] or {}
                folders[each.name] = _back_up_one(settings, console, server, run.name, each, schema, totals)
        except TypesenseError as error:
            cause = f"Typesense: {error}"
        except BackupError as error:
            cause = str(error)
        except OSError as error:
            cause = f"{error.filename or 'the disk'}: {error.strerror or error}"
        except KeyboardInterrupt:
            with contextlib.suppress(LedgerError):
                ledger.finish_run(run.id, "interrupted", totals)
            raise
        try:
            ledger.finish_run(run.id, "stopped" if cause else "completed", totals)
        except LedgerError as error:
            cause = cause or f"the end of the backup cannot be noted: {error}"
        return BackedUp(run.name, totals, folders, cause)


def _back_up_one(
    settings: Settings,
    console: Console,
    server: Typesense,
    run: str,
    collection: EmbeddedCollection,
    schema: Schema,
    totals: dict[str, int],
) -> Path:
    name, documents = str(schema["name"]), int(schema["num_documents"])
    opened = BackupWriter.open(
        settings.home,
        run,
        name,
        kind="documents",
        embedding_field=serving_field(schema, collection.embedding_field),
        server=server.address,
        schema=schema,
        curation=read_curation(server, schema),
        free_space_needed=documents * _BYTES_A_DOCUMENT,
    )
    with opened as writer, console.progress(f"  Backing up {name}", documents) as bar:
        lines = whole_export(server, name, Selection())
        while page := list(islice(lines, PAGE_SIZE)):
            writer.add(page)
            totals[name] = totals.get(name, 0) + len(page)
            bar.update(len(page))
        writer.is_complete = True
    console.line(f"{name}: {totals.get(name, 0)} documents in {writer.folder}")
    return writer.folder


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
