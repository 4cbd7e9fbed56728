"""`kai-migrate evaluate COLLECTION`: is another model better at questions whose answers are known?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from migration.cli.layout import amount, interval, rows_of, seconds, section, usd
from migration.cli.options import FILE, OWN_COLLECTIONS, Invocation, Number, common_options
from migration.runtime.values import megabytes, typical_and_slow

if TYPE_CHECKING:
    from migration.assessment.evaluation.metrics import Metric
    from migration.assessment.evaluation.result import Candidate, Change, Evaluation, Figures
    from migration.runtime.console import Console

_WORST: Final = 5
_NAMED: Final = 3


@click.command("evaluate")
@click.argument("collection", metavar="COLLECTION")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="FAMILY/MODEL@DIMENSIONS",
    help="A new model. Repeatable.  [default: the configured target]",
)
@click.option(
    "--old",
    metavar="FAMILY/MODEL@DIMENSIONS",
    help="The model of the vectors that stand there.  [default: what the collection's metadata says, else the ledger]",
)
@click.option("--anew", is_flag=True, help="Compute the old model's vectors in place of taking those that stand there.")
@click.option(
    "--questions",
    type=FILE,
    metavar="FILE",
    help='JSON Lines, {"q": "…", "relevant": ["id", …]} each.  [default: made from the documents]',
)
@click.option(
    "--make",
    "made",
    type=click.IntRange(1, 10_000),
    default=200,
    show_default=True,
    metavar="N",
    help="How many questions to make from the documents.",
)
@click.option(
    "--sample",
    type=click.IntRange(2, 100_000),
    default=2000,
    show_default=True,
    metavar="N",
    help="Documents to search in; those that answer a question are always among them.",
)
@click.option(
    "--metric",
    type=click.Choice(("ndcg", "mrr", "recall")),
    default="ndcg",
    show_default=True,
    help="By which metric the verdict is.",
)
@click.option("--k", type=click.IntRange(1, 250), default=10, show_default=True, help="How many documents found count.")
@click.option(
    "--least-gain",
    type=Number(-1.0, 1.0),
    default=0.0,
    show_default=True,
    metavar="D",
    help="GO where the whole interval of the difference is above D.",
)
@click.option(
    "--most-loss",
    type=Number(0.0, 1.0),
    default=0.0,
    show_default=True,
    metavar="D",
    help="NO-GO where the whole interval is below -D.",
)
@click.option(
    "--against",
    type=click.Choice(("shadow",)),
    help="Compare with what a held or rehearsed run has built, by the server's own search over all documents.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Draw another sample.")
@click.option("--field", metavar="FIELD", help="The embedding field. [default: the one that serves]")
@OWN_COLLECTIONS
@common_options
def command(
    collection: str,
    models: tuple[str, ...],
    old: str | None,
    anew: bool,
    questions: Path | None,
    made: int,
    sample: int,
    metric: Metric,
    k: int,
    least_gain: float,
    most_loss: float,
    against: Literal["shadow"] | None,
    seed: int,
    field: str | None,
    collections_file: Path | None,
    invocation: Invocation,
) -> int:
    """Say whether another model finds more in COLLECTION, on questions with known answers, before paying for all of it.

    Both models embed the same questions, and search in the same sample of the documents: the old one by the vectors
    that stand there. Shows recall, MRR and nDCG with 95 % bootstrap intervals, the latency of a question as measured,
    and what all documents would cost and take. Typesense is only read; what is embedded goes to the cache, where a
    migration finds it.

    Exit status: 0 GO, 1 NO-GO, 4 CANNOT TELL, 2 refused. Of several models, GO where one of them is.
    """
    from migration.assessment.evaluation.verdict import Rule
    from migration.cli.exits import answer
    from migration.operations.evaluate import evaluate
    from migration.operations.setup import TYPESENSE_ONLY

    return answer(
        invocation,
        lambda settings, console: evaluate(
            collection,
            models,
            old=old,
            anew=anew,
            questions=questions,
            made=made,
            sample=sample,
            rule=Rule(metric, k, least_gain, most_loss),
            against=against,
            seed=seed,
            field=field,
            collections_file=collections_file,
            env_file=invocation.env_file,
            settings=settings,
            console=console,
        ),
        _lay_out,
        needs=TYPESENSE_ONLY,
    )


def _lay_out(found: Evaluation, console: Console) -> None:
    source = "made from the documents" if not found.questions_file else f"of {found.questions_file}"
    among = f"{found.searched:,} of its" if found.searched < found.documents else "all"
    console.line(
        f"{found.collection} ({found.field}): {found.questions:,} questions {source}, asked in {among} "
        f"{found.documents:,} documents"
    )
    if found.against:
        console.line(f"Searched by the server: the vectors that serve, and those that run {found.against} has built")
    console.line()
    models = [found.old, *(each.figures for each in found.candidates)]
    measures = list(found.old.metrics)
    metrics: dict[str, Callable[[Figures], str]] = {
        "MODEL": lambda each: each.model + (" (old)" if each is found.old else ""),
        **{name.upper(): _metric(name) for name in measures},
    }
    console.table(rows_of(metrics, models))
    differences: dict[str, Callable[[Candidate], str]] = {
        "MODEL": lambda each: each.figures.model,
        **{name.upper(): _difference(name) for name in measures},
        "BETTER": lambda each: amount(each.better),
        "WORSE": lambda each: amount(each.worse),
    }
    section(console, "Difference, question by question", differences, found.candidates)
    section(console, f"For all {found.documents:,} documents", _COSTS | {"MODEL": metrics["MODEL"]}, models)
    for candidate in found.candidates:
        title = f"What became worst by {candidate.figures.model}, in {found.rule.measure}"
        section(console, title, _WORSE, candidate.worst[:_WORST])
    console.line()
    for note in found.notes:
        console.warn(f"! {note}")
    console.line(f"Rule: {found.rule}")
    for candidate in found.candidates:
        console.line(f"{candidate.verdict}: {candidate.reason}")
    if found.report:
        console.tell(f"Report: {found.report}")


def _metric(name: str) -> Callable[[Figures], str]:
    return lambda each: interval(asdict(each.metrics[name]))


def _difference(name: str) -> Callable[[Candidate], str]:
    return lambda each: interval(asdict(each.differences[name]), signed=True)


_WORSE: dict[str, Callable[[Change], str]] = {
    "QUESTION": lambda each: str(each.line),
    "DOCUMENTS": lambda each: ", ".join(each.relevant[:_NAMED]) + (", …" if len(each.relevant) > _NAMED else ""),
    "OLD": lambda each: f"{each.old:.3f}",
    "NEW": lambda each: f"{each.new:.3f}",
}
"""A question that the new model answers worse."""
_COSTS: dict[str, Callable[[Figures], Any]] = {
    "MODEL": lambda each: each.model,
    "LATENCY P50 / P95, MS": lambda each: typical_and_slow(each.latency_p50_ms, each.latency_p95_ms),
    "COST": lambda each: usd(each.cost_usd),
    "EMBEDDING": lambda each: seconds(each.embedding_seconds),
    "SERVER": lambda each: seconds(each.server_seconds),
    "MEMORY, MB": lambda each: megabytes(each.storage_bytes),
    "BOUGHT NOW": lambda each: f"{each.tokens_bought:,} tokens, {usd(each.usd_bought)}",
}
"""What a model takes."""
