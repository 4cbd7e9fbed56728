"""The HTTP side: a Starlette application over one data folder."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from kai.sandbox.alter import longest_unfinished, resume_alters
from kai.sandbox.errors import ApiError, forbidden
from kai.sandbox.keys import is_allowed
from kai.sandbox.requests import Call, error_response, json_response
from kai.sandbox.routes import Endpoint, endpoints
from kai.sandbox.store import VERSIONS, ChangeSeconds, Store

KEY_HEADER = "x-typesense-api-key"
WORKER_THREADS = 200
"""Requests under way at once: many may be waiting for one schema change, and reads must still get in."""
FEW_DOCUMENTS = 500
"""Up to so many a look is over in a few milliseconds, in which nothing else is answered."""


class _TrailingSlash:
    """Takes a slash off the end of the path, as the server does: the official client puts one there."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and len(scope["path"]) > 1:
            scope = dict(scope) | {"path": scope["path"].rstrip("/")}
        await self.app(scope, receive, send)


def create_app(
    data_dir: Path,
    api_key: str,
    *,
    alter_seconds: float | ChangeSeconds = 0.0,
    lag_seconds: float | None = None,
    version: int = VERSIONS[-1],
) -> Starlette:
    """The server's application; its store is at `app.state.store`.

    Args:
        data_dir: folder of the log, created if missing.
        api_key: the admin key.
        alter_seconds: how long a schema change of a collection with documents takes, or tells for each.
        lag_seconds: how long every request is answered 503 after the start; by default not at all, unless
            a schema change was interrupted, and then at most a second.
        version: the version of Typesense to behave as, one of `kai.sandbox.store.VERSIONS`.
    """
    store = Store(data_dir, alter_seconds=alter_seconds, version=version)
    store.compact()
    if lag_seconds is None:
        lag_seconds = min(longest_unfinished(store), 1.0)
    resume_alters(store, delay=lag_seconds)
    return app_of(store, data_dir, api_key, ready_at=time.monotonic() + lag_seconds)


def app_of(store: Store, data_dir: Path, api_key: str, *, ready_at: float) -> Starlette:
    """The application over a store that is open; until `ready_at` (monotonic time) it answers only 503."""

    def lagging() -> bool:
        return time.monotonic() < ready_at

    async def health(request: Request) -> Response:
        return json_response({"ok": not lagging()}, 503 if lagging() else 200)

    def route(endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        async def serve(request: Request) -> Response:
            body = await request.body()
            params = dict(request.query_params)
            key = request.headers.get(KEY_HEADER) or params.pop(KEY_HEADER, "")
            path = {name: str(value) for name, value in request.path_params.items()}
            call = Call(store, path, params, key, api_key, body, data_dir, len(request.url.query))
            if lagging():
                return error_response(ApiError(503, "Not Ready or Lagging"))
            if endpoint.is_look and store.num_documents <= FEW_DOCUMENTS:
                return _answer(endpoint, call)  # To hand it to a thread would take longer than the answer.
            # In a thread: neither a long import nor a slow schema change may hold up /health.
            return await run_in_threadpool(_answer, endpoint, call)

        return serve

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = WORKER_THREADS
        yield
        store.close()

    routes = [Route("/health", health, methods=["GET"])]
    served = endpoints(store.version)
    routes += [Route(endpoint.path, route(endpoint), methods=[endpoint.method]) for endpoint in served]
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[Middleware(_TrailingSlash)],
        exception_handlers={HTTPException: _not_found},
    )
    app.state.store = store
    return app


def _answer(endpoint: Endpoint, call: Call) -> Response:
    try:
        if endpoint.action is not None:
            names = [call.collection] if "collection" in call.path else []
            if not is_allowed(call.store, call.admin_key, call.key, endpoint.action, names):
                raise forbidden()
        if endpoint.is_write and call.store.skip_writes:
            raise ApiError(422, "Skipping writes.")
        return endpoint.handler(call)
    except ApiError as error:
        return error_response(error)


async def _not_found(request: Request, error: Exception) -> Response:
    # A path that exists for other methods only is answered in the same way.
    return error_response(ApiError(404, "Not Found"))
