"""The shadow: the new collection that a recreate builds beside the live one, and the mark that it carries.

The mark stands in the shadow's `metadata` on the server, so that any machine can see what the shadow is for
and how far the cut-over got; a start from another machine, with nothing of the first one left, finishes from
that alone. The live collection and its successor carry a small mark too, for the length of the cut-over:
it tells the original from one that the application created when it found the name missing.

Phases of a shadow, in their order:

- `building`: the live collection is whole and serves; the shadow may be thrown away.
- `cutting over`: the original is being dropped, or is gone. The shadow is the full copy: it is never deleted.
- `done`: the collection stands under its name again, whole and checked; the shadow may be thrown away.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

from kai.typesense import Schema, Typesense, TypesenseError

SUFFIX: Final = "__shadow"
MARK: Final = "kai_migration"
BEAT_EVERY: Final = 15.0
"""Seconds between two signs of life in the mark of a shadow that is being built."""
DEAD_AFTER: Final = 60.0
"""Seconds without a sign of life after which the run of another machine counts as dead."""

Phase = Literal["building", "cutting over", "done"]
Role = Literal["original", "copy", "intruder"]


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
        dropped_at: Unix time of the drop, 0 before it.
        copied: pages that were copied back under the old name.
        host: machine of the run.
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
    copied: int = 0
    host: str = ""
    pid: int = 0
    beat: float = 0.0

    @property
    def held_elsewhere(self) -> bool:
        """Whether a run on another machine gave a sign of life just now."""
        return self.host not in ("", socket.gethostname()) and time.time() - self.beat < DEAD_AFTER


def shadow_name(name: str) -> str:
    """The name of a collection's shadow: always the same, so that any start finds what a dead run left."""
    return name + SUFFIX


def find_shadow(everything: Sequence[Schema], name: str) -> Schema | None:
    """The schema of the collection's shadow, if there is one."""
    return next((dict(schema) for schema in everything if schema["name"] == shadow_name(name)), None)


def read_mark(shadow: Schema) -> Mark | None:
    """The mark of a shadow; None if it has none (a run died right after creating it) or a strange one."""
    values = (shadow.get("metadata") or {}).get(MARK)
    try:
        return Mark(**values) if values else None
    except TypeError:
        return None


def write_mark(server: Typesense, mark: Mark) -> Mark:
    """Put the mark on the shadow, signed by this process at this time."""
    signed = replace(mark, host=socket.gethostname(), pid=os.getpid(), beat=time.time())
    server.set_metadata(shadow_name(mark.of), {MARK: asdict(signed)})
    return signed


def own_metadata(schema: Schema) -> dict[str, Any] | None:
    """The collection's metadata without our mark; None if nothing else is there."""
    metadata = {key: value for key, value in (schema.get("metadata") or {}).items() if key != MARK}
    return metadata or None


def role_of(schema: Schema) -> Role | None:
    """Whether a collection is marked as the original, as its successor, or as one that is to make way."""
    mark = (schema.get("metadata") or {}).get(MARK)
    role = mark.get("role") if isinstance(mark, dict) else None
    return role if role in ("original", "copy", "intruder") else None


def set_role(server: Typesense, name: str, metadata: dict[str, Any] | None, role: Role | None, run: str) -> None:
    """Mark the collection beside its own metadata; None takes the mark away."""
    mark = {MARK: {"role": role, "run": run}} if role else {}
    server.set_metadata(name, {**(metadata or {}), **mark})


def drop(server: Typesense, name: str, role: Role) -> None:
    """Drop the collection that carries this role, and no other that may have taken its name meanwhile.

    Raises:
        TypesenseError: the server does not do it within its patience.
    """
    begun = time.monotonic()
    while True:
        try:
            server.drop_collection_once(name)
        except TypesenseError as error:
            if error.missing:
                return
            if not error.transient or time.monotonic() - begun > server.patience:
                raise
            # The answer was lost or refused: only what stands there says whether it was done.
            standing = server.collection(name)
            if standing is None or role_of(standing) != role:
                return
            time.sleep(0.2)
        else:
            return


def schema_differences(wanted: Schema, found: Schema, *, but: str = "") -> list[str]:
    """How a collection's schema differs from the wanted one, the order of fields and `num_dim` of `but` aside."""
    attributes = ("default_sorting_field", "enable_nested_fields", "token_separators", "symbols_to_index")
    wanted_fields = {field["name"]: _comparable(field, but) for field in wanted["fields"]}
    found_fields = {field["name"]: _comparable(field, but) for field in found["fields"]}
    return [
        *(
            f"{attribute} is {found.get(attribute)!r}, not {wanted.get(attribute)!r}"
            for attribute in attributes
            if (wanted.get(attribute) or None) != (found.get(attribute) or None)
        ),
        *(
            f"field {name!r} is {found_fields.get(name)}, not {wanted_fields.get(name)}"
            for name in sorted(wanted_fields.keys() | found_fields.keys())
            if wanted_fields.get(name) != found_fields.get(name)
        ),
    ]


def _comparable(field: dict[str, Any], but: str) -> dict[str, Any]:
    return {key: value for key, value in field.items() if not (key == "num_dim" and field["name"] == but)}
