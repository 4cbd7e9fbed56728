"""Embed ahead: the vectors that a migration will want go into the cache, and nothing is written to Typesense.

The migration that follows finds them there, pays nothing, and pauses for the server's work alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kai.models import estimate_cost
from kai.settings import Settings, load_settings
from migration.embedding.ahead.actors import OnActors
from migration.embedding.ahead.batch import Batches
from migration.embedding.ahead.cluster import NoCluster, check_usable, ray_pool
from migration.embedding.ahead.direct import Direct
from migration.embedding.ahead.patience import Waiting
from migration.embedding.ahead.service import BatchService
from migration.embedding.ahead.via import StillWaiting, Via
from migration.embedding.embed import text_hash
from migration.embedding.throttle import Stopped
from migration.operations.ahead import Counted, EmbedOptions, Way, Work, count, open_work, pages, read_texts, told_of
from migration.operations.batches import batch_cost, folder_of, service_of, target_of
from migration.operations.runs.results import DONE, INTERRUPTED, SOME_FAILED, STOPPED, STOPS, cause_of
from migration.operations.runs.summary import price
from migration.operations.setup import probe
from migration.runtime.console import SILENT, Console
from migration.runtime.status import Status
from migration.strategies.refusals import Refused


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
        without: documents that have no text.
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
    without: int = 0
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
        work = open_work(stack, options, settings, console)
        service = service_of(settings) if options.via == "batch" else None
        if options.dry_run:
            counted = count(work, service)
            return EmbedResult(
                work.model_name, options.via, "dry run", counted, counted.documents, without=counted.without
            )
        if options.via == "ray":
            return _carry_out(work, _on_ray(stack, work), None)
        if service is None:
            return _carry_out(work, Direct(work.embedder, work.session.control), None)
        counted = count(work, service)
        console.line(told_of(counted))
        question = f"Send {counted.texts} texts in batches, {price(counted.cost_usd)}?"
        if counted.texts and not confirmed(question):
            raise Refused("not confirmed; give --yes to go on without being asked")
        return _carry_out(work, _batches(work, service), counted)


def _batches(work: Work, service: BatchService) -> Batches:
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


def _on_ray(stack: contextlib.ExitStack, work: Work) -> OnActors:
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


# -- the work --------------------------------------------------------------------------------------------


def _carry_out(work: Work, via: Via, counted: Counted | None) -> EmbedResult:
    session, began = work.session, datetime.now(UTC)
    work.status = Status(folder_of(session.settings.home) / "status.json", lambda: _figures(work))
    doing = "Sending" if work.options.via == "batch" else "Embedding"
    cause, interrupted, failed = "", False, tuple[FailedDocument, ...]()
    with work.status.kept():
        try:
            via.embed(lambda: pages(work, doing), work.told)
            failed = tuple(_named(work)) if work.failures else ()
        except Stopped:
            interrupted = True
        except (StillWaiting, *STOPS) as error:
            cause = cause_of(error)
        if work.left_out and not cause and not interrupted:
            cause = f"the bound of {work.left_out} is reached; run again to go on"
        status = "interrupted" if interrupted else "stopped" if cause else "completed"
        seconds = session.meter.seconds
        tokens, cost = _spent(work, began)
        result = EmbedResult(
            work.model_name,
            work.options.via,
            status,
            counted,
            work.documents,
            work.embedded,
            work.cached,
            failed,
            work.without,
            tokens,
            cost,
            round(seconds, 1),
            cause,
        )
        work.status.end(
            status,
            done=work.embedded,
            failed=len(work.failures),
            seconds=seconds,
            exit_status=result.exit_status,
        )
    return result


def _named(work: Work) -> Iterator[FailedDocument]:
    """The documents whose texts have no vector; read once more, for only those that failed are worth remembering."""
    for plan in work.plan.collections:
        for page in read_texts(work, plan, "Naming"):
            for document_id, text in page.texts.items():
                if (why := work.failures.get(text_hash(text))) is not None:
                    yield FailedDocument(plan.name, document_id, why)


def _spent(work: Work, began: datetime) -> tuple[int, float | None]:
    """Estimated tokens of what was embedded since, and what they cost by list price."""
    model = work.session.settings.embedding.model
    if work.options.via != "batch" or work.ledger is None:
        return work.session.meter.tokens, estimate_cost(model, work.session.meter.tokens)
    rows = work.ledger.batches(work.space)
    ended = [row for row in rows if row.state == "collected" and row.updated_at and row.updated_at >= began]
    tokens = sum(row.tokens * row.done / row.texts for row in ended if row.texts)
    return round(tokens), batch_cost(model, tokens)


def _figures(work: Work) -> dict[str, Any]:
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
