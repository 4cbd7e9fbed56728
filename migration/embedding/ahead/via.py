"""What every way of embedding ahead is: texts in, vectors into the cache as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, TypeAlias

Texts: TypeAlias = dict[bytes, str]
"""Distinct texts, by the hash under which the cache keeps their vectors."""
Told: TypeAlias = Callable[[int, Mapping[bytes, str]], object]
"""Told, from any thread, how many more texts have their vectors in the cache, and which will have none, and why."""


class StillWaiting(Exception):  # noqa: N818 - nothing is wrong
    """The provider takes longer than anybody waits; whoever comes next goes on. The message says for what."""


class Via(Protocol):
    """A way of embedding ahead.

    Every vector is checked as a provider's always is, and is in the cache, durably, before it is told of. A text that
    was paid for is not paid for again by a later start, wherever an earlier one ended.
    """

    def embed(self, pages: Callable[[], Iterable[Texts]], told: Told) -> None:
        """Get the vectors of these texts into the cache.

        Args:
            pages: gives, whenever it is called, the texts that are not in the cache at that moment, page by page.
            told: of each text once, unless somebody asks to stop.

        Raises:
            ProviderStopped: the provider cannot go on.
            StillWaiting: it takes longer than is to be waited for.
            Stopped: somebody asked to stop.
            CacheError, LedgerError: what was done cannot be kept.
        """
