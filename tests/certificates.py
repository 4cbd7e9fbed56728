"""The usual certificates, left unread: that takes a fifth of a small run, and no test speaks TLS."""

from __future__ import annotations

import ssl
from typing import Any

import certifi
import pytest


def leave_unread(patch: pytest.MonkeyPatch) -> None:
    """From here on; a file or folder that is named all the same is read."""
    load = ssl.SSLContext.load_verify_locations

    def load_others(context: ssl.SSLContext, cafile: Any = None, *others: Any, **named: Any) -> None:
        if cafile != certifi.where():
            load(context, cafile, *others, **named)

    patch.setattr(ssl.SSLContext, "load_verify_locations", load_others)
