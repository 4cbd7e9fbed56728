"""A provider with a batch interface, in memory, with a clock of its own, and a process that may die at any call."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from kai.vectors import Vector
from migration.embedding.ahead.files import digest_of
from migration.embedding.ahead.patience import Waiting
from migration.embedding.ahead.service import Answer, BatchLimits, NoVector, Seen
from migration.embedding.embed import text_hash
from migration.ledger import BatchRecord

DIMENSIONS = 8


class Killed(BaseException):
    """The process is gone."""


@dataclass
class Kill:
    """Ends the process at the call of this number, before it has done anything or after it has; 0 never.

    With `only`, calls of that name alone are counted.
    """

    at: int = 0
    is_after: bool = False
    only: str = ""
    calls: int = 0

    def around(self, name: str, call: Callable[[], Any]) -> Any:
        """Make a call that may be the last one."""
        self.calls += name == self.only or not self.only
        is_last = self.calls == self.at and (name == self.only or not self.only)
        if is_last and not self.is_after:
            raise Killed
        result = call()
        if is_last:
            raise Killed
        return result


class Killable:
    """Whatever it stands for, each call counted."""

    def __init__(self, real: Any, kill: Kill) -> None:
        self._real, self._kill = real, kill

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if not callable(found) or name == "line":  # That one changes nothing anywhere.
            return found
        return lambda *given, **named: self._kill.around(name, lambda: found(*given, **named))


@dataclass
class Clock:
    """Goes only when somebody rests."""

    seconds: float = 0.0

    def now(self) -> datetime:
        """The time of day."""
        return datetime(2026, 11, 20, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def rest(self, seconds: float) -> None:
        """Wait."""
        self.seconds += seconds

    def waiting(self, most: float = float("inf"), stopped: threading.Event | None = None) -> Waiting:
        """How the product waits by this clock."""
        return Waiting(most, lambda: self.seconds, self.now, self.rest, stopped or threading.Event())


class MemoryLedger:
    """What is noted of batches, as committed."""

    def __init__(self, clock: Clock) -> None:
        self.rows: dict[str, BatchRecord] = {}
        self._clock = clock

    def intend_batch(self, batch: BatchRecord) -> BatchRecord:
        """As `Ledger` does."""
        now = self._clock.now()
        return self.rows.setdefault(batch.name, replace(batch, host="here", created_at=now, updated_at=now))

    def update_batch(self, name: str, *, failures: Mapping[str, str] | None = None, **changes: Any) -> None:
        """As `Ledger` does."""
        if failures is not None:
            changes["failures"] = dict(failures)
        self.rows[name] = replace(self.rows[name], updated_at=self._clock.now(), **changes)

    def batches(self, fingerprint: str | None = None, *, only_open: bool = False) -> list[BatchRecord]:
        """As `Ledger` does."""
        rows = [row for row in self.rows.values() if fingerprint in (None, row.fingerprint)]
        return [row for row in rows if row.is_open or not only_open]


@dataclass
class Job:
    """One batch at the provider."""

    name: str
    texts: list[str]
    made: float
    fate: str = "completed"
    answered: list[str] = field(default_factory=list)


class FakeService:
    """A provider that takes some minutes for a batch.

    Attributes:
        paid: how often each text was embedded.
        limits: of a batch.
        lag: seconds after which a batch shows in the list.
        takes: seconds for a batch.
        fates: of the batches in their order: `completed`; `expired` and `cancelled`, with every second text embedded;
            `failed`; `no room`.
        refused: texts that it never embeds.
        stumbles: how often each of these texts comes back without a vector.
        wrong: texts whose vectors are of zeros.
        room: most texts waiting at once; more are not taken.
        lost_answers: how many submissions arrive whose answers are lost.
    """

    key = "custom_id"

    def __init__(self, clock: Clock, **attributes: Any) -> None:
        self.clock = clock
        self.limits = BatchLimits(texts=4)
        self.lag, self.takes = 60.0, 600.0
        self.fates: list[str] = []
        self.refused: set[str] = set()
        self.stumbles: Counter[str] = Counter()
        self.wrong: set[str] = set()
        self.room: int | None = None
        self.lost_answers = 0
        self.paid: Counter[str] = Counter()
        self.files: dict[str, list[str]] = {}
        self.jobs: dict[str, Job] = {}
        self.cancelled: list[str] = []
        for name, value in attributes.items():
            setattr(self, name, value)

    def check(self) -> None:
        """It has one."""

    def line(self, digest: bytes, text: str) -> bytes:
        """See `BatchService`."""
        if text == "too long":
            raise ValueError("the text is too long")
        return orjson.dumps({"custom_id": digest.hex(), "text": text})

    def upload(self, file: Path, name: str) -> str:
        """See `BatchService`."""
        lines = [orjson.loads(line) for line in file.read_bytes().splitlines()]
        assert all(digest_of(line["custom_id"]) == text_hash(line["text"]) for line in lines)
        assert len(lines) <= self.limits.texts
        self.files[f"file-{len(self.files)}-{name}"] = [line["text"] for line in lines]
        return list(self.files)[-1]

    def submit(self, file_id: str, name: str) -> str:
        """See `BatchService`."""
        job = Job(name, self.files[file_id], self.clock.seconds)
        waiting = sum(len(each.texts) for each in self.jobs.values() if not self._is_over(each))
        if self.room is not None and waiting + len(job.texts) > self.room:
            job.fate = "no room"
        elif len(self.jobs) < len(self.fates):
            job.fate = self.fates[len(self.jobs)]
        if job.fate not in ("failed", "no room"):
            job.answered = [text for text in job.texts if self._embeds(text)]
            if job.fate in ("expired", "cancelled"):
                job.answered = job.answered[::2]
            self.paid.update(text for text in job.answered if text not in self.wrong)
        batch_id = f"batch-{len(self.jobs)}"
        self.jobs[batch_id] = job
        if self.lost_answers:
            self.lost_answers -= 1
            raise ConnectionError("the connection broke")
        return batch_id

    def _embeds(self, text: str) -> bool:
        if self.stumbles[text]:
            self.stumbles[text] -= 1
            return False
        return text not in self.refused

    def _is_over(self, job: Job) -> bool:
        return job.fate in ("failed", "no room") or self.clock.seconds >= job.made + self.takes

    def find(self, name: str, since: datetime) -> str | None:
        """See `BatchService`; it does not look an hour further back than it must."""
        oldest = self.clock.seconds - (self.clock.now() - since).total_seconds() - 3600
        made = {id_: job for id_, job in self.jobs.items() if oldest <= job.made <= self.clock.seconds - self.lag}
        return {job.name: id_ for id_, job in made.items()}.get(name)

    def look(self, batch_id: str) -> Seen:
        """See `BatchService`."""
        job = self.jobs.get(batch_id)
        if job is None:
            return Seen("gone", "not found")
        if job.fate == "no room":
            return Seen("no room", "failed", reason="Enqueued token limit reached.")
        if job.fate == "failed":
            return Seen("failed", "failed", reason="the file is malformed")
        if not self._is_over(job):
            return (
                Seen("checking", "validating") if self.clock.seconds < job.made + 5 else Seen("waiting", "in_progress")
            )
        return Seen("answered", job.fate, is_cancelled=job.fate == "cancelled")

    def answers(self, batch_id: str) -> Iterator[Answer]:
        """See `BatchService`; in another order, and of an expired batch some are missing."""
        job = self.jobs[batch_id]
        for text in reversed(job.texts):
            digest = text_hash(text)
            if text in job.answered:
                yield digest, np.zeros(DIMENSIONS, np.float32) if text in self.wrong else vector_of(text)
            elif text in self.refused:
                yield digest, NoVector("the content filter", may_pass=False)
            elif job.fate == "completed":
                yield digest, NoVector("the server had an error", may_pass=True)

    def cancel(self, batch_id: str) -> None:
        """See `BatchService`."""
        self.cancelled.append(batch_id)

    def clean(self, batch_id: str | None, file_id: str | None) -> None:
        """See `BatchService`."""
        self.files.pop(file_id or "", None)


def vector_of(text: str) -> Vector:
    """The vector of a text, unlike any other's."""
    return np.frombuffer(text_hash(text)[:DIMENSIONS], np.uint8).astype(np.float32) + 1
