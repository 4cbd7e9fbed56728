"""What a run would do, per collection, at what cost: `--dry-run` prints the plan, a run carries out the same one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from kai.collections import EmbeddedCollection
from kai.families import RequestLimits
from kai.settings import EmbeddingSettings
from kai.typesense import Schema
from migration.backup import Backup
from migration.strategies.refusals import Strategy
from migration.strategies.shadow_state import Mark, past_the_drop


@dataclass(frozen=True, slots=True)
class Texts:
    """What the texts of a collection come to.

    Attributes:
        distinct: texts that differ from each other; one is paid for once.
        without: eligible documents that have no text.
        tokens: estimated tokens of the distinct texts.
        cost_usd: list price; None if the model's price is not known.
        example: the first of them, for a person to see what is embedded; empty where there is none.
        cut: of the distinct texts, those whose vectors are cut from old ones; they do not count to tokens and cost.
        saved_tokens: estimated tokens of these.
        saved_usd: their list price; None if it is not known.
    """

    distinct: int
    without: int
    tokens: int
    cost_usd: float | None
    example: str = field(default="", repr=False)
    cut: int = 0
    saved_tokens: int = 0
    saved_usd: float | None = 0.0


@dataclass(frozen=True, slots=True)
class Cut:
    """That new vectors are cut from longer old ones of the same model, and on whose word that these are of it.

    Attributes:
        field: that holds the old ones.
        dimensions: their length.
        trust: who says whose they are: the ledger, of each document; the collection's metadata, where the ledger knows
            nothing of it; or the operator.
        model_id: of the old ones in the ledger; None where it does not know their model.
        is_unit: whether what is cut is brought to unit length, as the provider gives it.
        compared: texts that were embedded again, all of which agree.
        least_cosine: of those.
    """

    field: str
    dimensions: int
    trust: Literal["ledger", "metadata", "operator"]
    model_id: str | None
    is_unit: bool = True
    compared: int = 0
    least_cosine: float = 1.0


@dataclass(frozen=True, slots=True)
class Way:
    """How a collection could be migrated.

    Attributes:
        strategy: its name.
        option: what to give for it.
        seconds: the server's share of the time, roughly.
        pause_seconds: how long the search is not answered, or lacks documents.
        partial_seconds: how long a vector search tells a part of the documents.
        mixes: whether vectors of two models stand side by side meanwhile.
        loses: which writes could be lost; empty for none.
        memory: bytes that the server needs beside what it has.
        application: what the application must be able to do.
        measured: whether the time is by this server's own last runs.
    """

    strategy: Strategy
    option: str
    seconds: float
    pause_seconds: float = 0.0
    partial_seconds: float = 0.0
    mixes: bool = False
    loses: str = ""
    memory: int = 0
    application: str = ""
    measured: bool = False


@dataclass(frozen=True, slots=True)
class CollectionPlan:
    """What a run would do to one collection.

    Attributes:
        collection: as it was asked for.
        name: the real collection's name, where an alias was asked for.
        schema: as the server gave it.
        strategy: how.
        old_dimensions: `num_dim` of the field; None where it has none and is no vector index.
        new_dimensions: length of the new vectors.
        documents: all documents of the collection.
        eligible: documents that the filter lets through.
        server_seconds: what the server's share will take, roughly, by strategy.
        away_seconds: how long the vector search pauses for `rebuild` and `alter`, roughly, and twice where the field is
            required.
        ways: those that are open; none where what was begun can only be gone on with.
        hazards: what the operator should know, a sentence each.
        texts: only where they were looked at (dry run).
        beside: the field that serves while `collection`'s is filled beside it; empty where that one serves.
        leftover: the mark of a shadow that a dead run left, if there is one.
        backup: what a collection that is gone is created from.
        successor: name of the collection that takes this one's place; empty where none does.
        is_swapped: whether a dead run has put it there already, or was about to.
        cut: how the new vectors are cut from the old ones; None where they are embedded.
    """

    collection: EmbeddedCollection
    name: str
    schema: Schema
    strategy: Strategy
    old_dimensions: int | None
    new_dimensions: int
    documents: int
    eligible: int
    server_seconds: dict[str, float] = field(default_factory=dict)
    away_seconds: float = 0.0
    ways: tuple[Way, ...] = ()
    hazards: tuple[str, ...] = ()
    texts: Texts | None = None
    beside: str = ""
    leftover: Mark | None = None
    backup: Backup | None = None
    successor: str = ""
    is_swapped: bool = False
    cut: Cut | None = None

    @property
    def names(self) -> list[str]:
        """The collections that are written to."""
        return [self.name, self.successor] if self.successor else [self.name]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do, in the order in which it would.

    Attributes:
        embedding: the target.
        collections: one after the other.
        version: the server's, as it says.
        hazards: what the operator should know, whichever collection it is; a sentence each.
        compared: texts that were embedded again to see whether the model is the one whose vectors stand there.
        limits: what one embedding request may carry.
    """

    embedding: EmbeddingSettings
    collections: tuple[CollectionPlan, ...]
    version: str = "unknown"
    hazards: tuple[str, ...] = ()
    compared: int = 0
    limits: RequestLimits | None = None

    @property
    def copied(self) -> list[Schema]:
        """The collections that would be copied whole; not one that a dead run has copied, which must be finished."""
        return [
            item.schema
            for item in self.collections
            if item.strategy in ("recreate", "alias") and not past_the_drop(item.leftover, item.schema)
        ]


def requests_needed(plan: CollectionPlan, limits: RequestLimits) -> int | None:
    """About how many embedding requests the plan takes; None before its texts were looked at."""
    if plan.texts is None:
        return None
    if plan.cut is not None and not (plan.texts.distinct - plan.texts.cut):
        return 0
    pages = -(-plan.eligible // 250)
    return max(pages * -(-min(250, plan.eligible) // limits.texts), -(-plan.texts.tokens // limits.tokens))
