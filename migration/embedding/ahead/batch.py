"""Ahead, by the provider's batch interface: at half price, within a day, and each text paid for once.

A batch goes through these states, and each is on disk before the next begins:

    intended     its file is whole in MIGRATION_HOME, under a name of ours; the ledger knows
    uploaded     the provider has the file
    submitted    the provider has made a batch of it, which carries our name
    collected    the vectors are in the cache; then the files go, there and here

A process may die between any two lines of this. What is paid for begins at one call, `submit`, whose answer may be lost
with the process or on the way. So whoever finds a batch that may have been submitted looks for its name in the
provider's own list before anything else, and submits only what is not there; as a list may lag behind, it believes
that something is missing only `LIST_LAG` seconds after it may have been submitted. Answers are collected as often as
need be: a vector that is in the cache already is put there again.

What is not in the cache and not under way is sent: so a text that came back without a vector, because the batch
expired before its turn or the provider stumbled, is sent again in the next sweep over the documents, up to `MOST_TRIES`
times in all, and one that the provider refuses is named.
"""

from __future__ import annotations

import math
import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from kai.models import estimate_tokens
from kai.provider_errors import provider_fault
from migration.embedding.ahead.answers import keep_answers
from migration.embedding.ahead.files import BatchFile, batch_files, digests_of
from migration.embedding.ahead.patience import Patience, Waiting
from migration.embedding.ahead.service import BatchLimits, BatchService, Seen
from migration.embedding.ahead.target import BatchLedger, Target
from migration.embedding.ahead.via import StillWaiting, Texts, Told
from migration.embedding.cache import VectorCache
from migration.embedding.provider import ProviderStopped
from migration.ledger import BatchRecord

T = TypeVar("T")

MOST_TRIES: Final = 3
"""How often a text is sent that comes back without a vector and without a refusal."""
LIST_LAG: Final = 120.0
"""Seconds after which a batch that was submitted is in the provider's list for sure. Nobody promises one; a request is
given up after 60."""
_LOOKS_EVERY: Final = 10.0
_FIRST_LOOK, _LONGEST_BETWEEN_LOOKS, _SLOWER = 5.0, 300.0, 1.5
_SHOWN_LIMIT: Final = re.compile(r"limit:?\s*([\d,]+)", re.IGNORECASE)
_AS_ASKED: Final = "cancelled by kai-migrate embed --cancel"
_MOMENT: Final = "%Y%m%d-%H%M%S"


class Batches:
    """Sends texts in batches, waits for them, and keeps what comes of them; one process at a time for a folder.

    Args:
        service: the provider's interface.
        target: what is embedded with.
        ledger: where batches are noted.
        cache: where vectors go.
        waiting: how long for.
        most_waiting: most estimated tokens that may wait at the provider at once; None for no bound of ours.
        announce: told what a person should know, a line each.
    """

    def __init__(
        self,
        service: BatchService,
        target: Target,
        ledger: BatchLedger,
        cache: VectorCache,
        *,
        waiting: Waiting | None = None,
        most_waiting: int | None = None,
        announce: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._service, self._target, self._ledger, self._cache = service, target, ledger, cache
        self._patience = Patience(waiting or Waiting(), target.secrets)
        self._ask = self._patience.ask
        self._interval = _FIRST_LOOK
        self._bound = most_waiting
        self._announce = announce
        self._told: Told = lambda _done, _failures: None
        self._under_way: dict[str, BatchRecord] = {}
        """Submitted and not at their end, by name."""
        self._stages: dict[str, Seen] = {}
        self._flying: set[bytes] = set()
        """Hashes of texts in batches that are not at their end."""
        self._tries: Counter[bytes] = Counter()
        self._given_up: set[bytes] = set()
        self._again = False
        self._file: BatchFile | None = None

    # -- as a way of embedding -------------------------------------------------------------------------

    def embed(self, pages: Callable[[], Iterable[Texts]], told: Told) -> None:
        """See `Via`."""
        self._told = told
        try:
            for row in self._recover():
                self._bring(row)
            # What a batch of another folder holds is known once it has ended.
            while any(not self._path(row).exists() for row in self._under_way.values()):
                self._wait()
            while self._sweep(pages()):
                pass
        finally:
            if self._file is not None:
                self._file.discard()

    def collect(self) -> None:
        """Fetch what is done, and send nothing.

        Raises:
            ProviderStopped: the provider cannot go on, or does not take a batch.
        """
        self._recover()
        self._look()

    def cancel(self) -> int:
        """Ask the provider to end what is under way, and forget what is not sent yet; how many batches that were."""
        unsent = self._recover(may_be_elsewhere=True)
        for row in unsent:
            self._end(row, state="cancelled", reason=_AS_ASKED)
        for row in self._under_way.values():
            self._ledger.update_batch(row.name, reason=_AS_ASKED)
            self._ask(lambda row=row: self._service.cancel(row.batch_id or ""))  # type: ignore[misc]
        return len(unsent) + len(self._under_way)

    def _sweep(self, pages: Iterable[Texts]) -> bool:
        """Send what is neither there nor under way, and wait for its end; whether another sweep has work to do."""
        self._again = False
        for page in pages:
            for digest, text in page.items():
                if digest not in self._flying and digest not in self._given_up:
                    self._put(digest, text)
        self._send()
        while self._under_way:
            self._wait()
        return self._again

    def _put(self, digest: bytes, text: str) -> None:
        try:
            line = self._service.line(digest, text)
        except (ValueError, TypeError) as error:
            self._give_up({digest: str(error)})
            return
        tokens = estimate_tokens(text)
        if self._file is not None and not self._file.takes(line, tokens):
            self._send()
        if self._file is None:
            self._patience.check_stopped()
            self._file = BatchFile(self._target.folder, self._new_name(), self._limits())
        self._file.add(digest, line, tokens)
        self._flying.add(digest)

    def _limits(self) -> BatchLimits:
        limits = self._service.limits
        bounds = [each for each in (limits.tokens, self._bound) if each is not None]
        return replace(limits, tokens=min(bounds, default=None))

    def _new_name(self) -> str:
        return f"{self._target.prefix}{self._patience.now():{_MOMENT}}-{secrets.token_hex(4)}"

    def _begun(self, name: str) -> datetime:
        """When a batch was named; what the ledger has may be younger, where a power cut took the first note."""
        moment = name.removeprefix(self._target.prefix).rpartition("-")[0]
        return datetime.strptime(moment, _MOMENT).replace(tzinfo=UTC)

    def _send(self) -> None:
        """The file in hand, as a batch."""
        if self._file is None:
            return
        file, self._file = self._file, None
        path = file.finish()
        self._bring(self._ledger.intend_batch(self._record(file.name, path, file.fill.texts, file.fill.tokens)))

    def _record(self, name: str, path: Path, texts: int, tokens: int) -> BatchRecord:
        target = self._target
        return BatchRecord(
            name, target.model, target.fingerprint, texts, tokens, str(path), provider_server=target.server
        )

    # -- what an earlier process has left --------------------------------------------------------------

    def _recover(self, *, may_be_elsewhere: bool = False) -> list[BatchRecord]:
        """Find out what has become of the batches that are not at their end; those that are still to be submitted.

        Args:
            may_be_elsewhere: whether the file of one that is still to be submitted need not be here.

        Raises:
            ProviderStopped: one was begun elsewhere, and is not submitted.
        """
        files = batch_files(self._target.folder, self._target.prefix)
        noted = {row.name: row for row in self._ledger.batches(self._target.fingerprint)}
        for name, path in files.items():
            if name not in noted:  # A power cut took what was noted; the file was on disk before it.
                texts, tokens = sum(1 for _ in digests_of(path, self._service.key)), path.stat().st_size // 3
                noted[name] = self._ledger.intend_batch(self._record(name, path, texts, tokens))
        unsent: list[BatchRecord] = []
        for name, row in noted.items():
            if not row.is_open:
                if name in files or row.input_file_id is not None:
                    self._tidy(row)
                continue
            if row.state != "submitted":
                found = self._search(row)
                if found is None and name not in files and not may_be_elsewhere:
                    raise ProviderStopped(
                        f"batch {name} was begun on {row.host} and is not submitted, and its file {row.file} is not "
                        "here; go on there, or forget it with --cancel"
                    )
                if found is None:
                    unsent.append(row)
                else:
                    row = self._submitted(row, found)  # noqa: PLW2901
            if row.state == "submitted":
                self._under_way[name] = row
            if name in files:
                self._flying.update(digests_of(files[name], self._service.key))
        return unsent

    def _search(self, row: BatchRecord) -> str | None:
        """The batch of this name in the provider's list; looked for until it would be there."""
        now, begun, is_told = self._patience.now, self._begun(row.name), False
        while True:
            found = self._ask(lambda: self._service.find(row.name, begun))
            age = (now() - (row.updated_at or begun)).total_seconds()
            if found is not None or row.state == "intended" or age >= LIST_LAG:
                return found
            if not is_told:
                self._announce(f"Looking for batch {row.name} at the provider, for {LIST_LAG - age:.0f} s")
                is_told = True
            self._patience.rest(min(_LOOKS_EVERY, LIST_LAG - age))

    # -- from a file to a batch ------------------------------------------------------------------------

    def _bring(self, row: BatchRecord) -> None:
        """Have the provider make a batch of what is intended or uploaded, once there is room for it."""
        while not self._has_room(row):
            self._wait(is_bounded=self._is_checked())
        if row.input_file_id is None:
            file_id = self._ask(lambda: self._service.upload(self._path(row), row.name))
            row = replace(row, state="uploaded", input_file_id=file_id)
        # Noted anew even if it is uploaded: whoever comes after a crash counts the list's lag from here.
        self._ledger.update_batch(row.name, state="uploaded", input_file_id=row.input_file_id)
        row = self._submitted(row, self._submit(row))
        self._under_way[row.name] = row
        self._announce(f"Submitted batch {row.name}: {row.texts} texts, about {row.tokens} tokens")

    def _submit(self, row: BatchRecord) -> str:
        """Submit it, once: where the answer is lost, the list says whether it arrived."""
        while True:
            self._patience.check_stopped()
            try:
                return self._service.submit(row.input_file_id or "", row.name)
            except Exception as error:
                fault = provider_fault(error, self._target.secrets)
                if fault.kind == "bug":
                    raise
                if fault.kind == "rate_limited":  # It was not taken; there is no doubt about that.
                    self._wait_for_room(fault.message)
                elif fault.kind != "transient":
                    if fault.kind in ("refused", "not_found"):
                        self._end(row, state="failed", reason=fault.message)
                    raise ProviderStopped(f"batch {row.name} is not taken: {fault.message}") from error
                else:
                    sent = replace(row, updated_at=self._patience.now())
                    if (found := self._search(sent)) is not None:
                        return found
            self._ledger.update_batch(row.name, state="uploaded")

    def _submitted(self, row: BatchRecord, batch_id: str) -> BatchRecord:
        self._ledger.update_batch(row.name, state="submitted", batch_id=batch_id)
        return replace(row, state="submitted", batch_id=batch_id)

    def _has_room(self, row: BatchRecord) -> bool:
        """Whether it may be sent: nothing else of ours is being checked, and not too much of it waits.

        One after the other is checked, so that a provider who has no room says so once, not a hundred times.
        """
        if not self._under_way:
            return True
        waiting = sum(each.tokens for each in self._under_way.values())
        return self._is_checked() and (self._bound is None or waiting + row.tokens <= self._bound)

    def _is_checked(self) -> bool:
        return all(name in self._stages and self._stages[name].stage != "checking" for name in self._under_way)

    def _wait_for_room(self, reason: str) -> None:
        if not self._under_way and self._interval >= _LONGEST_BETWEEN_LOOKS:
            raise ProviderStopped(f"the provider takes no batch at the moment: {reason}")
        self._wait()

    # -- waiting and collecting ------------------------------------------------------------------------

    def _wait(self, *, is_bounded: bool = True) -> None:
        """Look at what is under way; where nothing has changed, rest until the next look.

        Raises:
            StillWaiting: there is no time left, of which sending takes none.
        """
        if self._look():
            self._interval = _FIRST_LOOK
            return
        left = self._patience.left if is_bounded else math.inf
        if left <= 0:
            waiting = len(self._under_way)
            raise StillWaiting(f"{waiting} batches are under way; run again to go on, or give --collect")
        self._patience.rest(min(self._interval, left))
        self._interval = min(self._interval * _SLOWER, _LONGEST_BETWEEN_LOOKS)

    def _look(self) -> bool:
        """Look at every batch once, and do what is to be done; whether anything has changed."""
        changed = False
        for row in list(self._under_way.values()):
            self._patience.check_stopped()
            seen = self._ask(lambda row=row: self._service.look(row.batch_id or ""))  # type: ignore[misc]
            seen = replace(seen, reason=self._patience.in_words(seen.reason))
            before = self._stages.get(row.name)
            self._stages[row.name] = seen
            if before is None or before.words != seen.words:
                changed = True
                self._ledger.update_batch(row.name, provider_state=seen.words)
                if before is not None or seen.stage not in ("checking", "waiting"):
                    self._announce(f"Batch {row.name}: {seen.words}")
            if seen.stage == "answered":
                self._keep_answers(row, seen)
            elif seen.stage == "no room":
                self._make_room(row, seen)
            elif seen.stage == "gone":
                self._announce(f"The provider knows batch {row.name} no more; its texts are sent again")
                self._end(row, state="failed", reason="the provider does not know it any more")
                self._again = True
            elif seen.stage == "failed":
                self._end(row, state="failed", reason=seen.reason)
                raise ProviderStopped(
                    f"batch {row.name} failed, and none of it is embedded: {seen.reason or seen.words}"
                )
        return changed

    def _keep_answers(self, row: BatchRecord, seen: Seen) -> None:
        """Everything that came of a batch: vectors into the cache, then a note of it, then its files go."""
        held = self._digests(row)
        kept, failures = self._ask(
            lambda: keep_answers(
                self._service.answers(row.batch_id or ""), self._target, self._cache, self._patience.check_stopped
            )
        )
        reasons = {digest: self._patience.in_words(why.reason) for digest, why in failures.items()}
        refused = {digest: reasons[digest] for digest, why in failures.items() if not why.may_pass}
        unanswered = held - kept - failures.keys()
        passing = {digest: reasons[digest] for digest, why in failures.items() if why.may_pass}
        passing |= dict.fromkeys(unanswered, f"the provider has not answered: {seen.words}")
        named = {digest.hex(): why for digest, why in refused.items()}
        stood = next((each for each in self._ledger.batches(row.fingerprint) if each.name == row.name), row)
        self._end(
            row, state="collected", done=len(kept), failed=len(refused) + len(passing), failures=named, digests=held
        )
        self._told(len(kept), {})
        self._give_up(refused)
        self._try_again(passing)
        if seen.is_cancelled and stood.reason != _AS_ASKED:
            raise ProviderStopped(f"batch {row.name} was cancelled at the provider; run again to send the rest of it")

    def _give_up(self, failures: Mapping[bytes, str]) -> None:
        if failures:
            self._given_up.update(failures)
            self._told(0, failures)

    def _try_again(self, failures: Mapping[bytes, str]) -> None:
        self._tries.update(failures.keys())
        hopeless = {digest: why for digest, why in failures.items() if self._tries[digest] >= MOST_TRIES}
        self._give_up(hopeless)
        self._again |= len(hopeless) < len(failures)

    def _make_room(self, row: BatchRecord, seen: Seen) -> None:
        """A batch was not taken because too much waits already: it goes again, in smaller ones, once there is room.

        Raises:
            ProviderStopped: it cannot be made smaller, or others fill the provider's room.
        """
        del self._under_way[row.name]
        shown = _SHOWN_LIMIT.search(seen.reason)
        limit = int(shown[1].replace(",", "")) if shown else None
        others = sum(each.tokens for each in self._under_way.values())
        self._end(row, state="failed", reason=seen.reason)
        self._again = True
        if others:
            self._bound = others
        elif row.texts > 1 and (limit is None or row.tokens > limit):
            self._bound = limit if limit is not None else row.tokens // 2
        else:
            raise ProviderStopped(f"the provider takes no batch at the moment: {seen.reason}")
        self._announce(f"The provider has no room: {seen.reason} At most about {self._bound} tokens wait from here on.")

    # -- the end of a batch ----------------------------------------------------------------------------

    def _end(self, row: BatchRecord, *, digests: set[bytes] | None = None, **changes: Any) -> None:
        """Note how it ended; then its files are of no use, and its texts not under way any more."""
        self._ledger.update_batch(row.name, **changes)
        self._flying -= self._digests(row) if digests is None else digests
        self._under_way.pop(row.name, None)
        self._stages.pop(row.name, None)
        self._tidy(row)

    def _tidy(self, row: BatchRecord) -> None:
        """Delete its files; what cannot be deleted at the provider is tried again by the next start."""
        if row.input_file_id is not None:
            try:
                self._service.clean(row.batch_id, row.input_file_id)
            except Exception as error:
                fault = provider_fault(error, self._target.secrets)
                if fault.kind == "bug":
                    raise
                self._announce(f"The files of batch {row.name} stay at the provider for now: {fault.message}")
            else:
                self._ledger.update_batch(row.name, input_file_id=None)
        self._path(row).unlink(missing_ok=True)

    def _path(self, row: BatchRecord) -> Path:
        return self._target.folder / Path(row.file).name

    def _digests(self, row: BatchRecord) -> set[bytes]:
        path = self._path(row)
        return set(digests_of(path, self._service.key)) if path.exists() else set()
