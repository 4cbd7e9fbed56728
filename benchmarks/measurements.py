"""What is measured: the tool, the two floors under it, and the way that it replaces."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final, cast

from benchmarks.processes import PROVIDER_KEY, Measured, Provider, Server, measure, provider
from benchmarks.scene import PAGE, Scene, scene
from kai.embeddings import ArrayEmbeddings, make_embeddings
from kai.settings import EmbeddingSettings, Settings, TypesenseSettings

_MODULE: Final = "migration.embedding_migration"


@dataclass(frozen=True, slots=True)
class Options:
    """How to measure.

    Attributes:
        latency: seconds that the provider takes for a request.
        concurrency: most embedding requests at once.
        repeat: how often the floors and the tool are measured; medians are told.
        sample: documents for the one-at-a-time way.
        strategy: of the migration.
    """

    latency: float = 0.05
    concurrency: int = 4
    repeat: int = 1
    sample: int = 300
    strategy: str = "auto"


@dataclass(frozen=True, slots=True)
class Tool:
    """The migration's own figures. Start-up is that of a run without a document."""

    seconds: float
    startup_seconds: float
    documents_per_second: float
    requests: int
    peak_mb: float
    cpu_seconds: float
    startup_cpu_seconds: float
    cpu_ms_per_document: float


@dataclass(frozen=True, slots=True)
class Floors:
    """The least that any migration of the same documents takes: the larger of the two."""

    embedding_seconds: float
    server_seconds: float


@dataclass(frozen=True, slots=True)
class OneAtATime:
    """The way one would write in an afternoon, measured over a sample; `seconds` is extrapolated."""

    sample: int
    seconds: float
    documents_per_second: float
    requests: int
    peak_mb: float
    cpu_ms_per_document: float


@dataclass(frozen=True, slots=True)
class Result:
    """All figures of one size. `ratio` is wall time over the larger floor, with and without start-up."""

    documents: int
    dimensions: int
    tool: Tool
    floors: Floors
    ratio: float
    ratio_without_startup: float
    one_at_a_time: OneAtATime
    load_before: float
    load_after: float


def measure_size(
    server: Server, documents: int, dimensions: int, options: Options, say: Callable[[str], None]
) -> Result:
    """Measure everything at one size, on a collection made for it."""
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="kai-benchmark-") as name:
        folder = Path(name)
        say("start-up")
        with scene(server, 0, dimensions) as empty:
            starts = [migrate(empty, folder, options)[0] for _ in range(max(3, options.repeat))]
        say("filling")
        with scene(server, documents, dimensions) as filled:
            say("one document at a time")
            slow = one_at_a_time(filled, folder, options)
            embedding, imports, runs = [], [], []
            for _ in range(options.repeat):
                say("floor: embedding alone")
                embedding.append(embedding_alone(filled, options))
                # Last before the tool: the collection must hold vectors of another model again.
                say("floor: server alone")
                imports.append(server_alone(filled, folder))
                say("the migration")
                runs.append(migrate(filled, folder, options))
    floors = Floors(median(embedding), median(imports))
    tool = _figures(documents, starts, runs)
    floor = max(floors.embedding_seconds, floors.server_seconds)
    return Result(
        documents=documents,
        dimensions=dimensions,
        tool=tool,
        floors=floors,
        ratio=tool.seconds / floor,
        ratio_without_startup=(tool.seconds - tool.startup_seconds) / floor,
        one_at_a_time=slow,
        load_before=load_before,
        load_after=os.getloadavg()[0],
    )


def migrate(where: Scene, folder: Path, options: Options) -> tuple[Measured, Provider]:
    """The real command line, with an empty ledger and an empty cache."""
    arguments = ["-m", _MODULE, "--collections-file", str(where.collections_file(folder))]
    arguments += ["--concurrency", str(options.concurrency), "--strategy", options.strategy]
    with tempfile.TemporaryDirectory(dir=folder) as home, provider(options.latency) as embedding:
        environment = where.environment() | embedding.environment(where.dimensions) | {"MIGRATION_HOME": home}
        measured = measure(arguments, folder, environment)
    return measured, embedding


def embedding_alone(where: Scene, options: Options) -> float:
    """Seconds for the same embedding requests through the same `Embeddings`, with nothing else done."""
    pages = [
        [where.question(number) for number in range(start, min(start + PAGE, where.documents))]
        for start in range(0, where.documents, PAGE)
    ]
    with provider(options.latency) as embedding:
        settings = Settings(
            EmbeddingSettings("openai", "text-embedding-3-small", where.dimensions),
            TypesenseSettings(),
            openai_api_key=PROVIDER_KEY,
            openai_api_base=embedding.base,
        )
        embeddings = cast(ArrayEmbeddings, make_embeddings(settings))

        def embed(texts: list[str]) -> int:
            return len(embeddings.embed_array(texts))

        embed(["the first request opens a connection"])
        with ThreadPoolExecutor(options.concurrency) as threads:
            begun = time.monotonic()
            embedded = sum(threads.map(embed, pages))
            seconds = time.monotonic() - begun
    assert embedded == where.documents  # noqa: S101
    return seconds


def server_alone(where: Scene, folder: Path) -> float:
    """Seconds for the same imports, made before and sent one after another.

    They wait in a file, which the system keeps in memory: a large collection's do not fit into this process.
    """
    file = folder / "imports"
    with file.open("wb") as bodies:
        sizes = [bodies.write(b"\n".join(lines)) for lines in where.update_lines(seed=2)]
    with file.open("rb") as bodies:
        begun = time.monotonic()
        for size in sizes:
            where.import_body(bodies.read(size), "update")
        seconds = time.monotonic() - begun
    file.unlink()
    return seconds


def one_at_a_time(where: Scene, folder: Path, options: Options) -> OneAtATime:
    """`embed_query` and a PATCH for each document of a sample."""
    sample = min(options.sample, where.documents)
    with provider(options.latency) as embedding:
        environment = where.environment() | embedding.environment(where.dimensions)
        measured = measure(["-m", "benchmarks.one_at_a_time", where.name, str(sample)], folder, environment)
    loop = json.loads(measured.output)
    speed = loop["documents"] / loop["seconds"]
    return OneAtATime(
        sample=sample,
        seconds=where.documents / speed,
        documents_per_second=speed,
        requests=where.documents,
        peak_mb=measured.peak_bytes / 1e6,
        cpu_ms_per_document=1000 * loop["cpu_seconds"] / loop["documents"],
    )


def _figures(documents: int, starts: Sequence[Measured], runs: Sequence[tuple[Measured, Provider]]) -> Tool:
    seconds = median(run.seconds for run, _ in runs)
    cpu = median(run.cpu_seconds for run, _ in runs)
    startup_cpu = median(run.cpu_seconds for run in starts)
    return Tool(
        seconds=seconds,
        startup_seconds=median(run.seconds for run in starts),
        documents_per_second=documents / seconds,
        requests=runs[-1][1].requests,
        peak_mb=max(run.peak_bytes for run, _ in runs) / 1e6,
        cpu_seconds=cpu,
        startup_cpu_seconds=startup_cpu,
        cpu_ms_per_document=1000 * (cpu - startup_cpu) / documents,
    )
