"""Embed ahead: the vectors that a migration will want go into the cache, and nothing is written to Typesense.

The migration that follows finds them there, pays nothing, and pauses for the server's work alone.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from kai.models import estimate_cost, estimate_tokens, fingerprint
from kai.settings import Settings, load_settings
from kai.typesense import TypesenseError
from migration.embedding.ahead.actors import OnActors
from migration.embedding.ahead.batch import Batches, Waiting
from migration.embedding.ahead.cluster import NoCluster, check_usable, ray_pool
from migration.embedding.ahead.direct import Direct
from migration.embedding.ahead.files import batch_files, digests_of
from migration.embedding.ahead.service import BatchService
from migration.embedding.ahead.via import StillWaiting, Texts, Via
from migration.embedding.cache import CacheError, VectorCache
from migration.embedding.embed import Embedder, text_hash
from migration.embedding.provider import ProviderStopped
from migration.embedding.throttle import Stopped
from migration.ledger import Ledger, LedgerError, ModelRecord
from migration.operations.batches import BATCH_PRICE, alone, batch_cost, folder_of, service_of, target_of
from migration.operations.report import price
from migration.operations.results import DONE, INTERRUPTED, SOME_FAILED, STOPPED
from migration.operations.same_model import recognise
from migration.operations.setup import (
    LOCK_PATIENCE,
    Session,
    affordable_tokens,
    ledger_if_there,
    make_embedder,
    open_ledger,
    open_server,
    probe,
    register_model,
    selected_collections,
)
from migration.runtime.console import SILENT, Console
from migration.runtime.control import Control
from migration.runtime.pace import Pace
from migration.runtime.status import Status
from migration.strategies.ahead import PageOfTexts, texts_ahead
from migration.strategies.context import MigrationOptions
from migration.strategies.plan import CollectionPlan, Plan
from migration.strategies.planning import make_plan
from migration.strategies.refusals import Refused

Way: TypeAlias = Literal["direct", "batch", "ray"]

_PROVIDER_PATIENCE: Final = 2.5
"""How much longer than for Typesense is waited for the provider, as in a run."""
_SEEN_BYTES: Final = 12
"""Of a hash, to tell the texts of a reading apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedOptions:
    """What is asked for.

    Attributes:
        collections: names; empty for all.
        collections_file: descriptions of the user's own; None for KAI's.
        via: at once and at full price; within a day at half; on a Ray cluster, for models that ask nobody.
        dry_run: whether the texts are only counted.
        concurrency, max_rpm, max_tpm: how fast the provider is asked, as for a run.
        max_cost: USD by list price, and estimated tokens, that this start may spend; None for no bound.
        limit: most texts to embed; None for all.
        max_waiting_tokens: most estimated tokens that may wait in batches at once; None for the provider's own bound.
        wait: seconds to wait for batches once they are sent.
        ray_address: `auto`, `ray://host:port` or `host:port`; None for a cluster of this machine alone, for the run.
        actors: workers on the cluster; None for as many as it has GPUs, if the family uses any, else CPUs.
        patience: seconds that a request to Typesense is repeated.
        verify_sample: texts whose vectors are known, to embed again first: is the model of this name still the same?
    """

    collections: tuple[str, ...] = ()
    collections_file: Path | None = None
    via: Way = "direct"
    dry_run: bool = False
    concurrency: int = 4
    max_rpm: int | None = None
    max_tpm: int | None = None
    max_cost: float | None = None
    limit: int | None = None
    max_waiting_tokens: int | None = None
    wait: float = float("inf")
    ray_address: str | None = None
    actors: int | None = None
    patience: float = 120.0
    verify_sample: int = 10


@dataclass(frozen=True, slots=True)
class Counted:
    """What there is to embed.

    Attributes:
        collections: their names.
        documents: that were looked at.
        texts: distinct ones without a vector in the cache.
        cached: distinct ones with one.
        under_way: distinct ones that an earlier start has sent in batches.
        without: documents that have no text.
        tokens: estimated, of `texts`.
        cost_usd: list price of them by the way that was asked for; None where it is not known.
    """

    collections: tuple[str, ...]
    documents: int
    texts: int
    cached: int
    under_way: int
    without: int
    tokens: int
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class FailedDocument:
    """A document whose text could not be embedded, and why."""

    collection: str
    document_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class EmbedResult:
    """What was embedded.

    Attributes:
        model: as family/model/dimensions.
        via: how.
        status: `completed`; `stopped` or `interrupted`, to be gone on with; `dry run`.
        counted: what there was to embed, where it was counted before.
        documents: that were looked at.
        embedded: texts whose vectors came.
        cached: texts whose vectors were there.
        failed: documents without one.
        tokens: estimated, of what was embedded.
        cost_usd: their list price; None where it is not known.
        seconds: what it took.
        cause: of a stop.
    """

    model: str
    via: Way
    status: str
    counted: Counted | None = None
    documents: int = 0
    embedded: int = 0
    cached: int = 0
    failed: tuple[FailedDocument, ...] = ()
    tokens: int = 0
    cost_usd: float | None = None
    seconds: float = 0.0
    cause: str = ""

    @property
    def exit_status(self) -> int:
        """0 all there; 1 some texts failed; 3 stopped, 130 by request."""
        if self.status == "interrupted":
            return INTERRUPTED
        if self.status == "stopped":
            return STOPPED
        return SOME_FAILED if self.failed else DONE


def embed(
    options: EmbedOptions,
    settings: Settings | None = None,
    console: Console = SILENT,
    *,
    confirmed: Callable[[str], bool] = lambda _: True,
) -> EmbedResult:
    """Get the vectors of every text that a migration of these collections would embed into the vector cache.

    Args:
        options: what is asked for.
        settings: the model, Typesense, and where the cache is; None reads `.env` and the environment.
        console: where to tell; nothing by default.
        confirmed: asked before batches are sent, with their price.

    Raises:
        SettingsError: the settings cannot be used.
        Refused: nothing was embedded but a probe and a sample, and nothing will be before the cause is mended.
        LedgerError, CacheError, TypesenseError: before anything was embedded.
    """
    settings = settings or load_settings()
    if options.via == "ray":
        _check_ray(settings)
    with contextlib.ExitStack() as stack:
        work = _open(stack, options, settings, console)
        service = service_of(settings) if options.via == "batch" else None
        if options.dry_run:
            counted = _count(work, service)
            return EmbedResult(work.model_name, options.via, "dry run", counted, counted.documents)
        if options.via == "ray":
            return _carry_out(work, _on_ray(stack, work), None)
        if service is None:
            return _carry_out(work, Direct(work.embedder, work.session.control), None)
        counted = _count(work, service)
        console.line(told_of(counted))
        question = f"Send {counted.texts} texts in batches, {price(counted.cost_usd)}?"
        if counted.texts and not confirmed(question):
            raise Refused("not confirmed; give --yes to go on without being asked")
        return _carry_out(work, _batches(work, service), counted)


@dataclass(slots=True, kw_only=True)
class _Work:
    """What embedding ahead works with, and how far it is."""

    session: Session
    options: EmbedOptions
    plan: Plan
    ledger: Ledger | None
    cache: VectorCache | None
    embedder: Embedder
    model: ModelRecord | None
    status: Status = field(default_factory=lambda: Status(None))
    most_tokens: int | None = None
    documents: int = 0
    without: int = 0
    cached: int = 0
    embedded: int = 0
    failures: dict[bytes, str] = field(default_factory=dict)
    taken: dict[bytes, int] = field(default_factory=dict)
    """Tokens of the texts that were given out, by the beginning of their hashes; only where they are bounded."""
    tokens: int = 0
    """Of those."""
    is_read: bool = False
    left_out: str = ""
    """The option by which texts were left out; empty where none were."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def space(self) -> str:
        return fingerprint(self.session.settings.embedding, "")

    @property
    def model_name(self) -> str:
        return target_of(self.session.settings).model

    def told(self, done: int, failures: Mapping[bytes, str]) -> None:
        with self.lock:
            self.embedded += done
            self.failures.update(failures)
        self.status.add(0, len(failures))

    def take(self, digest: bytes, text: str) -> bool:
        """Whether a text may be embedded, by what this start may do."""
        if self.options.limit is None and self.most_tokens is None:
            return True
        if digest[:_SEEN_BYTES] in self.taken:
            return True
        tokens = estimate_tokens(text)
        if self.options.limit is not None and len(self.taken) >= self.options.limit:
            self.left_out = self.left_out or "--limit"
        elif self.most_tokens is not None and self.tokens + tokens > self.most_tokens:
            self.left_out = self.left_out or "--max-cost"
        else:
            self.taken[digest[:_SEEN_BYTES]] = tokens
            self.tokens += tokens
            return True
        return False


def _open(stack: contextlib.ExitStack, options: EmbedOptions, settings: Settings, console: Console) -> _Work:
    """Everything that it works with, once nothing speaks against it."""
    asked = MigrationOptions(
        collections=options.collections,
        collections_file=options.collections_file,
        strategy=settings.strategy,
        concurrency=options.concurrency,
        max_rpm=options.max_rpm,
        max_tpm=options.max_tpm,
        patience=options.patience,
        verify_sample=options.verify_sample,
        allow_lag=True,  # What a copy might lose is for the migration to refuse.
    )
    collections = selected_collections(options.collections, options.collections_file)
    most_tokens = affordable_tokens(settings.embedding, options.max_cost)
    if most_tokens is not None and options.via == "batch":
        most_tokens = int(most_tokens / BATCH_PRICE)
    pace = Pace(concurrency=options.concurrency, rpm=options.max_rpm, tpm=options.max_tpm)
    control = Control(pause_file=settings.home / "pause", pace=pace, announce=console.warn)
    stack.enter_context(control.signals())
    server = stack.enter_context(open_server(settings, console, options.patience, stopped=control.stopped))
    session = Session(settings=settings, server=server, console=console, options=asked, control=control)
    plan = make_plan(server, settings.embedding, collections, asked)
    ledger: Ledger | None
    if options.dry_run:
        ledger = stack.enter_context(ledger_if_there(settings, options.patience))
        there = VectorCache.is_in(settings.home)
        cache = stack.enter_context(VectorCache(settings.home)) if there else None
    else:
        ledger = stack.enter_context(open_ledger(settings, options.patience))
        stack.enter_context(alone(settings.home))
        cache = stack.enter_context(VectorCache(settings.home, patience=min(options.patience, LOCK_PATIENCE)))
    embedder = make_embedder(session, cache=cache, patience=options.patience * _PROVIDER_PATIENCE)
    probe(embedder, settings)
    same = recognise(session, embedder, plan, ledger, cache)
    for note in same.notes:
        console.warn(f"! {note}")
    if ledger is None:
        model = None
    elif options.dry_run:
        model = ledger.find_model(fingerprint(settings.embedding, ""))
    else:
        # So that the migration knows who gave what the cache holds, and asks again if it is somebody else then.
        model = register_model(ledger, settings.embedding, same.server, same.digest)
    session.meter.restart()
    server.patience = options.patience
    return _Work(
        session=session,
        options=options,
        plan=plan,
        ledger=ledger,
        cache=cache,
        embedder=embedder,
        model=model,
        most_tokens=most_tokens,
    )


def _batches(work: _Work, service: BatchService) -> Batches:
    assert work.ledger is not None and work.cache is not None  # noqa: S101 - only a dry run goes without
    return Batches(
        service,
        target_of(work.session.settings),
        work.ledger,
        work.cache,
        waiting=Waiting(work.options.wait, stopped=work.session.control.stopped),
        most_waiting=work.options.max_waiting_tokens,
        announce=work.session.console.line,
    )


def _check_ray(settings: Settings) -> None:
    """Refuse what cannot be done on a cluster before anybody is asked anything."""
    try:
        check_usable(settings.embedding)
    except NoCluster as error:
        raise Refused(str(error)) from error


def _on_ray(stack: contextlib.ExitStack, work: _Work) -> OnActors:
    assert work.cache is not None  # noqa: S101 - only a dry run goes without
    session, embedding, options = work.session, work.session.settings.embedding, work.options
    try:
        pool = stack.enter_context(
            ray_pool(
                embedding,
                probe(work.embedder, session.settings),
                address=options.ray_address,
                actors=options.actors,
                stopped=session.control.stopped,
                announce=session.console.line,
            )
        )
    except NoCluster as error:
        raise Refused(str(error)) from error
    return OnActors(
        pool,
        work.cache,
        space=work.space,
        dimensions=embedding.dimensions,
        control=session.control,
        meter=session.meter,
        announce=session.console.warn,
    )


# -- the texts -------------------------------------------------------------------------------------------


def _read(work: _Work, plan: CollectionPlan, doing: str) -> Iterator[PageOfTexts]:
    """The texts of one collection, page by page."""
    session = work.session
    work.status.phase(doing.lower(), collection=plan.name, total=plan.eligible)
    stopped = session.control.stopped
    with session.console.progress(f"  {doing} {plan.name}", plan.eligible) as bar:
        for page in texts_ahead(session.server, plan, work.ledger, work.model, stopped):
            yield page
            work.status.add(page.documents)
            bar.update(page.documents)


def _distinct(work: _Work, doing: str) -> Iterator[tuple[Texts, Texts]]:
    """Distinct texts of all collections, page by page: those without a vector in the cache, and those with one."""
    seen: set[bytes] = set()
    work.documents = work.without = 0
    dimensions = work.session.settings.embedding.dimensions
    for plan in work.plan.collections:
        for page in _read(work, plan, doing):
            work.documents += page.documents
            work.without += len(page.without)
            new = {
                digest: text for text in page.texts.values() if (digest := text_hash(text))[:_SEEN_BYTES] not in seen
            }
            seen.update(digest[:_SEEN_BYTES] for digest in new)
            kept = work.cache.get_many(work.space, list(new), dimensions) if work.cache is not None else {}
            missing = {digest: text for digest, text in new.items() if digest not in kept}
            yield missing, {digest: text for digest, text in new.items() if digest in kept}


def _pages(work: _Work, doing: str) -> Iterator[Texts]:
    """What is to be embedded, by what this start may do; read again where something is to be sent again."""
    is_first, work.is_read = not work.is_read, True
    for missing, kept in _distinct(work, doing):
        work.session.control.wait_while_paused()
        work.cached += len(kept) if is_first else 0
        taken = {digest: text for digest, text in missing.items() if work.take(digest, text)}
        if taken:
            yield taken
    work.status.phase("waiting")


def _count(work: _Work, service: BatchService | None) -> Counted:
    settings = work.session.settings
    sent = _sent_already(settings, service) if service is not None else frozenset()
    texts = cached = under_way = tokens = 0
    for missing, kept in _distinct(work, "Counting"):
        new = {digest: text for digest, text in missing.items() if digest not in sent}
        texts += len(new)
        cached += len(kept)
        under_way += len(missing) - len(new)
        tokens += sum(map(estimate_tokens, new.values()))
    model = settings.embedding.model
    cost = batch_cost(model, tokens) if service is not None else estimate_cost(model, tokens)
    names = tuple(item.collection.name for item in work.plan.collections if item.strategy != "skipped")
    return Counted(names, work.documents, texts, cached, under_way, work.without, tokens, cost)


def _sent_already(settings: Settings, service: BatchService) -> frozenset[bytes]:
    """Hashes of texts that an earlier start has put into batches."""
    target = target_of(settings)
    files = batch_files(target.folder, target.prefix).values()
    return frozenset(digest for file in files for digest in digests_of(file, service.key))


def told_of(counted: Counted) -> str:
    """What there is to embed, in a sentence."""
    beside = [f"{counted.cached} texts have their vectors already"] if counted.cached else []
    beside += [f"{counted.under_way} are under way in batches"] if counted.under_way else []
    beside += [f"{counted.without} documents have no text"] if counted.without else []
    rest = f" ({', '.join(beside)})" if beside else ""
    return (
        f"{counted.documents} documents of {', '.join(counted.collections)}: {counted.texts} texts to embed, about "
        f"{counted.tokens} tokens, {price(counted.cost_usd)}{rest}"
    )


# -- the work --------------------------------------------------------------------------------------------


def _carry_out(work: _Work, via: Via, counted: Counted | None) -> EmbedResult:
    session, began = work.session, datetime.now(UTC)
    work.status = Status(folder_of(session.settings.home) / "status.json", lambda: _figures(work))
    doing = "Sending" if work.options.via == "batch" else "Embedding"
    cause, interrupted, failed = "", False, tuple[FailedDocument, ...]()
    with work.status.kept():
        try:
            via.embed(lambda: _pages(work, doing), work.told)
            failed = tuple(_named(work)) if work.failures else ()
        except Stopped:
            interrupted = True
        except ProviderStopped as error:
            cause = f"the embedding provider: {error}"
        except TypesenseError as error:
            cause = f"Typesense: {error}"
        except (StillWaiting, CacheError, LedgerError) as error:
            cause = str(error)
        except OSError as error:
            cause = f"{error.filename or 'the disk'}: {error.strerror or error}"
        if work.left_out and not cause and not interrupted:
            cause = f"the bound of {work.left_out} is reached; run again to go on"
        status = "interrupted" if interrupted else "stopped" if cause else "completed"
        seconds = session.meter.seconds
        work.status.end(status, done=work.embedded, failed=len(work.failures), seconds=seconds)
    tokens, cost = _spent(work, began)
    return EmbedResult(
        work.model_name,
        work.options.via,
        status,
        counted,
        work.documents,
        work.embedded,
        work.cached,
        failed,
        tokens,
        cost,
        round(seconds, 1),
        cause,
    )


def _named(work: _Work) -> Iterator[FailedDocument]:
    """The documents whose texts have no vector; read once more, for only those that failed are worth remembering."""
    for plan in work.plan.collections:
        for page in _read(work, plan, "Naming"):
            for document_id, text in page.texts.items():
                if (why := work.failures.get(text_hash(text))) is not None:
                    yield FailedDocument(plan.name, document_id, why)


def _spent(work: _Work, began: datetime) -> tuple[int, float | None]:
    """Estimated tokens of what was embedded since, and what they cost by list price."""
    model = work.session.settings.embedding.model
    if work.options.via != "batch" or work.ledger is None:
        return work.session.meter.tokens, estimate_cost(model, work.session.meter.tokens)
    rows = work.ledger.batches(work.space)
    ended = [row for row in rows if row.state == "collected" and row.updated_at and row.updated_at >= began]
    tokens = sum(row.tokens * row.done / row.texts for row in ended if row.texts)
    return round(tokens), batch_cost(model, tokens)


def _figures(work: _Work) -> dict[str, Any]:
    meter = work.session.meter
    return {
        "via": work.options.via,
        "model": work.model_name,
        "texts_embedded": work.embedded,
        "texts_failed": len(work.failures),
        "requests": meter.requests,
        "retries": meter.retries,
        "paused": work.session.control.paused,
    }
