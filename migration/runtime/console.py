"""What a person reads while the migration works. Standard output for the lines, standard error for the bar."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self, TextIO

import click
from tqdm import tqdm
from tqdm.utils import ObjectWrapper

from kai.settings import redact
from kai.settings_values import LogFormat
from migration.runtime.log import Level, Log

RULE = "=" * 60
_COLOURS: Final = (
    (re.compile(r"\bPASS\b"), "green"),
    (re.compile(r"\bFAIL\b"), "red"),
    (re.compile(r"\bNOT CHECKED\b"), "yellow"),
    (re.compile(r"^\s*(! .*|\? .*|Note:)"), "yellow"),
    (re.compile(r"^\s*(Refused|Stopped|Failed)\b"), "red"),
)
"""What stands out at a terminal: verdicts wherever they stand, and the beginnings of lines that need attention."""


def prepare_streams() -> None:
    """Nobody who reads may stop the work: a closed stream is none, a letter that it cannot show is a `?`."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - for as long as the process lives
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


class _Lenient(ObjectWrapper):
    """A stream whose reader may go away: what it cannot take is not written."""

    def write(self, text: str) -> None:
        """Write as much as can be written."""
        with contextlib.suppress(OSError, ValueError):
            self._wrapped.write(text)

    def flush(self) -> None:
        """Pass on what was written, if anybody takes it."""
        with contextlib.suppress(OSError, ValueError):
            self._wrapped.flush()


def shows_colours(stream: TextIO) -> bool:
    """Whether the stream is a terminal that has colours, or FORCE_COLOR says so; never where NO_COLOR is set."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (stream.isatty() and os.environ.get("TERM") != "dumb")


def coloured(text: str) -> str:
    """The line with colours in it; its letters stay as they are."""
    for pattern, colour in _COLOURS:
        text = pattern.sub(lambda found, colour=colour: click.style(found[0], fg=colour), text)  # type: ignore[misc]
    return text


def write_line(text: str, stream: TextIO) -> None:
    """One line, past a progress bar. A reader who went away, or a full disk, ends the printing and nothing else."""
    try:
        tqdm.write(text, file=stream)
        stream.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class Progress(Protocol):
    """What a piece of work tells how far it is; a context manager."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> object: ...
    def update(self, n: int, /) -> object:
        """So many more are done."""


class Console:
    """Prints lines, keeps secrets out of them and does not break the progress bar.

    Args:
        secrets: replaced by `***` wherever they would show.
        verbose: whether `detail` prints.
        silent: whether nothing is printed at all, as for a program that calls.
        log_format: `json` for one JSON object a line on standard error, in place of lines and bars for a person.
            Standard output stays as it is.
    """

    def __init__(
        self,
        secrets: Iterable[str] = (),
        *,
        verbose: bool = False,
        silent: bool = False,
        log_format: LogFormat = "text",
    ) -> None:
        self._secrets = tuple(secrets)
        self.verbose = verbose
        self._silent = silent
        is_json = log_format == "json" and not silent
        self._log = Log(lambda line: write_line(line, sys.stderr), self._secrets) if is_json else None

    @property
    def is_for_programs(self) -> bool:
        """Whether standard error has nothing but JSON."""
        return self._log is not None

    def line(self, text: str = "") -> None:
        """One line to standard output."""
        self._write(text, sys.stdout)

    def warn(self, text: str, *, level: Level = "warning", event: str = "message") -> None:
        """One line to standard error; level and event are for those who read it as JSON."""
        if self._log is not None:
            self._log.line(level, event, text)
        else:
            self._write(text, sys.stderr)

    def tell(self, text: str) -> None:
        """The same for what is in order."""
        self.warn(text, level="info")

    def detail(self, text: str) -> None:
        """One line to standard error, if asked for."""
        if self.verbose:
            self.warn(text, level="debug")

    def event(self, name: str, **facts: Any) -> None:
        """What only a program wants to know; a person reads it from the lines."""
        if self._log is not None:
            self._log.line("info", name, **facts)

    def about(self, **names: str | None) -> None:
        """Which `run` and which `collection` everything is about from here on."""
        if self._log is not None:
            self._log.about(**names)

    def heading(self, title: str) -> None:
        """A title between two rules."""
        for text in (RULE, title, RULE):
            self.line(text)

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """Columns, as wide as their widest cell."""
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
        for row in rows:
            self.line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

    def progress(self, title: str, total: int) -> Progress:
        """A bar on standard error, or lines of JSON; use as a context manager and call `update`."""
        return self.bar(title, total) if self._log is None else self._log.progress(title, total)

    def bar(self, title: str, total: int) -> tqdm[Any]:
        """A bar on standard error."""
        stream = _Lenient(sys.stderr)
        return tqdm(total=total, desc=title, file=stream, mininterval=0.2, dynamic_ncols=True, disable=self._silent)

    def _write(self, text: str, stream: TextIO) -> None:
        if not self._silent:
            line = redact(text, self._secrets)
            write_line(coloured(line) if shows_colours(stream) else line, stream)


SILENT: Final = Console(silent=True)
"""Tells nobody: what a program calls returns its result."""


def named(ids: Collection[str], what: str) -> list[str]:
    """A sentence about these documents, with the first of their ids; none where there are none."""
    first = ", ".join(islice(ids, 20))
    return [f"{len(ids)} documents {what}: {first}{', …' if len(ids) > 20 else ''}"] if ids else []
