"""Stop, pause and go on: what an operator may ask of a run while it is under way."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any


class Control:
    """Whether the run may go on.

    Ctrl-C and SIGTERM let the pages in hand finish and end the run; a second Ctrl-C ends it at once. SIGUSR1
    pauses the run and makes it go on again; so does a pause file, for as long as it is there.

    Attributes:
        stopped: set when the run is to end.
        pause_file: pauses the run while it exists; None for no such file.
        nice: share of the time, 0 to 0.95, that the server is left idle between writes.
    """

    def __init__(
        self,
        *,
        pause_file: Path | None = None,
        nice: float = 0.0,
        announce: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.stopped = threading.Event()
        self.interrupted = False
        self.pause_file = pause_file
        self.nice = nice
        self._announce = announce
        self._paused_by_signal = False
        self._was_paused = False

    @property
    def paused(self) -> bool:
        """Whether somebody wants the run to pause."""
        return self._paused_by_signal or bool(self.pause_file and self.pause_file.exists())

    def wait_while_paused(self) -> None:
        """Return at once, or when the pause is over, or when the run is to end."""
        while self.paused and not self.stopped.is_set():
            if not self._was_paused:
                self._was_paused = True
                how = f"remove {self.pause_file}" if not self._paused_by_signal else "send SIGUSR1 again"
                self._announce(f"Paused. To go on, {how}.")
            self.stopped.wait(0.2)
        if self._was_paused and not self.paused:
            self._was_paused = False
            self._announce("Going on.")

    def rest(self, busy_seconds: float) -> None:
        """Leave the server idle for its share after it was busy for so many seconds."""
        if self.nice > 0:
            self.stopped.wait(min(busy_seconds * self.nice / (1.0 - self.nice), 60.0))

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
