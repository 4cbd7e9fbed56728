"""`status.json` in the run's folder: what the run is doing, true within a second, for scripts and people."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

_EVERY = 1.0
_SHOWN_SECONDS = 12.0
"""Typesense's figures are of the last 10 s; a little more, for the time between the last write and the last word."""
_DEAD_AFTER = 30.0
"""Seconds after which a run that wrote nothing, though it writes every second, counts as dead."""


def status_file(home: Path, run: str) -> Path:
    """Where the status of a run is kept."""
    return home / "runs" / run / "status.json"


@dataclass(frozen=True, slots=True)
class Reading:
    """What the status of a run says, or of what else keeps one.

    Attributes:
        facts: as its file has them.
        is_under_way: whether it has not ended, its file is young, and its process is alive.
    """

    facts: dict[str, Any]
    is_under_way: bool

    @property
    def has_ended(self) -> bool:
        """Whether it came to an end of its own; neither this nor under way is one that died."""
        return bool(self.facts["ended"])


def look_at(file: Path) -> Reading | None:
    """What a status says, whether or not its run is under way; None where there is none to be read."""
    try:
        is_young = file.stat().st_mtime > time.time() - _DEAD_AFTER
        facts: dict[str, Any] = orjson.loads(file.read_bytes())
        is_here = facts["host"] == socket.gethostname()
        lives = is_young and not facts["ended"] and (not is_here or is_running(facts["pid"]))
        return Reading(facts, lives)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_status(home: Path, run: str) -> dict[str, Any] | None:
    """What the status of a run says, if the run is under way."""
    return read_status_file(status_file(home, run))


def read_status_file(file: Path) -> dict[str, Any] | None:
    """What a status says, if what it is of is under way."""
    reading = look_at(file)
    return reading.facts if reading is not None and reading.is_under_way else None


def runs_under_way(home: Path) -> list[str]:
    """The names of this home's runs that are under way."""
    names = sorted(file.parent.name for file in home.glob("runs/*/status.json"))
    return [name for name in names if read_status(home, name) is not None]


def is_running(pid: int) -> bool:
    """Whether there is a process of this number on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def wrote_lately(home: Path) -> bool:
    """Whether a run of this home was under way just now, so that a server's figures may tell of its writes."""
    since = time.time() - _SHOWN_SECONDS
    for file in home.glob("runs/*/status.json"):
        with contextlib.suppress(OSError):
            if file.stat().st_mtime > since:
                return True
    return False


class Status:
    """Facts of a run, written to a file once a second and at every change of phase.

    Args:
        path: the file; its folder is made. None writes nothing.
        figures: called for the numbers that are to go in beside the phase (requests, tokens, spent, …).
        changing: called before a phase ends, and after another has begun.
        told: called with `phase` and its facts at each change of phase, with `ended` and the totals at the end.
    """

    def __init__(
        self,
        path: Path | None,
        figures: Callable[[], dict[str, Any]] = dict,
        changing: Callable[[], object] = lambda: None,
        told: Callable[..., object] = lambda _event, **_facts: None,
    ) -> None:
        self._path = path
        self._figures = figures
        self._changing = changing
        self._told = told
        self._documents = 0
        self._facts: dict[str, Any] = {
            "phase": "starting",
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "ended": False,
        }
        self._of_the_phase: dict[str, Any] = {}
        self._phase_began = time.monotonic()
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def phase(self, phase: str, *, collection: str | None = None, total: int | None = None) -> None:
        """Enter a phase (`copying`, `cut-over`, `checking`, …) of so many documents."""
        self._changing()
        with self._lock:
            self._facts.update(phase=phase, collection=collection, total=total, done=0, failed=0)
            self._of_the_phase = {}
            self._phase_began = time.monotonic()
        self._changing()
        self._write()
        self._told("phase", phase=phase, collection=collection, total=total)

    def say(self, **facts: Any) -> None:
        """Facts of this phase alone, beside those that every phase has."""
        with self._lock:
            self._of_the_phase.update(facts)
        self._write()

    def end(self, phase: str, *, done: int, failed: int, seconds: float, exit_status: int) -> None:
        """The last word: how it ended, and the totals of all collections."""
        self._changing()
        with self._lock:
            self._facts.update(phase=phase, collection=None, total=done + failed, done=done, failed=failed)
            self._facts.update(ended=True, exit_status=exit_status)
            self._of_the_phase = {}
            self._phase_began = time.monotonic() - seconds
        self._changing()
        self._write()
        totals = {"done": done, "failed": failed, "seconds": round(seconds, 3), "exit_status": exit_status}
        self._told("ended", phase=phase, collection=None, **totals)

    def add(self, done: int = 0, failed: int = 0) -> None:
        """Count documents of the phase."""
        with self._lock:
            self._facts["done"] = self._facts.get("done", 0) + done
            self._facts["failed"] = self._facts.get("failed", 0) + failed
            self._documents += done + failed

    def counts(self) -> dict[str, Any]:
        """The phase, what it is about, whether it is the last, and the documents of all phases so far."""
        with self._lock:
            facts = {name: self._facts.get(name) for name in ("phase", "collection", "ended")}
            return {**facts, "documents": self._documents}

    def facts(self) -> dict[str, Any]:
        """Everything known at this moment; times in seconds."""
        with self._lock:
            facts = self._facts | self._of_the_phase
            elapsed = max(time.monotonic() - self._phase_began, 1e-9)
        done, total = facts.get("done") or 0, facts.get("total")
        speed = done / elapsed
        facts["documents_per_second"] = round(speed, 2)
        facts["seconds_left"] = round((total - done) / speed, 1) if total and speed > 0 else None
        facts.update(self._figures())
        facts["updated_at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return facts

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Write the file while the block runs: at once, for what stands there may be an earlier start's last word."""
        self._write()
        thread = threading.Thread(target=self._keep, name="status", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()
            self._write()

    def _keep(self) -> None:
        while not self._ended.wait(_EVERY):
            self._write()

    def _write(self) -> None:
        if self._path is None:
            return
        # A status that cannot be written (full disk) must not end a run that can go on.
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = self._path.with_suffix(f".{threading.get_ident()}.tmp")
            temporary.write_bytes(orjson.dumps(self.facts(), option=orjson.OPT_INDENT_2))
            temporary.replace(self._path)
