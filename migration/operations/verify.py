"""Verify at any time what a run did: which run, which of its collections, and the verdict on each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from kai.collections import described_as, load_collections
from kai.models import fingerprint
from kai.settings import Settings, SettingsError, load_settings
from kai.typesense_schemas import serving_field
from migration.ledger import Ledger, RunRecord, VerificationRecord
from migration.ledger.records import RunKind
from migration.ledger.runs import LATEST
from migration.operations.runs.checks import check_collection, record_verdict
from migration.operations.runs.results import DONE, SOME_FAILED
from migration.operations.runs.writers import Writers, refuse_another_server, why_superseded
from migration.operations.setup import (
    TYPESENSE_ONLY,
    Session,
    configured_target,
    make_embedder,
    open_ledger,
    open_server,
)
from migration.runtime.console import SILENT, Console
from migration.strategies.context import MigrationOptions
from migration.strategies.refusals import Refused
from migration.strategies.shadow_state import unfinished

_PROVIDER_PATIENCE: Final = 20.0
"""Seconds that a check waits for a provider that does not answer."""
_PATIENCE: Final = 120.0
"""Seconds that it waits for the server, once it reads."""
_MIGRATIONS: Final[tuple[RunKind, ...]] = ("migrate",)


@dataclass(frozen=True, slots=True)
class Verified:
    """What became of a verification.

    Attributes:
        run: name of the run whose vectors should stand there.
        collections: the verdict on each, with its checks.
    """

    run: str
    collections: tuple[VerificationRecord, ...]

    @property
    def exit_status(self) -> int:
        """0 everything is as it should be, 1 a check failed or could not be made."""
        return DONE if all(each.verdict == "PASS" for each in self.collections) else SOME_FAILED


def verify(
    run: str | None = None,
    *,
    sample: int = 10,
    collections_file: Path | None = None,
    env_file: Path | None = None,
    verified: Callable[[VerificationRecord], object] = lambda _: None,
    settings: Settings | None = None,
    console: Console = SILENT,
) -> Verified:
    """Read every document that a run migrated, compare it with what was written, and note the verdict.

    Args:
        run: name or alias; None for the latest migration whose vectors still stand.
        sample: documents to embed again, if the configured model is the run's, and to search for by their own vector.
        collections_file: descriptions of the user's own collections; None for KAI's.
        env_file: file with the settings, where these are not given; None for `.env` in the working folder.
        verified: told the verdict on each collection as soon as it is there.
        settings: Typesense, the ledger, and the model for the sample; None reads `env_file` and the environment, and
            does without the sample where these do not say how to embed it.
        console: where to tell; nothing by default.

    Raises:
        SettingsError: Typesense or the ledger is not configured.
        Refused: there is no such run, nothing of it stands any more, or a collection of it cannot be read.
        CollectionsError, LedgerError, TypesenseError: a description, the ledger or the server cannot be used.
    """
    found = settings or load_settings(env_file, needs=TYPESENSE_ONLY)
    described = load_collections(collections_file)
    with open_server(found, console) as server, open_ledger(found) as ledger:
        writers = Writers(ledger, server.address)
        chosen, standing, superseded = _chosen(writers, run, console)
        for name, why in superseded.items():
            console.warn(f"{name} is not verified: {why}.")
        embedder = None
        if sample and not _is_configured(ledger, chosen, found):
            console.warn("No sample is embedded again: the configured model is not the run's.")
        elif sample:
            try:
                complete = settings or load_settings(env_file)
            except SettingsError as error:
                console.warn(f"No sample is embedded again: {error.problems[0]}")
            else:
                one_by_one = MigrationOptions(concurrency=1)
                session = Session(settings=complete, server=server, console=console, options=one_by_one)
                embedder = make_embedder(session, patience=_PROVIDER_PATIENCE)
        server.patience = _PATIENCE
        aliases = server.aliases()
        records: list[VerificationRecord] = []
        for name in standing:
            collection, schema = described_as(described, name, aliases), server.collection(name)
            if undone := unfinished(server.collections(), name):
                raise Refused(f"{undone}; run the migration again, which finishes it, and verify then")
            if collection is None or schema is None:
                what = "is not described; give --collections-file" if schema else "is not on the server any more"
                raise Refused(f"collection {name!r} {what}")
            field = ledger.field_written(chosen.id, name) or serving_field(schema, collection.embedding_field)
            collection = replace(collection, embedding_field=field)
            with console.progress(f"  Verifying {name}", server.count(name, collection.filter_by)) as bar:
                checks = check_collection(
                    server,
                    writers,
                    chosen,
                    collection,
                    schema,
                    embedder=embedder,
                    sample_size=sample,
                    advance=bar.update,
                )
            records.append(record_verdict(ledger, chosen, name, checks))
            verified(records[-1])
    return Verified(chosen.name, tuple(records))


def _is_configured(ledger: Ledger, run: RunRecord, settings: Settings) -> bool:
    """Whether the configured model is the run's; no key is needed to say so."""
    model = ledger.find_model(run.model_id) if run.model_id else None
    target = configured_target(settings)
    return model is not None and target is not None and fingerprint(target, "") == model.fingerprint


def _chosen(writers: Writers, name: str | None, console: Console) -> tuple[RunRecord, list[str], dict[str, str]]:
    """The run to verify, by default the latest that still stands, and which of its collections do, and do not and why.

    Raises:
        Refused: there is no such run, or none of its vectors stands any more.
    """
    ledger = writers.ledger
    run = ledger.find_run(name, kinds=_MIGRATIONS)
    if run is None:
        raise Refused(f"there is no run {name!r} in the ledger" if name else "the ledger has no run to verify")
    refuse_another_server(run, writers.address)
    standing, superseded = _standing(writers, run)
    if standing or not superseded:
        return run, standing, superseded
    for earlier in ledger.runs() if name in (None, LATEST) else ():
        if earlier.kind in _MIGRATIONS and earlier.source.get("server") == writers.address:
            standing, theirs = _standing(writers, earlier)
            if standing:
                console.warn(f"{next(iter(superseded.values()))}; run {earlier.name} is verified.")
                return earlier, standing, theirs
    raise Refused(*dict.fromkeys(superseded.values()))


def _standing(writers: Writers, run: RunRecord) -> tuple[list[str], dict[str, str]]:
    """The run's collections whose vectors are still its own, and why the others' are not."""
    rows = {each.collection: each for each in writers.ledger.collection_runs(run.id) if each.strategy != "skipped"}
    superseded = {
        name: why
        for name, row in sorted(rows.items())
        if (
            why := f"run {run.name} was a rehearsal" if row.state == "rehearsed" else why_superseded(writers, run, name)
        )
    }
    return [name for name in sorted(rows) if name not in superseded], superseded
