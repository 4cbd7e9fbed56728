"""What a run says before it begins."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kai.collections import EmbeddedCollection
from kai.settings import EmbeddingSettings
from migration.ledger import MetricsRecord
from migration.operations.runs.summary import banner, preview, took
from migration.runtime.console import Console
from migration.strategies.plan import CollectionPlan, Plan, Texts
from migration.strategies.planning.hazards import hazards_of_version
from migration.strategies.refusals import Strategy


@pytest.mark.parametrize(("version", "warned"), [("30.2", False), ("31.0", True)])
def test_the_preview_names_the_server_and_a_version_that_was_never_tried_is_warned_of(
    capsys: pytest.CaptureFixture[str], version: str, warned: bool
) -> None:
    plan = Plan(EmbeddingSettings("local", "wordllama", 64), (), version, hazards_of_version(version))
    banner(Console(), plan)
    preview(Console(), plan)
    printed = capsys.readouterr()
    assert f"Typesense {version}" in printed.out
    assert ("never tried with Typesense 31.0" in printed.err) == warned


def times_of(
    capsys: pytest.CaptureFixture[str],
    strategy: Strategy,
    dimensions: int = 768,
    documents: int = 6_000,
    **field: Any,
) -> list[str]:
    """The lines of a preview that tell of time."""
    seconds = {"in place": 52.17, "recreate": 15.83, "rebuild": 8.51, "alter": 8.51}
    vector = {"name": "vector", "type": "float[]", "num_dim": 768, "optional": True, **field}
    schema = {"name": "notes", "fields": [{"name": "text", "type": "string"}, vector]}
    notes = EmbeddedCollection("notes", "vector", "{text}")
    item = CollectionPlan(
        notes, "notes", schema, strategy, 768, dimensions, documents, documents, seconds, away_seconds=3.1
    )
    preview(Console(), Plan(EmbeddingSettings("local", "wordllama", dimensions), (item,)))
    return [line for line in capsys.readouterr().out.splitlines() if "about" in line]


def test_from_a_thousand_documents_on_the_preview_tells_what_emptying_and_filling_takes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    refilled = "about 8.5 s: vector search pauses for about 3.1 s and tells what is filled for 5.4 s"
    in_place = "about 52.2 s, and nothing pauses"
    recreated = "about 15.8 s, and documents are missing for about 7.9 s of it"
    share = "  - Server's share of the time:"
    assert times_of(capsys, "in place", documents=999) == [f"{share} {in_place}"]
    assert times_of(capsys, "in place", documents=1_000) == [
        f"{share} {in_place}",
        f"  - With --strategy rebuild instead: {refilled}",
    ]
    assert times_of(capsys, "rebuild") == [f"{share} {refilled}", f"  - In place instead: {in_place}"]
    assert times_of(capsys, "recreate", 1536) == [
        f"{share} {recreated}",
        f"  - With --strategy alter instead: {refilled}",
    ]
    assert times_of(capsys, "alter", 1536) == [f"{share} {refilled}", f"  - Recreate instead: {recreated}"]


def test_a_way_that_would_be_refused_is_not_proposed(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(times_of(capsys, "in place", embed={"from": ["text"]})) == 1


def test_the_preview_shows_the_template_and_one_text_on_one_line_and_not_all_of_a_long_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for text, shown in (("two\nlines \x1b[2J", r"'two\nlines \x1b[2J'"), ("x" * 201, f"'{'x' * 200}' …")):
        schema = {"name": "notes", "fields": []}
        notes = EmbeddedCollection("notes", "vector", "{title}: {body}")
        seconds = {"in place": 1.0}
        item = CollectionPlan(notes, "notes", schema, "in place", None, 64, 1, 1, seconds)
        item = replace(item, texts=Texts(1, 0, 10, None, text))
        assert text not in repr(item)
        preview(Console(), Plan(EmbeddingSettings("local", "wordllama", 64), (item,)))
        lines = capsys.readouterr().out.splitlines()
        assert "  - Template: {title}: {body}" in lines
        assert f"  - Sample text: {shown}" in lines


@pytest.mark.parametrize(
    ("measured", "line"),
    [
        ((7, 1200, 0.25, 75), "7, tokens: about 1200, cost: about $0.2500, time: 1 min 15 s"),
        ((7, 5, None, 0.5), "7, tokens: about 5, cost: price unknown, time: 0.5 s"),
        ((0, 0, 0.0, 2), "0, tokens: about 0, cost: free, time: 2.0 s"),
    ],
)
def test_a_run_ends_with_what_it_took(capsys: pytest.CaptureFixture[str], measured: Any, line: str) -> None:
    requests, tokens, cost, seconds = measured
    took(Console(), MetricsRecord(requests=requests, tokens=tokens, cost_usd=cost, seconds=seconds))
    assert capsys.readouterr().err == f"Requests: {line}\n"


def test_a_way_back_says_how_long_it_took_and_nothing_of_a_provider(capsys: pytest.CaptureFixture[str]) -> None:
    took(Console(), MetricsRecord(requests=0, tokens=0, seconds=2))
    took(Console(), MetricsRecord())
    assert capsys.readouterr().err == "Time: 2.0 s\n"
