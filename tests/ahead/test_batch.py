"""Whatever happens to process, network and provider, each text is paid for once, and has its vector in the end."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, islice, pairwise
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kai.models import estimate_tokens
from migration.embedding.ahead.batch import LIST_LAG, Batches
from migration.embedding.ahead.files import BatchFile, Fill, batch_files, digests_of
from migration.embedding.ahead.service import BatchLimits
from migration.embedding.ahead.target import Target
from migration.embedding.ahead.via import StillWaiting, Texts
from migration.embedding.embed import text_hash
from migration.embedding.provider import ProviderStopped
from migration.embedding.throttle import Stopped
from tests.ahead.provider import DIMENSIONS, Clock, FakeService, Kill, Killable, Killed, MemoryLedger, vector_of

SPACE = "0123456789abcdef"
TEXTS = [f"text {number}" for number in range(10)]


class MemoryCache:
    """Vectors by hash."""

    def __init__(self) -> None:
        self.vectors: dict[bytes, Any] = {}

    def put_many(self, _space: str, pairs: Any) -> None:
        self.vectors.update(pairs)


class Bench:
    """A provider, and everything that outlives a process."""

    def __init__(self, folder: Path, **attributes: Any) -> None:
        self.clock = Clock()
        self.service = FakeService(self.clock, **attributes)
        self.ledger, self.cache = MemoryLedger(self.clock), MemoryCache()
        self.target = Target(
            model="openai/small/8", fingerprint=SPACE, dimensions=DIMENSIONS, server="https://p", folder=folder
        )
        self.failures: dict[bytes, str] = {}
        self.done = 0
        self.said: list[str] = []

    def pages(self, texts: Sequence[str], size: int = 3) -> Iterator[Texts]:
        missing = (text for text in texts if text_hash(text) not in self.cache.vectors)
        while page := list(islice(missing, size)):
            yield {text_hash(text): text for text in page}

    def _told(self, done: int, failures: Mapping[bytes, str]) -> None:
        assert not failures.keys() & self.failures.keys()
        self.done += done
        self.failures.update(failures)

    def batches(
        self,
        kill: Kill | None = None,
        stopped: threading.Event | None = None,
        wait: float = float("inf"),
        **options: Any,
    ) -> Batches:
        parts: list[Any] = [self.service, self.ledger, self.cache]
        if kill is not None:
            parts = [Killable(part, kill) for part in parts]
        service, ledger, cache = parts
        waiting = self.clock.waiting(wait, stopped)
        return Batches(service, self.target, ledger, cache, waiting=waiting, announce=self.said.append, **options)

    def embed(self, texts: Sequence[str] = TEXTS, **options: Any) -> None:
        """A process, from its start to its end."""
        self.failures, self.done = {}, 0
        self.batches(**options).embed(lambda: self.pages(texts), self._told)

    def check(self, texts: Sequence[str] = TEXTS, orphans: int = 0) -> None:
        """Each text has its vector and was paid for once, and nothing is left but files that were never noted."""
        assert {digest: vector.tobytes() for digest, vector in self.cache.vectors.items()} == {
            text_hash(text): vector_of(text).tobytes() for text in texts
        }
        assert self.service.paid == dict.fromkeys(texts, 1)
        assert len(self.service.files) <= orphans
        assert not list(self.target.folder.glob("*"))
        assert not self.ledger.batches(only_open=True)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine does not lose its power here; hundreds of processes end."""
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "batches")


def test_texts_go_in_batches_of_as_many_as_the_provider_takes(bench: Bench) -> None:
    bench.embed()
    bench.check()
    assert [len(job.texts) for job in bench.service.jobs.values()] == [4, 4, 2]
    assert (bench.done, bench.failures) == (10, {})
    assert {row.state for row in bench.ledger.rows.values()} == {"collected"}
    assert sum(row.done for row in bench.ledger.rows.values()) == 10


@pytest.mark.parametrize("fates", [["expired"], ["completed", "no room"], ["cancelled"]], ids=str)
def test_a_process_that_dies_between_any_two_calls_pays_for_nothing_twice_and_loses_nothing(
    tmp_path: Path, fates: list[str]
) -> None:
    for number in count(1):
        reached = False
        for is_after in (False, True):
            bench = Bench(tmp_path / f"{number}-{is_after}", fates=list(fates))
            kill = Kill(number, is_after)
            try:
                bench.embed(TEXTS[:7], kill=kill)
            except Killed:
                reached = True
            except ProviderStopped:  # A batch that was cancelled at the provider ends the run.
                pass
            for _ in range(3):
                try:
                    bench.embed(TEXTS[:7])
                    break
                except ProviderStopped:
                    continue
            bench.check(TEXTS[:7], orphans=1)  # The provider deletes a file that no batch uses by itself.
        if not reached:
            break
    assert number > 20


def test_a_process_that_dies_in_every_start_comes_to_its_end_all_the_same(tmp_path: Path) -> None:
    for step in range(2, 9):
        bench = Bench(tmp_path / str(step))
        for start in range(1, 200):
            try:
                bench.embed(kill=Kill(start // 2 + step, is_after=bool(start % 2)))
                break
            except Killed:
                continue
        bench.check(orphans=start)


def test_a_submission_whose_answer_is_lost_is_found_in_the_list_and_not_sent_again(bench: Bench) -> None:
    bench.service.lost_answers = 2
    bench.embed()
    bench.check()
    assert len(bench.service.jobs) == 3


def test_a_network_that_breaks_before_and_after_every_other_call_costs_nothing_twice(bench: Bench) -> None:
    calls: Counter[str] = Counter()

    class Flaky:
        def __init__(self, real: Any) -> None:
            self._real = real

        def __getattr__(self, name: str) -> Any:
            found = getattr(self._real, name)
            if not callable(found) or name == "line":
                return found

            def call(*given: Any) -> Any:
                calls[name] += 1
                if calls[name] % 4 == 1:
                    raise ConnectionError("it did not arrive")
                result = found(*given)
                if calls[name] % 4 == 3:
                    raise ConnectionError("the answer did not arrive")
                return result

            return call

    real = bench.service
    bench.service = cast(FakeService, Flaky(real))
    bench.embed()
    bench.service = real
    bench.embed()  # Deletes what could not be deleted at once.
    bench.check(orphans=3)
    assert len(real.jobs) == 3
    assert any("stay at the provider for now: it did not arrive" in line for line in bench.said)


class RefusedError(Exception):
    """An answer of the provider's with an HTTP status."""

    def __init__(self, status: int) -> None:
        super().__init__("these words")
        self.status_code = status


@pytest.mark.parametrize("others", [0, 8])
def test_a_submission_that_is_turned_down_for_now_is_repeated(bench: Bench, others: int) -> None:
    submit, answers = bench.service.submit, [RefusedError(429)] * 3

    def busy(file_id: str, name: str) -> str:
        if len(bench.service.jobs) * 4 >= others and answers:
            raise answers.pop()
        return submit(file_id, name)

    bench.service.submit = busy  # type: ignore[method-assign]
    bench.embed()
    bench.check()
    assert not answers


def test_a_provider_that_turns_everything_down_stops_the_run_and_the_next_start_goes_on(bench: Bench) -> None:
    submit = bench.service.submit

    def busy(file_id: str, name: str) -> str:
        raise RefusedError(429)

    bench.service.submit = busy  # type: ignore[method-assign]
    with pytest.raises(ProviderStopped, match="takes no batch at the moment: these words"):
        bench.embed()
    bench.service.submit = submit  # type: ignore[method-assign]
    bench.embed()
    bench.check()


@pytest.mark.parametrize(("status", "is_kept"), [(400, False), (401, True)])
def test_a_submission_that_is_refused_stops_the_run_with_the_providers_words(
    bench: Bench, status: int, is_kept: bool
) -> None:
    submit = bench.service.submit

    def refuses(file_id: str, name: str) -> str:
        raise RefusedError(status)

    bench.service.submit = refuses  # type: ignore[method-assign]
    with pytest.raises(ProviderStopped, match="is not taken: these words"):
        bench.embed()
    assert bool(bench.ledger.batches(only_open=True)) is is_kept  # Another key may do.
    bench.service.submit = submit  # type: ignore[method-assign]
    bench.embed()
    bench.check()


def test_what_is_not_in_the_list_is_sent_again_only_when_it_would_be_there(bench: Bench) -> None:
    submit = bench.service.submit
    tried: list[float] = []

    def broken(file_id: str, name: str) -> str:
        tried.append(bench.clock.seconds)
        if len(tried) == 1:
            raise ConnectionError("it did not arrive")
        return submit(file_id, name)

    bench.service.submit = broken  # type: ignore[method-assign]
    bench.embed(TEXTS[:2])
    bench.check(TEXTS[:2])
    assert tried[1] - tried[0] >= LIST_LAG


def test_a_power_cut_that_takes_what_was_noted_loses_no_batch(bench: Bench) -> None:
    with pytest.raises(Killed):
        bench.embed(kill=Kill(1, only="submit"))
    bench.service.submit(next(iter(bench.service.files)), next(iter(bench.ledger.rows)))
    bench.ledger.rows.clear()
    bench.clock.rest(10_000)
    bench.embed()
    bench.check(orphans=1)


def test_texts_of_an_expired_batch_are_sent_again_and_given_up_after_three_times(bench: Bench) -> None:
    bench.service.fates = ["expired", "completed", "completed", "completed"]
    bench.embed()
    bench.check()
    bench.service.stumbles.update({"late": 2, "never": 3})
    bench.embed(["late", "never"])
    assert bench.done == 1
    assert bench.failures == {text_hash("never"): "the server had an error"}
    bench.embed(["late", "never"])  # A later start tries again.
    assert (bench.done, bench.failures) == (1, {})


def test_a_refused_text_is_named_and_takes_no_other_with_it(bench: Bench) -> None:
    bench.service.refused = {"text 3", "text 8"}
    bench.embed()
    assert bench.done == 8
    assert bench.failures == {text_hash(text): "the content filter" for text in ("text 3", "text 8")}
    assert max(bench.service.paid.values()) == 1
    named = [row.failures for row in bench.ledger.rows.values() if row.failures]
    assert named == [
        {text_hash("text 3").hex(): "the content filter"},
        {text_hash("text 8").hex(): "the content filter"},
    ]


def test_a_text_that_cannot_be_sent_is_named_before_anything_is_paid(bench: Bench) -> None:
    bench.embed(["too long"])
    assert bench.failures == {text_hash("too long"): "the text is too long"}
    assert bench.service.jobs == {}


def test_a_vector_that_cannot_be_right_does_not_land(bench: Bench) -> None:
    bench.service.wrong = {"text 5"}
    bench.embed()
    assert bench.failures == {text_hash("text 5"): "the provider returned a vector of zeros"}
    assert text_hash("text 5") not in bench.cache.vectors


def test_a_provider_without_room_gets_less_at_once_until_all_is_done(bench: Bench) -> None:
    bench.service.room = 5
    bench.embed()
    bench.check()
    assert [job.fate for job in bench.service.jobs.values()].count("no room") == 1
    assert any("has no room" in line for line in bench.said)


def test_batches_become_smaller_where_one_alone_has_no_room(bench: Bench) -> None:
    bench.service.room = 2
    bench.embed()
    bench.check()


def test_a_provider_that_takes_not_even_one_text_stops_the_run(bench: Bench) -> None:
    bench.service.room = 0
    with pytest.raises(ProviderStopped, match="takes no batch at the moment: Enqueued token limit reached"):
        bench.embed()
    assert not bench.service.paid


def test_no_more_tokens_wait_at_once_than_were_asked_for(bench: Bench) -> None:
    bench.service.limits = BatchLimits(texts=100)
    most = 3 * estimate_tokens(TEXTS[0])
    bench.embed(most_waiting=most)
    bench.check()
    jobs = list(bench.service.jobs.values())
    assert [len(job.texts) for job in jobs] == [3, 3, 3, 1]
    assert all(later.made >= earlier.made + bench.service.takes for earlier, later in pairwise(jobs))


def test_nobody_waits_longer_than_asked_and_the_next_start_goes_on(bench: Bench) -> None:
    with pytest.raises(StillWaiting, match="3 batches are under way; run again to go on, or give --collect"):
        bench.embed(wait=0)
    assert len(bench.service.jobs) == 3
    assert bench.clock.seconds < bench.service.takes
    bench.batches().collect()
    assert not bench.cache.vectors
    bench.clock.rest(bench.service.takes)
    bench.batches().collect()
    bench.check()
    assert len(bench.service.jobs) == 3


def test_a_stop_leaves_everything_to_the_next_start(bench: Bench) -> None:
    stopped = threading.Event()
    rest = bench.clock.rest

    def interrupted(seconds: float) -> None:
        rest(seconds)
        if bench.clock.seconds > 20:
            stopped.set()

    bench.clock.rest = interrupted  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        bench.embed(stopped=stopped)
    bench.clock.rest = rest  # type: ignore[method-assign]
    bench.embed()
    bench.check()


def test_new_texts_join_what_an_earlier_start_has_sent(bench: Bench) -> None:
    with pytest.raises(StillWaiting):
        bench.embed(TEXTS[:4], wait=0)
    bench.embed()
    bench.check()
    assert [len(job.texts) for job in bench.service.jobs.values()] == [4, 4, 2]


def test_a_batch_that_fails_as_a_whole_stops_with_the_reason_and_is_sent_anew_by_the_next_start(bench: Bench) -> None:
    bench.service.fates = ["failed"]
    with pytest.raises(ProviderStopped, match="failed, and none of it is embedded: the file is malformed"):
        bench.embed()
    bench.embed()
    bench.check()


def test_a_batch_that_was_cancelled_at_the_provider_stops_and_what_it_did_is_kept(bench: Bench) -> None:
    bench.service.fates = ["cancelled"]
    with pytest.raises(ProviderStopped, match="was cancelled at the provider; run again to send the rest of it"):
        bench.embed()
    assert len(bench.cache.vectors) >= 2
    bench.embed()
    bench.check()


def test_cancelled_batches_keep_what_they_did_and_the_next_start_sends_the_rest(bench: Bench) -> None:
    bench.service.fates = ["cancelled", "cancelled", "cancelled"]
    with pytest.raises(StillWaiting):
        bench.embed(wait=0)
    assert bench.batches().cancel() == 3
    assert bench.service.cancelled == ["batch-0", "batch-1", "batch-2"]
    bench.embed()
    bench.check()


def test_what_is_not_sent_yet_is_forgotten_by_a_cancel(bench: Bench) -> None:
    with pytest.raises(Killed):
        bench.embed(kill=Kill(1, is_after=True, only="upload"))
    assert bench.batches().cancel() == 1
    assert [row.state for row in bench.ledger.rows.values()] == ["cancelled"]
    assert not list(bench.target.folder.glob("*"))
    assert not bench.service.jobs


def test_a_batch_that_the_provider_forgot_is_sent_again(bench: Bench) -> None:
    with pytest.raises(StillWaiting):
        bench.embed(TEXTS[:4], wait=0)
    bench.service.jobs.clear()
    bench.service.paid.clear()
    bench.embed()
    bench.check()
    assert any("knows batch" in line for line in bench.said)


def test_what_another_folder_has_sent_is_waited_for_before_anything_is_sent(bench: Bench) -> None:
    with pytest.raises(StillWaiting):
        bench.embed(TEXTS[:4], wait=0)
    for file in bench.target.folder.glob("*"):
        file.unlink()
    bench.embed()
    bench.check()


def test_what_another_folder_was_about_to_send_is_refused(bench: Bench) -> None:
    with pytest.raises(Killed):
        bench.embed(kill=Kill(1, is_after=True, only="intend_batch"))
    for file in bench.target.folder.glob("*"):
        file.unlink()
    with pytest.raises(ProviderStopped, match="was begun on here and is not submitted"):
        bench.embed()


def test_files_of_other_models_are_left_alone(bench: Bench) -> None:
    bench.target.folder.mkdir()
    other = bench.target.folder / "kai-embed-ffffffffffffffff-20260101-000000-00000000.jsonl"
    other.write_bytes(b"{}\n")
    bench.embed()
    assert list(bench.target.folder.glob("*")) == [other]


@given(
    sizes=st.lists(st.tuples(st.integers(1, 50), st.integers(1, 20))),
    texts=st.integers(1, 6),
    size=st.integers(1, 100),
    tokens=st.none() | st.integers(1, 40),
)
def test_a_batch_is_filled_as_far_as_its_limits_allow_and_no_further(
    sizes: list[tuple[int, int]], texts: int, size: int, tokens: int | None
) -> None:
    limits = BatchLimits(texts, size, tokens)
    filled: list[list[tuple[int, int]]] = []
    fill = Fill(limits)
    for line in sizes:
        if not filled or not fill.takes(*line):
            if filled:
                assert (
                    fill.texts == texts
                    or fill.size + line[0] > size
                    or (tokens is not None and fill.tokens + line[1] > tokens)
                )
            fill = Fill(limits)
            filled.append([])
        fill.add(*line)
        filled[-1].append(line)
    assert [line for batch in filled for line in batch] == sizes
    for batch in filled:
        assert len(batch) <= texts
        if len(batch) > 1:
            assert sum(each for each, _ in batch) <= size
            assert tokens is None or sum(each for _, each in batch) <= tokens


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    file = BatchFile(tmp_path / "b", "kai-embed-x-1", BatchLimits())
    digest = text_hash("one")
    file.add(digest, b'{"key":"%s"}' % digest.hex().encode(), 1)
    assert [path.suffix for path in (tmp_path / "b").iterdir()] == [".part"]
    path = file.finish()
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert list(digests_of(path, "key")) == [digest]
    BatchFile(tmp_path / "b", "kai-embed-x-2", BatchLimits()).discard()
    (tmp_path / "b" / "kai-embed-x-3.part").touch()
    assert list(batch_files(tmp_path / "b", "kai-embed-x-")) == ["kai-embed-x-1"]
    assert [each.name for each in (tmp_path / "b").iterdir()] == ["kai-embed-x-1.jsonl"]
