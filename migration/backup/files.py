"""Files and folders that only their owner can read, and that are still there after a power cut."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from pathlib import Path
from typing import Final

_FILE: Final = 0o600
_FOLDER: Final = 0o700


def make_private_folder(path: Path, below: Path) -> None:
    """Make a folder and those above it, all 0700 whatever the umask; durable.

    Folders that exist under `below` lose the rights of others; `below` itself and what is above stays as
    it is where it exists.
    """
    if path == path.parent:
        return
    if not path.is_dir():
        make_private_folder(path.parent, below)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=_FOLDER)
            sync_folder(path.parent)
    if path != below and path.is_relative_to(below):
        make_private_folder(path.parent, below)
        if path.stat().st_mode & 0o077:
            path.chmod(_FOLDER)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file by one with this content, 0600: after a crash it is the old one or the new one."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _FILE)
        try:
            write_all(file, content)
            os.fsync(file)
        finally:
            os.close(file)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def open_private(path: Path) -> int:
    """Open a file for reading and writing, made 0600 where it is missing; a file descriptor."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, _FILE)
    sync_folder(path.parent)
    return file


def write_all(file: int, content: bytes) -> None:
    """Write all of it at the current place; the system may take it in several parts."""
    remaining = memoryview(content)
    while remaining:
        remaining = remaining[os.write(file, remaining) :]


def sync_folder(path: Path) -> None:
    """Make what was created, renamed or removed in a folder survive a power cut."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size_of(folder: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file() and not path.is_symlink())


def free_space(path: Path) -> int:
    """Bytes free on the disk of a file or folder, which need not be there yet."""
    absolute = path.absolute()
    return shutil.disk_usage(next(each for each in (absolute, *absolute.parents) if each.exists())).free


def roughly(size: int) -> str:
    """A number of bytes for people: `1.5 GB`."""
    for unit, amount in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= amount:
            return f"{size / amount:.1f} {unit}"
    return f"{size:,} bytes"


def in_words(size: int) -> str:
    """A number of bytes for people, and exactly: `1.5 GB (1,500,000,000 bytes)`."""
    return roughly(size) if size < 1e6 else f"{roughly(size)} ({size:,} bytes)"
