"""The sandbox answers as a real Typesense was recorded to answer, as 29.0 and as 30.

Each file of recordings starts on an empty server and is replayed in order; status, content type and body
must agree, except for the values that `RUN_VALUES` names (they differ from run to run on a real server too)
and the fields that `NOT_REPRODUCED` names (the sandbox does not claim to compute them).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from kai.sandbox.app import create_app

Json = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
COPY = ROOT / "tests" / "contract"
EXCHANGES = {"29.0": 208 + 39, "30.0": 324}
FOLDERS = {
    "29.0": ("typesense-contract", "typesense-recordings/29.0"),
    "30.0": ("typesense-recordings/30.0",),
}
"""Version -> where its recordings are when the originals stand beside the project; else the copy is replayed."""

ADMIN_KEY = "admin-key"

PROCESSOR = re.compile(r"^system_cpu\d+")
"""A metric for each processor: how many there are is the machine's affair."""

RUN_VALUES = {
    "created_at": "Unix seconds of a collection",
    "search_time_ms": "how long a search took",
}
"""Left out wherever they occur as a number; a document's own `created_at` is text and is compared."""

RELEVANCE = ("text_match", "text_match_info.best_field_score", "text_match_info.score")
"""Keyword relevance is the server's own arithmetic; which words match where is compared."""

NOT_REPRODUCED: dict[tuple[str, int], list[str]] = {
    # A figure of the machine; the names are compared.
    ("01_server_and_auth", 7): ["*"],
    ("05_search_and_export", 22): [f"hits.*.{name}" for name in RELEVANCE],
    ("05_search_and_export", 44): [f"results.*.hits.*.{name}" for name in RELEVANCE],
    ("05_search_and_export", 45): [f"results.*.hits.*.{name}" for name in RELEVANCE],
    # Four equally distant documents, of which an approximate index returned two; the second is chance.
    ("06_alter_clone_alias", 24): ["results.*.hits.1.document"],
    # Five equally distant documents, of which three are returned.
    ("09_second_vector_field", 6): ["results.0.hits.*.document"],
    ("10_synonym_and_curation_sets", 24): [f"hits.*.{name}" for name in RELEVANCE],
    # The copy of a document names its one reference twice there.
    ("11_clone_with_documents", 8): [".ref"],
}
"""(file, exchange) -> paths of values that are not compared, in every version that has the exchange.

A step is a key, a number for one element, or `*` for every key or element.
"""


@dataclass(frozen=True)
class Difference:
    """One exchange that was answered otherwise."""

    file: str
    number: int
    request: str
    expected: Any
    answered: Any


def recordings(version: str) -> list[Path]:
    """The files of one version in the order of their names."""
    folders = [SHARED / folder for folder in FOLDERS[version]] if SHARED.is_dir() else [COPY / version]
    return sorted((path for folder in folders for path in folder.glob("*.jsonl")), key=lambda path: path.name)


def exchanges(path: Path) -> Iterator[Json]:
    for line in path.read_text().splitlines():
        yield json.loads(line)


def send(client: TestClient, request: Json) -> tuple[int, str, Any]:
    """(status, content type, body) of one recorded request sent again."""
    key = ADMIN_KEY if request["api_key"] == "admin" else request["api_key"]
    headers = {} if key is None else {"x-typesense-api-key": key}
    body = json.dumps(request["json"]) if "json" in request else request.get("text", "")
    response = client.request(
        request["method"], request["path"], params=request["params"], headers=headers, content=body
    )
    return response.status_code, response.headers["content-type"], response.text


def without_run_values(value: Any) -> Any:
    """The value with every number of `RUN_VALUES` replaced."""
    if isinstance(value, list):
        return [without_run_values(element) for element in value]
    if not isinstance(value, dict):
        return value
    return {
        PROCESSOR.sub("system_cpu_n", key): "(differs)"
        if key in RUN_VALUES and isinstance(inner, int)
        else without_run_values(inner)
        for key, inner in value.items()
    }


def without_path(value: Any, path: str) -> Any:
    """The value with what stands at `path` replaced."""
    if not path:
        return "(not reproduced)"
    step, _, rest = (path, "", "") if path == ".ref" else path.partition(".")
    if isinstance(value, list):
        return [
            without_path(element, rest) if step in ("*", str(index)) else element for index, element in enumerate(value)
        ]
    return {key: without_path(inner, rest) if step in ("*", key) else inner for key, inner in value.items()}


def comparable(body: Any, ignored: list[str]) -> Any:
    body = without_run_values(body)
    for path in ignored:
        body = without_path(body, path)
    return body


def as_text(body: Any) -> str:
    """Types and the order of array elements count: 1 is not 1.0, and neither is true."""
    return json.dumps(body, sort_keys=True)


def replay(path: Path, data_dir: Path, version: str) -> tuple[int, list[Difference]]:
    """(number of exchanges that agreed to the last value, the others after leaving out NOT_REPRODUCED)."""
    exact = 0
    differences: list[Difference] = []
    with TestClient(create_app(data_dir, ADMIN_KEY, version=int(float(version)))) as client:
        for number, exchange in enumerate(exchanges(path)):
            request, recorded = exchange["request"], exchange["response"]
            status, content_type, text = send(client, request)
            expected_body = recorded["json"] if "json" in recorded else recorded["text"]
            answered_body = json.loads(text) if "json" in recorded else text
            outcomes = []
            for ignored in ([], NOT_REPRODUCED.get((path.stem, number), [])):
                expected = (recorded["status"], recorded["content_type"], comparable(expected_body, ignored))
                answered = (status, content_type, comparable(answered_body, ignored))
                outcomes.append((as_text(expected), as_text(answered)))
            exact += outcomes[0][0] == outcomes[0][1]
            expected_text, answered_text = outcomes[1]
            if expected_text != answered_text:
                shown = f"{request['method']} {request['path']}"
                differences.append(Difference(path.stem, number, shown, expected_text, answered_text))
    return exact, differences


@pytest.mark.parametrize("version", EXCHANGES)
def test_every_recorded_exchange_is_answered_as_it_was_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], version: str
) -> None:
    total = exact = excepted = 0
    differences: list[Difference] = []
    for path in recordings(version):
        total += len(list(exchanges(path)))
        excepted += sum(file == path.stem for file, _ in NOT_REPRODUCED)
        agreed, differing = replay(path, tmp_path / path.stem, version)
        exact += agreed
        differences += differing
    with capsys.disabled():
        print(
            f"\nTypesense {version} contract: {exact} of {total} exchanges exact, {excepted} but for "
            f"named fields, {len(differences)} different"
        )
    assert differences == []
    assert total == EXCHANGES[version]
    assert exact == total - excepted


@pytest.mark.parametrize("version", EXCHANGES)
def test_the_copy_of_the_recordings_is_the_recordings(version: str) -> None:
    originals = {path.name: path.read_bytes() for path in recordings(version)}
    assert {path.name: path.read_bytes() for path in (COPY / version).glob("*.jsonl")} == originals
