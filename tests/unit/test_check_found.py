"""The sample found by its own vector: on a server whose index is approximate, and on one that lacks a vector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import orjson
import pytest

from kai.settings import TypesenseSettings
from kai.typesense import Typesense
from migration.operations.runs.checks import check_found, check_found_while_written
from migration.strategies.context import Sampled
from tests.sandbox.server import RunningSandbox
from tests.world import World, field

IDS = ["a", "b", "back`tick"]


class Approximate(Typesense):
    """Passes over what it has, unless a search is exact."""

    def multi_search(self, searches: Sequence[dict[str, Any]], *_: Any) -> list[dict[str, Any]]:
        answers = super().multi_search(searches)
        exact = ("flat_search_cutoff", "ef:")
        return [
            answer if any(word in search["vector_query"] for word in exact) else {**answer, "hits": []}
            for search, answer in zip(searches, answers, strict=True)
        ]


@pytest.fixture
def server(shared_sandbox: RunningSandbox, world: World) -> Iterator[Typesense]:
    settings = TypesenseSettings(shared_sandbox.host, shared_sandbox.port, api_key=shared_sandbox.api_key)
    with Approximate(settings, patience=2) as client:
        vector = field("vector", "float[]", num_dim=2, optional=True)
        client.create_collection({"name": "notes", "fields": [vector]})
        yield client


def sampled(document_id: str, numbers: Sequence[float]) -> Sampled:
    return Sampled(document_id, "", np.array(numbers, np.float32).tobytes())


def test_a_vector_that_the_index_only_passes_over_is_found_by_an_exact_search(server: Typesense) -> None:
    vectors = {id_: [1.0, float(number)] for number, id_ in enumerate(IDS)}
    lines = [orjson.dumps({"id": id_, "vector": vector}) for id_, vector in vectors.items()]
    server.import_lines("notes", lines, "upsert")
    check = check_found(server, "notes", "vector", [sampled(*item) for item in vectors.items()], 3)
    assert check.passed, check.detail


def test_a_vector_that_is_not_there_or_another_one_is_not_found(server: Typesense) -> None:
    lines = [orjson.dumps({"id": "a"}), orjson.dumps({"id": "b", "vector": [0.0, 1.0]})]
    server.import_lines("notes", lines, "upsert")
    check = check_found(server, "notes", "vector", [sampled(id_, [1.0, 0.0]) for id_ in IDS], 3)
    assert not check.passed
    assert check.detail == "not found: a, b, back`tick"


def changed_since(server: Typesense, *gone: str, changed: Sequence[str] = ()) -> list[Sampled]:
    """A sample of vectors that stood there, of which the application has deleted and changed some since."""
    lines = [
        orjson.dumps({"id": id_, "vector": [0.0, 1.0] if id_ in changed else [1.0, 0.0]})
        for id_ in IDS
        if id_ not in gone
    ]
    server.import_lines("notes", lines, "upsert")
    return [sampled(id_, [1.0, 0.0]) for id_ in IDS]


@pytest.mark.parametrize(("gone", "changed"), [(("a",), ()), ((), ("b",))])
def test_what_the_application_wrote_after_the_last_pass_is_left_out_of_the_sample(
    server: Typesense, gone: Sequence[str], changed: Sequence[str]
) -> None:
    sample = changed_since(server, *gone, changed=changed)
    check = check_found_while_written(server, "notes", "vector", sample, 3)
    assert check.passed, check.detail
    assert check.count == 2


def test_a_sample_most_of_which_is_gone_is_told_whoever_took_it(server: Typesense) -> None:
    sample = changed_since(server, "a", changed=["b"])
    check = check_found_while_written(server, "notes", "vector", sample, 3)
    assert not check.passed
    assert check.detail == "not found: a, b"


def test_what_stands_as_it_was_sampled_and_is_not_found_is_told_though_others_were_changed(
    server: Typesense, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = changed_since(server, "a")
    monkeypatch.setattr(server, "multi_search", lambda searches: [{"hits": []} for _ in searches])
    check = check_found_while_written(server, "notes", "vector", sample, 3)
    assert not check.passed
    assert check.detail == "not found: b, back`tick"
