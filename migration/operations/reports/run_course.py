"""How a run went over time, from what was noted while it went: plots, and where the time was spent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import mean
from typing import Final

from migration.reporting.page import Line, LinePlot, Plots, Section, Table
from migration.runtime.timeline import Sample
from migration.runtime.values import amount, seconds, text

_WIDE: Final = 5
"""Times the slowest phase that the fastest one is, from which on a scale is logarithmic."""
_GRAINS: Final = 40
"""Stretches of a run for each of which a plot shows a value, at most."""


def course_of(samples: Sequence[Sample]) -> Iterator[Section]:
    """Plots over time; those that have something to show."""
    names = list(dict.fromkeys(sample.phase for sample in samples))
    speeds = [Line(name, _rates(samples, lambda s: s.documents, lambda s: s.seconds, phase=name)) for name in names]
    latencies = [
        Line(name, _rates(samples, spent, count, scale=1000.0))
        for name, spent, count in (
            ("embedding request", lambda s: s.embedding_seconds, lambda s: s.requests),
            ("import request", lambda s: s.import_seconds, lambda s: s.imports),
        )
    ]
    searched = tuple((sample.seconds, sample.search_ms) for sample in samples if sample.search_ms is not None)
    plots = [
        _speed_plot(_shown(speeds)),
        LinePlot("Time of a request", "ms", _shown(latencies), "The mean of the requests answered at about that time."),
        LinePlot(
            "Speed of searches meanwhile",
            "ms",
            _shown([Line("a search", searched)]),
            "Of the searches that others made, by Typesense's own figures, over ten seconds each.",
        ),
    ]
    until = samples[-1].seconds if samples else 0.0
    yield Plots("How it went", tuple(replace(plot, until=until) for plot in plots if plot.lines))


def _speed_plot(lines: tuple[Line, ...]) -> LinePlot:
    """On a scale that shows slow phases beside fast ones: reading is many times as fast as embedding."""
    means = [mean([value for _, value in line.points if value]) for line in lines]
    is_wide = bool(means) and max(means) > _WIDE * min(means)
    note = "What the run has gone through, by phase" + (", each line ten times the one below." if is_wide else ".")
    return LinePlot("Documents a second", "", lines, note, is_wide)


def _shown(lines: Sequence[Line]) -> tuple[Line, ...]:
    return tuple(line for line in lines if any(value for _, value in line.points))


def _rates(
    samples: Sequence[Sample],
    of: Callable[[Sample], float],
    per: Callable[[Sample], float],
    *,
    phase: str | None = None,
    scale: float = 1.0,
) -> tuple[tuple[float, float | None], ...]:
    """How much a count grew for each that another one did, stretch by stretch; interrupted where legs or phases end."""
    if not samples:
        return ()
    grain = samples[-1].seconds / _GRAINS
    points: list[tuple[float, float | None]] = []
    start = samples[0]

    def close(end: Sample, least: float) -> bool:
        grown, passed = of(end) - of(start), per(end) - per(start)
        # Pages are counted when they are done: a moment at which none was says nothing.
        if end.seconds - start.seconds < least or passed <= 0 or grown <= 0:
            return False
        points.append(((start.seconds + end.seconds) / 2, scale * grown / passed))
        return True

    for before, after in pairwise(samples):
        changes = phase is not None and after.phase != before.phase
        if before.leg != after.leg:
            close(before, grain / 2)
            points.append((before.seconds, None))
            start = after
            continue
        if phase is not None and before.phase != phase:
            start = after
            continue
        if close(after, grain / 2 if changes else grain):
            start = after
        if changes:
            points.append((after.seconds, None))
    if phase in (None, samples[-1].phase):
        close(samples[-1], grain / 2)
    return tuple(points)


def times_of(samples: Sequence[Sample]) -> Iterator[Section]:
    """A table of the phases."""
    phases = _phases(samples)
    yield Table(
        "Where the time went",
        ("Phase", "Collection", "#Time", "#Documents"),
        tuple((phase, text(name), seconds(taken), amount(documents)) for phase, name, taken, documents in phases),
    )


def _phases(samples: Sequence[Sample]) -> list[tuple[str, str | None, float, int]]:
    """Seconds and documents by phase and collection, in the order in which they began."""
    taken: dict[tuple[str, str | None], tuple[float, int]] = {}
    for before, after in pairwise(samples):
        if before.leg == after.leg:
            key = before.phase, before.collection
            time, documents = taken.get(key, (0.0, 0))
            taken[key] = time + after.seconds - before.seconds, documents + after.documents - before.documents
    return [(*key, time, documents) for key, (time, documents) in taken.items() if time >= 0.05 or documents]
