"""Is the new model better, on the user's own documents and questions, before paying for all of them?

Both models embed the same questions, and what each finds is compared with what should be found: in memory, over a
sample of the documents, exactly; or by the server itself, over what a run has built beside what serves. Nothing is
written but to cache and ledger, and what is bought for it is found in the cache by the migration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from kai.collections import EmbeddedCollection
from kai.models import estimate_cost
from kai.settings import Settings, load_settings
from kai.typesense import Schema, embedding_field
from migration.assessment.evaluation.built import NothingBuilt, find_built
from migration.assessment.evaluation.metrics import Scores, scores
from migration.assessment.evaluation.model import Model
from migration.assessment.evaluation.questions import (
    LIMITS,
    Question,
    QuestionsError,
    make_questions,
    read_questions,
    refuse,
)
from migration.assessment.evaluation.result import Evaluation, Figures, compared, means, measures
from migration.assessment.evaluation.sample import Corpus, fetch, read_corpus
from migration.assessment.evaluation.verdict import Rule, best_of
from migration.ledger import EvaluationRecord
from migration.operations.models.evaluated_models import Bench
from migration.operations.models.evaluated_search import Asked, Searched, search_here, search_there
from migration.operations.reports.assessment_page import keep_report, page_of_evaluation
from migration.operations.setup import TYPESENSE_ONLY, described_collection, open_cache, open_ledger, open_server
from migration.runtime.console import SILENT, Console
from migration.strategies.planning.ways import away_seconds, index_bytes, server_seconds
from migration.strategies.refusals import Refused, decide, field_problem
from migration.strategies.shadow_state import unfinished

MADE: Final = 200
SAMPLE: Final = 2000
_PATIENCE: Final = 120.0
"""Seconds that it waits for the server, once it reads."""


def evaluate(
    collection: str,
    models: Sequence[str] = (),
    *,
    old: str | None = None,
    anew: bool = False,
    questions: Path | None = None,
    made: int = MADE,
    sample: int = SAMPLE,
    rule: Rule = Rule(),  # noqa: B008 - frozen
    against: Literal["shadow"] | None = None,
    seed: int = 0,
    field: str | None = None,
    collections_file: Path | None = None,
    env_file: Path | None = None,
    settings: Settings | None = None,
    console: Console = SILENT,
) -> Evaluation:
    """Compare new models with the one of a collection's vectors by questions with known answers; noted in the ledger.

    Args:
        collection: as it is described, or the real name where that is an alias.
        models: the new ones, each FAMILY/MODEL@DIMENSIONS; empty for the configured target.
        old: the model of the vectors that stand there; None for what the collection's stamp says, else the ledger.
        anew: whether the old model's vectors of the sample are computed, in place of those that stand there.
        questions: JSON Lines file of them; None to make some from the documents.
        made: how many to make.
        sample: documents to search in; those that answer a question are always among them.
        rule: for the verdict.
        against: `shadow` to compare with what a held or rehearsed run has built, by the server's own search over all
            of the documents.
        seed: of the questions made, the sample, and the intervals.
        field: the embedding field; None for the one that serves.
        collections_file: descriptions of the user's own collections; None for KAI's.
        env_file: file with the keys of the models' providers; None for `.env` in the working folder.
        settings: Typesense and the ledger; None reads `env_file` and the environment.
        console: where to tell how far it is; nothing by default.

    Raises:
        SettingsError: the settings cannot be used.
        Refused: the collection, a model, a question or the rule cannot be used; each problem names its remedy.
        CollectionsError, LedgerError, CacheError, TypesenseError: the descriptions, the ledger, the cache or the
            server cannot be used.
    """
    if rule.problem:
        raise Refused(rule.problem)
    if against and (models or anew):
        raise Refused(
            "--against shadow: what was built is of the model of its run, and what serves is searched as it stands; "
            "leave --model and --anew out"
        )
    try:
        asked = read_questions(questions) if questions else None
    except QuestionsError as error:
        raise Refused(*error.problems) from error
    settings = settings or load_settings(env_file, needs=TYPESENSE_ONLY)
    with ExitStack() as stack:
        server = stack.enter_context(open_server(settings, console))
        described, schema = described_collection(server, collection, collections_file, field)
        everything = server.collections()
        server.patience = _PATIENCE
        ledger = stack.enter_context(open_ledger(settings))
        cache = stack.enter_context(open_cache(settings))
        bench = Bench(settings, env_file, server, ledger, cache, console)
        run = ""
        if against:
            try:
                built = find_built(everything, str(schema["name"]), described.embedding_field)
            except NothingBuilt as error:
                raise Refused(f"--against shadow: {error}") from error
            schema, described, run = built.old, replace(described, embedding_field=built.old_field), built.run
            wanted = [bench.settings_of_run(run, built.fingerprint, described)]
        else:
            _refuse_unfinished(everything, described, schema)
            wanted = [bench.settings_of(words, "--model") for words in dict.fromkeys(models)] or [bench.target()]
        given, doubt = (
            (bench.settings_of(old, "--old"), "") if old else bench.old_settings(schema, described.embedding_field)
        )
        if not anew:
            _refuse_other_length(schema, described, given)
        # One model for each name, so that the same one twice buys nothing twice.
        opened = {each.embedding: each for each in (given, *wanted)}
        by_settings = {embedding: bench.open(each) for embedding, each in opened.items()}
        tried = [by_settings[each.embedding] for each in (given, *wanted)]
        corpus = _read_corpus(bench, schema, described)
        ready = _ask(bench, described, schema, corpus, asked, questions, rule, made, seed)
        if against:
            places = [(ready.name, built.old_field), (built.new, built.new_field)]
            searched = search_there(bench, ready, tried, places)
        else:
            searched = search_here(bench, ready, tried, sample, anew=anew)
        result = _judged(bench, ready, searched, run, str(questions or ""), [doubt] if doubt else [])
        ledger.record_evaluations(_records(result))
    page = page_of_evaluation(result)
    return replace(result, report=keep_report(settings, f"evaluate-{described.name}", result.at, page, result, console))


# -- what is asked ---------------------------------------------------------------------------------------


def _refuse_unfinished(everything: Sequence[Schema], described: EmbeddedCollection, schema: Schema) -> None:
    undone = unfinished(everything, str(schema["name"]))
    if problem := undone or field_problem(described, schema):
        raise Refused(f"{undone}; run the migration again, which finishes it" if undone else problem)


def _refuse_other_length(schema: Schema, described: EmbeddedCollection, old: Settings) -> None:
    length = (embedding_field(schema, described.embedding_field) or {}).get("num_dim")
    if length and length != old.embedding.dimensions:
        raise Refused(
            f"--old: the vectors in {described.embedding_field!r} of {schema['name']!r} have {length} dimensions, and "
            f"{old.embedding.model} was named with {old.embedding.dimensions}; name the model that they are from"
        )


def _read_corpus(bench: Bench, schema: Schema, collection: EmbeddedCollection) -> Corpus:
    name = str(schema["name"])
    with bench.console.progress("Reading", bench.server.count(name, collection.filter_by)) as bar:
        corpus = read_corpus(bench.server, name, collection, bar.update)
    if len(corpus.hashes) < 2:
        raise Refused(
            f"COLLECTION: {len(corpus.hashes)} documents of {name!r} have a text to embed, which leaves nothing to "
            "choose from; is the template right? See --collections-file"
        )
    return corpus


def _ask(
    bench: Bench,
    collection: EmbeddedCollection,
    schema: Schema,
    corpus: Corpus,
    given: list[Question] | None,
    file: Path | None,
    rule: Rule,
    made: int,
    seed: int,
) -> Asked:
    """The questions, those of the file or made ones.

    Raises:
        Refused: a document that answers one is not there, or none could be made.
    """
    name = str(schema["name"])
    if given is not None and file is not None:
        try:
            refuse(file, list(_unknown(given, corpus, name)))
        except QuestionsError as error:
            raise Refused(*error.problems) from error
        chosen = given
    else:
        # Some of the documents have an equal text, or one that is too short.
        some = fetch(bench.server, name, collection, corpus.shuffled(seed)[: 2 * made], with_vector=False)
        chosen = make_questions({id_: each.text for id_, each in some.items()}, made, seed)
        if not chosen:
            raise Refused(f"--questions: no text of {name!r} is long enough to make a question of; give a file of them")
    return Asked(collection, schema, corpus, corpus.with_equal_texts(chosen), given is None, rule, seed)


def _unknown(questions: Sequence[Question], corpus: Corpus, name: str) -> list[str]:
    return [
        f"line {question.line}: {', '.join(map(repr, unknown))} {'is' if len(unknown) == 1 else 'are'} not among the "
        f"documents of {name!r} that are embedded; correct the id, or take it out"
        for question in questions
        if (unknown := sorted(question.relevant - corpus.hashes.keys()))
    ]


# -- the verdict -----------------------------------------------------------------------------------------


def _judged(bench: Bench, asked: Asked, searched: Searched, run: str, file: str, notes: Sequence[str]) -> Evaluation:
    rule, seed = asked.rule, asked.seed
    right = [question.relevant for question in asked.questions]
    by_model = [
        {name: scores(metric, found, right, rule.k) for name, metric in measures(rule.k).items()}
        for found in searched.found
    ]
    figures = [
        _figures(bench, asked, model, by_metric) for model, by_metric in zip(searched.models, by_model, strict=True)
    ]
    figures[0] = replace(figures[0], server_seconds=None)
    # Of several models one may look better by chance; so each has to show it more clearly (Bonferroni).
    confidence = 1 - (1 - rule.confidence) / (len(figures) - 1)
    several = (
        f"with {len(figures) - 1} new models each one's difference has an interval of {confidence:.1%}, so that all "
        f"verdicts together have {rule.confidence:.0%}"
    )
    candidates = tuple(
        compared(each, by_model[0], by_metric, asked.questions, rule, confidence, seed)
        for each, by_metric in zip(figures[1:], by_model[1:], strict=True)
    )
    return Evaluation(
        at=datetime.now(UTC),
        server=bench.server.address,
        collection=asked.name,
        field=asked.collection.embedding_field,
        against=run,
        questions=len(asked.questions),
        questions_file=file,
        searched=searched.documents,
        documents=len(asked.corpus.hashes),
        rule=rule,
        old=figures[0],
        candidates=candidates,
        verdict=best_of(each.verdict for each in candidates),
        notes=(
            *notes,
            *([several] if len(figures) > 2 else []),
            *searched.notes,
            *_failed(searched.models),
            *([LIMITS] if asked.made else []),
        ),
    )


def _figures(bench: Bench, asked: Asked, model: Model, by_metric: Mapping[str, Scores]) -> Figures:
    embedding, documents, tokens = model.embedding, len(asked.corpus.hashes), asked.corpus.tokens
    standing = (embedding_field(asked.schema, asked.collection.embedding_field) or {}).get("num_dim")
    away = away_seconds(documents, standing or embedding.dimensions, embedding.dimensions, is_required=False)
    way = decide(standing, embedding.dimensions, bench.settings.strategy)
    pace = model.tokens_a_second
    return Figures(
        model.name,
        means(by_metric, asked.seed),
        model.latency_ms(0.5),
        model.latency_ms(0.95),
        cost_usd=estimate_cost(embedding.model, tokens),
        embedding_seconds=tokens / pace if pace else None,
        server_seconds=server_seconds(documents, embedding.dimensions, away)[way],
        storage_bytes=index_bytes(documents, embedding.dimensions),
        tokens_bought=model.meter.tokens,
        usd_bought=estimate_cost(embedding.model, model.meter.tokens),
        failed=len(model.failures),
    )


def _failed(models: Sequence[Model]) -> list[str]:
    reasons = {model.name: list(model.failures.values()) for model in models if model.failures}
    return [
        f"{name} does not take {len(each)} texts, which count as not found: {each[0]}" for name, each in reasons.items()
    ]


def _records(result: Evaluation) -> list[EvaluationRecord]:
    old = asdict(result.old)
    return [
        EvaluationRecord(
            at=result.at,
            source=result.server,
            collection=result.collection,
            field=result.field,
            old_model=result.old.model,
            new_model=each.figures.model,
            run=result.against or None,
            questions=result.questions,
            questions_from="file" if result.questions_file else "documents",
            searched=result.searched,
            metrics={
                "old": old,
                "new": asdict(each.figures),
                "differences": {name: asdict(interval) for name, interval in each.differences.items()},
                "better": each.better,
                "worse": each.worse,
            },
            verdict=each.verdict,
            rule=asdict(result.rule),
        )
        for each in result.candidates
    ]
