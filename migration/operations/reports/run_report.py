"""The report of a run: everything that is known of it, put together and written into its folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from kai.settings import Settings, load_settings
from migration.ledger import Ledger, RunRecord
from migration.operations.compare import readable_server
from migration.operations.history import find_run
from migration.operations.models.neighbours import KeptNeighbours, kept_neighbours
from migration.operations.models.overlap import Kept, Overlap, VectorOrigins
from migration.operations.reports.run_facts import RunReport, collect, rows_of_run
from migration.operations.reports.run_page import page_of
from migration.operations.runs.results import CollectionResult, RunResult
from migration.operations.setup import PREFLIGHT_PATIENCE, Session, open_ledger
from migration.reporting.files import JSON, write
from migration.runtime.console import SILENT, Console
from migration.runtime.status import status_file


@dataclass(frozen=True, slots=True)
class WrittenReport:
    """A report, and the files that it stands in."""

    html: Path
    json: Path
    report: RunReport


def write_report(
    name: str,
    *,
    env_file: Path | None = None,
    settings: Settings | None = None,
    console: Console = SILENT,
) -> WrittenReport:
    """Write the report of a run anew, from what the ledger and the run's folder know.

    Neighbours that were compared when the run ended stay as they were; else they are compared now, where the vectors
    are still to be had.

    Args:
        name: of the run, its alias, or `latest`.
        env_file: file with the settings, where these are not given; None for `.env` in the working folder.
        settings: the ledger, and Typesense; None reads `env_file` and the environment, and does without a server
            where these name none.
        console: where to tell of waiting; nothing by default.

    Raises:
        Refused: there is no such run.
        LedgerError: the ledger cannot be used.
        OSError: the report cannot be written.
    """
    found = settings or load_settings(env_file, needs=())
    with open_ledger(found) as ledger:
        run = find_run(ledger, name)
        folder = _folder(found.home, run.name)
        told, neighbours = _kept_of_earlier(folder / JSON)
        if not neighbours and run.kind == "migrate":
            with readable_server(settings, env_file, console) as (server, _, why):
                neighbours = _compared(VectorOrigins(ledger, found.home, server, {}, why), run)
        return _write(ledger, run, found, told, neighbours)


def report_run(session: Session, ledger: Ledger, run: RunRecord, result: RunResult) -> RunResult:
    """Write the report of a run that has just ended; one that cannot be written is told, and changes nothing else.

    Returns:
        The result, with where the report is.
    """
    try:
        # What has them already is finished now, and stays as it was compared when it was filled.
        _, neighbours = _kept_of_earlier(_folder(session.settings.home, run.name) / JSON)
        if run.kind == "migrate" and not (neighbours or result.stopped or result.rehearsed):
            session.server.patience = PREFLIGHT_PATIENCE
            neighbours = _compared(VectorOrigins(ledger, session.settings.home, session.server, {}), run)
        told = tuple(_told(result))
        written = _write(ledger, ledger.find_run(run.id) or run, session.settings, told, neighbours)
    except Exception as error:  # Whatever it is: the documents are where they belong, and the run is to say so.
        session.console.warn(f"The report of run {run.name} could not be written: {error or type(error).__name__}")
        return result
    return replace(result, report=str(written.html))


def _write(
    ledger: Ledger, run: RunRecord, settings: Settings, told: tuple[str, ...], neighbours: tuple[KeptNeighbours, ...]
) -> WrittenReport:
    report = collect(ledger, run, settings.home, told, neighbours)
    folder = _folder(settings.home, run.name)
    html = write(folder, page_of(report), report, settings.secrets)
    return WrittenReport(html, folder / JSON, report)


def _folder(home: Path, run: str) -> Path:
    return status_file(home, run).parent.absolute()


def _compared(places: VectorOrigins, run: RunRecord) -> tuple[KeptNeighbours, ...]:
    return tuple(kept_neighbours(places, run, rows_of_run(places.ledger, run)))


def _kept_of_earlier(file: Path) -> tuple[tuple[str, ...], tuple[KeptNeighbours, ...]]:
    """What only the end of the run knew, from the report that was written then."""
    try:
        facts: dict[str, Any] = orjson.loads(file.read_bytes())
        neighbours = tuple(
            KeptNeighbours(
                each["collection"], Overlap(**each["overlap"]), None, tuple(Kept(**kept) for kept in each["documents"])
            )
            for each in facts["neighbours"]
            if each["overlap"] is not None
        )
        return tuple(facts["told"]), neighbours if len(neighbours) == len(facts["neighbours"]) else ()
    except (OSError, ValueError, KeyError, TypeError):
        return (), ()


def _told(result: RunResult) -> Iterator[str]:
    for each in result.collections:
        yield from _told_of(each)
    yield from result.trouble
    if result.unnoted:
        yield f"The end of the run cannot be noted: {result.unnoted}"


def _told_of(result: CollectionResult) -> Iterator[str]:
    if result.cause:
        yield f"Stopped at {result.name!r}: {result.cause}"
    for note in result.outcome.notes if result.outcome else ():
        yield f"{result.name}: {note}"
