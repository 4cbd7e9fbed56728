"""Which version of this program it is."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def program_version() -> str:
    """The installed version."""
    try:
        return version("kai-embedding-migration")
    except PackageNotFoundError:
        return "unknown (not installed)"
