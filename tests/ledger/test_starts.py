"""How each run was started stays on record, whatever comes after it."""

from __future__ import annotations

import os

import pytest

from migration.ledger import Call, Ledger, ModelRecord
from migration.ledger.errors import LedgerError


def test_a_start_keeps_who_what_and_with_which_programs(ledger: Ledger) -> None:
    call = Call(
        user_name="ada",
        program_version="0.1.0",
        tool_source="langchain-openai",
        tool_version="1.0.3",
        options={"limit": 5, "collections": ["a b"]},
        environment={"EMBEDDING_MODEL": "small"},
        collections_file='[a]\ntemplate = "{ü}"\n',
    )
    run = ledger.start_run("first", "migrate", call=call)
    (start,) = ledger.starts(run.id)
    assert Call(**{name: getattr(start, name) for name in Call.__slots__}) == call
    assert (start.run_id, start.number, start.pid) == (run.id, 1, os.getpid())


def test_going_on_with_a_run_adds_a_start_and_leaves_the_earlier_one_as_it_was(ledger: Ledger) -> None:
    run = ledger.start_run("first", "migrate", call=Call(tool_version="1.0.3", options={"limit": 5}))
    before = ledger.starts(run.id)
    ledger.finish_run(run.id, "stopped")
    ledger.resume_run(run.id, call=Call(tool_version="2.0.0", options={}))
    assert ledger.starts(run.id)[:1] == before
    assert [(start.number, start.tool_version, start.options) for start in ledger.starts(run.id)] == [
        (1, "1.0.3", {"limit": 5}),
        (2, "2.0.0", {}),
    ]


def test_a_run_that_is_not_there_is_not_gone_on_with(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="no run with the id"):
        ledger.resume_run("00000000-0000-0000-0000-000000000000")


def test_what_computed_an_old_run_stays_when_a_newer_library_uses_the_model(ledger: Ledger, model: ModelRecord) -> None:
    old = ledger.start_run("old", "migrate", model_id=model.id, call=Call(tool_source="lib", tool_version="1.0"))
    known = {"family": model.family, "model": model.model, "dimensions": 256, "fingerprint": model.fingerprint}
    ledger.register_model(**known, tool_source="lib", tool_version="2.0")  # type: ignore[arg-type]
    ledger.start_run("new", "migrate", model_id=model.id, call=Call(tool_source="lib", tool_version="2.0"))
    assert [start.tool_version for start in ledger.starts(old.id)] == ["1.0"]


def test_no_key_and_no_login_reaches_a_start(ledger: Ledger) -> None:
    call = Call(options={"api_key": "sk-1"}, environment={"OLLAMA_API_BASE": "http://me:sk-1@host:1"})
    run = ledger.start_run("first", "migrate", call=call)
    assert "sk-1" not in repr(ledger.starts(run.id))
