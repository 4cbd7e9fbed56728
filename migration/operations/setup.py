"""Open what an operation works with; what is wrong with it is a refusal that names the setting."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final, cast

from kai.collections import EmbeddedCollection, described_as, load_collections, select_collections
from kai.embedding_interface import (
    ArrayEmbeddings,
    CredentialsError,
    CustomClassError,
    MissingPackageError,
    ModelNotAvailableError,
)
from kai.embeddings import DEFAULT_TIMEOUT_S, make_embeddings
from kai.families import find_family, tool_of
from kai.models import estimate_cost, fingerprint, nearest_model
from kai.settings import EmbeddingSettings, Need, Settings
from kai.typesense import Schema, Typesense, TypesenseError, embedding_field
from kai.typesense_schemas import serving_field
from kai.vectors import Vector, WrongLength, WrongVectors
from migration.embedding.cache import VectorCache
from migration.embedding.embed import Embedder
from migration.embedding.provider import PROBE_TEXT, ProbeFailed, Provider
from migration.embedding.throttle import Throttle
from migration.ledger import Ledger, LedgerError, ModelRecord
from migration.ledger.database import resolve
from migration.ledger.upgrade import current
from migration.runtime.console import Console
from migration.runtime.control import Control
from migration.runtime.meter import Meter
from migration.strategies.context import MigrationOptions
from migration.strategies.refusals import Refused

_NETWORK: Final = "HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE, SSL_CERT_DIR"
_TRUE: Final = ("true", "1")
_ENDS_IN_V1: Final = ("OPENAI_API_BASE", "TEI_API_BASE")
TYPESENSE_ONLY: Final[tuple[Need, ...]] = ("typesense",)
"""What an operation needs that embeds nothing."""

LOCK_PATIENCE: Final = 30.0
"""Seconds to wait, at most, for a lock that another process holds on ledger or cache."""

PROVIDER_PATIENCE: Final = 2.5
"""How much longer than for Typesense the provider is waited for, whose outages last longer."""
PROVIDER_TIMEOUT: Final = DEFAULT_TIMEOUT_S
"""Seconds after which a request to the provider is given up."""

PREFLIGHT_PATIENCE: Final = 5.0
"""Seconds. Before anything is begun nobody wants to wait for a server that is not there."""

_ELECTION: Final = 20.0
"""Seconds, in place of those, for a cluster: it chooses a new leader within about 8 (29.0)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What an operation works with from its first look to its end, whether or not it comes to a run.

    Attributes:
        settings: the model, Typesense, and where the home is.
        server: where the documents are.
        console: what a person reads.
        options: what was asked for.
        control: stop and pause.
        meter: what has been done so far.
    """

    settings: Settings
    server: Typesense
    console: Console
    options: MigrationOptions = field(default_factory=MigrationOptions)
    control: Control = field(default_factory=Control)
    meter: Meter = field(default_factory=Meter)


def selected_collections(names: Sequence[str], file: Path | None) -> list[EmbeddedCollection]:
    """The collections that were asked for.

    Raises:
        Refused: one of them is unknown.
        CollectionsError: the file that describes them is wrong.
    """
    known = load_collections(file)
    if names and not any(name.strip(" ,") for name in names):
        raise Refused(f"--collections: no name is given; known: {', '.join(known)}, or all")
    collections, unknown = select_collections(known, names)
    if unknown:
        raise Refused(
            *[f"--collections: unknown collection {name!r}; known: {', '.join(known)}, or all" for name in unknown]
        )
    return collections


def described_collection(
    server: Typesense, name: str, file: Path | None, field_name: str | None = None
) -> tuple[EmbeddedCollection, Schema]:
    """The description and the schema of one collection, by the name that it is described by or its real one.

    The description's embedding field is the one of this name; None for the one that serves.

    Raises:
        Refused: nobody describes it, or the server does not have it, or it has no such field.
        CollectionsError: the file that describes them is wrong.
    """
    known = load_collections(file)
    described = described_as(known, name, server.aliases())
    if described is None:
        raise Refused(f"COLLECTION: unknown collection {name!r}; known: {', '.join(known)}; see --collections-file")
    schema = server.collection(described.name)
    if schema is None:
        raise Refused(f"COLLECTION: {name!r} does not exist on {server.url}")
    if field_name is not None and embedding_field(schema, field_name) is None:
        raise Refused(f"--field: collection {schema['name']!r} has no field {field_name!r}")
    field_name = field_name or serving_field(schema, described.embedding_field)
    return replace(described, embedding_field=field_name), schema


def configured_target(settings: Settings) -> EmbeddingSettings | None:
    """The embedding settings, where they name a model; keys are not needed to know which one."""
    embedding = settings.embedding
    return embedding if find_family(embedding.family) and embedding.model and embedding.dimensions else None


def open_server(
    settings: Settings,
    console: Console,
    patience: float = PREFLIGHT_PATIENCE,
    *,
    stopped: threading.Event | None = None,
) -> Typesense:
    """The server, with little patience at first; the caller raises it once everything is checked.

    Waiting for it ends early when `stopped` is set.
    """

    def waiting(error: TypesenseError, seconds: float) -> None:
        console.detail(f"Typesense: {error}; again in {seconds:.1f} s")

    patience = min(patience, _ELECTION if settings.typesense.nodes else PREFLIGHT_PATIENCE)
    try:
        return Typesense(settings.typesense, patience=patience, on_wait=waiting, stopped=stopped)
    except (ImportError, OSError, ValueError) as error:
        raise Refused(f"{_NETWORK}: no connection can be made as these ask for: {error}") from error


def open_ledger(settings: Settings, patience: float = LOCK_PATIENCE) -> Ledger:
    """The ledger, upgraded if it is older; a lock of another process is waited for as long as patience lasts.

    Raises:
        Refused: it cannot be opened.
    """
    try:
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Ledger.open(settings.ledger_url, settings.home, patience=min(patience, LOCK_PATIENCE))
    except OSError as error:
        raise Refused(f"MIGRATION_HOME: {settings.home} cannot be used: {error.strerror}") from error
    except LedgerError as error:
        raise Refused(str(error)) from error


@contextlib.contextmanager
def ledger_if_there(settings: Settings, patience: float = LOCK_PATIENCE) -> Iterator[Ledger | None]:
    """The ledger where there is one already, else None: whoever only looks makes none.

    Raises:
        Refused: it cannot be opened.
    """
    try:
        standing = current(resolve(settings.ledger_url, settings.home))
    except LedgerError as error:
        raise Refused(str(error)) from error
    if standing is None:
        yield None
        return
    with open_ledger(settings, patience) as ledger:
        yield ledger


def open_cache(settings: Settings, patience: float = LOCK_PATIENCE) -> VectorCache:
    """The vector cache; a lock of another process is waited for as long as patience lasts.

    Raises:
        CacheError: it is on a server that cannot be used.
    """
    return VectorCache(settings.home, patience=min(patience, LOCK_PATIENCE), url=settings.cache_url)


def cache_is_there(settings: Settings) -> bool:
    """Whether there is a vector cache already: whoever only looks makes none.

    Raises:
        CacheError: it is on a server that cannot be asked.
    """
    return VectorCache.is_in(settings.home, settings.cache_url)


def make_embedder(
    session: Session, *, cache: VectorCache | None = None, patience: float = 300.0, most_tokens: int | None = None
) -> Embedder:
    """The embedder of the configured model, as fast as the options let it be.

    Raises:
        Refused: the family's package is missing, or it has no such model.
    """
    return embedder_of(
        session.settings,
        session.options,
        session.control,
        session.meter,
        cache=cache,
        patience=patience,
        most_tokens=most_tokens,
        tell=session.console.warn,
    )


def embedder_of(
    settings: Settings,
    options: MigrationOptions,
    control: Control,
    meter: Meter,
    *,
    cache: VectorCache | None = None,
    patience: float = 300.0,
    most_tokens: int | None = None,
    tell: Callable[[str], None] | None = None,
) -> Embedder:
    """The same for an operation that asks no Typesense.

    Raises:
        Refused: the family's package is missing, or it has no such model.
    """
    stopped = control.stopped
    if settings.embedding.family == "google" and os.environ.get("GOOGLE_GENAI_USE_VERTEXAI", "").lower() in _TRUE:
        raise Refused(
            "GOOGLE_GENAI_USE_VERTEXAI: family google is the Gemini API, which takes GOOGLE_API_KEY; unset it, or set "
            "EMBEDDING_FAMILY=vertex"
        )
    try:
        embeddings = cast(ArrayEmbeddings, make_embeddings(settings, timeout=PROVIDER_TIMEOUT, tell=tell))
    except (MissingPackageError, CustomClassError) as error:
        raise Refused(f"EMBEDDING_FAMILY: {error}") from error
    except CredentialsError as error:
        raise Refused(f"{settings.family.who}: {error}") from error
    except ModelNotAvailableError as error:
        raise Refused(f"EMBEDDING_MODEL: {error}") from error
    except (ImportError, OSError, ValueError) as error:
        raise Refused(f"{_NETWORK}: no connection can be made as these ask for: {error}") from error
    space = fingerprint(settings.embedding, "")
    if cache is not None:
        cache.name(space, settings.embedding)
    throttle = Throttle(options.concurrency, max_rpm=options.max_rpm, max_tpm=options.max_tpm, stopped=stopped)
    control.follow(lambda pace: throttle.change(pace.concurrency, max_rpm=pace.rpm, max_tpm=pace.tpm))
    provider = Provider(
        embeddings,
        settings.embedding.dimensions,
        throttle=throttle,
        meter=meter,
        patience=patience,
        stopped=stopped,
        secrets=settings.secrets,
    )
    return Embedder(
        provider,
        limits=settings.request_limits,
        space=space,
        cache=cache,
        meter=meter,
        most_tokens=most_tokens,
        takes_cut=options.from_old is not False,
    )


def probe(embedder: Embedder, settings: Settings, text: str = PROBE_TEXT) -> Vector:
    """One embedding: does the key work, is there such a model, has its vector the right length?

    Returns:
        The vector of the text.
    """
    embedding, what = settings.embedding, "probe" if text == PROBE_TEXT else "text"
    try:
        return embedder.provider.probe(text)
    except WrongLength as error:
        raise Refused(
            f"EMBEDDING_DIMENSIONS: {error}; set the length that {embedding.model} gives, or another model"
        ) from error
    except WrongVectors as error:
        raise Refused(
            f"EMBEDDING_MODEL: {error} for the {what}; look into the provider, or set another model"
        ) from error
    except ProbeFailed as error:
        fault, family = error.fault, settings.family
        near = nearest_model(family.name, embedding.model)
        hint = f"; did you mean {near}?" if near else ""
        explained = {
            "denied": f"{family.who}: the provider refuses the key: {fault.message}",
            "model_missing": f"EMBEDDING_MODEL: there is no model {embedding.model!r}{hint} ({fault.message})",
            "refused": f"EMBEDDING_MODEL, EMBEDDING_DIMENSIONS: the provider refuses the {what}{hint}: {fault.message}",
        }
        if "certificate verify failed" in fault.message.lower():
            raise Refused(
                f"SSL_CERT_FILE, {settings.family.where}: the certificate of the provider is refused: {fault.message}; "
                "where an authority of your own issued it, set SSL_CERT_FILE to a file with its certificate (PEM)"
            ) from error
        hint = ""
        if fault.kind == "not_found" and fault.status and family.where in _ENDS_IN_V1:
            hint = "; the address usually ends in /v1"
        unreachable = f"{family.where}: the provider does not answer as it should: {fault.message}{hint}"
        raise Refused(explained.get(fault.kind, unreachable)) from error


def affordable_tokens(embedding: EmbeddingSettings, max_cost: float | None) -> int | None:
    """How many tokens the bound on cost buys by list price; None for no bound.

    Raises:
        Refused: the price is not known.
    """
    if max_cost is None:
        return None
    million = estimate_cost(embedding.model, 1_000_000)
    if million is None:
        raise Refused(f"--max-cost: the price of {embedding.model!r} is not known, so its cost cannot be bounded")
    return int(max_cost / million * 1_000_000) if million else None


def register_model(
    ledger: Ledger, embedding: EmbeddingSettings, server: str | None = None, digest: str | None = None
) -> ModelRecord:
    """The model as the ledger knows it, with the package that computes its vectors, and who gave them."""
    package, version = tool_of(embedding.family)
    return ledger.register_model(
        **asdict(embedding),
        fingerprint=fingerprint(embedding, ""),
        tool_source=package,
        tool_version=version,
        provider_server=server,
        model_digest=digest,
    )
