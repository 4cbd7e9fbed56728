"""A batch is noted before it is sent, and found again by whoever comes next."""

from __future__ import annotations

from migration.ledger import BatchRecord, Ledger
from tests.ledger.conftest import sha


def batch(name: str, fingerprint: str = "f") -> BatchRecord:
    return BatchRecord(name, "openai/small/64", fingerprint, texts=3, tokens=30, file=f"/home/{name}.jsonl")


def test_a_batch_is_known_from_its_intention_to_its_end(ledger: Ledger) -> None:
    noted = ledger.intend_batch(batch("one"))
    assert (noted.state, noted.texts, noted.is_open, noted.batch_id) == ("intended", 3, True, None)
    assert noted.host and noted.created_at is not None
    ledger.update_batch("one", state="uploaded", input_file_id="file-1")
    ledger.update_batch("one", state="submitted", batch_id="batch-1", provider_state="validating")
    (open_,) = ledger.batches(only_open=True)
    assert (open_.state, open_.input_file_id, open_.batch_id) == ("submitted", "file-1", "batch-1")
    why = {sha("a").hex(): "x" * 1000 + "\0"}
    ledger.update_batch("one", state="collected", done=2, failed=1, failures=why, input_file_id=None)
    (ended,) = ledger.batches("f")
    assert (ended.done, ended.failed, ended.is_open, ended.input_file_id) == (2, 1, False, None)
    assert ended.failures == {sha("a").hex(): "x" * 300}
    assert ledger.batches(only_open=True) == []


def test_a_batch_that_is_noted_already_stays_as_it_is(ledger: Ledger) -> None:
    ledger.intend_batch(batch("one"))
    ledger.update_batch("one", state="submitted", batch_id="batch-1")
    assert ledger.intend_batch(batch("one")).batch_id == "batch-1"
    ledger.intend_batch(batch("two", "g"))
    assert [each.name for each in ledger.batches()] == ["one", "two"]
    assert [each.name for each in ledger.batches("g")] == ["two"]
