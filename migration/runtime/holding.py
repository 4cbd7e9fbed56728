"""A run that holds: the file `hold` in its folder, which `kai-migrate release` removes, or anybody.

The file is there from the moment at which the run begins to hold until it is let go, or ends. A process that was
killed leaves it; whether anybody holds is told by the run's status.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from migration.runtime.status import read_status

HOLDING: Final = "holding"
"""The phase of a run that holds."""


@dataclass(frozen=True, slots=True)
class Held:
    """A run whose file says that it holds.

    Attributes:
        run: its name.
        collection: before whose point of no return.
        since: Unix time.
        is_under_way: whether its process is alive; else it died, and the next start goes on.
    """

    run: str
    collection: str
    since: float
    is_under_way: bool


def hold_file(home: Path, run: str) -> Path:
    """The file that a run holds by."""
    return home / "runs" / run / "hold"


@contextlib.contextmanager
def held(file: Path, collection: str) -> Iterator[None]:
    """While the block runs the file is there, unless somebody removes it.

    Raises:
        OSError: it cannot be made.
    """
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = file.with_suffix(".tmp")
    temporary.write_bytes(orjson.dumps({"collection": collection, "since": time.time()}))
    temporary.replace(file)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)


def find_held(home: Path) -> list[Held]:
    """Every run of this home that holds, or did when its process died."""
    return [_read(home, file) for file in sorted(home.glob("runs/*/hold"))]


def _read(home: Path, file: Path) -> Held:
    run = file.parent.name
    collection, since = "", 0.0
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        said = orjson.loads(file.read_bytes())
        collection, since = str(said["collection"]), float(said["since"])
    status = read_status(home, run)
    return Held(run, collection, since, is_under_way=status is not None and status.get("phase") == HOLDING)
