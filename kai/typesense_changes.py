"""Act, then look until it shows: changes whose answer may be lost, contradict itself, or come before the change shows.

A server that loses the answer goes on with the work; a request that is sent again is refused because the first one
did it; a node that lags shows for a while what was before. So no answer is believed, neither a success nor an
"already exists" or "is not there": what counts is what stands on the server.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from kai.typesense import Schema, Typesense, TypesenseError
from kai.typesense_answers import T

SETTLED: Final = 3.0
"""Seconds for which the server must show no alter before it counts as having none."""
_POLL: Final = 0.25
_AGAIN: Final = 0.2
"""Seconds before a change that does not show is sent again."""
_BETWEEN_LOOKS: Final = 0.1
_LOOKS_IN_A_ROW: Final = 3
"""Where nodes lag, so many looks must show it, each over a connection of its own."""
_LAGS_WAITED: Final = 4
"""How many times the lag it is looked for before a change counts as not done."""
_ALREADY_SO: Final = (
    "already exists",
    "is not part of collection schema",
    "is already part of",
)
"""What a server says to a change that was done before, by a request whose answer was lost or does not show yet."""


def send_until_it_shows(
    server: Typesense,
    send: Callable[[], object],
    look: Callable[[], T | None],
    *,
    claim: str,
    before_looking: Callable[[], object] = lambda: None,
) -> T:
    """Send a change, look, and do both again until it shows.

    Args:
        server: where.
        send: sends the change, a single time; not called before every node shows what was written so far.
        look: what shows that the change was done, None while nothing does.
        claim: what the server says without showing it, for the error.
        before_looking: called after a request whose fate is unknown; returns when it is decided.

    Raises:
        TypesenseError: the server refuses it, or it does not show within its patience.
    """
    begun = time.monotonic()
    while True:
        server.settle()
        failed: TypesenseError | None = None
        try:
            send()
        except TypesenseError as error:
            failed = error
            if error.transient:
                before_looking()
        if (found := _look(server, look, is_done=failed is None)) is not None:
            return found
        if failed is not None and not failed.transient and not says_it_is_so_already(failed):
            raise failed
        if time.monotonic() - begun > server.patience:
            raise failed or TypesenseError(f"the server says {claim}, and does not show it")
        time.sleep(_AGAIN)


def says_it_is_so_already(error: TypesenseError) -> bool:
    """Whether the server refuses a change because it was done before."""
    return error.status == 409 or any(words in str(error) for words in _ALREADY_SO)


def _look(server: Typesense, look: Callable[[], T | None], *, is_done: bool) -> T | None:
    """What the look shows; where nodes lag, only what several in a row show once all had time for it."""
    if not server.lags:
        return look()
    begun = hidden_until = time.monotonic()
    in_a_row = 0
    while time.monotonic() - begun < _LAGS_WAITED * server.lag:
        if (found := look()) is None:
            hidden_until, in_a_row = time.monotonic(), 0
        else:
            in_a_row += 1
            if in_a_row >= _LOOKS_IN_A_ROW and server.is_settled:
                if is_done:
                    server.saw_lag(hidden_until - begun)
                return found
        time.sleep(_BETWEEN_LOOKS)
    return None


def alter_fields_until(
    server: Typesense,
    name: str,
    change: Callable[[Schema], Sequence[dict[str, Any]]],
    is_done: Callable[[Schema], bool],
    *,
    claim: str,
) -> Schema:
    """Change a collection's schema, however long the server takes, and return the schema that has the change.

    Args:
        server: where.
        name: of the collection.
        change: the fields of the alter, by the schema as it stands; none where none is needed.
        is_done: whether a schema has what was wanted.
        claim: what the server says without showing it, for the error.

    Raises:
        TypesenseError: the server refuses it, `missing` if the collection is gone, or it does not show.
    """

    def look() -> Schema | None:
        found = _standing(server, name)
        return found if is_done(found) else None

    def send() -> None:
        if fields := change(_standing(server, name)):
            server.alter_fields(name, fields)

    return send_until_it_shows(server, send, look, claim=claim, before_looking=lambda: wait_for_alters(server, name))


def wait_for_alters(server: Typesense, name: str) -> None:
    """Return once the server has shown no alter of this collection for a while.

    A server that was killed in mid-alter answers 503 while it replays its log and then begins the alter
    anew by itself, so that one empty answer proves nothing.
    """
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < max(SETTLED, 2 * server.lag):
        if any(change.get("collection") == name for change in server.schema_changes()):
            quiet_since = time.monotonic()
        time.sleep(_POLL)


def _standing(server: Typesense, name: str) -> Schema:
    found = server.collection(name)
    if found is None:
        raise TypesenseError(f"collection {name!r} is gone", status=404)
    return found
