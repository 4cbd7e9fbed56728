"""Each fault of Typesense alone, at each kind of call."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import cycle

import pytest

from tests.faults.bench import IMPATIENT, Bench
from tests.faults.faults import FINAL, OPTIONAL, PASSING, PREFLIGHT, RUNNING
from tests.faults.invariants import check_done, check_everything
from tests.faults.script import KINDS, LASTING, Call, Fault, Kind, Planned, Script

NAMES = ("context_stores",)
BEGUN = {"search": 2}
"""The first call of its kind after the preflight, where that makes one as well."""


def paired(kinds: Sequence[Kind]) -> list[tuple[str, Kind]]:
    """Each fault, one that passes and one that does not, at one of the kinds in turn.

    Their combinations draw the other pairs.
    """
    return list(zip([*PASSING, *FINAL], cycle(kinds), strict=False))


def first_of(kind: Kind) -> int:
    """The number of the first call of this kind that a run makes once it is under way."""
    return BEGUN.get(kind, 1)


@pytest.mark.parametrize("name", PASSING)
def test_a_fault_that_passes_is_ridden_out_at_every_kind_of_call(bench: Bench, name: str) -> None:
    known = PASSING[name]
    times = 1 if known.slow else 2
    ended = bench.run([Planned(kind, known.fault, first=first_of(kind), times=times) for kind in KINDS])
    assert {call.kind for call, _ in bench.proxy.script.fired} == set(KINDS)
    check_done(bench, ended, NAMES)


@pytest.mark.parametrize(("name", "kind"), paired([*PREFLIGHT, "search"]))
def test_a_lasting_fault_before_the_run_is_refused_with_its_cause(bench: Bench, name: str, kind: Kind) -> None:
    known = (PASSING | FINAL)[name]
    ended = bench.run([Planned(kind, known.fault, times=LASTING)], patience=IMPATIENT)
    check_everything(bench, ended, NAMES)
    assert ended.status == 2, ended.text
    assert re.search(known.words, ended.err), ended.text


@pytest.mark.parametrize(("name", "kind"), paired([*RUNNING, "import"]))
def test_a_lasting_fault_in_mid_run_stops_it_and_a_later_run_finishes(bench: Bench, name: str, kind: Kind) -> None:
    known = (PASSING | FINAL)[name]
    ended = bench.run([Planned(kind, known.fault, first=first_of(kind), times=LASTING)], patience=IMPATIENT)
    check_everything(bench, ended, NAMES)
    assert ended.status == 3, ended.text
    assert re.search(known.words, ended.err), ended.text
    paid = bench.provider.paid()
    if kind in ("import", "export"):
        again = bench.run(verify_sample=0)
        check_done(bench, again, NAMES)
        assert not paid & bench.provider.paid(), "a text was paid for twice"


@pytest.mark.parametrize("name", FINAL)
def test_a_final_answer_is_not_asked_for_again(bench: Bench, name: str) -> None:
    ended = bench.run([Planned("metadata", FINAL[name].fault)])
    assert ended.status == 3, ended.text
    assert bench.proxy.script.calls["metadata"] == 1


@pytest.mark.parametrize(("name", "place"), list(zip([*FINAL, *FINAL], cycle(range(1, 6)))))
def test_whichever_look_at_a_schema_fails_a_run_that_says_it_is_complete_is(
    bench: Bench, name: str, place: int
) -> None:
    ended = bench.run([Planned("collection", FINAL[name].fault, first=place)])
    if ended.status:
        check_everything(bench, ended, NAMES)
        assert ended.status in (2, 3), ended.text
        ended = bench.run()
    check_done(bench, ended, NAMES)


@pytest.mark.parametrize("name", ["a refused connection", "a page of HTML", "a 401"])
def test_a_server_that_does_not_tell_its_load_is_migrated_all_the_same(bench: Bench, name: str) -> None:
    ended = bench.run([Planned(kind, (PASSING | FINAL)[name].fault, times=LASTING) for kind in OPTIONAL], patience=1)
    check_done(bench, ended, NAMES)


@pytest.mark.parametrize("name", FINAL)
def test_a_check_that_cannot_be_made_is_no_success(bench: Bench, name: str) -> None:
    ended = bench.run([Planned("multi_search", FINAL[name].fault, times=LASTING)])
    check_everything(bench, ended, NAMES)
    assert ended.status == 1, ended.text
    assert re.search(FINAL[name].words, ended.err), ended.text
    check_done(bench, bench.run(), NAMES)


def test_an_import_whose_answer_is_lost_is_repeated_without_harm(bench: Bench) -> None:
    ended = bench.run([Planned("import", Fault("reset_after"), times=3)])
    check_done(bench, ended, NAMES)
    assert bench.proxy.script.calls["import"] == 4
    assert ended.summary("context_stores")["success"] == 40


def test_an_export_that_breaks_off_in_mid_record_is_read_on(bench: Bench) -> None:
    ended = bench.run([Planned("export", Fault("broken_off"), times=3)])
    check_done(bench, ended, NAMES)


def test_an_import_too_large_for_what_stands_before_the_server_is_cut_into_parts(bench: Bench) -> None:
    ended = bench.run([Planned("import", FINAL["a 413"].fault, times=2)])
    check_done(bench, ended, NAMES)


def test_a_retry_after_is_obeyed_only_as_far_as_patience_goes(bench: Bench) -> None:
    fault = Fault("status", 429, "Slow down", retry_after="3600")
    ended = bench.run([Planned("import", fault)])
    assert ended.status == 3, ended.text
    assert "HTTP 429" in ended.err
    check_everything(bench, ended, NAMES)
    check_done(bench, bench.run(), NAMES)


@pytest.mark.parametrize(("code", "times"), [(408, 6), (429, 6), (500, 2), (503, 6)])
def test_lines_that_fail_for_a_while_are_sent_again(bench: Bench, code: int, times: int) -> None:
    ended = bench.run([Planned("import", Fault("lines", code, "Not Ready or Lagging"), times=times)])
    check_done(bench, ended, NAMES)


def test_lines_that_a_server_puts_off_for_ever_stop_the_run(bench: Bench) -> None:
    ended = bench.run([Planned("import", Fault("lines", 503, "Lagging"), times=LASTING)], patience=IMPATIENT)
    check_everything(bench, ended, NAMES)
    assert ended.status == 3, ended.text
    assert "put off: Lagging (code 503)" in ended.err
    check_done(bench, bench.run(), NAMES)


@pytest.mark.parametrize("code", [400, 422, 500])
def test_lines_that_keep_failing_are_failures_of_their_documents(bench: Bench, code: int) -> None:
    failing = frozenset({"q3", "q17"})
    fault = Fault("lines", code, "Field `prompt_embedding` is strange.", ids=failing)
    ended = bench.run([Planned("import", fault, times=LASTING)], patience=IMPATIENT)
    right = check_everything(bench, ended, NAMES)
    assert ended.status == 1, ended.text
    assert right["context_stores"] == set(bench.before["context_stores"]) - failing
    assert ended.err.count("Field `prompt_embedding` is strange.") == 2
    check_done(bench, bench.run(), NAMES)


def test_a_line_of_an_answer_that_cannot_be_read_is_no_success(bench: Bench) -> None:
    ended = bench.run([Planned("import", Fault("garbled_line"), times=LASTING)], patience=IMPATIENT)
    check_everything(bench, ended, NAMES)
    assert ended.status == 3, ended.text
    assert "cannot be read" in ended.err
    check_done(bench, bench.run([Planned("import", Fault("garbled_line"))]), NAMES)


def test_a_line_refused_after_its_answer_had_been_lost_is_no_failure(bench: Bench) -> None:
    refused = Fault("lines", 422, "This line is refused.")
    ended = bench.run([Planned("import", Fault("garbled_line")), Planned("import", refused, first=2)])
    assert len(bench.proxy.script.fired) == 2
    check_done(bench, ended, NAMES)


@pytest.mark.parametrize("kind", ["import", "export", "metadata"])
def test_a_collection_dropped_meanwhile_stops_the_run(bench: Bench, kind: Kind) -> None:
    ended = bench.run([Planned(kind, Fault("collection_dropped"))])
    assert ended.status == 3, ended.text
    assert re.search(r"HTTP 404|not there any more|not found", ended.err, re.IGNORECASE), ended.text
    assert "Traceback" not in ended.text
    assert bench.world.http.get("/collections/context_stores").status_code == 404, "the tool brought it back"
    assert bench.run().status == 2


def test_a_collection_dropped_after_its_last_page_is_not_called_complete(bench: Bench) -> None:
    seen = 0

    def drop(call: Call) -> None:
        nonlocal seen
        seen += call.kind == "export"
        if seen and call.kind == "collection":
            bench.world.http.delete("/collections/context_stores")

    ended = bench.run(script=Script(before_call=drop))
    assert ended.status == 3, ended.text
    assert "not there any more" in ended.err


def test_the_second_collection_is_not_begun_when_the_first_one_stopped(bench: Bench) -> None:
    names = ("context_stores", "instructions")
    ended = bench.run([Planned("import", FINAL["a 401"].fault)], collections=names)
    right = check_everything(bench, ended, names)
    assert ended.status == 3, ended.text
    assert not any(right.values())
    assert ended.summary("instructions")["status"] == "not started"
    check_done(bench, bench.run(collections=names), names)
