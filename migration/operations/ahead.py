"""What there is to embed ahead of a migration: opened, read, counted, and given out by what a start may do."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias

from kai.models import estimate_cost, estimate_tokens, fingerprint
from kai.settings import Settings
from migration.embedding.ahead.files import batch_files, digests_of
from migration.embedding.ahead.service import BatchService
from migration.embedding.ahead.via import Texts
from migration.embedding.cache import VectorCache
from migration.embedding.embed import Embedder, text_hash
from migration.ledger import Ledger, ModelRecord
from migration.operations.batches import BATCH_PRICE, alone, batch_cost, target_of
from migration.operations.models.same_model import recognise
from migration.operations.runs.summary import price
from migration.operations.setup import (
    PROVIDER_PATIENCE,
    Session,
    affordable_tokens,
    cache_is_there,
    ledger_if_there,
    make_embedder,
    open_cache,
    open_ledger,
    open_server,
    probe,
    register_model,
    selected_collections,
)
from migration.runtime.console import Console
from migration.runtime.control import Control
from migration.runtime.pace import Pace
from migration.runtime.status import Status
from migration.strategies.ahead import PageOfTexts, texts_ahead
from migration.strategies.context import MigrationOptions
from migration.strategies.plan import CollectionPlan, Plan
from migration.strategies.planning.decision import make_plan

Way: TypeAlias = Literal["direct", "batch", "ray"]

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


@dataclass(slots=True, kw_only=True)
class Work:
    """What embedding ahead works with, and how far it is.

    Attributes:
        session: the server, the settings, and what is asked of a run.
        options: what is asked for.
        plan: what the migration would do.
        ledger, cache: None where there is none and nothing is to be written.
        embedder: of the configured model; it works.
        model: the target, as the ledger knows it.
        status: what a script reads.
        most_tokens: estimated, that may be given out; None for no bound.
        documents, without: looked at, and those of them that have no text.
        cached, embedded: texts whose vectors were there, and came.
        failures: why there is none, by the hash of the text.
        left_out: the option by which texts were left out; empty where none were.
    """

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
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def space(self) -> str:
        """The cache's first key."""
        return fingerprint(self.session.settings.embedding, "")

    @property
    def model_name(self) -> str:
        """As family/model/dimensions."""
        return target_of(self.session.settings).model

    def told(self, done: int, failures: Mapping[bytes, str]) -> None:
        """Count what came, from any thread."""
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


def open_work(stack: contextlib.ExitStack, options: EmbedOptions, settings: Settings, console: Console) -> Work:
    """Everything that it works with, once nothing speaks against it.

    Raises:
        Refused: what the migration itself would refuse, or another process embeds ahead.
        LedgerError, CacheError, TypesenseError: they cannot be used.
    """
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
        cache = stack.enter_context(open_cache(settings)) if cache_is_there(settings) else None
    else:
        ledger = stack.enter_context(open_ledger(settings, options.patience))
        stack.enter_context(alone(settings.home))
        cache = stack.enter_context(open_cache(settings, options.patience))
    embedder = make_embedder(session, cache=cache, patience=options.patience * PROVIDER_PATIENCE)
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
    return Work(
        session=session,
        options=options,
        plan=plan,
        ledger=ledger,
        cache=cache,
        embedder=embedder,
        model=model,
        most_tokens=most_tokens,
    )


def read_texts(work: Work, plan: CollectionPlan, doing: str) -> Iterator[PageOfTexts]:
    """The texts of one collection, page by page."""
    session = work.session
    work.status.phase(doing.lower(), collection=plan.name, total=plan.eligible)
    stopped = session.control.stopped
    with session.console.progress(f"  {doing} {plan.name}", plan.eligible) as bar:
        for page in texts_ahead(session.server, plan, work.ledger, work.model, stopped):
            yield page
            work.status.add(page.documents)
            bar.update(page.documents)


def _distinct(work: Work, doing: str) -> Iterator[tuple[Texts, Texts]]:
    """Distinct texts of all collections, page by page: those without a vector in the cache, and those with one."""
    seen: set[bytes] = set()
    work.documents = work.without = 0
    dimensions = work.session.settings.embedding.dimensions
    for plan in work.plan.collections:
        for page in read_texts(work, plan, doing):
            work.documents += page.documents
            work.without += len(page.without)
            new = {
                digest: text for text in page.texts.values() if (digest := text_hash(text))[:_SEEN_BYTES] not in seen
            }
            seen.update(digest[:_SEEN_BYTES] for digest in new)
            kept = work.cache.get_many(work.space, list(new), dimensions) if work.cache is not None else {}
            missing = {digest: text for digest, text in new.items() if digest not in kept}
            yield missing, {digest: text for digest, text in new.items() if digest in kept}


def pages(work: Work, doing: str) -> Iterator[Texts]:
    """What is to be embedded, by what this start may do; read again where something is to be sent again."""
    is_first, work.is_read = not work.is_read, True
    for missing, kept in _distinct(work, doing):
        work.session.control.wait_while_paused()
        work.cached += len(kept) if is_first else 0
        taken = {digest: text for digest, text in missing.items() if work.take(digest, text)}
        if taken:
            yield taken
    work.status.phase("waiting")


def count(work: Work, service: BatchService | None) -> Counted:
    """Count what there is to embed; nothing is given out.

    Args:
        work: what it works with.
        service: by which batches are sent; None for embedding directly.
    """
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
