"""What a run would do, and what it did, in words."""

from __future__ import annotations

from typing import Final

from kai.families import RequestLimits
from kai.models import request_limits
from migration.ledger import MetricsRecord
from migration.runtime.console import RULE, Console
from migration.strategies.plan import CollectionPlan, Plan, Way, requests_needed
from migration.strategies.planning.hazards import megabytes
from migration.strategies.planning.ways import recommended
from migration.strategies.refusals import Strategy, decide, way_problem
from migration.strategies.shadow_state import past_the_drop, unfinished_refill

_WORTH_A_PAUSE: Final = 1_000
"""Documents from which on emptying and filling is proposed, with the time that it takes and the pause that it costs."""

_LONGEST_SAMPLE: Final = 200
"""Characters of a sample text that the dry run shows."""


def banner(console: Console, plan: Plan) -> None:
    """What is about to happen."""
    console.heading("EMBEDDING MIGRATION")
    console.line(f"New embedding config: {plan.embedding.describe()}")
    console.line(f"Collections to migrate: {[item.collection.name for item in plan.collections]}")
    console.line(RULE)
    for hazard in plan.hazards:
        console.warn(f"! {hazard}")


def preview(console: Console, plan: Plan) -> None:
    """The plan, collection by collection, and that nothing was changed."""
    console.line(f"Typesense {plan.version}")
    limits = plan.limits or request_limits(plan.embedding.family, plan.embedding.model)
    for item in plan.collections:
        _preview_collection(console, item, limits)
    sample = f" and a sample of {plan.compared} texts" if plan.compared else ""
    console.heading(f"DRY RUN: nothing was written, nothing was embedded but one probe{sample}")


def took(console: Console, whole: MetricsRecord) -> None:
    """What a run took, in one line."""
    if whole.seconds is None:
        return
    figures = [f"time: {duration(whole.seconds)}"]
    if whole.requests or whole.cost_usd is not None:
        requests, tokens = whole.requests or 0, whole.tokens or 0
        figures = [f"requests: {requests}", f"tokens: about {tokens}", f"cost: {price(whole.cost_usd)}", *figures]
    console.tell(", ".join(figures).capitalize())


def duration(seconds: float) -> str:
    """Seconds as a person says them: `0.8 s`, `12 min 5 s`, `3 h 20 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _preview_collection(console: Console, plan: CollectionPlan, limits: RequestLimits) -> None:
    name = plan.collection.name
    if plan.strategy == "skipped":
        console.line(f"Would skip '{name}': {plan.collection.skipped}")
        return
    console.line(
        f"Would migrate '{name}':" if name == plan.name else f"Would migrate '{name}' (alias of '{plan.name}'):"
    )
    console.line(f"  - Embedding field: {plan.collection.embedding_field}")
    console.line(f"  - Filter: {plan.collection.filter_by or 'none'}")
    console.line(f"  - Template: {plan.collection.template}")
    console.line(f"  - Documents: {plan.documents}, eligible: {plan.eligible}")
    if plan.texts is not None:
        if plan.texts.example:
            # A user's data, so here alone: not in the ledger, a status or a log.
            console.line(f"  - Sample text: {_shortened(plan.texts.example)}")
        console.line(f"  - Distinct texts: {plan.texts.distinct}, documents without text: {plan.texts.without}")
        cost = price(plan.texts.cost_usd)
        requests = requests_needed(plan, limits)
        console.line(f"  - Embedding: about {plan.texts.tokens} tokens in {requests} requests, {cost}")
        if plan.cut is not None:
            console.line(
                f"  - Cut from {plan.cut.dimensions} dimensions: {plan.texts.cut} texts, which saves about "
                f"{plan.texts.saved_tokens} tokens, {price(plan.texts.saved_usd)}"
            )
    old = "none" if plan.old_dimensions is None else plan.old_dimensions
    console.line(f"  - Dimensions: {old} -> {plan.new_dimensions}")
    console.line(f"  - Strategy: {plan.strategy}")
    _preview_time(console, plan)
    _compare_ways(console, plan)
    for hazard in plan.hazards:
        console.line(f"  ! {hazard}")


def _shortened(text: str) -> str:
    """One line of a text, with whatever a terminal would not show as it is written out."""
    return f"{text[:_LONGEST_SAMPLE]!r}{' …' if len(text) > _LONGEST_SAMPLE else ''}"


def price(usd: float | None) -> str:
    """A list price in words."""
    if usd is None:
        return "price unknown"
    return f"about ${usd:.4f}" if usd else "free"


def _preview_time(console: Console, plan: CollectionPlan) -> None:
    """The server's share by the planned way and by the one beside it; measured on 2 cores, so roughly."""
    console.line(f"  - Server's share of the time: {_time_by(plan, plan.strategy)}")
    if plan.strategy == "alias":
        return  # Nothing pauses, and nothing is mixed.
    if plan.old_dimensions is None or unfinished_refill(plan.schema) or past_the_drop(plan.leftover, plan.schema):
        return  # Begun, it can only be finished in its own way.
    usual = decide(plan.old_dimensions, plan.new_dimensions, "auto")
    refill = decide(plan.old_dimensions, plan.new_dimensions, "alter")
    if plan.strategy == "into":
        return
    if plan.strategy == refill:
        console.line(f"  - {usual.capitalize()} instead: {_time_by(plan, usual)}")
    elif plan.documents >= _WORTH_A_PAUSE and way_problem(plan.collection, plan.schema, refill) is None:
        console.line(f"  - With --strategy {refill} instead: {_time_by(plan, refill)}")


def _compare_ways(console: Console, plan: CollectionPlan) -> None:
    """Every way that is open, with what it takes, and which one to take."""
    if len(plan.ways) < 2:
        return
    console.line("  - Ways that are open:")
    console.table([_WAYS, *(_row(way) for way in plan.ways)])
    if (best := recommended(plan.ways, plan.documents)) is not None:
        way, reason = best
        console.line(f"  - Recommended: {way.strategy} ({way.option or 'no option needed'}): {reason}")


_WAYS: Final = (
    "    WAY",
    "TIME",
    "PAUSE",
    "PARTIAL",
    "MIXED",
    "WRITES THAT COULD BE LOST",
    "MEMORY",
    "THE APPLICATION MUST",
)


def _row(way: Way) -> tuple[str, ...]:
    measured = " (as measured here)" if way.measured else ""
    return (
        f"    {way.strategy}",
        f"about {duration(way.seconds)}{measured}",
        duration(way.pause_seconds) if way.pause_seconds else "none",
        duration(way.partial_seconds) if way.partial_seconds else "none",
        "yes" if way.mixes else "no",
        way.loses or "none",
        megabytes(way.memory) if way.memory else "none",
        way.application,
    )


def _time_by(plan: CollectionPlan, strategy: Strategy) -> str:
    seconds = plan.server_seconds[strategy]
    if strategy in ("in place", "into", "alias"):
        return f"about {duration(seconds)}, and nothing pauses"
    if strategy == "recreate":
        return f"about {duration(seconds)}, and documents are missing for about {duration(seconds / 2)} of it"
    pause, rest = duration(plan.away_seconds), duration(seconds - plan.away_seconds)
    return f"about {duration(seconds)}: vector search pauses for about {pause} and tells what is filled for {rest}"
