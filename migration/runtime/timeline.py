"""`timeline.jsonl` in the run's folder: how a run went over time, for its report.

A line is what has been counted until then, so that lines may be missing: what was done between any two of them is
their difference. They stand a second apart at first and 1/200 of the run's age later, finer than a plot can show; so
a run of a week has about 1,800 of them. A line takes 0.1 ms, of which the run waits for none: a thread writes them.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import orjson

from kai.typesense import TypesenseError

_EVERY: Final = 1.0
"""Seconds between two lines of a run that is young."""
_ALMOST: Final = 0.9
"""Share of that time which is enough: a thread does not wake to the millisecond."""
_SHARE: Final = 200
"""Of an older one, they stand apart by its age divided by this."""
_MOST_LINES: Final = 2_000
_LEFT: Final = _MOST_LINES // 4
"""Stretches of equal length into which a file that is full is divided: the first and the last line of each stay."""
_PATIENCE: Final = 1.0
"""Seconds for which the end of a run waits for figures that the server is being asked for."""
_BETWEEN_LOOKS: Final = 10.0
"""Seconds of which Typesense's figures tell, so that looking more often would show nothing new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What was counted until a moment of a run.

    Attributes:
        leg: which start of the run; what is counted begins at 0 with each.
        at: the moment, in seconds since 1970.
        seconds: for which the run has worked until then, all legs together.
        phase: that begins or is under way.
        collection: that it is about; None for the run as a whole.
        documents: gone through, in all phases of the leg together.
        requests: embedding requests that were answered.
        embedding_seconds: that they took, added up.
        tokens: estimated tokens that were embedded.
        imports: import requests that were answered.
        import_seconds: that they took, added up.
        searches_per_second: that the server answered, by its own figures; None where nobody looked.
        search_ms: that such a search took.
    """

    leg: int
    at: float
    seconds: float
    phase: str = ""
    collection: str | None = None
    documents: int = 0
    requests: int = 0
    embedding_seconds: float = 0.0
    tokens: int = 0
    imports: int = 0
    import_seconds: float = 0.0
    searches_per_second: float | None = None
    search_ms: float | None = None


_NAMES: Final = frozenset(each.name for each in fields(Sample))


def timeline_file(home: Path, run: str) -> Path:
    """Where the course of a run is kept."""
    return home / "runs" / run / "timeline.jsonl"


def read_timeline(path: Path) -> list[Sample]:
    """What was noted of a run, in its order; a line that is no sample, as one that was being written, is none."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return []
    samples: list[Sample] = []
    for line in lines:
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            entries = orjson.loads(line)
            sample = Sample(**{name: value for name, value in entries.items() if name in _NAMES})
            if sample.seconds >= (samples[-1].seconds if samples else 0.0):
                samples.append(sample)
    return samples


class Timeline:
    """Notes how a run goes while it goes; a run that is resumed goes on in the same file.

    Args:
        path: the file; its folder is made. None writes nothing.
        counts: called for the entries of a sample beside its time; `ended` among them, if true, makes it the last one.
        look: the server's figures (`/stats.json`); may raise `TypesenseError`. None does not look.
    """

    def __init__(
        self,
        path: Path | None,
        counts: Callable[[], Mapping[str, Any]],
        look: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        self._path, self._counts, self._look = path, counts, look
        earlier = read_timeline(path) if path is not None else []
        self._leg = earlier[-1].leg + 1 if earlier else 1
        self._before = earlier[-1].seconds if earlier else 0.0
        self._lines = len(earlier)
        self._began = time.monotonic()
        self._last = -_EVERY
        self._looked = self._began
        self._is_over = False
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def note(self) -> None:
        """Note what is counted at this moment."""
        self._note({})

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Note it again and again while the block runs."""
        thread = threading.Thread(target=self._keep, name="timeline", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join(_PATIENCE)
            self.note()

    def tick(self) -> None:
        """Note what is counted, if the last line is old enough by now."""
        figures, age = self._figures(), time.monotonic() - self._began
        is_due = age - self._last >= max(_EVERY, (self._before + age) / _SHARE) * _ALMOST
        if (figures or is_due) and not self._ended.is_set():
            self._note(figures)

    def _keep(self) -> None:
        while not self._ended.wait(_EVERY):
            self.tick()

    def _figures(self) -> dict[str, float]:
        """How fast the server answers searches, where it answers any, and says so."""
        now = time.monotonic()
        if self._look is None or now - self._looked < max(_BETWEEN_LOOKS, (self._before + now - self._began) / _SHARE):
            return {}
        self._looked = now
        try:
            figures = self._look()
            searches, latency = figures["search_requests_per_second"], figures["search_latency_ms"]
            return {"searches_per_second": float(searches), "search_ms": float(latency)} if searches else {}
        except TypesenseError as error:
            if not error.transient:
                self._look = None
        except (KeyError, TypeError, ValueError, RuntimeError):
            self._look = None  # No such figures; or the run has ended, and its connection is closed.
        return {}

    def _note(self, figures: Mapping[str, Any]) -> None:
        if self._path is None:
            return
        # What a report shows is no reason to end a run that can go on.
        with self._lock, contextlib.suppress(OSError):
            if self._is_over:
                return
            age, counts = time.monotonic() - self._began, dict(self._counts())
            self._is_over = counts.pop("ended", False)
            sample = Sample(
                leg=self._leg, at=round(time.time(), 3), seconds=round(self._before + age, 3), **counts, **figures
            )
            self._last = age
            if self._lines >= _MOST_LINES:
                self._thin(self._path)
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._path.open("ab+") as file:
                # A process that was killed may have left half a line.
                torn = file.tell() and (file.seek(-1, 2), file.read(1))[1] != b"\n"
                file.write(b"\n" * bool(torn) + _line(sample))
            self._lines += 1

    def _thin(self, path: Path) -> None:
        kept = thinned(read_timeline(path), _LEFT)
        temporary = path.with_suffix(".tmp")
        temporary.write_bytes(b"".join(map(_line, kept)))
        temporary.replace(path)
        self._lines = len(kept)


def thinned(samples: Sequence[Sample], stretches: int) -> list[Sample]:
    """The first and the last sample of each of so many stretches of equal length, in each leg.

    The last one has the searches of those that are left out, where it has none itself.
    """
    if not samples:
        return []
    width = max(samples[-1].seconds / stretches, 1e-9)
    places: dict[tuple[int, int], list[Sample]] = {}
    for sample in samples:
        of_place = places.setdefault((sample.leg, int(sample.seconds / width)), [])
        if len(of_place) < 2:
            of_place.append(sample)
        elif sample.search_ms is None:
            before = of_place[1]
            of_place[1] = replace(sample, searches_per_second=before.searches_per_second, search_ms=before.search_ms)
        else:
            of_place[1] = sample
    return [sample for of_place in places.values() for sample in of_place]


def _line(sample: Sample) -> bytes:
    return orjson.dumps({name: value for name, value in asdict(sample).items() if value is not None}) + b"\n"
