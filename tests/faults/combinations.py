"""Faults in random combination, drawn from a seed: what is let go wrong, and how a run may then end."""

from __future__ import annotations

import contextlib
import os
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from tests.faults.bench import IMPATIENT, PATIENT, Bench
from tests.faults.faults import FINAL, OPTIONAL, PASSING, Known
from tests.faults.local import HeldLock, Store, full_disk, jumping_clock
from tests.faults.provider import PROBE, PlannedAnswer
from tests.faults.script import KINDS, LASTING, Fault, Kind, Planned, Script, from_place
from tests.providers import Fault as ProviderFault
from tests.world import Finished

COUNT: Final = int(os.environ.get("FAULT_COUNT", "40"))

MALFORMED: Final = ("too_few", "wrong_length", "nan", "zeros", "duplicated")
ANSWERS: Final[dict[str, ProviderFault]] = {
    **{name: ProviderFault(name) for name in ("drop", "drop_in_body", "truncated_body", "not_json")},
    **{name: ProviderFault(name) for name in MALFORMED},
    "time-out": ProviderFault("time_out", seconds=0.05),
    "408": ProviderFault("status", 408, message="Request timed out"),
    "409": ProviderFault("status", 409, message="Conflict"),
    "429": ProviderFault("status", 429, message="Rate limit reached"),
    "429 with Retry-After": ProviderFault("status", 429, 0.02, "Rate limit reached"),
    "500": ProviderFault("status", 500),
    "503": ProviderFault("status", 503, message="Overloaded"),
}
"""Answers of the provider that a run rides out when they pass."""

LAST_WORDS: Final[dict[str, ProviderFault]] = {
    "401": ProviderFault("status", 401, message="Your key was revoked."),
    "402": ProviderFault("status", 402, message="Payment required."),
    "403": ProviderFault("status", 403, message="Forbidden for you."),
    "404": ProviderFault("status", 404, message="The model is gone."),
}
"""Answers of the provider that end a run at once."""

REFUSALS: Final[dict[str, ProviderFault]] = {
    "400": ProviderFault("status", 400, message="Refused by the content filter."),
    "413": ProviderFault("status", 413, message="Payload too large."),
    "422": ProviderFault("status", 422, message="Cannot be processed."),
}
"""Answers of the provider that are about the texts of one request."""

_PROBES: Final = 3
"""Probes with a vector that cannot be right after which a run is refused."""
_PROBE_ATTEMPTS: Final = 5
"""The same for probes with whatever fault."""

Local = Literal["ledger", "cache", "backup", "ledger lock", "cache lock", "clock"]


@dataclass(frozen=True, slots=True)
class Combination:
    """What is let go wrong in one run.

    Attributes:
        number: its place among the combinations of the seed.
        calls: faults of Typesense.
        answers: faults of the provider.
        local: faults of the machine.
        lasting: whether a passing fault among them does not pass.
        collections: what is migrated.
        concurrency: of the run.
    """

    number: int
    calls: tuple[Planned, ...]
    answers: tuple[PlannedAnswer, ...]
    local: tuple[tuple[Local, int], ...]
    lasting: bool
    collections: tuple[str, ...]
    concurrency: int

    def run(self, bench: Bench) -> Finished:
        """The run in which all of it goes wrong."""
        with contextlib.ExitStack() as stack:
            script = Script(self.calls)
            for name, amount in self.local:
                if name in ("ledger", "cache", "backup"):
                    stack.enter_context(full_disk(bench.home, _store(name), amount))
                elif name == "clock":
                    stack.enter_context(jumping_clock(amount))
                else:
                    store: Literal["ledger", "cache"] = "ledger" if name == "ledger lock" else "cache"
                    lock = stack.enter_context(HeldLock(bench.home, store, None if self.lasting else 0.05))
                    script.before_call = from_place(amount, lock.take)
            return bench.run(
                self.calls,
                self.answers,
                collections=self.collections,
                patience=IMPATIENT if self.lasting else PATIENT,
                script=script,
                concurrency=self.concurrency,
            )

    def may_end(self, bench: Bench) -> set[int]:
        """The exit statuses that what went wrong in the last run allows."""
        fired = [(call, planned) for call, planned in bench.proxy.script.fired if call.kind not in OPTIONAL]
        passing = [known.fault for known in PASSING.values()]
        ends = [
            planned
            for _, planned in fired
            if planned.times == LASTING or (planned.fault not in passing and planned.fault.name == "status")
        ]
        answers = bench.provider.fired
        last_words = any(fault in LAST_WORDS.values() for fault in answers)
        lasting_answer = bool(answers) and any(each.times == LASTING for each in self.answers)
        disk = any(name in ("ledger", "cache", "backup") for name, _ in self.local)
        lock = self.lasting and any(name in ("ledger lock", "cache lock") for name, _ in self.local)
        refused = any(fault in REFUSALS.values() for fault in answers)
        may: set[int] = set()
        if ends or last_words or lasting_answer or disk or lock or refused:
            may |= {2, 3}
        if refused or lasting_answer or any(planned.fault.name == "lines" for planned in ends):
            may.add(1)
        if any(planned.kind == "multi_search" for planned in ends):
            may.add(1)
        # What is let go wrong may turn out harmless: a disk with just enough room, a refusal of many texts at
        # once, vectors repeated in one request and not in the halves of it.
        harmless = disk or lock or refused or lasting_answer
        # So may a 413, which makes the request smaller, one 404 where nothing is expected to be, and lines that are
        # refused after they had been taken, by an import whose answer was lost.
        lost = any(call.kind == "import" and planned.fault.name != "lines" for call, planned in fired)
        harmless_ends = [
            planned.fault is FINAL["a 413"].fault
            or (planned.kind == "collection" and planned.fault.status == 404 and planned.times == 1)
            or (lost and planned.kind == "import")
            for planned in ends
        ]
        if not may or (not last_words and all(harmless_ends) and (harmless or ends)):
            may.add(0)
        # One text has no other whose vector it could be given.
        asked = [each.fault for each in bench.provider.received if each.texts == (PROBE,) and each.fault]
        probes = [fault for fault in asked if fault.name != "duplicated"]
        if len(probes) >= _PROBE_ATTEMPTS or sum(fault.name in MALFORMED for fault in probes) >= _PROBES:
            may.add(2)
        return may

    def words(self, bench: Bench) -> str:
        """A pattern of which a run that stopped for these reasons must say something."""
        known = {**PASSING, **FINAL}
        patterns = [_words_of(planned.fault, known) for _, planned in bench.proxy.script.fired]
        patterns += [re.escape(fault.message) for fault in bench.provider.fired if fault.name == "status"]
        if any(fault.name != "status" for fault in bench.provider.fired):
            patterns.append(r"the provider returned|provider|embedding|OPENAI_API_BASE|[Cc]onnection|vectors")
        if any(name in ("ledger", "cache", "backup") for name, _ in self.local):
            patterns.append(r"disk is full|No space left|cannot grow|disk I/O")
        if any(name in ("ledger lock", "cache lock") for name, _ in self.local):
            patterns.append(r"locked by another process")
        return "|".join(patterns) or r"$^"


def combinations(seed: int, count: int) -> Iterator[Combination]:
    """So many of them; the same ones for the same seed, each drawn by itself."""
    for number in range(count):
        yield _draw(number, random.Random(f"{seed}-{number}"))  # noqa: S311 - repeatable, not secret


def _draw(number: int, chance: random.Random) -> Combination:
    lasting = chance.random() < 0.35
    calls: list[Planned] = []
    answers: list[PlannedAnswer] = []
    local: list[tuple[Local, int]] = []
    for _ in range(chance.choice((1, 1, 2, 2, 3, 4))):
        side = chance.random()
        if side < 0.6:
            calls.append(_draw_call(chance, lasting))
        elif side < 0.85:
            answers.append(_draw_answer(chance, lasting))
        else:
            local.append(_draw_local(chance))
    both = chance.random() < 0.2
    collections = ("context_stores", "instructions") if both else (chance.choice(("context_stores", "instructions")),)
    distinct = tuple({name: (name, amount) for name, amount in local}.values())
    return Combination(
        number, tuple(calls), tuple(answers), distinct, lasting, collections, chance.choice((1, 2, 4, 8))
    )


def _draw_call(chance: random.Random, lasting: bool) -> Planned:
    kind: Kind = chance.choice((*KINDS, "search", "export", "import", "import"))
    first = chance.choice((1, 1, 1, 2, 2, 3, 4)) if kind in ("search", "collection", "import") else 1
    choice = chance.random()
    if kind == "import" and choice < 0.3:
        code = chance.choice((400, 422, 429, 500, 503)) if lasting else chance.choice((429, 500, 503))
        passing = 1 if code == 500 else 3
        return Planned(kind, Fault("lines", code, "This line is refused."), first, LASTING if lasting else passing)
    if kind == "import" and choice < 0.4:
        return Planned(kind, Fault("garbled_line"), first, LASTING if lasting else 2)
    if choice > 0.85:
        return Planned(kind, chance.choice(list(FINAL.values())).fault, first, chance.choice((1, LASTING)))
    known = chance.choice(list(PASSING.values()))
    if lasting:
        return Planned(kind, known.fault, first, LASTING)
    # A time-out takes its time, so there are fewer of them.
    if known.slow and chance.random() < 0.5:
        known = PASSING["a 503"]
    return Planned(kind, known.fault, first, 1 if known.slow else chance.choice((1, 2, 3)))


def _draw_answer(chance: random.Random, lasting: bool) -> PlannedAnswer:
    first = chance.choice((1, 2, 2, 2, 3, 4))
    choice = chance.random()
    if choice < 0.15:
        return PlannedAnswer(chance.choice(list(LAST_WORDS.values())), first, LASTING if lasting else 1)
    if choice < 0.25:
        return PlannedAnswer(chance.choice(list(REFUSALS.values())), max(first, 2), LASTING if lasting else 1)
    name = chance.choice(list(ANSWERS))
    if lasting:
        return PlannedAnswer(ANSWERS[name], first, LASTING)
    return PlannedAnswer(ANSWERS[name], first, chance.choice((1, 2)))


def _draw_local(chance: random.Random) -> tuple[Local, int]:
    name: Local = chance.choice(("ledger", "cache", "backup", "ledger lock", "cache lock", "clock", "clock"))
    amounts = {"ledger": 8, "cache": 5, "backup": 6000}
    return name, chance.randrange(amounts[name]) if name in amounts else chance.randrange(6, 16)


def _store(name: Local) -> Store:
    assert name in ("ledger", "cache", "backup")
    return name


def _words_of(fault: Fault, known: dict[str, Known]) -> str:
    found = next((each.words for each in known.values() if each.fault == fault), None)
    return found or r"This line is refused|cannot be read"
