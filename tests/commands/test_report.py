"""The report of a real run: what stands in it, what never does, how it looks, and that it can be written again."""

from __future__ import annotations

import html
import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import browser, contrast, look_at
from tests.commands.conftest import Invoke
from tests.providers import OpenAIStandIn
from tests.sandbox.server import RunningSandbox
from tests.world import DATA, Finished, World, made_up, openai, real_text

REFUSED = 2
"""Texts that the provider refuses."""


class Reported:
    """A run over KAI's collections, and its report."""

    def __init__(self, world: World, provider: OpenAIStandIn, documents: dict[str, list[dict[str, Any]]]) -> None:
        self.world, self.provider, self.documents = world, provider, documents
        world.clear()
        world.fill(documents, 64)
        self.done: Finished = world.run(**openai(provider))
        self.folder = Path(re.findall(r"^Report: (.*)/report.html$", self.done.err, re.MULTILINE)[0])

    @property
    def html(self) -> str:
        return (self.folder / "report.html").read_text()

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "report.json").read_text())
        return found


@pytest.fixture(scope="module")
def reported(shared_sandbox: RunningSandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reported]:
    """A run in which the provider refuses two texts, over 6,081 real questions where they are at hand."""
    documents = real_text() if DATA.exists() else made_up(questions=300)
    home = tmp_path_factory.mktemp("reported") / "work" / "home"
    world = World(shared_sandbox.url, shared_sandbox.api_key, home, in_a_hurry=False)
    texts = [document["prompt_text"] for document in documents["context_stores"]]
    once = [text for text in texts if texts.count(text) == 1][:REFUSED]
    with OpenAIStandIn(refuse_texts=once) as provider:
        yield Reported(world, provider, documents)
    world.close()


def test_every_run_writes_its_report_and_says_where(reported: Reported) -> None:
    assert reported.done.status == 1, "two documents failed; the report changes nothing in that"
    assert reported.folder.parent == reported.world.home / "runs"
    for name in ("report.html", "report.json"):
        assert stat.S_IMODE((reported.folder / name).stat().st_mode) == 0o600
    assert "Report: " not in reported.done.out, "standard output is as it was"


def test_the_verdict_comes_first_and_what_failed_is_named_with_its_reason(reported: Reported) -> None:
    text = html.unescape(reported.html)
    assert re.search(r'<p class="verdict bad"><strong>Some failed</strong>', text)
    failures = reported.json["run"]["failures"]
    assert len(failures) == REFUSED
    for failure in failures:
        assert f"<td>{failure['document_id']}</td>" in text
        assert failure["reason"] in text
    assert f"kai-migrate rollback {reported.folder.name}" in text
    assert "kai-migrate show" in text


def test_a_program_reads_the_same_from_its_json(reported: Reported) -> None:
    facts, run = reported.json, reported.json["run"]["run"]
    total = len(reported.documents["context_stores"])
    eligible = sum(not each["is_default"] for each in reported.documents["instructions"])
    assert (run["documents"], run["failed"], run["state"]) == (total + eligible - REFUSED, REFUSED, "partial")
    assert facts["format"] == 1
    assert facts["timeline"][-1]["documents"] >= total, "the course of it was noted while it went"
    assert facts["timeline"][-1]["requests"] == run["metrics"]["requests"]
    assert {each["collection"]: each["overlap"]["neighbours"] > 0 for each in facts["neighbours"]} == {
        "context_stores": True,
        "instructions": True,
    }


def test_no_text_no_vector_and_no_key_is_in_it(reported: Reported) -> None:
    stores, rules = reported.documents["context_stores"], reported.documents["instructions"]
    sentences = {document[name] for document in stores for name in ("prompt_text", "prompt_text_ner", "sql")}
    sentences |= {document[name] for document in rules for name in ("condition", "rules")}
    looked_for = [sentence for sentence in sentences if len(sentence) > 15]
    assert len(looked_for) > 250
    written = [html.unescape(reported.html), *_strings(reported.json)]
    together = "\n".join(written)
    assert [sentence for sentence in looked_for if sentence in together] == []
    assert reported.provider.key not in together
    assert reported.world.key not in together
    assert not re.search(r"(-?0\.\d{4,},\s*){4}", (reported.folder / "report.json").read_text()), "no list of numbers"


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _strings(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _strings(entry)


def test_it_is_written_anew_without_a_server_and_keeps_what_only_the_end_knew(
    reported: Reported, invoke: Invoke
) -> None:
    before = reported.json
    (reported.folder / "report.html").unlink()
    found = invoke("report", "latest", MIGRATION_HOME=str(reported.world.home))
    assert (found.status, found.text) == (0, f"{reported.folder / 'report.html'}\n")
    after = reported.json
    assert {name for name in before if before[name] != after[name]} == {"written_at"}
    answer = invoke("report", reported.folder.name, "--json", MIGRATION_HOME=str(reported.world.home)).json
    assert answer["html"] == str(reported.folder / "report.html")
    assert answer["report"]["run"] == after["run"]


def test_without_its_earlier_report_the_neighbours_are_compared_again_or_it_says_why_not(
    reported: Reported, invoke: Invoke
) -> None:
    before = reported.json["neighbours"]
    (reported.folder / "report.json").unlink()
    variables = reported.world.environment(**openai(reported.provider))
    invoke("report", "latest", MIGRATION_HOME=str(reported.world.home))
    reasons = {each["reason"] for each in reported.json["neighbours"]}
    assert len(reasons) == 1
    assert "Typesense is not configured" in reasons.pop()
    invoke("report", "latest", **variables)
    assert reported.json["neighbours"] == before


def test_a_run_that_is_unknown_is_refused(invoke: Invoke, reported: Reported) -> None:
    found = invoke("report", "nobody", MIGRATION_HOME=str(reported.world.home))
    assert found.status == 2
    assert "RUN: the ledger" in found.text
    assert "holds no run 'nobody'; `kai-migrate history` lists them" in found.text


@pytest.mark.skipif(browser() is None, reason="no Chromium is installed")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_in_a_browser_it_fits_a_telephone_can_be_read_and_asks_for_nothing(
    reported: Reported, tmp_path: Path, dark: bool
) -> None:
    seen = look_at(reported.folder / "report.html", tmp_path / "browser", dark=dark)
    facts = seen.facts
    assert seen.complaints == []
    assert facts["asked"] == []
    assert facts["dark"] is dark
    assert (facts["width"], facts["needed"]) == (390, 390), "nothing is wider than the screen"
    assert len(facts["plots"]) >= 4
    assert all(300 < width < 390 and height > 150 for width, height in facts["plots"])
    assert {kind for *_, kind in facts["marks"]} == {"line", "bar"}
    assert [mark for mark in facts["marks"] if contrast(*mark[:2]) < 3] == []
    assert [text for text in facts["texts"] if contrast(*text[:2]) < 4.5] == []


def test_the_report_of_a_way_back_says_what_it_took_back(reported: Reported) -> None:
    done = reported.world.run("rollback", "--yes", module="migration")
    assert done.status == 0, done.text
    file = Path(re.findall(r"^Report: (.*)$", done.err, re.MULTILINE)[0])
    text = html.unescape(file.read_text())
    assert '<p class="subject">Rollback</p>' in text
    assert f"takes back {reported.folder.name}" in text
    assert "Everything stands as it stood before." in text
