"""What is told while the migration works as JSON, one object a line, for a program that collects logs.

Every line has `time` (UTC), `level`, `run` and `collection` (null where it is about none), and `event`; a `message`
where there is one, and what the event has of its own. Secrets are taken out of every text.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Literal, Self

from kai.settings import redact

Level = Literal["debug", "info", "warning", "error"]
PROGRESS_EVERY: Final = 5.0
"""Seconds between two lines about the same progress, at least; the last one comes in any case."""
_ORNAMENTS: Final = " -!"
"""What lines for a person begin with."""


class Log:
    """Writes the lines.

    Args:
        write: takes a line, without its end.
        secrets: replaced by `***` wherever they would show.
    """

    def __init__(self, write: Callable[[str], object], secrets: Iterable[str] = ()) -> None:
        self._write = write
        self._secrets = tuple(secrets)
        self._about: dict[str, str | None] = {"run": None, "collection": None}

    def about(self, **names: str | None) -> None:
        """Which `run` and which `collection` the lines are about from here on."""
        self._about |= names

    def line(self, level: Level, event: str, message: str | None = None, **facts: Any) -> None:
        """One object.

        Args:
            level: how much it matters.
            event: what kind of line it is.
            message: in words.
            facts: what else there is to say; a `collection` among them goes before the one that is at hand.
        """
        moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        said = {} if message is None else {"message": message.lstrip(_ORNAMENTS)}
        content = {"time": moment, "level": level, **self._about, "event": event} | said | facts
        self._write(json.dumps(self._redacted(content), ensure_ascii=False, default=str))

    def progress(self, title: str, total: int) -> ProgressLog:
        """The progress of a piece of work."""
        return ProgressLog(self, title.strip(), total)

    def _redacted(self, value: Any) -> Any:
        if isinstance(value, str):
            return redact(value, self._secrets)
        if isinstance(value, dict):
            return {name: self._redacted(each) for name, each in value.items()}
        return value


class ProgressLog:
    """Counts, and writes a line now and then, as a progress bar would show it. Use as a context manager."""

    def __init__(self, log: Log, title: str, total: int) -> None:
        self._log, self._title, self._total = log, title, total
        self._done = 0
        self._told: int | None = None
        self._began = self._told_at = time.monotonic()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            if self._told != self._done:
                self._tell()

    def update(self, n: int = 1) -> None:
        """So many more are done."""
        with self._lock:
            self._done += n
            if time.monotonic() - self._told_at >= PROGRESS_EVERY:
                self._tell()

    def _tell(self) -> None:
        self._told, self._told_at = self._done, time.monotonic()
        seconds = self._told_at - self._began
        speed = self._done / seconds if seconds > 0 else 0.0
        self._log.line(
            "info",
            "progress",
            self._title,
            done=self._done,
            total=self._total,
            documents_per_second=round(speed, 2),
            seconds_left=round(max(0, self._total - self._done) / speed, 1) if speed else None,
        )
