"""PASS, FAIL, NOT CHECKED: what a verification says, of which documents, and where it could not look."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from kai.typesense import TypesenseError
from migration.ledger import CheckResult, WrongDocument
from migration.ledger.records import Verdict, verdict_of
from migration.operations.runs.checks import check_found, told_wrong
from migration.strategies.context import Sampled
from tests.providers import OpenAIStandIn
from tests.providers.faults import Fault
from tests.world import Finished, World, made_up, openai

NAME = "context_stores"
ONLY = ("--collections", NAME)


def kai_migrate(world: World, *arguments: str, status: int, **variables: str) -> Finished:
    done = world.run(*arguments, module="migration", **variables)
    assert done.status == status, done.text
    return done


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def revoked_after_the_pages(_number: int, texts: Sequence[str]) -> Fault | None:
    """The key is revoked when nothing but the sample is left to be embedded."""
    return None if texts == ["probe"] or len(texts) > 10 else Fault("status", 401, None, "revoked")


def test_a_run_whose_last_check_could_not_be_made_ends_with_1_and_says_so(
    world: World, provider: OpenAIStandIn
) -> None:
    world.fill(made_up(questions=300), 64)
    provider.faults = revoked_after_the_pages
    done = world.run(*ONLY, **openai(provider))
    assert done.status == 1, done.text
    assert done.summary(NAME) == {"status": "completed", "count": 300, "success": 300, "failed": 0}
    assert "Verification: NOT CHECKED" in done.err
    assert "sample embedded again: 0 of 0 (not done: revoked)" in done.err
    shown = kai_migrate(world, "show", "latest", "--json", status=0).out
    assert '"verdict": "NOT CHECKED"' in shown
    assert "not checked" in kai_migrate(world, "show", "latest", status=0).out

    done = kai_migrate(world, "verify", status=1, **openai(provider))
    assert f"{NAME}: NOT CHECKED\n" in done.out
    assert "  ? sample embedded again: 0 of 0 (not done: revoked)" in done.out
    provider.faults = None
    assert f"{NAME}: PASS\n" in kai_migrate(world, "verify", status=0, **openai(provider)).out


def test_what_a_run_kept_nothing_of_is_not_checked(world: World, provider: OpenAIStandIn) -> None:
    world.fill(made_up(questions=20), 64)
    assert world.run(*ONLY, "--no-backup", **openai(provider)).status == 0
    done = kai_migrate(world, "verify", status=1, **openai(provider))
    assert f"{NAME}: NOT CHECKED" in done.out
    assert "? other fields unchanged: 0 of 0 (not done: nothing to compare with: the run made no backup)" in done.out


def test_every_document_that_failed_a_check_is_named_with_what_was_expected_and_found(
    world: World, provider: OpenAIStandIn
) -> None:
    world.fill(made_up(questions=60), 64)
    assert world.run(*ONLY, **openai(provider)).status == 0
    before = world.documents(NAME)
    changes: list[dict[str, Any]] = [
        {"id": "q7", "prompt_embedding": [0.5] * 64},
        {"id": "q8", "prompt_text": "another text"},
        {"id": "q9", "prompt_embedding": None},
        *({"id": f"q{n}", "sql": "SELECT 'changed'"} for n in range(20, 50)),
    ]
    world.import_(NAME, changes, "update")
    done = kai_migrate(world, "verify", status=1, **openai(provider))
    assert f"{NAME}: FAIL" in done.out
    named = done.out.index("  ! document ")
    lines = done.out[named:].splitlines()
    assert len(lines) == 21
    assert lines[-1].endswith("more; `kai-migrate show RUN --json` has them all")
    written = sha(np.asarray(before["q7"]["prompt_embedding"], np.float32).tobytes())
    tampered = sha(np.full(64, 0.5, np.float32).tobytes())
    assert "  ! document 'q9': vectors there: expected a vector, found none" in lines
    expected = f"expected {written[:16]}…, found {tampered[:16]}…"
    assert f"  ! document 'q7': vectors as they were written: {expected}" in lines

    told = json.loads(kai_migrate(world, "verify", "--json", status=1, **openai(provider)).out)
    (found,) = told["collections"]
    wrong = {check["name"]: check["wrong_documents"] for check in found["checks"]}
    assert {"document_id": "q7", "expected": written, "found": tampered} in wrong["vectors as they were written"]
    text = {"document_id": "q8", "expected": sha(before["q8"]["prompt_text"].encode()), "found": sha(b"another text")}
    assert wrong["texts as they were embedded"] == [text]
    assert {each["document_id"] for each in wrong["other fields unchanged"]} == {
        "q8", *(f"q{n}" for n in range(20, 50)),
    }  # fmt: skip
    shown = json.loads(kai_migrate(world, "show", "latest", "--json", status=0).out)
    latest = shown["verifications"][-1]
    assert latest["checks"] == found["checks"]
    assert latest["wrong_total"] == sum(map(len, wrong.values()))
    table = kai_migrate(world, "show", "latest", status=0).out
    assert table.count("other fields unchanged  ") < 30
    assert "Wrong documents" in table
    assert "--all-failures lists them" in table


def test_one_failure_fails_and_one_check_that_was_not_made_is_no_pass() -> None:
    assert verdict_of([]) == "PASS"
    assert verdict_of([True, True]) == "PASS"
    assert verdict_of([True, None]) == "NOT CHECKED"
    assert verdict_of([None, False, True]) == "FAIL"
    collections: list[Verdict] = ["PASS", "NOT CHECKED"]
    assert verdict_of(collections) == "NOT CHECKED"
    assert verdict_of([*collections, "FAIL"]) == "FAIL"


def test_twenty_wrong_documents_are_told_and_how_many_more_there_are() -> None:
    wrong = tuple(WrongDocument(f"d{n}", "a" * 64, "none") for n in range(1234))
    lines = list(told_wrong([CheckResult("first", True, 5), CheckResult("second", False, 1234, 1234, 1, "", wrong)]))
    assert lines[0] == "document 'd0': second: expected aaaaaaaaaaaaaaaa…, found none"
    assert lines[20] == "… and 1,214 more; `kai-migrate show RUN --json` has them all"
    assert len(lines) == 21


@pytest.mark.parametrize(
    ("error", "passed"),
    [
        (TypesenseError("connection failed", transient=True), None),
        (TypesenseError("Forbidden", status=401), None),
        (TypesenseError("no index", status=404), False),
    ],
)
def test_a_search_that_could_not_be_made_says_nothing_of_the_index(error: TypesenseError, passed: bool | None) -> None:
    class Server:
        def multi_search(self, _searches: object) -> object:
            raise error

    sample = [Sampled("a", "text", np.ones(2, np.float32).tobytes())]
    check = check_found(Server(), "notes", "vector", sample, 1)  # type: ignore[arg-type]
    assert check.passed is passed
    assert str(error) in check.detail
