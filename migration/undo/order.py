"""Which runs wrote to a collection after another one, and which of them still stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from migration.plan import Refused

if TYPE_CHECKING:
    from migration.ledger import RunRecord

_LOCAL: Final = ("localhost", "127.0.0.1", "::1", "[::1]", "0:0:0:0:0:0:0:1", "[0:0:0:0:0:0:0:1]")
_ENDED: Final = ("completed", "partial")
UNFINISHED: Final = ("running", "stopped", "interrupted")


def same_server(one: str, other: str) -> bool:
    """Whether two addresses, `host:port`, are of one server, as far as can be told without asking it."""
    return _plain(one) == _plain(other)


def refuse_another_server(run: RunRecord, address: str) -> None:
    """Refuse what is about a run of one server while the settings name another.

    Raises:
        Refused: naming both.
    """
    theirs = str(run.source.get("server") or "")
    if theirs and not same_server(theirs, address):
        raise Refused(
            [
                f"TYPESENSE_HOST, TYPESENSE_PORT: run {run.name} was over the server {theirs}, and these name "
                f"{address}; set them to that server"
            ]
        )


def _plain(address: str) -> tuple[str, str]:
    host, _, port = address.strip().lower().rpartition(":")
    return "localhost" if host in _LOCAL else host.rstrip("."), port
