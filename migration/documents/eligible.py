"""Which documents of a page the filter lets through; the server is asked, for the filter's language is its own."""

from __future__ import annotations

from collections.abc import Sequence

from kai.typesense import Typesense
from migration.documents.fetch import id_filter


def eligible_of(server: Typesense, name: str, filter_by: str, ids: Sequence[str]) -> set[str]:
    """The ids of the documents, at most 250, that the filter lets through; all of them where there is none.

    An id that no filter can name (see `nameable`) is never among them, unless there is none.
    """
    if not filter_by:
        return set(ids)
    if not (wanted := id_filter(ids)):
        return set()
    parameters = {"q": "*", "per_page": len(ids), "include_fields": "id", "filter_by": f"({filter_by}) && {wanted}"}
    return {str(hit["document"]["id"]) for hit in server.search(name, parameters)["hits"]}
