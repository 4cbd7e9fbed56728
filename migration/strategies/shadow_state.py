"""The shadow: the new collection that a recreate builds beside the live one, and the mark that it carries.

The mark stands in the shadow's `metadata` on the server, so that any machine can see what the shadow is for
and how far the cut-over got; a start from another machine, with nothing of the first one left, finishes from
that alone. The live collection and its successor carry a small mark too, for the length of the cut-over:
it tells the original from one that the application created when it found the name missing.

Phases of a shadow, in their order:

- `building`: the live collection is whole and serves; the shadow may be thrown away.
- `cutting over`: the original is being dropped, or is gone. The shadow is the full copy: it is never deleted.
- `done`: the collection stands under its name again, whole and checked; the shadow may be thrown away.

A collection that takes another's place behind an alias (`migration.strategies.alias`) carries the same mark, from
`building` on in phases of its own:

- `swapping`: the aliases are being moved to it. From here on it is never thrown away without its documents.
- `swapped`: it serves; what the one before it took last is being carried over.
- `waiting`: done; the one before it stands until somebody finishes the run, or rolls it back.
- `reverting`: the aliases go back, and what was written since is being carried back.
- `reverted`: the one before it serves again, with all that was written; this one may be thrown away.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from types import TracebackType
from typing import Any, Final, Literal, Self, get_args

from kai.typesense import Schema, Typesense, TypesenseError
from kai.typesense_changes import send_until_it_shows
from kai.typesense_schemas import schema_differences
from migration.runtime.status import is_running

SUFFIX: Final = "__shadow"
MARK: Final = "kai_migration"
REFILLING: Final = "rebuilding"
"""Role of a collection whose vector field is being emptied and filled again (`migration.strategies.refill`)."""
BEAT_EVERY: Final = 15.0
"""Seconds between two signs of life in the mark of a shadow."""
DEAD_AFTER: Final = 60.0
"""Seconds without a sign of life after which a run counts as dead."""

Phase = Literal["building", "cutting over", "done", "swapping", "swapped", "waiting", "reverting", "reverted"]
Role = Literal["original", "copy", "intruder", "kept", "restored", "replaced", "base"]


@dataclass(frozen=True, slots=True)
class Mark:
    """What the shadow says about itself.

    Attributes:
        of: the live collection's name.
        run: the run that builds it.
        phase: see above.
        fingerprint: of the target, template included.
        dimensions: of the target.
        embedding_field: the field that holds the vectors.
        live_metadata: the live collection's own metadata, to be given to its successor.
        dropped_at: Unix time of the drop; before it is known exactly, of the beginning of the cut-over.
        unseen: documents by which the server's count at the drop differed from what had been seen.
        copied_to: id of the last document, in the shadow's order, that was copied back under the old name.
        whole_at: Unix time at which all of it was copied back, 0 before.
        aliases: those that lead, or are to lead, to the collection that carries the mark.
        host: machine of the run; empty when the run has let go.
        pid: process of the run.
        beat: Unix time of its last sign of life.
    """

    of: str
    run: str
    phase: Phase
    fingerprint: str
    dimensions: int
    embedding_field: str
    live_metadata: dict[str, Any] | None
    dropped_at: float = 0.0
    unseen: int = 0
    copied_to: str = ""
    whole_at: float = 0.0
    aliases: Sequence[str] = ()
    host: str = ""
    pid: int = 0
    beat: float = 0.0

    @property
    def held_elsewhere(self) -> bool:
        """Whether another run, here or on another machine, gave a sign of life just now."""
        if not self.host or time.time() - self.beat >= DEAD_AFTER:
            return False
        if self.host != socket.gethostname():
            return True
        return self.pid != os.getpid() and is_running(self.pid)

    @property
    def holder(self) -> str:
        """Who holds it, and what to do, for a refusal."""
        return (
            f"collection {self.of!r} is held by run {self.run} (process {self.pid} on {self.host}); "
            "wait until it has ended, or a minute if that machine is gone"
        )


class MarkKeeper:
    """The mark of one shadow, kept by this run: written at each step, and every 15 seconds as a sign of life.

    A context manager: the signs of life come while it is open.

    Args:
        server: where it is.
        mark: to begin with.
        name: of the collection that carries it; None for the shadow's.

    Attributes:
        mark: as it was last written.
    """

    def __init__(self, server: Typesense, mark: Mark, name: str | None = None) -> None:
        self._server = server
        self._name = name or shadow_name(mark.of)
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self.mark = mark

    def __enter__(self) -> Self:
        threading.Thread(target=self._beat, name="beat", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()

    def write(self, *, beside: Mapping[str, Any] | None = None, **changes: Any) -> Mark:
        """Change the mark, on the server too; it is signed by this process at this time.

        Args:
            beside: the collection's own metadata from now on; None leaves what it has.
            changes: of the mark.
        """
        with self._lock:
            wanted = replace(self.mark, **changes)
            self.mark = replace(wanted, host=socket.gethostname(), pid=os.getpid(), beat=time.time())
            self._put(self.mark, beside)
            return self.mark

    def let_go(self) -> None:
        """Tell other machines that nobody is at it any more. Not worth waiting for."""
        self._closed.set()
        with self._lock:
            self.mark = replace(self.mark, host="", pid=0)
            self._put(self.mark)

    def is_ours(self) -> bool:
        """Whether the mark on the server is still the one that this process wrote."""
        shadow = self._server.collection(self._name)
        found = read_mark(shadow) if shadow else None
        return found is not None and (found.host, found.pid) == (self.mark.host, self.mark.pid)

    def _put(self, mark: Mark, beside: Mapping[str, Any] | None = None) -> None:
        if beside is None:
            beside = own_metadata(self._server.collection(self._name) or {}) or {}
        self._server.set_metadata(self._name, {**beside, MARK: asdict(mark)})

    def _beat(self) -> None:
        while not self._closed.wait(BEAT_EVERY):
            try:
                with self._lock:
                    if self._closed.is_set():
                        return
                    self.mark = replace(self.mark, beat=time.time())
                    self._put(self.mark)
            except TypesenseError:
                continue  # The server is away, or the shadow has done its service.


def shadow_name(name: str) -> str:
    """The name of a collection's shadow: always the same, so that any start finds what a dead run left."""
    return name + SUFFIX


def find_shadow(everything: Sequence[Schema], name: str) -> Schema | None:
    """The schema of the collection's shadow, if there is one."""
    return find(everything, shadow_name(name))


def find(everything: Sequence[Schema], name: str) -> Schema | None:
    """The schema of a collection, if there is one."""
    return next((dict(schema) for schema in everything if schema["name"] == name), None)


def read_mark(shadow: Schema) -> Mark | None:
    """The mark of a shadow; None if it has none (a run died right after creating it) or a strange one."""
    values = (shadow.get("metadata") or {}).get(MARK)
    known = {known.name for known in fields(Mark)}
    try:
        return Mark(**{key: value for key, value in values.items() if key in known}) if values else None
    except (TypeError, AttributeError):
        return None


def is_foreign(shadow: Schema, live: Schema | None) -> bool:
    """Whether a collection that has the shadow's name was not made by this tool: it must not be touched.

    One without a mark is ours only if it is what a run leaves that dies right after creating it: an empty
    clone of the live collection.
    """
    if read_mark(shadow) is not None:
        return False
    return bool(live is None or shadow["num_documents"] or shadow.get("metadata") or schema_differences(live, shadow))


def past_the_drop(mark: Mark | None, live: Schema | None) -> bool:
    """Whether the shadow is, or was, the only full copy: what stands under the name is not the original."""
    return mark is not None and mark.phase != "building" and not (live and role_of(live) == "original")


def unfinished(everything: Sequence[Schema], name: str) -> str:
    """What a dead run has left undone, where the collection lacks documents or its index for it; else nothing."""
    live = find(everything, name)
    shadow = find_shadow(everything, name)
    if shadow is not None and past_the_drop(read_mark(shadow), live):
        return f"a cut-over of {name!r} is not finished, and its documents are in {shadow['name']!r}"
    if live is not None and (mark := unfinished_refill(live)) is not None:
        lacks = (
            "its vectors are not all there" if mark["phase"] == "filling" else "its vector field is out of the schema"
        )
        return f"a rebuild of {name!r} is not finished, and {lacks}"
    return ""


def own_metadata(schema: Schema) -> dict[str, Any] | None:
    """The collection's metadata without our mark; None if nothing else is there."""
    metadata = {key: value for key, value in (schema.get("metadata") or {}).items() if key != MARK}
    return metadata or None


def role_of(schema: Schema) -> Role | None:
    """What a collection is marked as: original, successor, one to make way, one to be kept, one being restored."""
    mark = (schema.get("metadata") or {}).get(MARK)
    role = mark.get("role") if isinstance(mark, dict) else None
    return role if role in get_args(Role) else None


def set_role(server: Typesense, name: str, metadata: dict[str, Any] | None, role: Role | None, run: str = "") -> None:
    """Mark the collection beside its own metadata; None takes the mark away."""
    mark = {MARK: {"role": role, "run": run}} if role else {}
    server.set_metadata(name, {**(metadata or {}), **mark})


def unfinished_refill(schema: Schema) -> dict[str, Any] | None:
    """What a dead run wrote down before it took the vector field out: phase, field, time; None if nothing."""
    mark = (schema.get("metadata") or {}).get(MARK)
    if isinstance(mark, dict) and mark.get("role") == REFILLING and isinstance(mark.get("field"), dict):
        return mark
    return None


def get_exact(server: Typesense, name: str) -> Schema | None:
    """The collection of this very name; an alias of the name is none."""
    found = server.collection(name)
    return found if found is not None and found["name"] == name else None


def clone(server: Typesense, source: str, name: str) -> Schema:
    """A clone of a collection's schema under another name; one that is there already is returned as it is.

    Raises:
        TypesenseError: the server does not do it within its patience, or there is no such source.
    """
    return send_until_it_shows(
        server,
        lambda: server.clone_collection(source, name),
        lambda: get_exact(server, name),
        claim=f"that it cloned {source!r} as {name!r}",
    )


def drop(
    server: Typesense, name: str, role: Role, *, before_again: Callable[[], object] = lambda: None
) -> tuple[int | None, float]:
    """Drop the collection that carries this role, and no other that may have taken its name meanwhile.

    Args:
        server: where it is.
        name: of the collection.
        role: that it carries.
        before_again: called before a request that did not drop it is sent again; what it raises ends this.

    Returns:
        How many documents the server counted when it dropped it, None where the answer was lost; and the Unix time
        by which it was gone.

    Raises:
        TypesenseError: the server does not do it within its patience.
    """
    counted: int | None = None
    gone_at = 0.0
    is_again = False

    def send() -> None:
        nonlocal counted, gone_at, is_again
        if gone_at:
            return  # The next one of that name is the application's.
        if is_again:
            before_again()
        is_again = True
        try:
            counted = server.drop_collection_once(name)
        except TypesenseError as error:
            if not error.missing:
                raise
        gone_at = time.time()

    def look() -> bool | None:
        found = get_exact(server, name)
        return True if found is None or role_of(found) != role else None

    send_until_it_shows(
        server,
        send,
        look,
        claim=f"that it dropped {name!r}",
        # It may still be at it.
        before_looking=lambda: time.sleep(0.5),
    )
    return counted, gone_at or time.time()
