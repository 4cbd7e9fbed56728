"""The mark of a second vector field: which field of a collection is filled beside which, by which run, how far.

It stands in the collection's `metadata` on the server, so that any machine sees what is there and can go on, finish or
take it back. Phases, in their order:

- `filling`: the new field is added, or will be, and is being filled; the old one serves.
- `waiting`: every document has its new vector; the application is to switch.
- `finishing`: somebody finishes it, or takes it back: a run that follows lets go.
- `contracting`: the application has switched, and the old field is being taken out.
- `withdrawing`: the run is taken back, and the new field is being taken out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal

from kai.typesense import Schema, Typesense, TypesenseError
from migration.ledger.records import RunKind

NEXT: Final = "kai_migration_next"

Phase = Literal["filling", "waiting", "finishing", "contracting", "withdrawing"]


@dataclass(frozen=True, slots=True)
class NextField:
    """What the collection says about its second vector field.

    Attributes:
        field: the new one.
        of: the one that served when it was begun.
        run: that fills it.
        phase: see above.
        fingerprint: of the target, template included.
        kind: of the run.
    """

    field: str
    of: str
    run: str
    phase: Phase
    fingerprint: str
    kind: RunKind = "migrate"

    @property
    def ways_out(self) -> str:
        """What ends it, for a refusal."""
        return (
            f"run {self.run} fills the field {self.field!r} beside {self.of!r}; once the application uses it, give "
            f"`kai-migrate finish {self.run}`, or take it back with `kai-migrate rollback {self.run}`"
        )

    @property
    def leaving(self) -> str:
        """What goes on with the field that is being taken out, for a refusal."""
        goes, way = (self.of, "finish") if self.phase == "contracting" else (self.field, "rollback")
        return f"the field {goes!r} is being taken out; give `kai-migrate {way} {self.run}`, which goes on with that"


def next_of(schema: Schema) -> NextField | None:
    """The mark of a collection; None if it has none."""
    values = (schema.get("metadata") or {}).get(NEXT)
    known = {known.name for known in fields(NextField)}
    try:
        return NextField(**{key: value for key, value in values.items() if key in known}) if values else None
    except (TypeError, AttributeError):
        return None


def set_next(
    server: Typesense,
    name: str,
    next_: NextField | None,
    said: Callable[[Schema], Mapping[str, Any] | None] = lambda _: None,
) -> None:
    """Mark a collection beside its own metadata, as every node shows that by now.

    Args:
        server: where it is.
        name: of the collection.
        next_: the mark; None takes it away.
        said: what its `embedding` is to say from now on, by the schema as it stands; empty for nothing, None to leave
            it as it is. One of others' making is left in any case.

    Raises:
        TypesenseError: `missing` if the collection is gone.
    """
    server.settle()
    schema = server.collection(name)
    if schema is None:
        raise TypesenseError(f"collection {name!r} is gone", status=404)
    metadata = {key: value for key, value in (schema.get("metadata") or {}).items() if key != NEXT}
    says = said(schema)
    if says is not None and isinstance(metadata.get("embedding", {}), dict):
        metadata |= {"embedding": says}
    kept = {key: value for key, value in metadata.items() if key != "embedding" or value}
    server.set_metadata(name, kept | ({NEXT: asdict(next_)} if next_ else {}))
