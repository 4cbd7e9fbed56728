"""The collection that stands under the old name after the drop: made, or the application's own where it will do.

An application that finds its collection missing creates it, as KAI does. One of the wanted schema is used; one
whose vectors have another length is given the new one; what it wrote into any other goes into the shadow, and the
collection is replaced.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from kai.typesense import Schema, TypesenseError
from kai.typesense_schemas import schema_differences, set_dimensions
from migration.documents.fetch import Selection, export_pages
from migration.strategies.context import Rejected, StrategyStopped
from migration.strategies.shadow.builder import ShadowBuilder
from migration.strategies.shadow.copying import Adoption, remove_vectors
from migration.strategies.shadow.references import counts_refused, forget_old_numbers
from migration.strategies.shadow.watching import Watch, clock
from migration.strategies.shadow_state import clone, drop, get_exact, own_metadata, role_of, set_role
from migration.strategies.task import Task

_CATCH_UPS: Final = 8
_CONVERSIONS: Final = 10
_CREATIONS: Final = 50
"""How often the application may put another collection in the way before the cut-over is left for later."""


class CutOverStopped(StrategyStopped):
    """The cut-over could not be finished; the shadow holds everything, and the next start goes on."""


class Successor:
    """The collection under the old name.

    Args:
        task: whose collection it is.
        builder: the shadow, complete and checked.
        watch: on the collection of that name.
        put_aside: told what of the application's the shadow does not take.
    """

    def __init__(
        self,
        task: Task,
        builder: ShadowBuilder,
        watch: Watch,
        put_aside: Callable[[Mapping[str, Rejected]], object],
    ) -> None:
        self._task = task
        self._context, self._server, self._outcome = task.context, task.server, task.outcome
        self._builder = builder
        self._name, self._shadow = task.name, builder.shadow
        self._watch = watch
        self._put_aside = put_aside

    def stand_up(self) -> None:
        """It stands there with the shadow's schema.

        Asynchronous references forget their old numbers first: the server counts for good what it refuses for one.
        Where it has refused documents already, the collection is made anew.

        Raises:
            CutOverStopped: the application keeps getting in the way, or wrote what the wanted schema does not take.
        """
        is_welcome = is_late = False
        for _ in range(_CREATIONS):
            if not is_welcome:
                is_late = forget_old_numbers(self._server, self._name)
                is_welcome = True
            found = get_exact(self._server, self._name)
            if found is None:
                self._watch.forget()
                clone(self._server, self._shadow, self._name)
                continue
            self._watch.look()
            # Once part of it is known to be copied, what is missing there may have been deleted by the application.
            if is_late and not self._builder.mark.copied_to and counts_refused(self._server, found):
                self._replace(found, self._contents_of_the_shadow())
                is_welcome = False
                continue
            if role_of(found) == "copy":
                return
            wanted = self._server.collection(self._shadow)
            if wanted is None:
                raise CutOverStopped(f"the shadow {self._shadow!r} is gone; restore {self._name!r} from the backup")
            if not schema_differences(wanted, found):
                self._take_over(found)
                return
            if not self._convert(wanted, found):
                self._replace(found)
                is_welcome = False
        raise CutOverStopped(f"something else keeps creating {self._name!r} with another schema")

    def _take_over(self, found: Schema) -> None:
        """Mark a collection of the wanted schema as the successor, with the metadata that belongs to it."""
        server, keeper = self._server, self._builder.keeper
        if keeper.mark.copied_to:
            keeper.write(copied_to="")  # Copied to a collection that is gone.
        metadata = {**(self._builder.mark.live_metadata or {}), **(own_metadata(found) or {})}
        set_role(server, self._name, metadata, "copy", self._context.run.name)

    def _convert(self, wanted: Schema, found: Schema) -> bool:
        """Give the application's collection the wanted length, where that is all that differs; whether it was done.

        Nothing that the application writes meanwhile is lost by that: the server itself lets its writes wait.
        """
        name = self._task.field
        if not self._builder.vector_is_optional or schema_differences(wanted, found, but=name):
            return False
        for _ in range(_CONVERSIONS):
            remove_vectors(self._server, self._name, name, self._watch)
            try:
                set_dimensions(self._server, self._name, name, self._builder.mark.dimensions)
            except TypesenseError as error:
                if error.missing:
                    return True  # The application has removed it again.
                if error.transient or error.status != 400:
                    raise
                continue  # A document with a vector of the old length came in between.
            self._outcome.notes.append(
                f"the application had created {self._name!r} with another length of vectors; it was given the new one"
            )
            return True
        return False

    def _contents_of_the_shadow(self) -> dict[str, bytes]:
        selection = Selection(self._task.field, with_vector=False)
        pages = export_pages(self._server, self._shadow, selection)
        return {document.id: document.content_hash() for page in pages for document in page}

    def _replace(self, found: Schema, copied: dict[str, bytes] | None = None) -> None:
        """What the application wrote into a collection of its own making goes into the shadow, then it goes.

        With `copied` it may be a copy of the shadow as well, of which the server refused documents.
        """
        context = self._context
        set_role(self._server, self._name, own_metadata(found), "intruder", context.run.name)
        is_optional = self._builder.vector_is_optional
        adoption = Adoption(self._task, self._builder.mark, self._watch, vector_is_optional=is_optional, copied=copied)
        read = time.time()
        for _ in range(_CATCH_UPS):
            read = time.time()
            if not adoption.catch_up():
                break
        if adoption.refused and not context.options.allow_partial:
            document_id, rejected = next(iter(adoption.refused.items()))
            raise CutOverStopped(
                f"the application wrote {len(adoption.refused)} documents into its own {self._name!r} that the wanted "
                f"schema does not take, {document_id!r} among them ({rejected.reason}); mend them there and run again"
            )
        if adoption.refused:
            self._put_aside(adoption.refused)
        _, gone = drop(self._server, self._name, "intruder")
        self._watch.forget()
        why = "the application had created {!r} with another schema" if copied is None else "{!r} had to be made anew"
        self._outcome.notes.append(
            f"{why.format(self._name)}; {adoption.count} documents of it were "
            f"taken over; what it wrote in the {(gone - read) * 1000:.0f} ms before its removal could not be seen "
            f"(since {clock(read)}; dropped by {clock(gone)})"
        )
