"""End what a run has left to the operator: the application has switched, and what it used before may go."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from kai.collections import EmbeddedCollection, described_as, load_collections
from kai.settings import Settings, load_settings
from kai.typesense import Schema, Typesense, embedding_field
from migration.documents.fetch import Selection, fetch_newest
from migration.ledger import Ledger, RunRecord
from migration.operations.reports.run_report import report_run
from migration.operations.runs.execute import execute, running
from migration.operations.runs.measure import Measures
from migration.operations.runs.results import RunResult
from migration.operations.runs.waiting import Waiting, known_run, latest_of, let_go, marks_of, named_by
from migration.operations.setup import TYPESENSE_ONLY, Session, open_ledger, open_server
from migration.runtime.console import SILENT, Console
from migration.runtime.control import Control
from migration.strategies.alias.ending import DropOld, refuse_unfinishable
from migration.strategies.alias.state import Pair
from migration.strategies.context import Outcome, RunContext
from migration.strategies.plan import CollectionPlan
from migration.strategies.refusals import Refused
from migration.strategies.second_field.expand import Contract, Lacking, lacking
from migration.strategies.second_field.mark import NextField
from migration.strategies.sources import UNDESCRIBED, AsItStands
from migration.strategies.task import Task

_NEWEST: Final = 250
_WATCHED: Final = 3.0
"""Seconds for which an application that writes is watched before the field that it used is taken out."""


def finish(
    run: str | None = None,
    *,
    allow_partial: bool = False,
    collections_file: Path | None = None,
    confirmed: Callable[[str], bool] = lambda _: True,
    settings: Settings | None = None,
    console: Console = SILENT,
) -> RunResult:
    """Take out what a run has replaced, once the application uses what it has made; the old vectors go to a backup.

    Args:
        run: name or alias; None for the latest run that waits.
        allow_partial: whether documents may be left without a vector.
        collections_file: descriptions of the user's own collections; None for KAI's.
        confirmed: asked with a summary before anything is changed; agrees by default.
        settings: Typesense and the ledger; None reads `.env` and the environment.
        console: where to tell; nothing by default.

    Raises:
        Refused: no run waits, or a document would be left without a vector; nothing was changed.
        Held: another run holds a collection.
    """
    settings = settings or load_settings(needs=TYPESENSE_ONLY)
    known = load_collections(collections_file)
    with open_server(settings, console) as server, open_ledger(settings) as ledger:
        schemas = {str(schema["name"]): schema for schema in server.collections()}
        marks = marks_of(list(schemas.values()))
        chosen = _chosen(ledger, marks, run)
        name = next(iter(chosen.values())).run
        aliases = server.aliases()
        works: list[_Finishing | _Dropping] = []
        for each, mark in chosen.items():
            described = described_as(known, each, aliases)
            if isinstance(mark, Pair):
                works.append(_dropping(server, mark, described))
            else:
                works.append(_work(server, ledger, schemas[each], mark, described, allow_partial))
        goes = [f"  {work.plan.name}: {work.what_goes}" for work in works]
        for work in works:
            if isinstance(work, _Finishing) and work.without:
                console.warn(f"! {work.without} of {work.plan.name!r} will have no vector")
        made = "its collections" if any(isinstance(mark, Pair) for mark in chosen.values()) else "its fields"
        if not confirmed("\n".join([f"Finish run {name}, once the application uses {made}:", *goes, "Go on?"])):
            raise Refused("not confirmed; give --yes to finish without being asked")
        let_go(server, chosen)
        control = Control(pause_file=settings.home / "pause", announce=console.tell)
        session = Session(settings=settings, server=server, console=console, control=control)
        server.patience = session.options.patience

        def begin() -> RunRecord:
            console.heading("FINISH")
            record = known_run(ledger, server, chosen, name)
            assert record is not None  # noqa: S101 - its marks were found
            return ledger.resume_run(record.id)

        names = [each for work in works for each in work.plan.names]
        with control.signals(), running(session, ledger, names, begin) as context:
            result = execute(context, works, Measures(ledger, context.run.id, None))
            return report_run(session, ledger, context.run, result)


def _chosen(ledger: Ledger, marks: Mapping[str, Waiting], run: str | None) -> dict[str, Waiting]:
    """The marks of the run that is to be finished, by collection."""
    if not marks:
        raise Refused("no run waits to be finished on this server")
    run = named_by(ledger, marks, run) if run else latest_of(ledger, marks)
    chosen = {name: mark for name, mark in marks.items() if mark.run == run}
    if not chosen:
        raise Refused(f"RUN: run {run} does not wait to be finished; kai-migrate list shows which do")
    for name, mark in chosen.items():
        if isinstance(mark, Pair):
            continue
        if mark.phase == "filling":
            raise Refused(
                f"the field {mark.field!r} of {name!r} is not filled yet; run the migration again, which goes on"
            )
        if mark.phase == "withdrawing":
            raise Refused(mark.leaving)
    return chosen


def _work(
    server: Typesense,
    ledger: Ledger,
    schema: Schema,
    mark: NextField,
    described: EmbeddedCollection | None,
    allow_partial: bool,
) -> _Finishing:
    """How one collection is finished.

    Raises:
        Refused: a document would be left without a vector.
    """
    name = str(schema["name"])
    # What had no vector before has none to go back to, nor has what came since.
    allow_partial |= mark.kind == "rollback"
    if described is None:
        raise Refused(f"collection {name!r} is not described; give --collections-file")
    serves = replace(described, embedding_field=mark.field)
    without = ""
    count = served = server.count(name, serves.filter_by)
    if mark.phase != "contracting":
        lacks = lacking(server, ledger, serves, schema)
        if lacks.ids and not allow_partial:
            raise Refused(_lacks(name, mark, lacks))
        without = str(lacks) if lacks.ids else ""
        count, served = lacks.count, lacks.count - len(lacks.ids) - lacks.without_text
    going, staying = (embedding_field(schema, each) or {} for each in (mark.of, mark.field))
    plan = CollectionPlan(
        serves,
        name,
        schema,
        "into",
        going.get("num_dim"),
        int(staying.get("num_dim") or 0),
        int(schema["num_documents"]),
        count,
        beside=mark.of,
    )
    return _Finishing(plan, mark, allow_partial, served, without, time.monotonic())


def _lacks(name: str, mark: NextField, lacks: Lacking) -> str:
    return (
        f"{lacks} of {name!r} have no vector in {mark.field!r}, or that of an earlier text: either the application "
        f"still writes {mark.of!r} alone, or the last run is too long ago. Set the application to {mark.field!r}, run "
        "the migration again, then finish; --allow-partial leaves them without a vector"
    )


@dataclass(frozen=True, slots=True)
class _Finishing:
    """One collection whose old field goes.

    Attributes:
        plan: which field serves, and which one goes.
        mark: of the collection.
        allow_partial: whether documents may be left without a vector.
        served: documents that have theirs.
        without: which do not, in words; empty for none.
        begun: monotonic time at which the documents were looked through.
        stopped: how the line begins that says that it was stopped.
    """

    plan: CollectionPlan
    mark: NextField
    allow_partial: bool
    served: int
    without: str
    begun: float
    stopped: str = "Stopped"

    @property
    def what_goes(self) -> str:
        """In a line, before anything is changed."""
        return f"{self.mark.of!r} is taken out, {self.mark.field!r} serves"

    def announce(self, console: Console) -> None:
        console.line(f"Finishing '{self.plan.name}': {self.mark.of!r} is taken out, {self.mark.field!r} serves...")

    def tell_completed(self, console: Console, outcome: Outcome) -> None:
        console.line(f"  Complete: {self.mark.of!r} is gone, {outcome.success} documents have {self.mark.field!r}")

    def source(self, context: RunContext, stack: ExitStack) -> AsItStands:
        return AsItStands(self.plan.collection)

    def carry_out(self, task: Task) -> CollectionPlan:
        task.outcome.success = self.served
        Contract(task, self.mark.of, backs_up=True, is_served=lambda: self._still_lacks(task)).run()
        return self.plan

    def _still_lacks(self, task: Task) -> str:
        """Why it must not go on: documents that came meanwhile have the old field alone. Empty if none do."""
        if self.allow_partial:
            return ""
        if task.server.writes_a_second() > 0:
            time.sleep(max(0.0, _WATCHED - (time.monotonic() - self.begun)))
        serves = self.plan.collection
        selection = Selection(serves.embedding_field, serves.filter_by, serves.text_fields)
        newest = fetch_newest(task.server, task.name, selection, _NEWEST)[1]
        lacks = lacking(task.server, task.context.ledger, serves, task.schema(), [newest])
        return f"{_lacks(task.name, self.mark, lacks)}. Nothing was taken out" if lacks.ids else ""

    def conclude(self, context: RunContext, plan: CollectionPlan, outcome: Outcome) -> None:
        """The configuration is to name the field from now on."""
        outcome.notes.append(
            f'name the field in the configuration from now on: embedding_field = "{self.mark.field}" for '
            f"'{plan.name}'; kai-migrate rollback {context.run.name} brings {self.mark.of!r} back"
        )


def _dropping(server: Typesense, pair: Pair, described: EmbeddedCollection | None) -> _Dropping:
    """How a collection whose place was taken goes.

    Raises:
        Refused: it is used.
    """
    mark = pair.mark
    assert mark is not None  # noqa: S101 - a pair that was swapped
    collection = described or EmbeddedCollection(pair.new, mark.embedding_field, UNDESCRIBED)
    refuse_unfinishable(server, pair, mark.embedding_field)
    schema = pair.old_schema or pair.new_schema
    count = server.count(pair.new, collection.filter_by)
    return _Dropping(
        CollectionPlan(
            replace(collection, embedding_field=mark.embedding_field),
            pair.old,
            schema,
            "alias",
            (embedding_field(schema, mark.embedding_field) or {}).get("num_dim"),
            mark.dimensions,
            int(schema["num_documents"]),
            count,
            successor=pair.new,
        )
    )


@dataclass(frozen=True, slots=True)
class _Dropping:
    """One collection whose place was taken, and which goes."""

    plan: CollectionPlan
    stopped: str = "Stopped"

    @property
    def what_goes(self) -> str:
        """In a line, before anything is changed."""
        return f"the collection is dropped, {self.plan.successor!r} serves"

    def announce(self, console: Console) -> None:
        console.line(f"Finishing '{self.plan.name}': it is dropped, '{self.plan.successor}' serves...")

    def tell_completed(self, console: Console, outcome: Outcome) -> None:
        console.line(f"  Complete: '{self.plan.name}' is gone, {outcome.success} documents are in its successor")

    def source(self, context: RunContext, stack: ExitStack) -> AsItStands:
        return AsItStands(self.plan.collection)

    def carry_out(self, task: Task) -> CollectionPlan:
        task.outcome.success = self.plan.eligible
        return DropOld(task).run()

    def conclude(self, context: RunContext, plan: CollectionPlan, outcome: Outcome) -> None:
        """Nothing is left to be said: the marks went with the collection."""
