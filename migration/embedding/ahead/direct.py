"""Ahead, by the requests that a migration would make: at once, and at full price."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from migration.documents.pipeline import run_pages
from migration.embedding.ahead.via import Texts, Told
from migration.embedding.embed import Embedder, TextFailure, text_hash
from migration.embedding.throttle import Stopped
from migration.runtime.control import Control


class Direct:
    """Asks the provider page by page, several at once.

    Args:
        embedder: with a cache.
        control: how many at once, and when to stop.
    """

    def __init__(self, embedder: Embedder, control: Control) -> None:
        self._embedder = embedder
        self._control = control

    def embed(self, pages: Callable[[], Iterable[Texts]], told: Told) -> None:
        """See `Via`."""

        def page(texts: Texts) -> None:
            found = self._embedder.embed(texts.values())
            failures = {text_hash(text): why.reason for text, why in found.items() if isinstance(why, TextFailure)}
            told(len(found) - len(failures), failures)

        run_pages(
            pages(),
            page,
            lambda _: None,
            workers=lambda: self._control.pace.concurrency,
            stopped=self._control.stopped.is_set,
        )
        if self._control.stopped.is_set():
            raise Stopped
