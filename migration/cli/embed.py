"""`kai-migrate embed`: the vectors that a migration will want, before it comes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import click

from migration.cli.layout import amount, moment, rows_of, text
from migration.cli.options import (
    CONCURRENCY,
    MAX_RPM,
    MAX_TPM,
    OWN_COLLECTIONS,
    YES,
    Invocation,
    Number,
    SeveralValues,
    ask,
    common_options,
    duration,
)

if TYPE_CHECKING:
    from migration.ledger import BatchRecord
    from migration.operations.batches import BatchStatus
    from migration.operations.embed import EmbedResult
    from migration.runtime.console import Console

_NAMED: Final = 20
"""Failed documents that are named for a person; all of them with --json."""


def _wait(context: click.Context, parameter: click.Parameter, value: str | None) -> float:
    """Seconds; without the option, for as long as it takes."""
    if value == "0":
        return 0.0
    found = duration(context, parameter, value or None)
    return math.inf if found is None else found


@click.command("embed", cls=SeveralValues)
@click.option(
    "--collections", multiple=True, metavar="NAME...", help="As for a run: one or several names. [default: all]"
)
@OWN_COLLECTIONS
@click.option(
    "--via",
    type=click.Choice(["direct", "batch", "ray"]),
    default="direct",
    show_default=True,
    help="direct: at once, as a run would. batch: by the provider's batch interface, at half price, within a day "
    "(openai, google). ray: on a Ray cluster, for models that run in the process itself (local, "
    "sentence-transformers).",
)
@click.option("--dry-run", is_flag=True, help="Count the texts and say what they cost; embed nothing but one probe.")
@click.option(
    "--max-cost",
    type=Number(0.0, min_open=True),
    metavar="USD",
    help="Stop before this start costs more, by list price.",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Embed at most N texts, then stop.")
@CONCURRENCY
@MAX_RPM
@MAX_TPM
@click.option(
    "--max-waiting-tokens",
    type=click.IntRange(1),
    metavar="N",
    help="Most estimated tokens that wait in batches at once; also the most of one batch. [default: found out]",
)
@click.option(
    "--wait",
    metavar="DURATION",
    callback=_wait,
    help="Wait so long for batches, such as 8h, or 0 to leave once they are sent; then exit status 3, and a later "
    "start goes on. [default: until they are done]",
)
@click.option(
    "--ray-address",
    metavar="ADDRESS",
    help="With --via ray: auto, ray://HOST:PORT or HOST:PORT. [default: one of this machine alone, for this start]",
)
@click.option(
    "--actors",
    type=click.IntRange(1),
    metavar="N",
    help="With --via ray: workers, each with the model, a CPU, and a GPU where there are any and the family uses "
    "them. [default: as many as the cluster has]",
)
@click.option("--status", "what", flag_value="status", help="Show the batches, and what is under way; ask nobody.")
@click.option("--collect", "what", flag_value="collect", help="Fetch what is done, without waiting; send nothing.")
@click.option("--cancel", "what", flag_value="cancel", help="Cancel what is under way; what is done by then is kept.")
@YES
@common_options
def command(what: str | None, yes: bool, invocation: Invocation, **options: Any) -> int:
    """Embed the texts that a migration would embed, into the vector cache; nothing is written to Typesense.

    The migration that follows finds the vectors there: it makes no embedding request but its probe, and a sample
    where it compares the model. A text is paid for once, however often this is interrupted: run it again to go on.

    \b
    Examples:
      kai-migrate embed --max-cost 5
      kai-migrate embed --via batch --yes
      kai-migrate embed --via ray --ray-address auto
      kai-migrate embed --via batch --yes --wait 0     # then --collect, now and then
    """
    from migration.cli.exits import answer
    from migration.operations import batches

    match what:
        case "status":
            return answer(invocation, lambda settings, _: batches.batch_status(settings), _tell_status, needs=())
        case "collect" | "cancel":
            work = batches.collect_batches if what == "collect" else batches.cancel_batches
            return answer(
                invocation,
                lambda settings, console: work(settings, _heard(invocation, console)),
                _tell_status,
                needs=["embedding"],
            )
    return _embed(invocation, options, yes=yes)


def _embed(invocation: Invocation, options: dict[str, Any], *, yes: bool) -> int:
    from migration.cli.exits import answer
    from migration.operations.ahead import EmbedOptions
    from migration.operations.embed import embed

    return answer(
        invocation,
        lambda settings, console: embed(
            EmbedOptions(**options),
            settings,
            _heard(invocation, console),
            confirmed=lambda question: yes or ask(question),
        ),
        _tell,
        facts=lambda found: {**_fields(found), "exit_status": found.exit_status},
    )


def _heard(invocation: Invocation, console: Console) -> Console:
    """Where the work tells how it goes: nowhere, where a program reads one document."""
    from migration.runtime.console import SILENT

    return SILENT if invocation.as_json else console


def _fields(found: EmbedResult) -> dict[str, Any]:
    return {name: getattr(found, name) for name in found.__dataclass_fields__}


def _tell(found: EmbedResult, console: Console) -> None:
    from migration.operations.ahead import told_of
    from migration.operations.runs.summary import duration as lasted
    from migration.operations.runs.summary import price

    if found.status == "dry run" and found.counted is not None:
        console.line(told_of(found.counted))
        console.line("DRY RUN: nothing was embedded but one probe")
        return
    for each in found.failed[:_NAMED]:
        console.warn(f"  Failed: document {each.document_id!r} of '{each.collection}': {each.reason}")
    if (more := len(found.failed) - _NAMED) > 0:
        console.warn(f"  … and {more} more; --json has them all")
    failed = f", {len(found.failed)} documents failed" if found.failed else ""
    failed += f", {found.without} documents have no text" if found.without else ""
    console.line(
        f"Embedded ahead by {found.model}: {found.embedded} texts, about {found.tokens} tokens, "
        f"{price(found.cost_usd)}; {found.cached} were there already{failed}. Time: {lasted(found.seconds)}"
    )
    if found.status == "completed":
        return
    console.warn(f"{found.status.capitalize()}{f': {found.cause}' if found.cause else ''}")
    console.warn("Nothing is lost. Run the same command again: it goes on where this one ended.")


def _tell_status(found: BatchStatus, console: Console) -> None:
    if found.under_way is not None:
        facts = found.under_way
        console.line(
            f"Under way, process {facts.get('pid')} on {facts.get('host')}: {facts.get('phase')}, "
            f"{facts.get('texts_embedded')} texts embedded, {facts.get('texts_failed')} failed"
        )
    if not found.batches:
        console.line("There are no batches.")
        return
    console.table(rows_of(_BATCHES, found.batches))


_BATCHES: dict[str, Callable[[BatchRecord], str]] = {
    "BATCH": lambda batch: batch.name,
    "MODEL": lambda batch: batch.model,
    "STATE": lambda batch: batch.state,
    "AT THE PROVIDER": lambda batch: text(batch.provider_state),
    "TEXTS": lambda batch: amount(batch.texts),
    "DONE": lambda batch: amount(batch.done),
    "FAILED": lambda batch: amount(batch.failed),
    "BEGUN": lambda batch: moment(batch.created_at),
    "REASON": lambda batch: text(batch.reason),
}
