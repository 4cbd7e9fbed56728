"""What is measured: the tool, the two floors under it, and the way that it replaces."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.floors import embedding_alone, server_alone
from benchmarks.processes import Measured, Provider, Server, measure, provider
from benchmarks.scene import FIELD, SECOND, Scene, scene
from benchmarks.witness import Account, Witness, sample_of

_MODULE: Final = "migration.embedding_migration"
STRATEGIES: Final = ("auto", "rebuild", "alter", "recreate", "into", "alias")
"""As the migration's own `--strategy` has them; here `auto` is in place, and `into` fills a second field."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to measure.

    Attributes:
        latency: seconds that the provider takes for a request.
        concurrency: most embedding requests at once.
        repeat: how often the floors and the tool are measured; medians are told.
        sample: documents for the one-at-a-time way.
        strategies: by which the migration is measured.
        witness: whether each is done once more while an application searches and writes.
    """

    latency: float = 0.05
    concurrency: int = 4
    repeat: int = 1
    sample: int = 300
    strategies: tuple[str, ...] = STRATEGIES
    witness: bool = True


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
    """The least that a migration by the same strategy takes: the larger of the two, or one after the other."""

    embedding_seconds: float
    server_seconds: float
    seconds: float


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
    """All figures of one size and strategy. `ratio` is wall time over the floor, with and without start-up."""

    documents: int
    dimensions: int
    old_dimensions: int
    strategy: str
    tool: Tool
    floors: Floors
    ratio: float
    ratio_without_startup: float
    one_at_a_time: OneAtATime | None
    witness: Account | None
    load_before: float
    load_after: float


def measure_size(
    server: Server, documents: int, dimensions: int, options: Options, say: Callable[[str], None], *, starts: int = 3
) -> list[Result]:
    """Measure everything at one size, each time on a collection made for it; a result for each strategy.

    The start-up is measured so many times at least; the median is told.
    """
    with tempfile.TemporaryDirectory(prefix="kai-benchmark-") as name:
        folder = Path(name)
        say("start-up")
        with scene(server, 0, dimensions) as empty:
            started = [migrate(empty, folder, options, "auto")[0] for _ in range(max(starts, options.repeat))]
            say("floor: embedding alone")
            texts = replace(empty, documents=documents)
            embedding = median(
                embedding_alone(texts, options.latency, options.concurrency) for _ in range(options.repeat)
            )
        results = []
        for strategy in options.strategies:
            say(f"strategy {strategy}")
            load_before = os.getloadavg()[0]
            # Half as long before, where the strategy is for a change of the length.
            old = dimensions if strategy in ("auto", "rebuild") else max(1, dimensions // 2)
            slow, imports, runs = None, [], []
            for _ in range(options.repeat):
                with scene(server, documents, dimensions, old) as filled:
                    if strategy == "auto" and slow is None:
                        slow = one_at_a_time(filled, folder, options)
                    imports.append(server_alone(filled, folder, strategy))
                with scene(server, documents, dimensions, old) as filled:
                    runs.append(migrate(filled, folder, options, strategy))
            seen = None
            if options.witness:
                say(f"strategy {strategy}, while an application searches and writes")
                with scene(server, documents, dimensions, old) as filled:
                    seen = witnessed(filled, folder, options, strategy)
            tool, floors = _figures(documents, started, runs), _floors(strategy, embedding, median(imports))
            results.append(
                Result(
                    documents=documents,
                    dimensions=dimensions,
                    old_dimensions=old,
                    strategy=strategy,
                    tool=tool,
                    floors=floors,
                    ratio=tool.seconds / floors.seconds,
                    ratio_without_startup=(tool.seconds - tool.startup_seconds) / floors.seconds,
                    one_at_a_time=slow,
                    witness=seen,
                    load_before=load_before,
                    load_after=os.getloadavg()[0],
                )
            )
        return results


def _floors(strategy: str, embedding: float, server: float) -> Floors:
    """Nothing is embedded any more when a field is emptied; otherwise one goes on beside the other."""
    one_after_the_other = strategy in ("rebuild", "alter")
    return Floors(embedding, server, embedding + server if one_after_the_other else max(embedding, server))


def migrate(
    where: Scene,
    folder: Path,
    options: Options,
    strategy: str,
    watching: Callable[[Provider], contextlib.AbstractContextManager[bool]] = lambda _: contextlib.nullcontext(False),
) -> tuple[Measured, Provider]:
    """The real command line, with an empty ledger and an empty cache."""
    known_as = where.name
    if strategy == "alias":
        where.point_alias()
        known_as = where.alias
    arguments = ["-m", _MODULE, "--collections-file", str(where.collections_file(folder, known_as))]
    arguments += ["--concurrency", str(options.concurrency)]
    arguments += ["--into", SECOND] if strategy == "into" else ["--strategy", strategy]
    with tempfile.TemporaryDirectory(dir=folder) as home, provider(options.latency) as embedding:
        environment = where.environment() | embedding.environment(where.dimensions) | {"MIGRATION_HOME": home}
        with watching(embedding) as is_watched:
            # While an application writes, a run may end with words about documents that keep changing, or are lost.
            measured = measure(arguments, folder, environment, (0, 1) if is_watched else (0,))
    return measured, embedding


def witnessed(where: Scene, folder: Path, options: Options, strategy: str) -> Account:
    """The same while an application searches and writes; what it met."""
    seen: list[Witness] = []

    @contextlib.contextmanager
    def watching(embedding: Provider) -> Iterator[bool]:
        fields = (FIELD, SECOND if strategy == "into" else FIELD)
        name = where.alias if strategy == "alias" else where.name
        seen.append(Witness(where, name, fields, *sample_of(where, embedding)))
        with seen[0].watching():
            yield True

    migrate(where, folder, options, strategy, watching)
    return seen[0].account()


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
