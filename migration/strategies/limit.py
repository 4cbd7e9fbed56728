"""A bound on how many documents are written: a canary."""

from __future__ import annotations

import threading

from migration.documents.fetch import Page


class Limit:
    """How many documents may still be written; None for all of them."""

    def __init__(self, documents: int | None) -> None:
        self._left = documents
        self._lock = threading.Lock()
        self.left_out = False
        """Whether it has kept a document of this pass from being written."""

    @property
    def reached(self) -> bool:
        """Whether no further document may be written."""
        return self.left_out and not self._left

    def take(self, page: Page) -> Page:
        """The documents of the page that may be written."""
        if self._left is None:
            return page
        with self._lock:
            taken = page[: self._left]
            self._left -= len(taken)
            self.left_out |= len(taken) < len(page)
        return taken

    def give_back(self, documents: int) -> None:
        """Documents that were taken and not written after all."""
        if self._left is not None:
            with self._lock:
                self._left += documents
