"""The one spelling of a server's address, by which ledger, locks and backups know it."""

from __future__ import annotations

import ipaddress
from typing import Final

_THIS_MACHINE: Final = ("localhost", "127.0.0.1", "::1")


def canonical_address(address: str) -> str:
    """`host:port` in the one spelling that every other spelling of it has too.

    Lower case, without the dot at a name's end; an IPv6 address in its shortest form, in brackets; this machine
    as `localhost`. What has been made canonical once stays as it is, so that an address from an old ledger can be
    compared with a new one. Nobody is asked: two names of one machine elsewhere are two servers.
    """
    host, colon, port = address.strip().lower().rpartition(":")
    if not colon:
        host, port = port, ""
    host = host.removeprefix("[").removesuffix("]").removesuffix(".")
    if ":" in host:
        try:
            host = str(ipaddress.IPv6Address(host))
        except ValueError:
            return address.strip().lower()
    if host in _THIS_MACHINE:
        host = "localhost"
    return f"{f'[{host}]' if ':' in host else host}{colon}{port}"
