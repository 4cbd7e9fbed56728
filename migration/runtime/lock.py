"""One run at a time on one collection.

The operating system holds the lock and lets go of it when the process ends, however it ends; a lock left by
a dead process is therefore no lock. Beside it stands who holds it, so that a second run can say so. The
files are in the machine's own folder for temporary files, so that runs from different working folders see
each other; a run on another machine is recognised by the shadow it builds (see `migration.strategies.recreate`).
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from kai.address import canonical_address


class Held(Exception):  # noqa: N818 - the collection is held, nothing is broken
    """Another run holds the collection; the message says which."""


class Hold:
    """A collection that is held."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.name("that is beginning")

    def name(self, run: str) -> None:
        """Say which run holds it, by the name that the ledger knows."""
        self._file.write_text(json.dumps({"run": run, "pid": os.getpid(), "host": socket.gethostname()}))


@contextlib.contextmanager
def hold(server: str, collection: str) -> Iterator[Hold]:
    """Hold a collection of a server (`host:port`) for a run, which is named once it is known.

    Raises:
        Held: another process holds it.
    """
    path = _folder() / f"{hashlib.sha256(f'{canonical_address(server)}/{collection}'.encode()).hexdigest()[:24]}.lock"
    holder = path.with_suffix(".json")
    lock = FileLock(path, timeout=0, mode=0o600)
    try:
        lock.acquire()
    except Timeout:
        who = _read(holder)
        raise Held(
            f"collection {collection!r} of {server} is held by run {who.get('run', 'unknown')} "
            f"(process {who.get('pid', '?')} on {who.get('host', 'this machine')}); "
            "wait until it has ended, or stop it"
        ) from None
    try:
        yield Hold(holder)
    finally:
        with contextlib.suppress(OSError):
            holder.unlink()
        lock.release()


def _folder() -> Path:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid()) if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir()) / f"kai-migration-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _read(holder: Path) -> dict[str, str]:
    try:
        return dict(json.loads(holder.read_text()))
    except (OSError, ValueError):
        return {}
