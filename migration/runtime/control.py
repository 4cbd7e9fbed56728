"""Stop, pause, go on and go slower: what an operator may ask of a run while it is under way."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

from migration.runtime.load import Bounds
from migration.runtime.pace import Pace

_BETWEEN_LOOKS: Final = 0.2
_TELL_AGAIN: Final = 300.0
"""Seconds after which a run that waits for the server says so once more."""


class Control:
    """Whether the run may go on, and how fast.

    Ctrl-C and SIGTERM let the pages in hand finish and end the run; a second Ctrl-C ends it at once. SIGUSR1
    pauses the run and makes it go on again; so does a pause file, for as long as it is there.

    Attributes:
        stopped: set when the run is to end.
        pause_file: pauses the run while it exists; None for no such file.
        pace: how fast it may go at the moment.
        excess: which figures of the server are above these bounds, in words; empty if none is.
    """

    def __init__(
        self,
        *,
        pause_file: Path | None = None,
        pace: Pace | None = None,
        announce: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.stopped = threading.Event()
        self.interrupted = False
        self.pause_file = pause_file
        self.pace = pace or Pace()
        self.excess: Callable[[Bounds], str] = lambda _: ""
        self._announce = announce
        self._paused_by_signal = False
        self._was_paused = False
        self._followers: list[Callable[[Pace], object]] = []
        self._waiting = ""
        self._waiting_since = self._told_at = 0.0
        self._lock = threading.Lock()

    @property
    def paused(self) -> bool:
        """Whether somebody wants the run to pause."""
        return self._paused_by_signal or bool(self.pause_file and self.pause_file.exists())

    def wait_while_paused(self) -> None:
        """Return at once, or when the pause is over and the server has less to do, or when the run is to end."""
        while self.paused and not self.stopped.is_set():
            if not self._was_paused:
                self._was_paused = True
                how = f"remove {self.pause_file}" if not self._paused_by_signal else "send SIGUSR1 again"
                self._announce(f"Paused. To go on, {how}.")
            self.stopped.wait(_BETWEEN_LOOKS)
        if self._was_paused and not self.paused:
            self._was_paused = False
            self._announce("Going on.")
        self.wait_for_load()

    def wait_for_load(self) -> None:
        """Return at once, or when no figure of the server is above its bound, or when the run is to end."""
        while self._is_too_much() and not self.stopped.is_set():
            self.stopped.wait(_BETWEEN_LOOKS)

    def _is_too_much(self) -> bool:
        why = self.excess(self.pace.max_load)
        with self._lock:
            now = time.monotonic()
            if why and not self._waiting:
                self._waiting_since = self._told_at = now
                self._announce(f"Waiting: {why} (--max-load).")
            elif why and now - self._told_at >= _TELL_AGAIN:
                self._told_at = now
                self._announce(f"Still waiting after {(now - self._waiting_since) / 60:.0f} min: {why} (--max-load).")
            elif self._waiting and not why:
                self._announce("Going on.")
            self._waiting = why
        return bool(why)

    def rest(self, busy_seconds: float) -> None:
        """Leave the server idle for its share after it was busy for so many seconds."""
        nice = self.pace.nice
        if nice > 0:
            self.stopped.wait(min(busy_seconds * nice / (1.0 - nice), 60.0))

    def follow(self, change: Callable[[Pace], object]) -> None:
        """Have `change` told every other pace from now on."""
        self._followers.append(change)

    def set_pace(self, pace: Pace) -> None:
        """Go at another pace from here on, and say so."""
        before, now = self.pace.words(), pace.words()
        told = [f"{name}={value} (was {before[name]})" for name, value in now.items() if value != before[name]]
        self.pace = pace
        for change in self._followers:
            change(pace)
        self._announce(f"Tuned: {'; '.join(told)}.")

    def facts(self) -> dict[str, Any]:
        """What a script reads of it: whether it is paused, what it waits for, how fast it may go."""
        return {"paused": self.paused, "waiting_for": self._waiting or None, "pace": self.pace.facts()}

    def stop(self) -> None:
        """Ask the run to end after the pages in hand."""
        self.stopped.set()

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """Listen to SIGINT, SIGTERM and SIGUSR1. Only in the main thread; a no-op elsewhere."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handlers: dict[signal.Signals, Callable[[int, FrameType | None], Any]] = {
            signal.SIGINT: self._on_interrupt,
            signal.SIGTERM: self._on_interrupt,
        }
        if hasattr(signal, "SIGUSR1"):
            handlers[signal.SIGUSR1] = self._on_pause
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True
        self._announce("Stopping after the pages in hand; once more to stop at once.")
        self.stop()

    def _on_pause(self, _number: int, _frame: FrameType | None) -> None:
        self._paused_by_signal = not self._paused_by_signal
