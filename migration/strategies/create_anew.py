"""A collection that is gone, created anew from a backup of whole documents: the way back from the drop of a name.

Documents are created, never overwritten: what an application writes meanwhile is newer. The collection carries a
mark until it is whole, so that a start after a crash goes on with it.
"""

from __future__ import annotations

from kai.typesense import Schema
from kai.typesense_changes import send_until_it_shows
from kai.typesense_curation import SET_KINDS
from migration.backup import Backup, creatable
from migration.documents.update import import_documents
from migration.strategies.context import Failure, StrategyStopped
from migration.strategies.refusals import Refused
from migration.strategies.restorable_curation import restorable
from migration.strategies.shadow.references import WrongJoins, forget_old_numbers, renew_references_to
from migration.strategies.shadow_state import MARK, get_exact, own_metadata, role_of, shadow_name
from migration.strategies.task import Task


class CreateAnew:
    """Creates a collection from a backup: its documents, synonyms and curations included.

    Args:
        task: whose plan's strategy is `create`.
        backup: of whole documents.
    """

    def __init__(self, task: Task, backup: Backup) -> None:
        self._task = task
        self._name = task.name
        self._backup = backup
        self._outcome = task.outcome

    def run(self) -> None:
        """From wherever it stands to the end.

        Raises:
            StrategyStopped: it could not be finished; run again.
        """
        server, backup = self._task.server, self._backup
        self._task.enter("restoring", self._task.plan.eligible)
        try:
            curation = restorable(server, backup, self._name)
        except Refused as error:
            raise StrategyStopped(str(error)) from error
        self._outcome.notes += curation.differing
        curation.put_missing_sets(server)
        if role_of(self._task.plan.schema) != "restored":
            own = own_metadata(backup.schema) or {}
            mark = {MARK: {"role": "restored", "run": self._task.context.run.name}}
            schema = {key: value for key, value in creatable(backup.schema).items() if key not in SET_KINDS}
            wanted = {**schema, **curation.names, "name": self._name, "metadata": {**own, **mark}}
            send_until_it_shows(
                server,
                lambda: server.create_collection(wanted),
                self._begun,
                claim=f"that it created {self._name!r}",
            )
        curation.put_parts(server, self._name)
        newest = _newest_of_repeated(backup)
        restored: set[str] = set()
        forget_old_numbers(server, self._name)
        for page in backup.records(first_wins=False):  # Each in the place where it was first.
            lines = {id_: newest.get(id_, line) for id_, line in page if id_ not in restored}
            failed = import_documents(server, self._name, lines, "create").failed
            failed = {id_: why for id_, why in failed.items() if "already exists" not in why}
            restored.update(lines.keys() - failed.keys())
            self._outcome.failures.update({id_: Failure("import", why) for id_, why in failed.items()})
        self._outcome.success = len(restored)
        self._outcome.missing = max(0, int(backup.schema.get("num_documents", 0)) - len(restored))
        if self._outcome.missing and not backup.manifest.complete:
            self._outcome.notes.append(
                f"the backup is not complete: {len(restored)} documents are in it, of the "
                f"{backup.schema.get('num_documents')} that the collection had when it was begun"
            )
        else:
            self._outcome.missing = 0
        try:
            self._outcome.notes += renew_references_to(server, self._name, but=shadow_name(self._name))
        except WrongJoins as error:
            raise StrategyStopped(str(error)) from error
        server.set_metadata(self._name, own_metadata(server.collection(self._name) or {}) or {})
        self._outcome.complete = True

    def _begun(self) -> Schema | None:
        """The collection, once it stands with this run's mark.

        Raises:
            StrategyStopped: somebody else has created one of that name.
        """
        found = get_exact(self._task.server, self._name)
        if found is not None and role_of(found) != "restored":
            raise StrategyStopped(
                f"a collection {self._name!r} was created meanwhile, by the application perhaps; delete it, or restore "
                "its vectors alone from a backup of vectors"
            )
        return found


def _newest_of_repeated(backup: Backup) -> dict[str, bytes]:
    """Of documents that changed while they were backed up, the newest content."""
    seen: set[str] = set()
    repeated: dict[str, bytes] = {}
    for page in backup.records(first_wins=False):
        for id_, line in page:
            if id_ in seen:
                repeated[id_] = line
            seen.add(id_)
    return repeated
