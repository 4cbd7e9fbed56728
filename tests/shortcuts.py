"""What every run does beside its work, and no test looks at: done once for all of them, or not at all.

Together it takes half of a small run.
"""

from __future__ import annotations

import gc
import os
import ssl
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.schema import CreateTable

from migration.ledger import database
from migration.runtime import memory


def collect_garbage_seldom() -> None:
    """Or the collector looks, over and over, through all that packages and tests have made."""
    gc.set_threshold(20_000, 50, 100)


def leave_the_collector_alone(patch: pytest.MonkeyPatch) -> None:
    """No run sets it, nor sets aside for good what is there, as it may in a process of its own: here it is garbage."""
    patch.setattr(memory, "loading", lambda: None)


def leave_certificates_unread(patch: pytest.MonkeyPatch) -> None:
    """From here on the usual ones, whosoever's they are; a file or folder that a test names by its variable is read."""
    load = ssl.SSLContext.load_verify_locations

    def load_named(context: ssl.SSLContext, cafile: Any = None, capath: Any = None, cadata: Any = None) -> None:
        if {cafile and str(cafile), capath} & (_named() - _AT_FIRST):
            load(context, cafile, capath, cadata)

    patch.setattr(ssl.SSLContext, "load_verify_locations", load_named)
    patch.setattr(ssl.SSLContext, "set_default_verify_paths", lambda _context: None)
    patch.setattr(ssl.SSLContext, "load_default_certs", lambda *_: None)


def look_for_no_cookies(patch: pytest.MonkeyPatch) -> None:
    """No server here sets any, and looking for one makes each answer anew into one of `urllib`."""
    patch.setattr(httpx.Cookies, "extract_cookies", lambda _cookies, _response: None)


def compile_statements_once(patch: pytest.MonkeyPatch) -> None:
    """For all ledgers in a file of SQLite: each run makes an engine, and each engine compiles its statements anew."""
    like: list[Engine] = []

    def create(url: Any, **options: Any) -> Engine:
        engine = create_engine(url, **options)
        if engine.dialect.name == "sqlite":
            if not like:
                # In memory, and still with the pool that a file has.
                like.append(create_engine("sqlite:///file::memory:?uri=true", query_cache_size=5_000, **options))
                like[0].connect().close()  # What a dialect knows of its database, it learns from the first connection.
            engine.dialect, engine._compiled_cache = like[0].dialect, like[0]._compiled_cache
        return engine

    patch.setattr(database, "create_engine", create)
    of_tables: dict[object, Any] = {}
    compile_anew = CreateTable.compile

    def compile_table(statement: CreateTable, *, dialect: Any, **options: Any) -> Any:
        known = (statement.element, dialect)
        if known not in of_tables:
            of_tables[known] = compile_anew(statement, dialect=dialect, **options)
        return of_tables[known]

    patch.setattr(CreateTable, "compile", compile_table)


def _named() -> set[str | None]:
    return {os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "TYPESENSE_CA_FILE")}


_AT_FIRST = _named() | {None}
