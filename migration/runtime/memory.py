"""How Python and the C library look after memory, set for what a run does.

A run loads a few hundred thousand objects that stay to its end, and then moves pages of some megabytes through
several threads. Neither is what the defaults are made for: the collector walks through everything again and
again while it is loaded, and the C library keeps what each thread has freed.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import platform
from typing import Final

_WHILE_LOADING: Final = (50_000, 20, 100)
"""Containers made until the youngest are looked at, and so on. Loading makes hardly any garbage; looking for it
takes a fifth of the time."""
_USUAL: Final = gc.get_threshold()

# From glibc's malloc.h.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_LARGE: Final = 1 << 18
"""Bytes. A buffer of this size or more, the body of an answer for instance, goes back to the system when it is
freed. By default glibc raises the threshold to the largest buffer that it has seen, up to 32 MB, and every
thread keeps twice as much as that for itself."""
_KEPT: Final = 1 << 20
"""Bytes freed that a thread's heap may keep at its end."""


def loading() -> None:
    """Before the many imports of a command: let the collector look seldom."""
    gc.set_threshold(*_WHILE_LOADING)


def loaded() -> None:
    """After them: what is there stays, and need not be looked at again; large buffers are given back.

    Without `loading` nothing happens: a program that calls a migration looks after its memory itself.
    """
    if gc.get_threshold() != _WHILE_LOADING:
        return
    gc.freeze()
    gc.set_threshold(*_USUAL)
    if platform.libc_ver()[0] != "glibc":
        return
    with contextlib.suppress(OSError, AttributeError):
        tune = ctypes.CDLL(None).mallopt
        tune(_M_MMAP_THRESHOLD, _LARGE)
        tune(_M_TRIM_THRESHOLD, _KEPT)
