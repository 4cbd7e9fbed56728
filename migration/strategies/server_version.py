"""Which Typesense it is: for the record, and for a word of warning where nobody has tried it.

What differs between versions is taken from what the server answers, never from this.
"""

from __future__ import annotations

from typing import Final

from kai.typesense import Typesense, TypesenseError

TRIED: Final = (29, 30)
"""Major versions with which this program was tried."""
UNKNOWN: Final = "unknown"


def server_version(server: Typesense) -> str:
    """The server's version, e.g. `29.0`; `unknown` where it does not say, or not to this key."""
    try:
        return server.version()
    except TypesenseError:
        return UNKNOWN


def hazards_of_version(version: str) -> tuple[str, ...]:
    """A sentence if this version was never tried, or is not known."""
    tried = " and ".join(map(str, TRIED))
    major = version.removeprefix("v").split(".")[0]
    if not major.isdecimal():
        return (f"the server's version is not known ({version}); this program was tried with Typesense {tried}",)
    if int(major) in TRIED:
        return ()
    return (f"this program was never tried with Typesense {version}, only with {tried}: try it on a copy first",)
