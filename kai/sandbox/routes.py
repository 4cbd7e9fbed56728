"""Which method and path leads to which handler, and what a key must allow for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from starlette.responses import Response

from kai.sandbox import curation, handlers
from kai.sandbox.requests import Call

Handler = Callable[[Call], Response]


@dataclass(frozen=True)
class Endpoint:
    """One call of the API. `action` None: the handler itself asks what the key allows."""

    method: str
    path: str
    action: str | None
    handler: Handler

    @property
    def is_write(self) -> bool:
        """Whether it changes what the server holds, rather than reads it or steers the server."""
        return self.method != "GET" and not self.path.startswith(("/operations", "/config", "/multi_search"))

    @property
    def is_look(self) -> bool:
        """Whether it reads and does nothing else, for which the store's lock is not taken."""
        return self.method == "GET" or self.path == "/multi_search"


COLLECTION = "/collections/{collection}"
DOCUMENTS = f"{COLLECTION}/documents"


def _own_curation(kind: str) -> list[Endpoint]:
    base, one = f"{COLLECTION}/{kind}", f"{COLLECTION}/{kind}/{{entry_id}}"
    return [
        Endpoint("GET", base, f"{kind}:list", partial(curation.list_own, kind)),
        Endpoint("GET", one, f"{kind}:get", partial(curation.get_own, kind)),
        Endpoint("PUT", one, f"{kind}:create", partial(curation.put_own, kind)),
        Endpoint("DELETE", one, f"{kind}:delete", partial(curation.delete_own, kind)),
    ]


def _sets(kind: str) -> list[Endpoint]:
    one, items, item = (
        f"/{kind}/{{set_name}}",
        f"/{kind}/{{set_name}}/items",
        f"/{kind}/{{set_name}}/items/{{entry_id}}",
    )
    return [
        Endpoint("GET", f"/{kind}", f"{kind}:list", partial(curation.list_sets, kind)),
        Endpoint("GET", one, f"{kind}:get", partial(curation.get_set, kind)),
        Endpoint("PUT", one, f"{kind}:create", partial(curation.put_set, kind)),
        Endpoint("DELETE", one, f"{kind}:delete", partial(curation.delete_set, kind)),
        Endpoint("GET", items, f"{kind}/items:list", partial(curation.list_items, kind)),
        Endpoint("GET", item, f"{kind}/items:get", partial(curation.get_item, kind)),
        Endpoint("PUT", item, f"{kind}/items:create", partial(curation.put_item, kind)),
        Endpoint("DELETE", item, f"{kind}/items:delete", partial(curation.delete_item, kind)),
    ]


_EVERYWHERE = [
    Endpoint("GET", "/debug", "debug:list", handlers.debug),
    Endpoint("GET", "/metrics.json", "metrics.json:list", handlers.get_metrics),
    Endpoint("GET", "/stats.json", "stats.json:list", handlers.get_stats),
    Endpoint("POST", "/config", "config:create", handlers.configure),
    Endpoint("GET", "/operations/schema_changes", "operations:list", handlers.schema_changes),
    Endpoint("POST", "/operations/snapshot", "operations:create", handlers.snapshot),
    Endpoint("POST", "/operations/cache/clear", "operations:create", handlers.nothing_to_do),
    Endpoint("POST", "/operations/db/compact", "operations:create", handlers.nothing_to_do),
    Endpoint("POST", "/operations/vote", "operations:create", handlers.nothing_to_do),
    Endpoint("GET", "/collections", "collections:list", handlers.list_collections),
    Endpoint("POST", "/collections", "collections:create", handlers.create_collection),
    Endpoint("GET", COLLECTION, "collections:get", handlers.get_collection),
    Endpoint("PATCH", COLLECTION, "collections:update", handlers.alter_collection),
    Endpoint("DELETE", COLLECTION, "collections:delete", handlers.drop_collection),
    Endpoint("POST", DOCUMENTS, "documents:create", handlers.create_document),
    Endpoint("PATCH", DOCUMENTS, "documents:update", handlers.update_by_filter),
    Endpoint("DELETE", DOCUMENTS, "documents:delete", handlers.delete_by_filter),
    Endpoint("POST", f"{DOCUMENTS}/import", "documents:import", handlers.import_documents),
    Endpoint("GET", f"{DOCUMENTS}/export", "documents:export", handlers.export_documents),
    Endpoint("GET", f"{DOCUMENTS}/search", "documents:search", handlers.search_documents),
    Endpoint("GET", f"{DOCUMENTS}/{{document_id:path}}", "documents:get", handlers.get_document),
    Endpoint("PATCH", f"{DOCUMENTS}/{{document_id:path}}", "documents:update", handlers.update_document),
    Endpoint("DELETE", f"{DOCUMENTS}/{{document_id:path}}", "documents:delete", handlers.delete_document),
    Endpoint("POST", "/multi_search", None, handlers.multi_search),
    Endpoint("GET", "/aliases", "aliases:list", handlers.list_aliases),
    Endpoint("GET", "/aliases/{alias}", "aliases:get", handlers.get_alias),
    Endpoint("PUT", "/aliases/{alias}", "aliases:create", handlers.put_alias),
    Endpoint("DELETE", "/aliases/{alias}", "aliases:delete", handlers.delete_alias),
    Endpoint("GET", "/keys", "keys:list", handlers.get_keys),
    Endpoint("POST", "/keys", "keys:create", handlers.post_key),
    Endpoint("GET", "/keys/{key_id}", "keys:get", handlers.get_one_key),
    Endpoint("DELETE", "/keys/{key_id}", "keys:delete", handlers.delete_one_key),
]


def endpoints(version: int) -> list[Endpoint]:
    """Every call that this version of Typesense knows."""
    if version < 30:
        return [*_EVERYWHERE, *_own_curation("synonyms"), *_own_curation("overrides")]
    return [*_EVERYWHERE, *_sets("synonym_sets"), *_sets("curation_sets")]
