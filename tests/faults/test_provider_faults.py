"""Each fault of the embedding provider alone: at the probe, in passing, for good."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.faults.bench import IMPATIENT, Bench
from tests.faults.combinations import ANSWERS, LAST_WORDS, MALFORMED, REFUSALS
from tests.faults.invariants import check_done, check_everything
from tests.faults.provider import PlannedAnswer
from tests.faults.script import LASTING
from tests.providers import Fault

NAMES = ("context_stores",)
BOTH = ("context_stores", "instructions")
OUTAGES = [name for name in ANSWERS if name not in MALFORMED]
WORDS = {
    "drop": r"connection|disconnected",
    "drop_in_body": r"peer closed connection|connection",
    "truncated_body": r"JSON|unexpected|column|expecting",
    "not_json": r"JSON|unexpected|column|expecting",
    "time-out": r"connection|disconnected",
    "too_few": r"39 vectors for 40|\d+ vectors for \d+ texts",
    "wrong_length": r"vectors of length|differ in length",
    "nan": r"not finite",
    "zeros": r"vector of zeros",
}


def words(name: str, fault: Fault) -> str:
    """A pattern that the message of a run that ended for this reason has."""
    return WORDS.get(name, re.escape(fault.message))


@pytest.mark.parametrize("name", ANSWERS)
def test_a_fault_of_the_provider_that_passes_is_ridden_out(bench: Bench, name: str) -> None:
    ended = bench.run(answers=[PlannedAnswer(ANSWERS[name], first=2, times=2)])
    assert len(bench.provider.fired) == 2
    check_done(bench, ended, NAMES)


@pytest.mark.parametrize("name", OUTAGES)
def test_a_probe_that_fails_in_passing_is_tried_again(bench: Bench, name: str) -> None:
    ended = bench.run(answers=[PlannedAnswer(ANSWERS[name], times=2)])
    check_done(bench, ended, NAMES)


@pytest.mark.parametrize("name", [*OUTAGES, *LAST_WORDS, *REFUSALS, "too_few", "wrong_length", "nan", "zeros"])
def test_a_probe_that_keeps_failing_refuses_the_run(bench: Bench, name: str) -> None:
    fault = (ANSWERS | LAST_WORDS | REFUSALS)[name]
    ended = bench.run(answers=[PlannedAnswer(fault, times=LASTING)], patience=IMPATIENT)
    check_everything(bench, ended, NAMES)
    assert ended.status == 2, ended.text
    assert re.search(words(name, fault) + "|EMBEDDING_DIMENSIONS", ended.err, re.IGNORECASE), ended.text


@pytest.mark.parametrize("name", OUTAGES)
def test_an_outage_of_the_provider_stops_the_run_and_a_later_one_finishes(bench: Bench, name: str) -> None:
    ended = bench.run(answers=[PlannedAnswer(ANSWERS[name], first=3, times=LASTING)], collections=BOTH, patience=0.2)
    right = check_everything(bench, ended, BOTH)
    assert ended.status == 3, ended.text
    assert len(right["context_stores"]) == 40
    assert re.search(words(name, ANSWERS[name]), ended.err, re.IGNORECASE), ended.text
    paid = bench.provider.paid()
    check_done(bench, bench.run(collections=BOTH, verify_sample=0), BOTH)
    assert not paid & bench.provider.paid(), "a text was paid for twice"


@pytest.mark.parametrize("name", LAST_WORDS)
def test_a_key_revoked_in_mid_run_stops_the_run_at_once_and_a_later_one_finishes(bench: Bench, name: str) -> None:
    ended = bench.run(answers=[PlannedAnswer(LAST_WORDS[name], first=3, times=LASTING)], collections=BOTH)
    right = check_everything(bench, ended, BOTH)
    assert ended.status == 3, ended.text
    assert (len(right["context_stores"]), len(right["instructions"])) == (40, 0)
    assert len(bench.provider.fired) == 1, "asked again although it was the last word"
    assert re.search(words(name, LAST_WORDS[name]), ended.err), ended.text
    paid = bench.provider.paid()
    check_done(bench, bench.run(collections=BOTH, verify_sample=0), BOTH)
    assert not paid & bench.provider.paid(), "a text was paid for twice"


@pytest.mark.parametrize("name", ["too_few", "wrong_length", "nan", "zeros"])
def test_vectors_that_cannot_be_right_never_land(bench: Bench, name: str) -> None:
    ended = bench.run(answers=[PlannedAnswer(ANSWERS[name], first=2, times=LASTING)], patience=IMPATIENT)
    right = check_everything(bench, ended, NAMES)
    assert ended.status in (1, 3), ended.text
    assert not any(right.values())
    assert re.search(WORDS[name], ended.err), ended.text
    check_done(bench, bench.run(), NAMES)


@pytest.mark.parametrize("first", [1, 2])
def test_a_provider_that_repeats_one_vector_for_all_texts_lands_nothing(bench: Bench, first: int) -> None:
    bench.provider.constant_from = first
    ended = bench.run(patience=IMPATIENT)
    right = check_everything(bench, ended, NAMES)
    assert ended.status in (1, 3), ended.text
    assert not any(right.values())
    assert "one vector for several texts" in ended.err
    bench.provider.constant_from = None
    check_done(bench, bench.run(), NAMES)


def test_a_vector_repeated_within_an_answer_is_found_out_and_asked_for_again(bench: Bench) -> None:
    # Alone, each text gets its own vector, and that is how they are asked for in the end.
    ended = bench.run(answers=[PlannedAnswer(ANSWERS["duplicated"], first=2, times=LASTING)], patience=IMPATIENT)
    check_done(bench, ended, NAMES)


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refused_request_is_halved_and_its_texts_come_through(bench: Bench, name: str) -> None:
    ended = bench.run(answers=[PlannedAnswer(REFUSALS[name], first=2, times=2)])
    check_done(bench, ended, NAMES)


def test_what_half_of_a_request_has_bought_is_kept_when_the_other_half_ends_the_run(bench: Bench) -> None:
    refused, revoked = PlannedAnswer(REFUSALS["413"], first=2), PlannedAnswer(LAST_WORDS["401"], first=4)
    ended = bench.run(answers=[refused, revoked])
    check_everything(bench, ended, NAMES)
    assert ended.status == 3, ended.text
    paid = bench.provider.paid()
    assert paid
    check_done(bench, bench.run(verify_sample=0), NAMES)
    assert not paid & bench.provider.paid(), "a text was paid for twice"


@pytest.mark.parametrize("name", REFUSALS)
def test_texts_that_the_provider_refuses_fail_by_themselves(bench: Bench, name: str) -> None:
    ended = bench.run(answers=[PlannedAnswer(REFUSALS[name], first=2, times=LASTING)])
    right = check_everything(bench, ended, NAMES)
    assert ended.status == 1, ended.text
    assert not any(right.values())
    assert re.search(words(name, REFUSALS[name]), ended.err), ended.text
    check_done(bench, bench.run(), NAMES)


def test_one_refused_text_fails_alone_and_is_named(bench: Bench) -> None:
    text = bench.before["context_stores"]["q3"]["prompt_text"]
    bench.provider.refuse_texts = {text}
    sent = len(bench.provider.embedded)
    try:
        ended = bench.run()
    finally:
        bench.provider.refuse_texts = set()
    right = check_everything(bench, ended, NAMES)
    failed = {id_ for id_, d in bench.before["context_stores"].items() if d["prompt_text"] == text}
    assert ended.status == 1, ended.text
    assert right["context_stores"] == set(bench.before["context_stores"]) - failed
    assert set(Counter(bench.provider.embedded[sent:]).values()) == {1}, "a text was paid for twice"
    check_done(bench, bench.run(verify_sample=0), NAMES)
    assert bench.provider.paid().keys() == {text}


def test_a_quota_that_is_used_up_for_hours_stops_the_run(bench: Bench) -> None:
    fault = Fault("status", 429, 7200.0, "Daily quota used up.")
    ended = bench.run(answers=[PlannedAnswer(fault, first=2)])
    check_everything(bench, ended, NAMES)
    assert ended.status == 3, ended.text
    assert "Daily quota used up." in ended.err
    check_done(bench, bench.run(), NAMES)
