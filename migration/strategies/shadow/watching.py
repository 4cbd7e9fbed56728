"""Which documents an application has written into a collection that is being filled."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from kai.typesense import Typesense, TypesenseError
from migration.documents.fetch import PAGE_SIZE

_IDS_OF_THE_NEWEST: Final = {"q": "*", "per_page": PAGE_SIZE, "include_fields": "id"}
"""`q=*` without `sort_by` returns the newest document first (Typesense 29.0), unless the collection has a
`default_sorting_field`: of such a collection, and of one that is written to faster, a look sees a part."""


_LOOKING: Final = 0.25
"""Most of the time that looking may take: in a large collection a look takes the longer."""


class Watch:
    """Remembers each document that was ever seen in a collection while it is filled by a copy.

    The copy creates what is missing. A document that the application wrote and then deleted is missing too;
    only somebody who saw it in between knows that it must not be brought back.

    Args:
        server: where the collection is.
        name: of the collection.

    Attributes:
        seen: ids of documents that stood there at one of the looks.
        longest_gap: seconds, from the beginning of a look to the end of the next: what was written and deleted
            again within that time may have escaped.
    """

    def __init__(self, server: Typesense, name: str) -> None:
        self._server = server
        self._name = name
        self._looked = time.monotonic()
        self._next = self._looked
        self.seen: set[str] = set()
        self.longest_gap = 0.0

    def look(self) -> None:
        """See the newest documents; one request. A collection that is missing has none."""
        begun = time.monotonic()
        try:
            answer = self._server.search(self._name, dict(_IDS_OF_THE_NEWEST))
        except TypesenseError:
            return  # What the copy asks for next meets the same trouble, and tells it.
        if answer.get("request_params", {}).get("collection_name") != self._name:
            return  # The name is an alias's at the moment, and leads to another collection.
        self.saw(str(hit["document"]["id"]) for hit in answer["hits"])
        ended = time.monotonic()
        self.longest_gap = max(self.longest_gap, ended - self._looked)
        self._looked = begun
        self._next = ended + (ended - begun) * (1 / _LOOKING - 1)

    def look_again(self) -> None:
        """Look, unless the last look was just now."""
        if time.monotonic() >= self._next:
            self.look()

    def saw(self, document_ids: Iterable[str]) -> None:
        """These documents stood there, as somebody else has found."""
        self.seen.update(document_ids)

    def forget(self) -> None:
        """The collection is gone, and what stood in it means nothing for the next one of its name."""
        self.seen.clear()
        self._looked = time.monotonic()


def clock(moment: float) -> str:
    """A Unix time as the clock shows it (UTC), for a sentence about what could not be seen."""
    return datetime.fromtimestamp(moment, UTC).strftime("%H:%M:%S.%f")
