"""The one spelling of a server's address, by which ledger, locks and backups know it."""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import urlsplit

_PORTS: Final = {"http": 80, "https": 443}
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


def canonical_url(url: str) -> str:
    """A base URL in one spelling, without login, query and a slash at its end, so that it may be written down.

    Raises:
        ValueError: it is none.
    """
    parts = urlsplit(url)
    usual = _PORTS.get(parts.scheme)
    address = canonical_address(f"{parts.hostname or ''}:{parts.port or usual or ''}").removesuffix(f":{usual}")
    return f"{parts.scheme}://{address}{parts.path.rstrip('/')}"
