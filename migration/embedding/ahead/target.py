"""What batches are embedded with, and where they are noted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from migration.ledger import BatchRecord


class BatchLedger(Protocol):
    """What is kept of batches; `migration.ledger.Ledger` does."""

    def intend_batch(self, batch: BatchRecord) -> BatchRecord: ...
    def update_batch(self, name: str, *, failures: Mapping[str, str] | None = None, **changes: Any) -> None: ...
    def batches(self, fingerprint: str | None = None, *, only_open: bool = False) -> list[BatchRecord]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is to be embedded with, and where that is kept.

    Attributes:
        model: for people, as family/model/dimensions.
        fingerprint: the cache's first key.
        dimensions: length of every vector.
        server: base URL of the provider, without login.
        folder: of the batches' files.
        secrets: what must not show in any reason.
    """

    model: str
    fingerprint: str
    dimensions: int
    server: str | None
    folder: Path
    secrets: tuple[str, ...] = ()

    @property
    def prefix(self) -> str:
        """How the names of its batches begin."""
        return f"kai-embed-{self.fingerprint}-"
