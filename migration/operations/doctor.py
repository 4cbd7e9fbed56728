"""Look at the whole setting before anything is paid for: settings, server, key, provider, schemas, every vector.

Nothing on the server is changed. On this side only the cache grows, by the vectors that are bought to compare.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np

from kai.collections import EmbeddedCollection
from kai.models import EmbeddingSettings, find_model, fingerprint
from kai.settings import Problem, Settings, SettingsError, load_settings
from kai.typesense import Schema, Typesense, TypesenseError, embedding_field
from kai.typesense_schemas import serving_field
from migration.diagnosis.findings import SEVERITIES, Check, Finding, Severity, worst
from migration.diagnosis.meaning import (
    AnotherModelError,
    Sample,
    compare,
    draw_sample,
    find_shared,
    findings_of_compared,
    findings_of_shared,
)
from migration.diagnosis.rights import check_rights
from migration.diagnosis.schema import check_schema, stamp_is_of
from migration.diagnosis.server import check_changes, check_lag, check_nodes, check_room, check_version
from migration.diagnosis.stored import Place, Stored, findings_by_ledger, findings_of, read_stored
from migration.diagnosis.surroundings import check_home, check_settings, ledger_as_it_is
from migration.embedding.cache import VectorCache
from migration.embedding.embed import Embedder
from migration.embedding.provider import ProviderStopped
from migration.ledger import Ledger
from migration.operations.results import DONE, SOME_FAILED
from migration.operations.setup import (
    TYPESENSE_ONLY,
    Session,
    configured_target,
    make_embedder,
    open_server,
    probe,
    selected_collections,
)
from migration.operations.unfinished import Unfinished, find_unfinished
from migration.runtime.console import SILENT, Console
from migration.runtime.holding import HOLDING
from migration.strategies.hazards import shadow_memory
from migration.strategies.refusals import Refused, Strategy, decide, explain
from migration.strategies.shadow_state import unfinished
from migration.strategies.task import backup_space

FailOn = Literal["error", "warning"]

MOST_TEXTS: Final = 2000
"""Distinct texts of a collection that are embedded where nothing else is said."""
MOST_USD: Final = 0.05
"""What that may cost in all, by list price."""
_PROVIDER_PATIENCE: Final = 20.0
"""Seconds to wait for a provider that does not answer: somebody sits before the screen."""
_PATIENCE: Final = 120.0
"""Seconds to wait for the server, once it reads."""
_VECTORS: Final = "vectors"
_MEANING: Final = "vectors against their texts"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was looked at, and what was found.

    Attributes:
        server: address of Typesense.
        model: the configured one, as family/model/dimensions; None where none is.
        checks: in the order in which they were made.
        fail_on: severity from which on a finding makes the exit status 1.
    """

    server: str
    model: str | None
    checks: tuple[Check, ...]
    fail_on: FailOn = "error"

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found, the worst first."""
        found = [finding for check in self.checks for finding in check.findings]
        return tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity)))

    @property
    def exit_status(self) -> int:
        """0 where nothing was found that is as bad as `fail_on`, else 1."""
        found = worst(self.findings)
        return SOME_FAILED if found and SEVERITIES.index(found) <= SEVERITIES.index(self.fail_on) else DONE


@dataclass(slots=True)
class _Look:
    """What the checks of the collections have in common.

    Attributes:
        session: settings, server and console.
        everything: the schemas of all collections.
        target: the configured model; None where none is.
        embedder: of that model; None where no vectors can be had of it, and why in `without`.
        most_texts: distinct texts of each collection to embed; None for all.
        most_usd: that they may cost from here on.
        probe_length: Euclidean length of the model's vectors, if it was asked.
    """

    session: Session
    everything: Sequence[Schema]
    ledger: Ledger | None
    target: EmbeddingSettings | None
    cache: VectorCache | None = None
    embedder: Embedder | None = None
    without: str = ""
    most_texts: int | None = MOST_TEXTS
    most_usd: float | None = MOST_USD
    probe_length: float | None = None
    aliases: dict[str, str] = field(default_factory=dict)

    @property
    def server(self) -> Typesense:
        return self.session.server


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
    model = "/".join(map(str, target.describe().values())) if target else None
    if is_reachable:
        with ExitStack() as stack:
            try:
                server = stack.enter_context(open_server(found, console))
            except Refused as refused:
                checks.append(Check("connection", found.typesense.url, "not made", _refusals(refused), is_made=False))
            else:
                # What only the embedding needs was left out of the settings where it cannot be used.
                why_not = "--sample 0: no provider was asked" if sample == 0 else ""
                why_not = why_not or ("the settings cannot be used" if problems else "")
                session = Session(settings=found, server=server, console=console)
                looked = _look(stack, session, chosen, target, why_not, sample, max_cost)
                checks += looked
    else:
        checks.append(Check("server", "TYPESENSE_*", "the settings cannot be used", is_made=False))
    return Diagnosis(found.typesense.url, model, tuple(checks), fail_on)


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
    why_not: str,
    sample: int | None,
    max_cost: float | None,
) -> Iterator[Check]:
    """Everything that needs the server, one check after the other."""
    server, settings = session.server, session.settings
    nodes = check_nodes(server.nodes())
    yield nodes
    try:
        everything, lag = server.collections(), check_lag(server)
    except TypesenseError as error:
        code = "key_refused" if error.unauthorized else "server"
        if error.unauthorized or not nodes.findings:
            finding = Finding("error", code, explain(server, error), server.url, "correct it, then look again")
            yield Check("collections", server.url, "cannot be listed", (finding,), is_made=False)
        yield Check("everything else", server.url, "the server cannot be read", is_made=False)
        return
    yield lag
    yield check_version(server)
    server.patience = _PATIENCE
    aliases: dict[str, str] = {}
    with contextlib.suppress(TypesenseError):
        aliases = server.aliases()
    look = _Look(session, everything, None, target, without=why_not, most_texts=sample, most_usd=max_cost)
    look.aliases = aliases
    present = [schema for schema in (_schema_of(look, each) for each in chosen if not each.skipped) if schema]
    ways = {str(schema["name"]): _way(look, each, schema) for each in chosen for schema in _present(look, each)}
    copied = [schema for schema in present if ways[str(schema["name"])] in ("recreate", "alias")]
    sizes = [(int(schema["num_documents"]), target.dimensions) for schema in copied] if target else []
    yield check_room(server, max((shadow_memory(*size) for size in sizes), default=0))
    yield check_changes(server)
    if present:
        moves = "alias" in ways.values()
        yield check_rights(server, list(ways), copies=bool(copied), moves_aliases=moves)
    home = check_home(settings.home, sum(_backup_space(schema, ways, target) for schema in present))
    yield home
    look.ledger, ledger = stack.enter_context(ledger_as_it_is(settings))
    yield ledger
    if home.findings and not look.without:
        look.without = "MIGRATION_HOME cannot take what would be bought"
    yield _provider(stack, look)
    yield _leftovers(look)
    for collection in chosen:
        yield from _collection(look, collection)


def _schema_of(look: _Look, collection: EmbeddedCollection) -> Schema | None:
    """The schema of the collection, or of the one that an alias of its name leads to."""
    name = look.aliases.get(collection.name, collection.name)
    by_name = {str(schema["name"]): schema for schema in look.everything}
    return by_name.get(collection.name) or by_name.get(name)


def _present(look: _Look, collection: EmbeddedCollection) -> Iterator[Schema]:
    if not collection.skipped and (schema := _schema_of(look, collection)) is not None:
        yield schema


def _way(look: _Look, collection: EmbeddedCollection, schema: Schema) -> Strategy:
    field_name = serving_field(schema, collection.embedding_field)
    length = (embedding_field(schema, field_name) or {}).get("num_dim")
    new = look.target.dimensions if look.target else length or 0
    return decide(length, new, look.session.settings.strategy)


def _backup_space(schema: Schema, ways: dict[str, Strategy], target: EmbeddingSettings | None) -> int:
    lengths = [int(each["num_dim"]) for each in schema["fields"] if each.get("num_dim")]
    length = max(lengths, default=target.dimensions if target else 0)
    copied = ways[str(schema["name"])] in ("recreate", "alias")
    return backup_space(int(schema["num_documents"]), length, whole=copied)


def _provider(stack: ExitStack, look: _Look) -> Check:
    """Ask the provider for one vector, and open the cache for those that are bought after it."""
    session, settings = look.session, look.session.settings
    if look.without:
        return Check("provider", "EMBEDDING_*", look.without, is_made=False)
    try:
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        look.cache = stack.enter_context(VectorCache(settings.home))
        embedder = make_embedder(session, cache=look.cache, patience=_PROVIDER_PATIENCE)
        look.probe_length = float(np.linalg.norm(probe(embedder, settings)))
    except Refused as refused:
        look.without = "the provider gives no vectors"
        return Check("provider", "EMBEDDING_*", look.without, _refusals(refused), is_made=False)
    look.embedder = embedder
    return Check("provider", settings.provider_server or settings.embedding.family, "gives vectors of the right length")


def _refusals(refused: Refused) -> tuple[Finding, ...]:
    parts = [problem.partition(": ") for problem in refused.problems]
    return tuple(Finding("error", "provider", what, where, f"correct {where}") for where, _, what in parts)


def _leftovers(look: _Look) -> Check:
    items = find_unfinished(look.everything, look.server.address, look.ledger, look.session.settings.home)
    told = f"{len(items) or 'nothing'} unfinished"
    return Check("leftovers", look.server.url, told, tuple(_leftover(item) for item in items))


def _leftover(item: Unfinished) -> Finding:
    is_awaited = bool(item.held_by) or item.state in (HOLDING, "waiting")
    severity: Severity = "info" if is_awaited else "warning"
    of = f" of run {item.run}" if item.run else ""
    by = f", held by {item.held_by}" if item.held_by else ""
    return Finding(severity, "leftover", f"{item.what}{of} ({item.state}{by})", item.collection, item.remedy)


def _collection(look: _Look, collection: EmbeddedCollection) -> Iterator[Check]:
    """The checks of one collection; what goes wrong in the middle of them ends them."""
    if collection.skipped:
        yield Check(_VECTORS, collection.name, f"left alone: {collection.skipped}", is_made=False)
        return
    if (schema := _schema_of(look, collection)) is None:
        what = f"collection {collection.name!r} does not exist on {look.server.url}"
        remedy = "check TYPESENSE_HOST and TYPESENSE_PORT, or name those that there are with --collections"
        finding = Finding("error", "no_collection", what, collection.name, remedy)
        yield Check(_VECTORS, collection.name, "not there", (finding,), is_made=False)
        return
    name = str(schema["name"])
    collection = replace(collection, embedding_field=serving_field(schema, collection.embedding_field))
    if undone := unfinished(look.everything, name):
        yield Check(_VECTORS, name, undone, is_made=False)
        return
    of_schema = check_schema(collection, schema, look.target, look.probe_length)
    yield of_schema
    place = Place(look.server, collection, schema)
    if any(finding.code == "field" for finding in of_schema.findings):
        yield Check(_VECTORS, place.where, "there is no such field", is_made=False)
        return
    try:
        yield from _vectors(look, place)
    except TypesenseError as error:
        what, remedy = str(error), "look again once the server answers"
        if error.status == 400 and collection.filter_by:
            what = f"filter_by {collection.filter_by!r}: {error}"
            remedy = "correct filter_by in the collections file"
        finding = Finding("error", "not_readable", what, place.where, remedy)
        yield Check(_VECTORS, place.where, "cannot be read", (finding,), is_made=False)


def _vectors(look: _Look, place: Place) -> Iterator[Check]:
    """Read every document, then compare what can be compared."""
    console, target = look.session.console, look.target
    model = find_model(target.family, target.model) if target else None
    total = look.server.count(place.name, place.collection.filter_by)
    with console.progress(f"  Reading {place.name}", total) as bar:
        stored = read_stored(place, look.ledger, model, bar.update)
    told = f"{stored.documents:,} documents, {stored.compared:,} with text and vector"
    yield Check(_VECTORS, place.where, told, tuple(findings_of(stored, place)))
    by_ledger = tuple(findings_by_ledger(stored, place, look.ledger)) if look.ledger else ()
    if look.embedder is None or look.cache is None or target is None or (why := _why_not(stored, place, target)):
        why = look.without if look.embedder is None else why
        shared = findings_of_shared(place, find_shared(place, stored))
        yield Check(_MEANING, place.where, why, (*shared, *by_ledger), is_made=False)
        return
    sample = draw_sample(stored, target.model, look.most_texts, look.most_usd)
    if look.most_usd is not None and sample.cost_usd is not None:
        look.most_usd = max(0.0, look.most_usd - sample.cost_usd)
    console.warn(_price(place, sample))
    try:
        with console.progress(f"  Comparing {place.name}", stored.documents) as bar:
            compared = compare(place, stored, sample, look.embedder, look.cache, fingerprint(target, ""), bar.update)
    except (ProviderStopped, AnotherModelError) as error:
        code = "model_changed" if isinstance(error, AnotherModelError) else "provider"
        remedy = "correct EMBEDDING_MODEL or the provider's address, or embed everything again with --force"
        remedy = remedy if code == "model_changed" else "mend that, then look again: what was bought is kept"
        finding = Finding("error", code, str(error), place.where, remedy)
        yield Check(_MEANING, place.where, "broken off", (finding, *by_ledger), is_made=False)
        return
    name = "/".join(map(str, target.describe().values()))
    said = _is_said_to_be(look, place, stored, target)
    findings = [*findings_of_compared(place, compared, sample, name, is_said_to_be=said)]
    findings += findings_of_shared(place, compared.shared)
    if not (compared.same and compared.documents >= stored.compared):
        findings += by_ledger
    told = f"{compared.same:,} of {compared.documents:,} documents carry their text's"
    yield Check(_MEANING, place.where, f"{told} ({_sampled(sample)})", tuple(findings))


def _why_not(stored: Stored, place: Place, target: EmbeddingSettings) -> str:
    """Why the vectors cannot be compared with the model's."""
    if not stored.compared:
        return "no document has both a text and a vector"
    if target.dimensions not in stored.lengths:
        lengths = ", ".join(map(str, sorted(stored.lengths)))
        return f"the vectors have {lengths} dimensions, those of {target.model} {target.dimensions}"
    return ""


def _is_said_to_be(look: _Look, place: Place, stored: Stored, target: EmbeddingSettings) -> bool:
    """Whether metadata or ledger say that the vectors are the configured model's."""
    if stamp_is_of(place.collection, place.schema, target):
        return True
    model = look.ledger.find_model(fingerprint(target, "")) if look.ledger else None
    return model is not None and stored.by_model[model.id] > 0


def _sampled(sample: Sample) -> str:
    return "every text" if sample.is_whole else f"a sample of {sample.texts:,} of {sample.of:,} texts"


def _price(place: Place, sample: Sample) -> str:
    cost = "at a price that is not known" if sample.cost_usd is None else f"${sample.cost_usd:.4f} by list price"
    whole = ""
    if not sample.is_whole:
        whole_cost = "" if sample.whole_cost_usd is None else f", ${sample.whole_cost_usd:.4f}"
        whole = f" (all: --sample all{whole_cost}; see --max-cost)"
    return (
        f"{place.where}: {_sampled(sample)} is embedded, about {sample.tokens:,} tokens, {cost}, less what was bought "
        f"before; it is kept for a migration{whole}"
    )
