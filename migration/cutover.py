"""From the checked shadow to the collection under its own name; every step safe to repeat after a crash.

    mark the original -> last catch-up -> drop -> clone the shadow under the old name -> copy -> renew
    references -> passes in place -> check -> take the marks away -> remove the shadow

Between the drop and the end of the copy the full collection is away; that time is measured and kept. An
application that creates the missing collection meanwhile, as KAI does, is met half-way: if its schema is the
wanted one it is used, else what the application wrote goes into the shadow and the collection is replaced.
What the application writes while the copy is made stays: the copy creates documents, it never overwrites.

What cannot be seen are writes that the server takes between the last catch-up's snapshot and the drop.
Typesense has no lock for writers; the time is kept as short as it can be, measured, and told.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Final

import orjson

from kai.models import fingerprint
from kai.typesense import Schema, TypesenseError
from migration.context import Context, Failure, Outcome
from migration.fetch import PAGE_SIZE, Selection, export_pages
from migration.hazards import referring_fields
from migration.passes import InPlace
from migration.pipeline import run_pages
from migration.references import renew_references, wrong_joins
from migration.shadow import Mark, drop, own_metadata, role_of, schema_differences, set_role, write_mark
from migration.update import Written, import_documents

if TYPE_CHECKING:
    from migration.plan import CollectionPlan
    from migration.recreate import ShadowBuilder

_LAST_CATCH_UPS: Final = 5
_CREATIONS: Final = 50
"""How often the application may put another collection in the way before the cut-over is left for later."""


class CutOverStopped(Exception):  # noqa: N818
    """The cut-over could not be finished; the shadow holds everything, and the next start goes on."""


class CutOver:
    """One collection's cut-over.

    Args:
        context: the tools of the run.
        plan: what to do.
        builder: the shadow, complete and checked.
        outcome: where the run's facts go.
    """

    def __init__(self, context: Context, plan: CollectionPlan, builder: ShadowBuilder, outcome: Outcome) -> None:
        self._context = context
        self._server = context.server
        self._plan = plan
        self._builder = builder
        self._outcome = outcome
        self._name, self._shadow = plan.name, builder.shadow
        self._uncopied: dict[str, str] = {}

    @property
    def _mark(self) -> Mark:
        mark = self._builder.mark
        if mark is None:
            raise CutOverStopped(f"the shadow {self._shadow!r} carries no mark")
        return mark

    # -- up to the drop --------------------------------------------------------------------------------

    def drop(self, live: Schema) -> None:
        """Mark the original, catch up for the last time, and drop it."""
        context, server = self._context, self._server
        context.status.phase("cut-over", collection=self._name)
        if context.keep_old:
            self._keep_old()
        if self._builder.refused:
            self._write_refused()
        set_role(server, self._name, own_metadata(live), "original", context.run.name)
        self._builder.mark = write_mark(server, replace(self._mark, phase="cutting over", copied=0))
        for _ in range(_LAST_CATCH_UPS):
            snapshot = time.monotonic()
            if not self._builder.catch_up():
                break
        if context.control.stopped.is_set():
            self._builder.mark = write_mark(server, replace(self._mark, phase="building"))
            set_role(server, self._name, own_metadata(live), None, context.run.name)
            raise CutOverStopped("stopped before the drop; the live collection is untouched")
        dropped_at = time.time()
        drop(server, self._name, "original")
        blind = time.monotonic() - snapshot
        self._builder.mark = write_mark(server, replace(self._mark, dropped_at=dropped_at))
        self._outcome.notes.append(
            f"writes that the server took in the {blind * 1000:.0f} ms before the drop could not be seen"
        )

    def _write_refused(self) -> None:
        """The documents that are left out, with the server's words, in a file of the run's folder."""
        file = self._context.home / "runs" / self._context.run.name / f"refused-{self._name}.jsonl"
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            for document_id, line in self._builder.refused_documents.items():
                entry = {"reason": self._builder.refused[document_id], "document": orjson.loads(line)}
                stream.write(orjson.dumps(entry) + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        self._outcome.notes.append(f"{len(self._builder.refused)} documents that cannot be copied are in {file}")

    def _keep_old(self) -> None:
        """Copy the collection as it is to `<name>__before_<run>`."""
        kept = f"{self._name}__before_{self._context.run.name}"
        if self._server.collection(kept) is None:
            self._server.clone_collection(self._name, kept)
        for page in _line_pages(self._server.export_lines(self._name)):
            written = import_documents(self._server, kept, page, "upsert")
            if written.failed:
                raise CutOverStopped(f"{len(written.failed)} documents could not be kept in {kept!r}")
        self._outcome.notes.append(
            f"the previous collection is kept as {kept!r}; remove it with "
            f'`curl -X DELETE -H "X-TYPESENSE-API-KEY: $TYPESENSE_API_KEY" {self._server.url}/collections/{kept}`'
        )

    # -- after the drop --------------------------------------------------------------------------------

    def finish(self) -> None:
        """Everything after the drop. Nothing here is given up half-way for a Ctrl-C: the collection is away.

        Raises:
            CutOverStopped: documents cannot be copied back, or the application keeps getting in the way.
        """
        if self._mark.phase == "cutting over":
            if not self._mark.dropped_at:
                self._builder.mark = replace(self._mark, dropped_at=time.time())
            self._stand_up()
            self._copy()
            self._outcome.downtime_seconds = time.time() - self._mark.dropped_at
            self._renew_references()
            self._bring_up_to_date()
            self._check()
            self._builder.mark = write_mark(self._server, replace(self._mark, phase="done"))
        else:
            self._outcome.complete = True
        self._clean_up()

    def _stand_up(self) -> None:
        """The collection stands under its old name with the shadow's schema; created, or the application's."""
        for _ in range(_CREATIONS):
            standing = self._server.collection(self._name)
            if standing is None:
                try:
                    self._server.clone_collection(self._shadow, self._name)
                except TypesenseError as error:
                    if not error.transient and error.status not in (400, 409):
                        raise
                continue
            if role_of(standing) == "copy":
                return
            wanted = self._server.collection(self._shadow)
            if wanted is None:
                raise CutOverStopped(f"the shadow {self._shadow!r} is gone; restore {self._name!r} from the backup")
            if not schema_differences(wanted, standing):
                self._take_over(standing)
                return
            self._replace(standing)
        raise CutOverStopped(f"something else keeps creating {self._name!r} with another schema")

    def _take_over(self, standing: Schema) -> None:
        """Mark a collection of the wanted schema as the successor, with all that belongs to it."""
        for synonym in self._server.synonyms(self._shadow):
            self._server.put_synonym(self._name, synonym)
        for override in self._server.overrides(self._shadow):
            self._server.put_override(self._name, override)
        metadata = {**(self._mark.live_metadata or {}), **(own_metadata(standing) or {})}
        set_role(self._server, self._name, metadata, "copy", self._context.run.name)

    def _replace(self, standing: Schema) -> None:
        """What the application wrote into a collection of its own making goes into the shadow, then it goes."""
        set_role(self._server, self._name, own_metadata(standing), "intruder", self._context.run.name)
        whole = Selection(self._plan.collection.embedding_field)
        adopted = -1
        while adopted != (count := self._server.count(self._name)):
            for page in export_pages(self._server, self._name, whole):
                self._builder.adopt(page)
            adopted = count
        drop(self._server, self._name, "intruder")

    def _copy(self) -> None:
        """Copy the shadow's documents back, in their order; a document that is there already is the newer one."""
        context = self._context
        done = self._mark.copied
        context.status.phase("copying back", collection=self._name, total=self._server.count(self._shadow))
        pages = islice(_line_pages(self._server.export_lines(self._shadow)), done, None)

        def write(page: dict[str, bytes]) -> Written:
            return import_documents(self._server, self._name, page, "create")

        def record(written: Written) -> None:
            nonlocal done
            done += 1
            failed = {id_: why for id_, why in written.failed.items() if "already exists" not in why}
            self._uncopied.update(failed)
            if not self._uncopied:
                # Known to the server, so that no page is copied twice: a document that the application
                # deletes after its page was copied must not come back.
                self._builder.mark = write_mark(self._server, replace(self._mark, copied=done))
            context.status.add(len(written.written))

        run_pages(pages, lambda page: page, write, record, workers=1, stopped=lambda: False)
        if self._uncopied and not context.allow_partial:
            self._outcome.failures.update(self._left_out())
            document_id, why = next(iter(self._uncopied.items()))
            raise CutOverStopped(
                f"{len(self._uncopied)} documents cannot be copied back, {document_id!r} among them ({why}); "
                f"they are in {self._shadow!r} and in the backup; mend the cause and run again"
            )

    def _renew_references(self) -> None:
        """The joins of other collections lead to the right documents again."""
        everything = self._server.collections()
        for other, fields in referring_fields(everything, self._name).items():
            if other == self._shadow:
                continue
            renewed = renew_references(self._server, other, fields)
            self._outcome.notes.append(f"{renewed.renewed} references of '{other}' renewed")
            if renewed.orphans:
                document_id, why = next(iter(renewed.orphans.items()))
                self._outcome.notes.append(
                    f"{len(renewed.orphans)} documents of '{other}' refer to nothing, {document_id!r} among them: {why}"
                )
            schema = next(schema for schema in everything if schema["name"] == other)
            for name in fields:
                target = next(f["reference"] for f in schema["fields"] if f["name"] == name).split(".", 1)[1]
                wrong = set(wrong_joins(self._server, other, self._name, name, target)) - renewed.orphans.keys()
                if wrong:
                    raise CutOverStopped(
                        f"{len(wrong)} joins of '{other}' by '{name}' still lead to wrong documents, "
                        f"that of {min(wrong)!r} among them"
                    )

    def _bring_up_to_date(self) -> None:
        """Passes in place: proof that every eligible document has its vector, and vectors for what is new."""
        context, collection = self._context, self._plan.collection
        if self._mark.fingerprint != fingerprint(context.embedding, collection.template):
            # An earlier run's target: finished as it was begun; the run then migrates to its own.
            self._outcome.complete = True
            return
        source = self._server.address
        if context.ledger.count_documents(source, self._shadow):
            context.ledger.move_documents(source, self._shadow, self._name)
        schema = self._server.collection(self._name) or self._plan.schema
        steps = InPlace(context, collection, self._name, schema=schema)
        written = self._outcome.written
        try:
            steps.run(self._server.count(self._name, collection.filter_by))
        finally:
            self._outcome.success = steps.outcome.success
            self._outcome.failures = {**steps.outcome.failures, **self._left_out()}
            self._outcome.passes = steps.outcome.passes
            self._outcome.changing = steps.outcome.changing
            self._outcome.written = written + steps.outcome.written
            self._outcome.notes += steps.outcome.notes
            self._outcome.complete = steps.outcome.complete

    def _check(self) -> None:
        """Nothing of the shadow's is missing but what the application deleted since; the schema is the wanted one."""
        standing, wanted = self._server.collection(self._name), self._server.collection(self._shadow)
        if standing is None or wanted is None:
            raise CutOverStopped(f"collection {self._name!r} or its shadow went away during the cut-over")
        if differences := schema_differences(wanted, standing):
            raise CutOverStopped(f"the schema of {self._name!r} is not as it was: {'; '.join(differences)}")

    def _clean_up(self) -> None:
        """No mark on the collection, no shadow: the last steps, in this order."""
        standing = self._server.collection(self._name)
        if standing is not None and role_of(standing) is not None:
            set_role(self._server, self._name, own_metadata(standing), None, "")
        self._server.delete_collection(self._shadow)

    def _left_out(self) -> dict[str, Failure]:
        """The documents that neither the shadow nor the new collection took."""
        return {id_: Failure("copy", why) for id_, why in {**self._builder.refused, **self._uncopied}.items()}


def _line_pages(lines: Iterator[bytes]) -> Iterator[dict[str, bytes]]:
    """Pages of up to 250 lines as they are, by document id."""
    while page := list(islice(lines, PAGE_SIZE)):
        yield {str(orjson.loads(line)["id"]): line for line in page}
