"""How fast a run goes, and what changes that while it is under way: `kai-migrate tune`.

The command writes a file into the run's folder, whole or not at all; the run looks at it twice a second. It lasts as
long as the process: a start begins with its own options.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import orjson

from migration.runtime.load import Bounds, parse_bounds, told

MOST_CONCURRENCY: Final = 64
MOST_NICE: Final = 0.95
_EVERY: Final = 0.5
_NONE: Final = "none"
"""What takes a bound away."""
_NAMES: Final = ("nice", "concurrency", "rpm", "tpm", "max-load")


class WrongPace(ValueError):  # noqa: N818 - the message is the whole of it
    """What a run cannot be told; the message names it and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast a run may go.

    Attributes:
        nice: share of the time, 0 to 0.95, that Typesense is left idle between writes.
        concurrency: most embedding requests, and most pages being prepared, at once.
        rpm: most embedding requests in any minute; None for no bound.
        tpm: most embedding tokens in any minute; None for no bound.
        max_load: figures of the server above which the run waits.
    """

    nice: float = 0.0
    concurrency: int = 4
    rpm: int | None = None
    tpm: int | None = None
    max_load: Bounds = field(default_factory=dict)

    def words(self) -> dict[str, str]:
        """Each value as `tune` takes it, by name."""
        values = {"nice": f"{self.nice:g}", "concurrency": str(self.concurrency)}
        values |= {
            name: _NONE if bound is None else str(bound) for name, bound in (("rpm", self.rpm), ("tpm", self.tpm))
        }
        return values | {"max-load": told(self.max_load) or _NONE}

    def facts(self) -> dict[str, Any]:
        """As a script reads it."""
        return {
            "nice": self.nice,
            "concurrency": self.concurrency,
            "rpm": self.rpm,
            "tpm": self.tpm,
            "max_load": dict(self.max_load),
        }

    def changed(self, changes: Mapping[str, str]) -> Pace:
        """With these values, as `tune` takes them, by name.

        Raises:
            WrongPace: naming the first that is none.
        """
        return replace(self, **{name.replace("-", "_"): _value(name, text) for name, text in changes.items()})


def parse_changes(words: Iterable[str]) -> dict[str, str]:
    """`nice=0.5` and the like, checked, by name.

    Raises:
        WrongPace: naming the first that is none.
    """
    changes: dict[str, str] = {}
    for word in words:
        name, is_given, text = word.partition("=")
        name = name.strip().replace("_", "-")
        if not is_given or name not in _NAMES:
            raise WrongPace(
                f"{word!r} is nothing that can be tuned; give one or several of {', '.join(_NAMES)} as NAME=VALUE"
            )
        changes[name] = text.strip()
    Pace().changed(changes)
    return changes


def _value(name: str, text: str) -> Any:
    if name == "max-load":
        try:
            return {} if text == _NONE else parse_bounds(text)
        except ValueError as error:
            raise WrongPace(f"max-load: {error}") from error
    if name == "nice":
        with contextlib.suppress(ValueError):
            if 0 <= float(text) <= MOST_NICE:
                return float(text)
        raise WrongPace(f"nice={text}: a number from 0 to {MOST_NICE} is needed")
    if name == "concurrency":
        if text.isdecimal() and 1 <= int(text) <= MOST_CONCURRENCY:
            return int(text)
        raise WrongPace(f"concurrency={text}: a whole number from 1 to {MOST_CONCURRENCY} is needed")
    if text == _NONE:
        return None
    if text.isdecimal() and int(text) >= 1:
        return int(text)
    raise WrongPace(f"{name}={text}: a whole number of 1 or more is needed, or `{_NONE}` for no bound")


def tune_file(home: Path, run: str) -> Path:
    """Where a run is told another pace."""
    return home / "runs" / run / "tune.json"


def write_changes(file: Path, changes: Mapping[str, str]) -> None:
    """Add changes to those that the file has, in one step.

    Raises:
        OSError: it cannot be written.
    """
    temporary = file.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_bytes(orjson.dumps({**read_changes(file), **changes}))
    temporary.replace(file)


def read_changes(file: Path) -> dict[str, str]:
    """The changes in the file; none where there is none, or somebody else's words."""
    try:
        found = orjson.loads(file.read_bytes())
        return parse_changes(f"{name}={value}" for name, value in found.items())
    except (OSError, ValueError, AttributeError):
        return {}


@contextlib.contextmanager
def followed(file: Path, began: Pace, change: Callable[[Pace], object]) -> Iterator[None]:
    """While the block runs, what the file says is done within a second; what an earlier process left there is not.

    Args:
        file: see `tune_file`.
        began: the pace without it.
        change: told every pace that differs from the one before.
    """
    with contextlib.suppress(OSError):
        file.unlink(missing_ok=True)
    ended = threading.Event()

    def follow() -> None:
        pace = began
        while not ended.wait(_EVERY):
            found = began.changed(read_changes(file))
            if found != pace:
                pace = found
                change(pace)

    thread = threading.Thread(target=follow, name="pace", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
