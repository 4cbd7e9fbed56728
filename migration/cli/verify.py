"""`kai-migrate verify`: is what stands there what a run put there?"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from kai.collections import described_as, load_collections
from kai.models import FAMILIES, fingerprint
from kai.settings import Settings, SettingsError, load_settings
from migration.cli.layout import common_options, print_json

if TYPE_CHECKING:
    from migration.ledger import Ledger, RunRecord
    from migration.ledger.records import RunKind
    from migration.operations.order import Writers
    from migration.runtime.console import Console


_PATIENCE: Final = 20.0
"""Seconds that a check waits for a provider that does not answer."""
MIGRATIONS: Final[tuple[RunKind, ...]] = ("migrate",)


@click.command("verify")
@click.argument("run", required=False)
@click.option("--collections-file", type=click.Path(dir_okay=False, path_type=Path), help="As for a run.")
@click.option(
    "--sample",
    type=click.IntRange(0, 250),
    default=10,
    show_default=True,
    help="Documents to embed again and to search for by their own vector.",
)
@common_options
def command(
    run: str | None, collections_file: Path | None, sample: int, env_file: Path | None, as_json: bool, verbose: bool
) -> None:
    """Read every document that RUN migrated (by default the latest) and compare it with what was written.

    PASS or FAIL for each collection, with numbers; FAIL is exit status 1. A sample is embedded again if the
    configured model is the run's.
    """
    from migration.cli.exits import with_settings
    from migration.operations.setup import TYPESENSE_ONLY

    results: list[dict[str, Any]] = []

    def work(settings: Settings, console: Console) -> int:
        status = _verify(settings, console, run, collections_file, sample, env_file, results, quiet=as_json)
        if as_json:
            print_json({"collections": results}, settings.secrets)
        return status

    sys.exit(with_settings(work, env_file=env_file, verbose=verbose, needs=TYPESENSE_ONLY))


def _verify(
    settings: Settings,
    console: Console,
    name: str | None,
    collections_file: Path | None,
    sample: int,
    env_file: Path | None,
    results: list[dict[str, Any]],
    *,
    quiet: bool,
) -> int:
    from migration.embedding.throttle import Throttle
    from migration.operations.execute import DONE, SOME_FAILED
    from migration.operations.order import Writers
    from migration.operations.setup import make_embedder, open_ledger, open_server
    from migration.operations.verify import check_collection
    from migration.runtime.control import Control
    from migration.runtime.meter import Meter
    from migration.strategies.refusals import Refused
    from migration.strategies.shadow_state import unfinished

    known = load_collections(collections_file)
    with open_server(settings, console) as server, open_ledger(settings) as ledger:
        writers = Writers(ledger, server.address)
        run, superseded = _chosen(ledger, writers, server.address, name, console)
        done = _done(ledger, run) - superseded.keys()
        for each, why in superseded.items():
            console.warn(f"{each} is not verified: {why}.")
        model = ledger.find_model(run.model_id) if run.model_id else None
        same = settings.embedding.family in FAMILIES and model is not None
        embedder = None
        if same and model is not None and sample and fingerprint(settings.embedding, "") == model.fingerprint:
            try:
                settings = load_settings(env_file, needs=("embedding", "typesense"))
            except SettingsError as error:
                console.warn(f"No sample is embedded again: {error.problems[0]}")
            else:
                embedder = make_embedder(settings, Control(), Meter(), Throttle(1), patience=_PATIENCE)
        elif sample:
            console.warn("No sample is embedded again: the configured model is not the run's.")
        server.patience = 120.0
        passed, aliases = True, server.aliases()
        for each in sorted(done):
            collection = described_as(known, each, aliases)
            schema = server.collection(each)
            if undone := unfinished(server.collections(), each):
                raise Refused(f"{undone}; run the migration again, which finishes it, and verify then")
            if collection is None or schema is None:
                what = "is not described; give --collections-file" if schema else "is not on the server any more"
                raise Refused(f"collection {each!r} {what}")
            with console.progress(f"  Verifying {each}", server.count(each, collection.filter_by)) as bar:
                checks = check_collection(
                    server,
                    ledger,
                    run,
                    collection,
                    schema,
                    embedder=embedder,
                    sample_size=sample,
                    advance=bar.update,
                    ways_back=writers.ways_back(),
                )
            verdict = ledger.record_verification(
                run.id, each, "PASS" if all(check.passed for check in checks) else "FAIL", checks
            ).verdict
            passed = passed and verdict == "PASS"
            results.append({"collection": each, "verdict": verdict, "checks": [asdict(check) for check in checks]})
            if not quiet:
                console.line(f"{each}: {verdict}")
                for check in checks:
                    right = f"{check.count - check.failed} of {check.count}"
                    sign = " " if check.passed else "!"
                    console.line(f"  {sign} {check.name}: {right}{f' ({check.detail})' if check.detail else ''}")
        return DONE if passed else SOME_FAILED


def _chosen(
    ledger: Ledger, writers: Writers, address: str, name: str | None, console: Console
) -> tuple[RunRecord, dict[str, str]]:
    """The run to verify, by default the latest that still stands, and which of its collections do not, and why.

    Raises:
        Refused: there is no such run, or none of its vectors stands any more.
    """
    from migration.ledger.runs import LATEST
    from migration.operations.order import refuse_another_server
    from migration.strategies.refusals import Refused

    run = ledger.find_run(name, kinds=MIGRATIONS)
    if run is None:
        raise Refused(f"there is no run {name!r} in the ledger" if name else "the ledger has no run to verify")
    refuse_another_server(run, address)
    superseded = _superseded(ledger, writers, run)
    if not superseded or _done(ledger, run) - superseded.keys():
        return run, superseded
    for earlier in ledger.runs() if name in (None, LATEST) else ():
        if earlier.kind not in MIGRATIONS or earlier.source.get("server") != address:
            continue
        theirs = _superseded(ledger, writers, earlier)
        if _done(ledger, earlier) - theirs.keys():
            console.warn(f"{next(iter(superseded.values()))}; run {earlier.name} is verified.")
            return earlier, theirs
    raise Refused(*dict.fromkeys(superseded.values()))


def _done(ledger: Ledger, run: RunRecord) -> set[str]:
    return {each.collection for each in ledger.collection_runs(run.id) if each.strategy != "skipped"}


def _superseded(ledger: Ledger, writers: Writers, run: RunRecord) -> dict[str, str]:
    """The run's collections whose vectors are others now, and why."""
    from migration.operations.order import why_superseded

    found = {name: why_superseded(writers, run, name) for name in sorted(_done(ledger, run))}
    return {name: why for name, why in found.items() if why}
