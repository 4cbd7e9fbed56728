"""Random combinations of faults: whatever happens, the invariants hold, and a later run finishes."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.faults.bench import Bench
from tests.faults.combinations import COUNT, Combination, combinations
from tests.faults.invariants import check_done, check_everything
from tests.faults.seed import fault_seed

_AT_ONCE = 8
"""Combinations in one test; their numbers are in its name, so that one of them can be run again."""
_BENCHES = ("shared_bench", "shared_bench_29", "shared_bench_lagging", "shared_bench", "shared_bench_29")


@pytest.mark.parametrize("first", range(0, COUNT, _AT_ONCE))
def test_whatever_goes_wrong_nothing_is_lost_and_a_later_run_finishes(
    request: pytest.FixtureRequest, first: int
) -> None:
    seed = fault_seed()
    shared_bench: Bench = request.getfixturevalue(_BENCHES[first // _AT_ONCE % len(_BENCHES)])
    for combination in list(combinations(seed, COUNT))[first : first + _AT_ONCE]:
        shared_bench.fresh()
        try:
            _run_and_check(shared_bench, combination)
        except BaseException as error:
            error.add_note(f"FAULT_SEED={seed}, {combination}")
            raise
        finally:
            shared_bench.forget()


def _run_and_check(bench: Bench, combination: Combination) -> None:
    names = combination.collections
    ended = combination.run(bench)
    if ended.status == 0:
        check_done(bench, ended, names)
    else:
        check_everything(bench, ended, names)
    fired = f"{bench.proxy.script.fired} {bench.provider.fired}"
    assert ended.status in combination.may_end(bench), f"{fired}\n{ended.text}"
    if ended.status != 0:
        assert re.search(combination.words(bench), ended.text), f"{combination.words(bench)}\n{ended.text}"
    paid, asked = bench.provider.paid(), _doubtful(bench)
    if ended.status != 0 and (ended.status != 2 or combination.number % 4 == 0):
        samples = combination.number % 2 == 0  # A sample is paid for again, so the others count what is paid for.
        again = bench.run(collections=names, verify_sample=10 if samples else 0)
        check_done(bench, again, names)
        paid += Counter() if samples else bench.provider.paid()
    # A text may be paid for again where what was bought could not be kept, or was bought to look into a doubt.
    kept = not any(name in ("cache", "cache lock", "ledger") for name, _ in combination.local)
    for text, times in paid.items():
        assert times <= 1 + (not kept) + asked[text], f"{text!r} was paid for {times} times"


def _doubtful(bench: Bench) -> Counter[str]:
    """Texts that were asked for alone because they had come with the same vector as others."""
    doubtful = any(fault.name == "duplicated" for fault in bench.provider.fired)
    alone = (each.texts[0] for each in bench.provider.received if len(each.texts) == 1)
    return Counter(alone) if doubtful else Counter()
