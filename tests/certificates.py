"""The usual certificates, left unread: that takes a third of a small run, and no test speaks TLS."""

from __future__ import annotations

import os
import ssl
from typing import Any

import pytest


def _named() -> set[str | None]:
    return {os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "TYPESENSE_CA_FILE")}


_AT_FIRST = _named() | {None}


def leave_unread(patch: pytest.MonkeyPatch) -> None:
    """From here on, whosoever's they are; a file or folder that a test names by its variable is read."""
    load = ssl.SSLContext.load_verify_locations

    def load_named(context: ssl.SSLContext, cafile: Any = None, capath: Any = None, cadata: Any = None) -> None:
        if {cafile and str(cafile), capath} & (_named() - _AT_FIRST):
            load(context, cafile, capath, cadata)

    patch.setattr(ssl.SSLContext, "load_verify_locations", load_named)
    patch.setattr(ssl.SSLContext, "set_default_verify_paths", lambda _context: None)
    patch.setattr(ssl.SSLContext, "load_default_certs", lambda *_: None)
