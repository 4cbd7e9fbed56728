"""What a node holds while it is alive."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kai.sandbox.alter import resume_alters, show_alters
from kai.sandbox.app import app_of
from kai.sandbox.log import Log
from kai.sandbox.store import VERSIONS, Store


@dataclass(frozen=True)
class Settings:
    """What all nodes have in common.

    Attributes:
        data_dir: folder of the log.
        api_key: the admin key.
        alter_seconds: how long a schema change of a collection with documents takes.
        lag: seconds after which a follower shows what was written.
        election_seconds: how long there is no leader after the loss of one.
        rejoin_seconds: how long a node that was killed answers 503 when it is started again.
        lag_seconds: how long all nodes answer 503 at first.
        version: of Typesense, to behave as.
    """

    data_dir: Path
    api_key: str
    alter_seconds: float = 0.0
    lag: float = 0.5
    election_seconds: float = 7.5
    rejoin_seconds: float = 6.0
    lag_seconds: float = 0.0
    version: int = VERSIONS[-1]


class Replica:
    """A store that repeats what the leader logs, `lag` seconds later, until it leads itself."""

    def __init__(self, settings: Settings, *, ready_in: float = 0.0) -> None:
        """Take over what has been logged; nothing may be logged meanwhile. Answers 503 for `ready_in` seconds."""
        self._lag = settings.lag
        self._pending: deque[tuple[float, list[bytes]]] = deque()
        self._ready_at = time.monotonic() + ready_in
        self.store = Store(settings.data_dir, alter_seconds=settings.alter_seconds, version=settings.version)
        self.store.is_leader = False
        # A follower logs nothing, whatever happens.
        self.store.log.close()
        show_alters(self.store)
        self.app = app_of(self.store, settings.data_dir, settings.api_key, ready_at=self._ready_at)

    @property
    def is_ready(self) -> bool:
        """Whether it answers anything but 503."""
        return time.monotonic() >= self._ready_at

    @property
    def is_behind(self) -> bool:
        """Whether there is something that it must show by now."""
        return bool(self._pending) and self._pending[0][0] <= time.monotonic()

    def receive(self, lines: list[bytes]) -> None:
        """Take records that the leader has logged."""
        if not self.store.is_leader:
            self._pending.append((time.monotonic() + self._lag, lines))

    def catch_up(self, until: float | None = None) -> None:
        """Carry out what was received `lag` seconds before now, or before `until` (monotonic time)."""
        with self.store.lock:
            until = time.monotonic() if until is None else until
            while self._pending and self._pending[0][0] <= until:
                self.store.repeat(self._pending.popleft()[1])
            if not self.store.is_leader:
                show_alters(self.store)

    def lead(self, publish: Callable[[list[bytes]], None]) -> None:
        """Become the leader: with all that was acknowledged; what it logs itself goes to `publish`."""
        with self.store.lock:
            self.catch_up(math.inf)
            self.store.is_leader = True
            self.store.log = Log(self.store.log.path)
            self.store.log.on_commit = publish
        resume_alters(self.store)

    def close(self) -> None:
        """Log nothing more; a request that is under way fails where it would."""
        self.store.close()
