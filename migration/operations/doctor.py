"""Look at the whole setting before anything is paid for: settings, server, key, provider, schemas, every vector.

Nothing on the server is changed. On this side the cache grows, by the vectors that are bought to compare, and a report
is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from kai.collections import EmbeddedCollection
from kai.models import EmbeddingSettings
from kai.settings import Problem, Settings, SettingsError, load_settings
from kai.typesense import Schema, Typesense, TypesenseError, embedding_field
from kai.typesense_schemas import serving_field
from migration.assessment.diagnosis.collection import Buyer, Examiner
from migration.assessment.diagnosis.findings import Check, Diagnosis, FailOn, Finding
from migration.assessment.diagnosis.rights import check_rights
from migration.assessment.diagnosis.server import check_changes, check_lag, check_nodes, check_room, check_version
from migration.assessment.diagnosis.surroundings import check_home, check_settings, ledger_as_it_is
from migration.operations.reports.assessment_page import keep_report, page_of_diagnosis
from migration.operations.setup import (
    TYPESENSE_ONLY,
    Session,
    configured_target,
    make_embedder,
    open_cache,
    open_server,
    probe,
    selected_collections,
)
from migration.operations.unfinished import Unfinished, find_unfinished
from migration.runtime.console import SILENT, Console
from migration.runtime.holding import HOLDING
from migration.strategies.planning.hazards import shadow_memory
from migration.strategies.refusals import Refused, Strategy, decide, explain
from migration.strategies.task import backup_space

MOST_TEXTS: Final = 2000
"""Distinct texts of a collection that are embedded where nothing else is said."""
MOST_USD: Final = 0.05
"""What that may cost in all, by list price."""
_PROVIDER_PATIENCE: Final = 20.0
"""Seconds to wait for a provider that does not answer: somebody sits before the screen."""
_PATIENCE: Final = 120.0
"""Seconds to wait for the server, once it reads."""


def doctor(
    *,
    collections: Sequence[str] = (),
    collections_file: Path | None = None,
    sample: int | None = MOST_TEXTS,
    max_cost: float | None = MOST_USD,
    fail_on: FailOn = "error",
    env_file: Path | None = None,
    settings: Settings | None = None,
    console: Console = SILENT,
) -> Diagnosis:
    """Look at everything that a migration would need, and at every vector that stands there. Changes nothing.

    Args:
        collections: names; empty for every known one.
        collections_file: descriptions of the user's own collections; None for KAI's.
        sample: distinct texts of each collection to embed and compare; None for all, 0 to ask no provider.
        max_cost: US dollars that they may cost in all, by list price; fewer are embedded where they would cost more.
            None for any price. A model whose price is not known is not held back.
        fail_on: severity from which on a finding makes the exit status 1.
        env_file: file with the settings, where these are not given; None for `.env` in the working folder.
        settings: None reads `env_file` and the environment; what is wrong there is found, not refused.
        console: where to tell what is going to be paid for, and how far it is; nothing by default.

    Raises:
        SettingsError: the file of the settings cannot be read, or the home or the ledger cannot be named so.
        Refused: a collection is unknown.
        CollectionsError, CacheError: the file that describes them is wrong; the cache cannot take what was bought.
    """
    chosen = selected_collections(collections, collections_file)
    found, problems, is_reachable = _configuration(settings, env_file)
    target = configured_target(found)
    checks = [check_settings(problems, asks_provider=sample != 0)]
    why_not = "the settings cannot be used" if problems else ""
    why_not = "--sample 0: no provider was asked" if sample == 0 else why_not
    with ExitStack() as stack:
        try:
            if not is_reachable:
                raise Refused("TYPESENSE_*: the settings cannot be used")
            session = Session(settings=found, server=stack.enter_context(open_server(found, console)), console=console)
        except Refused as refused:
            because = _refusals(refused) if is_reachable else ()
            checks.append(Check("server", found.typesense.url, str(refused), because, is_made=False))
        else:
            checks += _look(stack, session, chosen, target, why_not=why_not, sample=sample, max_cost=max_cost)
    model = target.name if target else None
    diagnosis, now = Diagnosis(found.typesense.url, model, tuple(checks), fail_on), datetime.now(UTC)
    page = page_of_diagnosis(diagnosis, now)
    return replace(diagnosis, report=keep_report(found, "doctor", now, page, diagnosis.facts(), console))


def _configuration(settings: Settings | None, env_file: Path | None) -> tuple[Settings, tuple[Problem, ...], bool]:
    """The settings as far as they can be used, what is wrong with them, and whether Typesense can be asked."""
    if settings is not None:
        return settings, (), True
    try:
        return load_settings(env_file), (), True
    except SettingsError as error:
        problems = tuple(error.problems)
    try:
        return load_settings(env_file, needs=TYPESENSE_ONLY), problems, True
    except SettingsError:
        return load_settings(env_file, needs=()), problems, False


def _look(
    stack: ExitStack,
    session: Session,
    chosen: Sequence[EmbeddedCollection],
    target: EmbeddingSettings | None,
    *,
    why_not: str,
    sample: int | None,
    max_cost: float | None,
) -> Iterator[Check]:
    """Everything that needs the server, one check after the other; `why_not` says why no provider is to be asked."""
    server, settings = session.server, session.settings
    seen = server.nodes()
    yield check_nodes(seen)
    if all(node.state == "gone" for node in seen):
        yield Check("everything else", server.url, "no node answers", is_made=False)
        return
    try:
        everything, lag = server.collections(), check_lag(server)
    except TypesenseError as error:
        findings: tuple[Finding, ...] = ()
        if error.unauthorized:
            names = [collection.name for collection in chosen if not collection.skipped]
            yield check_rights(server, names, copies=False, moves_aliases=False)
        else:
            findings = (Finding("error", "server", explain(server, error), server.url, "mend that, then look again"),)
        yield Check("everything else", server.url, "the collections cannot be listed", findings, is_made=False)
        return
    yield lag
    yield check_version(server)
    server.patience = _PATIENCE
    schemas = _schemas(server, everything, chosen)
    ways = {name: _way(settings, collection, schema, target) for name, (collection, schema) in schemas.items()}
    copied = {name: schema for name, (_, schema) in schemas.items() if ways[name] in ("recreate", "alias")}
    yield check_room(server, _most_memory(copied.values(), target))
    yield check_changes(server)
    if schemas:
        names = [str(schema["name"]) for _, schema in schemas.values()]
        yield check_rights(server, names, copies=bool(copied), moves_aliases="alias" in ways.values())
    home = check_home(
        settings.home, sum(_backup(schema, target, whole=name in copied) for name, (_, schema) in schemas.items())
    )
    yield home
    ledger, of_ledger = stack.enter_context(ledger_as_it_is(settings))
    yield of_ledger
    is_of_no_use = any(finding.code == "home" for finding in home.findings)
    buyer, provider = _provider(stack, session, why_not or ("MIGRATION_HOME is of no use" if is_of_no_use else ""))
    yield provider
    yield _leftovers(server, find_unfinished(everything, server.address, ledger, settings.home))
    examiner = Examiner(server, session.console, everything, target, ledger, buyer, sample, max_cost)
    for collection in chosen:
        yield from examiner.check(collection, schemas.get(collection.name, (collection, None))[1])


def _schemas(
    server: Typesense, everything: Sequence[Schema], chosen: Sequence[EmbeddedCollection]
) -> dict[str, tuple[EmbeddedCollection, Schema]]:
    """The collections that are there, by the name that they are described by, which may be an alias."""
    by_name = {str(schema["name"]): schema for schema in everything}
    try:
        aliases = server.aliases()
    except TypesenseError:
        aliases = {}  # What the key lacks is told with its rights.
    found = {each.name: by_name.get(each.name) or by_name.get(aliases.get(each.name, "")) for each in chosen}
    return {
        each.name: (each, schema) for each in chosen if not each.skipped and (schema := found[each.name]) is not None
    }


def _way(
    settings: Settings, collection: EmbeddedCollection, schema: Schema, target: EmbeddingSettings | None
) -> Strategy:
    """How a migration would go, as far as that needs no look at the application."""
    length = (embedding_field(schema, serving_field(schema, collection.embedding_field)) or {}).get("num_dim")
    return decide(length, target.dimensions if target else length or 0, settings.strategy)


def _most_memory(copied: Iterable[Schema], target: EmbeddingSettings | None) -> int:
    """Bytes that the largest copy takes on the server: there is one at a time."""
    sizes = (shadow_memory(int(schema["num_documents"]), target.dimensions) for schema in copied if target)
    return max(sizes, default=0)


def _backup(schema: Schema, target: EmbeddingSettings | None, *, whole: bool) -> int:
    lengths = [int(field["num_dim"]) for field in schema["fields"] if field.get("num_dim")]
    length = max(lengths, default=target.dimensions if target else 0)
    return backup_space(int(schema["num_documents"]), length, whole=whole)


def _provider(stack: ExitStack, session: Session, why_not: str) -> tuple[Buyer | str, Check]:
    """Ask the provider for one vector, and open the cache for those that are bought after it."""
    settings = session.settings
    if why_not:
        return why_not, Check("provider", "EMBEDDING_*", why_not, is_made=False)
    try:
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        cache = stack.enter_context(open_cache(settings))
        embedder = make_embedder(session, cache=cache, patience=_PROVIDER_PATIENCE)
        length = float(np.linalg.norm(probe(embedder, settings)))
    except Refused as refused:
        why_not = "the provider gives no vectors"
        return why_not, Check("provider", "EMBEDDING_*", why_not, _refusals(refused), is_made=False)
    where = settings.provider_server or settings.embedding.family
    return Buyer(embedder, cache, length), Check("provider", where, "gives vectors of the right length")


def _refusals(refused: Refused) -> tuple[Finding, ...]:
    parts = [problem.partition(": ") for problem in refused.problems]
    return tuple(Finding("error", "provider", what, where, f"correct {where}") for where, _, what in parts)


def _leftovers(server: Typesense, items: Sequence[Unfinished]) -> Check:
    told = f"{len(items) or 'nothing'} unfinished"
    return Check("leftovers", server.url, told, tuple(_leftover(item) for item in items))


def _leftover(item: Unfinished) -> Finding:
    is_awaited = bool(item.held_by) or item.state in (HOLDING, "waiting")
    of = f" of run {item.run}" if item.run else ""
    by = f", held by {item.held_by}" if item.held_by else ""
    what = f"{item.what}{of} ({item.state}{by})"
    return Finding("info" if is_awaited else "warning", "leftover", what, item.collection, item.remedy)
