"""`kai-migrate models`: the models, and how many documents carry each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from migration.cli.layout import amount, moment, text
from migration.cli.options import Invocation, common_options

if TYPE_CHECKING:
    from migration.ledger import CollectionUse
    from migration.operations.history import Models
    from migration.runtime.console import Console

_TITLES = (
    "MODEL", "DIMENSIONS", "TASK TYPE", "FINGERPRINT", "LAST USED", "PROVIDER", "DIGEST", "COLLECTION", "DOCUMENTS",
)  # fmt: skip
_DIGITS = 12
"""Of a digest, as `ollama list` shows it."""


@click.command("models")
@common_options
def command(invocation: Invocation) -> int:
    """List the embedding models, and how many documents carry each, by collection.

    The last used model comes first, with the server and the digest (Ollama) that it had then. A collection in
    which vectors of several models stand is named below: searches there compare what cannot be compared.
    """
    from migration.cli.exits import answer
    from migration.operations.history import list_models

    return answer(invocation, lambda settings, _: list_models(settings=settings), _lay_out, needs=())


def _lay_out(models: Models, console: Console) -> None:
    if not models.models:
        console.line("No models yet.")
        return
    rows: list[tuple[str, ...]] = [_TITLES]
    for use in models.models:
        model = use.model
        facts: tuple[str, ...] = (
            f"{model.family}/{model.model}",
            str(model.dimensions),
            text(model.task_type),
            model.fingerprint,
            moment(model.last_used_at),
            text(model.provider_server),
            text((model.model_digest or "").removeprefix("sha256:")[:_DIGITS]),
        )
        if not use.collections:
            rows.append((*facts, text(None), "0"))
        for place in use.collections:
            rows.append((*facts, _place(place, models), amount(place.documents)))
            facts = ("",) * len(facts)
    console.table(rows)
    for name in models.mixed:
        console.warn(f"Vectors of several models stand in {name}; run the migration to its end.")


def _place(use: CollectionUse, models: Models) -> str:
    """Where the documents are, with the field where the collection has several."""
    place = f"{use.source}/{use.collection}"
    others = (each for model in models.models for each in model.collections)
    is_one_of_several = any(
        (each.source, each.collection) == (use.source, use.collection) and each.field != use.field for each in others
    )
    return f"{place} ({use.field})" if is_one_of_several else place
