"""The part of the ledger about runs and what each did to its collections."""

import os
import socket
from collections.abc import Collection
from dataclasses import asdict
from typing import Any, Final, Unpack

from sqlalchemy import Connection, Select, Text, cast, func, insert, or_, select, update

from migration.ledger.errors import LedgerError
from migration.ledger.records import (
    Call,
    CollectionChanges,
    CollectionRunRecord,
    Json,
    Labels,
    RunKind,
    RunRecord,
    RunState,
    StartRecord,
    Strategy,
)
from migration.ledger.schema import collection_runs, run_starts, runs
from migration.ledger.store import (
    Store,
    alone,
    new_id,
    next_number,
    now,
    plain_text,
    record_of,
    records_by_run,
    without_secrets,
)

LATEST: Final = "latest"


class Runs(Store):
    """Runs, by id, name, alias, or the beginning of a name."""

    def start_run(
        self,
        name: str,
        kind: RunKind,
        *,
        model_id: str | None = None,
        alias: str | None = None,
        description: str | None = None,
        parameters: Json | None = None,
        source: Json | None = None,
        reverts: str | None = None,
        provider_server: str | None = None,
        model_digest: str | None = None,
        call: Call | None = None,
    ) -> RunRecord:
        """Begin a run. `reverts` is the id of the run that it undoes, `call` how it was started.

        A name that is taken, as by two runs begun in the same second, gets `-2`, `-3`, ... appended: use the
        name of the record that comes back. Raises LedgerError when the alias is taken.
        """
        with self._writing() as connection:
            alone(connection, runs)  # two runs beginning at once must not choose the same name
            if alias is not None:
                _refuse_taken(connection, alias)
            run = RunRecord(
                id=new_id(),
                number=connection.execute(select(next_number(runs))).scalar_one(),
                name=_free_name(connection, name),
                kind=kind,
                alias=alias,
                description=None if description is None else plain_text(description),
                model_id=model_id,
                reverts_run_id=reverts,
                parameters=without_secrets(parameters or {}),
                source=without_secrets(source or {}),
                started_at=now(),
                host=socket.gethostname(),
                pid=os.getpid(),
                provider_server=provider_server,
                model_digest=model_digest,
            )
            connection.execute(insert(runs), asdict(run))
            _note_start(connection, run.id, call)
            return run

    def resume_run(
        self,
        run_id: str,
        *,
        provider_server: str | None = None,
        model_digest: str | None = None,
        call: Call | None = None,
    ) -> RunRecord:
        """Take up a run that ended early: running again, in this process. Raises LedgerError if unknown.

        What is given of the provider takes the place of what the leg before it had noted.
        """
        told = {"provider_server": provider_server, "model_digest": model_digest}
        changes: dict[str, Any] = {name: value for name, value in told.items() if value is not None}
        changes |= {"host": socket.gethostname(), "pid": os.getpid()}
        with self._writing() as connection:
            resumed = self._changed(connection, run_id, state="running", finished_at=None, **changes)
            _note_start(connection, run_id, call)
            return resumed

    def finish_run(self, run_id: str, state: RunState, totals: Json | None = None) -> RunRecord:
        """End a run in this state; None leaves its totals. Raises LedgerError if it is unknown."""
        changes: dict[str, Any] = {} if totals is None else {"totals": without_secrets(totals)}
        return self._change_run(run_id, state=state, finished_at=now(), **changes)

    def _change_run(self, run_id: str, **changes: Any) -> RunRecord:
        with self._writing() as connection:
            return self._changed(connection, run_id, **changes)

    def _changed(self, connection: Connection, run_id: str, **changes: Any) -> RunRecord:
        changed = update(runs).where(runs.c.id == run_id).values(**changes).returning(runs)
        row = connection.execute(changed).one_or_none()
        if row is None:
            raise LedgerError(f"the ledger {self.place} holds no run with the id {run_id}")
        return record_of(RunRecord, row)

    def starts(self, run_id: str) -> list[StartRecord]:
        """Every start of a run, the first one first."""
        return self._read(StartRecord, select(run_starts).where(run_starts.c.run_id == run_id).order_by("number"))

    def label_run(self, run_id: str, *, move: bool = False, **labels: Unpack[Labels]) -> RunRecord:
        """Give a run another alias or description. With `move` the alias is taken from the run that has it.

        Raises LedgerError when the alias is taken and not to be moved, or is a run's name.
        """
        changes: dict[str, Any] = dict(labels)
        if (description := labels.get("description")) is not None:
            changes["description"] = plain_text(description)
        with self._writing() as connection:
            alone(connection, runs)
            if (alias := labels.get("alias")) is not None:
                of_another = (runs.c.alias == alias, runs.c.id != run_id)
                if move:
                    connection.execute(update(runs).where(*of_another).values(alias=None))
                elif (owner := connection.execute(select(runs.c.name).where(*of_another)).scalar()) is not None:
                    raise LedgerError(f"the alias {alias!r} belongs to run {owner}; give --move to take it from there")
                changes.pop("alias")
                connection.execute(update(runs).where(runs.c.id == run_id).values(alias=None))
                _refuse_taken(connection, alias)
                changes["alias"] = alias
            return self._changed(connection, run_id, **changes)

    def refuse_taken(self, alias: str) -> None:
        """Raise the LedgerError with which `start_run` would refuse this alias; nothing where it would take it."""
        with self._reading() as connection:
            _refuse_taken(connection, alias)

    def find_run(self, name_or_alias: str | None = None, kinds: Collection[RunKind] | None = None) -> RunRecord | None:
        """The run with this name, alias or id, or the only one whose name begins so.

        None or `latest`: the one begun last.

        Looks only at runs of these `kinds`, if given. Raises LedgerError when several names begin so.
        """
        query = select(runs).order_by(runs.c.number.desc())
        if kinds is not None:
            query = query.where(runs.c.kind.in_(list(kinds)))
        if name_or_alias is None or name_or_alias == LATEST:
            return self._first_run(query)
        # As text: PostgreSQL refuses to compare its UUIDs with what is none.
        by_id = cast(runs.c.id, Text) == name_or_alias
        exact = or_(runs.c.name == name_or_alias, runs.c.alias == name_or_alias, by_id)
        found = self._first_run(query.where(exact))
        if found is not None or not name_or_alias:
            return found
        beginning = func.substr(runs.c.name, 1, len(name_or_alias)) == name_or_alias
        candidates = self._read(RunRecord, query.where(beginning).limit(4))
        if len(candidates) > 1:
            names = ", ".join(run.name for run in candidates[:3])
            more = ", ..." if len(candidates) > 3 else ""
            raise LedgerError(f"several runs begin with {name_or_alias!r}: {names}{more}; write more of the name")
        return candidates[0] if candidates else None

    def _first_run(self, query: Select[Any]) -> RunRecord | None:
        return next(iter(self._read(RunRecord, query.limit(1))), None)

    def runs(self, limit: int | None = None) -> list[RunRecord]:
        """Runs, the latest first."""
        return self._read(RunRecord, select(runs).order_by(runs.c.number.desc()).limit(limit))

    def last_run_over(self, server: str, collections: Collection[str]) -> RunRecord | None:
        """The run begun last that may have changed one of these collections of a server; None if none has."""
        for run in self.runs():
            touched = run.source.get("server") == server and set(collections) & set(run.source.get("collections", ()))
            if run.kind != "backup" and touched:
                return run
        return None

    def start_collection(
        self,
        run_id: str,
        collection: str,
        strategy: Strategy,
        *,
        old_dimensions: int | None = None,
        new_dimensions: int | None = None,
        eligible: int = 0,
        backup_path: str | None = None,
        embedding_field: str | None = None,
        template: str | None = None,
        filter_by: str | None = None,
    ) -> str:
        """Begin a collection within a run; returns the id for `update_collection`."""
        skipped = strategy == "skipped"
        begun = CollectionRunRecord(
            id=new_id(),
            run_id=run_id,
            collection=collection,
            strategy=strategy,
            old_dimensions=old_dimensions,
            new_dimensions=new_dimensions,
            eligible=eligible,
            state="skipped" if skipped else "running",
            backup_path=backup_path,
            started_at=now(),
            finished_at=now() if skipped else None,
            embedding_field=embedding_field,
            template=template,
            filter_by=filter_by,
        )
        with self._writing() as connection:
            connection.execute(insert(collection_runs), asdict(begun))
        return begun.id

    def update_collection(self, collection_run_id: str, **changes: Unpack[CollectionChanges]) -> None:
        """Note how far a collection got. A state other than `running` also notes the time of its end.

        Raises LedgerError when the id is unknown.
        """
        values: dict[str, Any] = dict(changes)
        if "state" in values:
            values["finished_at"] = None if values["state"] == "running" else now()
        if not values:
            return
        with self._writing() as connection:
            changed = connection.execute(
                update(collection_runs).where(collection_runs.c.id == collection_run_id).values(**values)
            ).rowcount
        if not changed:
            raise LedgerError(f"the ledger {self.place} holds no collection run with the id {collection_run_id}")

    def field_written(self, run_id: str, collection: str) -> str:
        """The embedding field that a run wrote in a collection; empty where an older program has not noted it."""
        written = [
            each.embedding_field
            for each in self.collection_runs(run_id)
            if each.collection == collection and each.embedding_field
        ]
        return written[-1] if written else ""

    def collection_runs(self, run_id: str) -> list[CollectionRunRecord]:
        """The collections of a run in the order in which they began."""
        with self._reading() as connection:
            return collections_of(connection, [run_id]).get(run_id, [])


def collections_of(connection: Connection, run_ids: Collection[str]) -> dict[str, list[CollectionRunRecord]]:
    """The collections of several runs, by run."""
    table = collection_runs.c
    query = select(collection_runs).where(table.run_id.in_(run_ids)).order_by(table.started_at, table.collection)
    return records_by_run(connection, CollectionRunRecord, query)


def _note_start(connection: Connection, run_id: str, call: Call | None) -> None:
    """A further start of the run, by this process. Nobody else may begin or resume it in the same moment."""
    earlier = select(func.count()).where(run_starts.c.run_id == run_id).scalar_subquery()
    start = StartRecord(
        **without_secrets(asdict(call or Call())),
        run_id=run_id,
        number=connection.execute(select(earlier)).scalar_one() + 1,
        started_at=now(),
        host=socket.gethostname(),
        pid=os.getpid(),
    )
    connection.execute(insert(run_starts), {"id": new_id(), **asdict(start)})


def _refuse_taken(connection: Connection, alias: str) -> None:
    if alias == LATEST:
        raise LedgerError(f"{LATEST!r} always names the latest run; choose another --alias")
    taken = _named(connection, alias)
    if taken is not None:
        raise LedgerError(f"the alias {alias!r} belongs to run {taken} already; choose another --alias")


def _named(connection: Connection, name_or_alias: str) -> str | None:
    """The name of the run that goes by this name or alias."""
    query = select(runs.c.name).where(or_(runs.c.alias == name_or_alias, runs.c.name == name_or_alias)).limit(1)
    return connection.execute(query).scalar()


def _free_name(connection: Connection, name: str) -> str:
    free, count = name, 1
    while _named(connection, free) is not None:
        count += 1
        free = f"{name}-{count}"
    return free
