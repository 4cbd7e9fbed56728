"""Which provider has a batch interface."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from migration.embedding.ahead.service import BatchService, NoBatches

if TYPE_CHECKING:
    from kai.settings import Settings


def make_service(settings: Settings, folder: Path) -> BatchService:
    """The batch interface of the configured family, of which nobody is asked anything yet.

    Raises:
        NoBatches: the family has none.
    """
    if len(settings.bases) > 1:
        raise NoBatches("several servers share the work of direct requests only")
    match settings.embedding.family:
        case "azure":
            from migration.embedding.ahead.openai_batches import OpenAIBatches

            return OpenAIBatches.of_azure(settings)
        case "openai":
            from migration.embedding.ahead.openai_batches import OpenAIBatches

            return OpenAIBatches.of(settings)
        case "google":
            from migration.embedding.ahead.gemini_batches import GeminiBatches

            return GeminiBatches.of(settings, folder)
        case family:
            raise NoBatches(f"family {family} has none")
